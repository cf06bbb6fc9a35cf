//! What a registry asks for before it answers: `WWW-Authenticate` (RFC 9110 §11.6.1); pure.

/// How to prove who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from another server.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Reads one challenge; `None` for schemes that we do not know.
pub(crate) fn parse_challenge(value: &str) -> Option<Challenge> {
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameter =
        |name: &str| parameters(rest).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service"), scope: parameter("scope") })
}

/// Splits `a="x,y",b=z` into its pairs.
fn parameters(mut text: &str) -> impl Iterator<Item = (String, String)> {
    std::iter::from_fn(move || {
        text = text.trim_start_matches([',', ' ']);
        let (key, rest) = text.split_once('=')?;
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        text = after;
        Some((key.trim().to_owned(), value.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_its_quoted_commas() {
        let bearer = parse_challenge(r#"Bearer realm="https://a.b/token",service="r",scope="repository:x:pull,push""#);

        assert_eq!(
            bearer,
            Some(Challenge::Bearer {
                realm: "https://a.b/token".to_owned(),
                service: Some("r".to_owned()),
                scope: Some("repository:x:pull,push".to_owned()),
            })
        );
        assert_eq!(parse_challenge("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(parse_challenge("bearer service=x"), None, "a token without a place to fetch it");
        assert_eq!(parse_challenge("Negotiate"), None);
    }
}
