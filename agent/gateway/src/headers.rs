//! What of a head is for the next hop only, and what the next one is told of the client; pure.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers for one hop (RFC 9110 §7.6.1) beside those that `Connection` names.
const ONE_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The protocol that a head asks to change to, if it asks.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = connection_words(headers).any(|word| word.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asks).cloned()
}

/// Removes what is for one hop, and names the protocol to change to, if any.
pub(crate) fn strip(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    let named: Vec<HeaderName> = connection_words(headers).filter_map(|word| word.parse().ok()).collect();
    for name in named.iter().chain(&ONE_HOP) {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

/// Says who the client is. What it says of itself is replaced: nobody vouched for it.
pub(crate) fn vouch(headers: &mut HeaderMap, client: IpAddr) {
    headers.remove(FORWARDED);
    let client = HeaderValue::from_str(&client.to_canonical().to_string()).expect("an address is plain text");
    headers.insert(FORWARDED_FOR, client);
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    match headers.get(header::HOST).cloned() {
        Some(host) => headers.insert(FORWARDED_HOST, host),
        None => headers.remove(FORWARDED_HOST),
    };
}

fn connection_words(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_is_for_one_hop_goes_with_what_connection_names() {
        let mut head = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("accept", "text/html"),
        ]);

        strip(&mut head, None);

        assert_eq!(head, headers(&[("accept", "text/html")]));
    }

    #[test]
    fn an_upgrade_is_passed_on_only_if_connection_says_so() {
        let asked = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        let mut passed = asked.clone();

        strip(&mut passed, upgrade(&asked));

        assert_eq!(passed, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
        assert_eq!(upgrade(&headers(&[("upgrade", "websocket")])), None);
    }

    #[test]
    fn a_client_does_not_vouch_for_itself() {
        let mut head = headers(&[("host", "shop.example"), ("x-forwarded-for", "10.0.0.1"), ("forwarded", "for=x")]);

        vouch(&mut head, "::ffff:192.0.2.7".parse().expect("an address"));

        let expected = headers(&[
            ("host", "shop.example"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example"),
        ]);
        assert_eq!(head, expected);
    }
}
