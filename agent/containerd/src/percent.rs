//! Percent encoding (RFC 3986 §2.1) for what goes into a query; pure.

use std::fmt::Write as _;

/// Encodes everything but the unreserved characters.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_can_end_it() {
        assert_eq!(encode("/a b&c=d"), "%2Fa%20b%26c%3Dd");
    }
}
