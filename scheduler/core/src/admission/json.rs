//! JSON as text: what is compared and shown of a spec.

pub(super) fn null() -> String {
    "null".to_owned()
}

pub(super) fn number(value: Option<u64>) -> String {
    value.map_or_else(null, |value| value.to_string())
}

/// A JSON string (RFC 8259 §7).
pub(super) fn text(value: &str) -> String {
    let mut json = String::from("\"");
    for letter in value.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            letter if u32::from(letter) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => json.push(letter),
        }
    }
    json.push('"');
    json
}

pub(super) fn texts(values: &[String]) -> String {
    format!("[{}]", values.iter().map(|value| text(value)).collect::<Vec<_>>().join(","))
}

pub(super) fn object<'a>(members: impl Iterator<Item = (&'a str, String)>) -> String {
    format!("{{{}}}", members.map(|(name, value)| format!("{}:{value}", text(name))).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_json() {
        assert_eq!(text("a\"b\\c\n\u{e4}"), "\"a\\\"b\\\\c\\u000a\u{e4}\"");
        assert_eq!(texts(&["a".to_owned(), "b".to_owned()]), "[\"a\",\"b\"]");
        assert_eq!(object([("k", number(None)), ("l", number(Some(3)))].into_iter()), "{\"k\":null,\"l\":3}");
    }
}
