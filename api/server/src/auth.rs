//! The one place that decides who may do what. What no route declared is refused.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use api_types::view::Problem;
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use futures_util::FutureExt;
use http::{HeaderMap, Method, StatusCode, header, request::Parts};

use crate::{
    control_plane::{ControlPlane, Role, Subject},
    problem::{Refused, bad_request, problem, too_large},
};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: the call proves itself, or gives nothing away.
    Open,
    /// Whoever has this role or a higher one.
    Least(Role),
}

/// What a route declares about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Who may call it.
    pub(crate) access: Access,
    /// The longest body in bytes; `None` = a stream that is never held in memory.
    pub(crate) body_bytes_max: Option<usize>,
}

/// Routes with their rules: the only way a route is added, so none can be without a rule.
pub(crate) struct Declared<C> {
    pub(crate) router: Router<C>,
    pub(crate) rules: Rules,
}

/// The rules of all routes, by path and method.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(BTreeMap<&'static str, Vec<(Method, Rule)>>);

impl<C: ControlPlane> Declared<C> {
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), rules: Rules::default() }
    }

    pub(crate) fn route(mut self, method: Method, path: &'static str, rule: Rule, to: MethodRouter<C>) -> Self {
        self.rules.0.entry(path).or_default().push((method, rule));
        self.router = self.router.route(path, to);
        self
    }
}

impl Rules {
    fn find(&self, method: &Method, path: &str) -> Option<Rule> {
        // A HEAD is answered by what answers the GET.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.get(path)?.iter().find(|(declared, _)| declared == method).map(|(_, rule)| *rule)
    }

    /// Whether the path is declared for some other method.
    fn knows(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Method, Rule)> {
        self.0.iter().flat_map(|(path, rules)| rules.iter().map(|(method, rule)| (*path, method, *rule)))
    }
}

/// What the gate needs to know.
#[derive(Debug)]
pub(crate) struct Gate<C> {
    pub(crate) control_plane: C,
    pub(crate) rules: Rules,
}

/// Lets a request through, or refuses it: size first, then who asks, then what is asked.
pub(crate) async fn gate<C: ControlPlane>(State(gate): State<Arc<Gate<C>>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (mut parts, body) = request.into_parts();
    let subject = match authorize(&gate, &parts).await {
        Ok((rule, subject)) => {
            parts.extensions.insert(rule);
            subject
        }
        Err(problem) => {
            tracing::info!(%method, path, status = problem.status, code = problem.code, "refused");
            return Refused(problem).into_response();
        }
    };
    let token = subject.as_ref().map_or("-", |subject| subject.token.as_str()).to_owned();
    if let Some(subject) = subject {
        parts.extensions.insert(subject);
    }
    // One bad request must not end the requests of others on the same connection. A release build does not unwind: there
    // the process ends and starts again, and whatever was acknowledged is durable.
    let response =
        AssertUnwindSafe(next.run(Request::from_parts(parts, body))).catch_unwind().await.unwrap_or_else(|_| {
            let title = "the scheduler failed while it answered";
            let hint = "look into its log; nothing tells whether the change was made, so look before trying again";
            Refused(problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", title, hint)).into_response()
        });
    if method != Method::GET {
        tracing::info!(%method, path, token, status = response.status().as_u16(), "asked");
    }
    response
}

/// Decides. Whatever is not declared, not proven, or not enough is refused.
async fn authorize<C: ControlPlane>(gate: &Gate<C>, request: &Parts) -> Result<(Rule, Option<Subject>), Problem> {
    let path = request.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let Some(rule) = gate.rules.find(&request.method, path) else {
        if gate.rules.knows(path) {
            return Err(method_not_allowed(&request.method));
        }
        let title = "this route declares no access rule, so nobody may use it";
        return Err(problem(StatusCode::FORBIDDEN, "forbidden", title, ""));
    };
    if let Some(bytes_max) = rule.body_bytes_max
        && content_length(&request.headers).is_some_and(|length| length > bytes_max)
    {
        return Err(too_large(bytes_max));
    }
    refuse_token_in_query(request.uri.query().unwrap_or_default())?;
    let Access::Least(least) = rule.access else { return Ok((rule, None)) };
    let subject = gate.control_plane.authenticate(bearer(&request.headers)?).await?;
    if subject.role < least {
        let (needed, held) = (word(least), word(subject.role));
        let title = format!("this needs the role {needed}; token {} has {held}", subject.token);
        return Err(problem(StatusCode::FORBIDDEN, "forbidden", title, "use a token with that role"));
    }
    Ok((rule, Some(subject)))
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Deployer => "deployer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

pub(crate) fn method_not_allowed(method: &Method) -> Problem {
    let title = format!("{method} is not possible here");
    problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", title, "")
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A token in an address ends up in logs and histories; refuse it even where it would be ignored.
fn refuse_token_in_query(query: &str) -> Result<(), Problem> {
    let secret = |pair: &str| matches!(pair.split('=').next(), Some("token" | "access_token" | "authorization"));
    if query.split('&').any(secret) {
        let title = "a token must not stand in the address; consider it known to others now";
        return Err(Problem { hint: "send `Authorization: Bearer ...`".to_owned(), ..bad_request(title) });
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let unauthorized = |title: &str| {
        let hint = "send `Authorization: Bearer WA1-...`; `wherry` takes it from its context file or WHERRY_TOKEN";
        problem(StatusCode::UNAUTHORIZED, "unauthorized", title, hint)
    };
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(unauthorized("no token was sent")) };
    if values.next().is_some() {
        return Err(unauthorized("more than one token was sent"));
    }
    let text = value.to_str().map_err(|_| unauthorized("the token is not plain text"))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") || token.trim().is_empty() {
        return Err(unauthorized("the token is not a bearer token"));
    }
    Ok(token.trim())
}
