//! What people are told when something cannot be done.

use api_types::view::Problem;
use scheduler_core::effect::Refusal;

use crate::{control_loop::Stopped, identity::tokens::TokenRefusal};

/// Makes a problem.
pub(crate) fn problem(status: u16, code: &str, title: &str, hint: &str) -> Problem {
    Problem { status, code: code.to_owned(), title: title.to_owned(), hint: hint.to_owned(), faults: Vec::new() }
}

/// It cannot be done now.
pub(crate) fn unavailable(title: &str, hint: &str) -> Problem {
    problem(503, "unavailable", title, hint)
}

/// It cannot be as asked for.
pub(crate) fn invalid(title: &str, hint: &str) -> Problem {
    problem(422, "invalid", title, hint)
}

/// Something of ours failed; the log says what.
pub(crate) fn internal(title: &str) -> Problem {
    problem(500, "internal", title, "the scheduler's log says more")
}

/// The core refused a change.
pub(crate) fn refused(refusal: &Refusal) -> Problem {
    let title = refusal.to_string();
    match refusal {
        Refusal::UnknownWorkload(_) => problem(404, "not_found", &title, "`wherry get services` shows what there is"),
        Refusal::UnknownNode(_) => problem(404, "not_found", &title, "`wherry get nodes` shows what there is"),
        Refusal::MisspeltNode { asked, nearest } => {
            problem(404, "not_found", &format!("there is no node `{asked}`"), &format!("did you mean `{nearest}`?"))
        }
        Refusal::UnknownVolume(_) => problem(404, "not_found", &title, "`wherry get volumes` shows what there is"),
        Refusal::UnknownSecret(_) => problem(404, "not_found", &title, ""),
        Refusal::UnknownSite(_) => problem(404, "not_found", &title, "`wherry get sites` shows the sites"),
        Refusal::UnknownInstance(_) => problem(404, "not_found", &title, "`wherry get instances` shows what there is"),
        Refusal::Conflict(_) => problem(409, "conflict", &title, ""),
        Refusal::Invalid(_) => problem(422, "invalid", &title, ""),
    }
}

/// The loop has ended.
pub(crate) fn stopped(stopped: Stopped) -> Problem {
    unavailable(&stopped.to_string(), "try again in a moment")
}

/// A token of the API was refused.
pub(crate) fn token_refused(refusal: &TokenRefusal) -> Problem {
    problem(401, "unauthorized", &refusal.to_string(), "use a token of this cluster; `init` wrote the first one")
}

/// A joining node was refused.
pub(crate) fn join_refused(refusal: &TokenRefusal) -> Problem {
    let title = refusal.to_string();
    let again = "make a new token: `wherry node add`";
    match refusal {
        TokenRefusal::Form(_) => problem(401, "unauthorized", &title, "copy the whole token"),
        TokenRefusal::OtherCluster | TokenRefusal::Unknown | TokenRefusal::Expired | TokenRefusal::UsedUp => {
            problem(401, "unauthorized", &title, again)
        }
        TokenRefusal::WrongName { bound, .. } => problem(
            403,
            "forbidden",
            &title,
            &format!("join with `--name {bound}`, or make a token for the other name"),
        ),
        TokenRefusal::BadName(_) => problem(422, "invalid", &title, "choose another name with `--name`"),
        TokenRefusal::NameTaken(node) => problem(
            409,
            "conflict",
            &title,
            &format!(
                "choose another name, remove the old node (`wherry node rm {node}`), or let this machine take its \
                 place with a token bound to the name (`wherry node add {node}`)"
            ),
        ),
        TokenRefusal::TooMany => problem(429, "too_many", &title, "wait a minute"),
    }
}
