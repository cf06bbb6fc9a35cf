//! `place.require`: what a node must be.

use api_types::placement::{Constraint, ConstraintKey, Operator};

use crate::{fault::suggestion, placement::label, section::Entry};

const KEYS: &[&str] = &["arch", "label.NAME", "node", "os", "site"];
const ARCHITECTURES: &[(&str, &str)] =
    &[("x86_64", "amd64"), ("x86-64", "amd64"), ("aarch64", "arm64"), ("armv7", "arm"), ("armhf", "arm")];
const EXAMPLE: &str = "write a property, one of == != in notin > >= < <=, and a value: \"arch == arm64\", \
                       \"site in [a, b]\", or \"has label.gpu\"";

/// Reads `arch == arm64`, `label.tier in [a, b]`, `has label.gpu`, `label.gpu exists`.
pub(crate) fn read(entry: &Entry<'_>) -> Option<Constraint> {
    let text = entry.text()?.trim();
    let words: Vec<&str> = text.split_whitespace().collect();
    if let Some(presence) = presence(entry, &words) {
        let (operator, key) = presence?;
        return Some(Constraint { key: key_of(entry, key)?, operator, values: Vec::new() });
    }
    let [key, word, ..] = words.as_slice() else {
        entry.invalid("invalid_constraint", format!("`{}` is not a constraint", text.escape_debug()), EXAMPLE);
        return None;
    };
    let operator = match *word {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "in" => Operator::In,
        "notin" => Operator::NotIn,
        ">" => Operator::Greater,
        ">=" => Operator::AtLeast,
        "<" => Operator::Less,
        "<=" => Operator::AtMost,
        other => {
            entry.invalid("invalid_constraint", format!("`{}` is not an operator", other.escape_debug()), EXAMPLE);
            return None;
        }
    };
    // Behind the key and the operator, whatever blanks are between them.
    let values = text[key.len()..].trim_start()[word.len()..].trim();
    let (key, values) = (key_of(entry, key), self::values(entry, operator, values));
    let (key, values) = (key?, values?);
    if key == ConstraintKey::Arch
        && let Some((wrong, right)) = ARCHITECTURES.iter().find(|(wrong, _)| values.iter().any(|value| value == wrong))
    {
        let message = format!("architectures are named as images name them, not `{wrong}`");
        entry.invalid("unknown_value", message, format!("did you mean `{right}`?"));
        return None;
    }
    Some(Constraint { key, operator, values })
}

/// Reads the four ways to say that a property is there or is not; `None` where the words say something else.
fn presence<'w>(entry: &Entry<'_>, words: &[&'w str]) -> Option<Option<(Operator, &'w str)>> {
    let (operator, word, keys) = match words {
        [key, "exists"] => return Some(Some((Operator::Has, key))),
        [key, "!exists"] => return Some(Some((Operator::HasNot, key))),
        ["has", keys @ ..] => (Operator::Has, "has", keys),
        ["hasnot", keys @ ..] => (Operator::HasNot, "hasnot", keys),
        _ => return None,
    };
    if let [key] = keys {
        return Some(Some((operator, key)));
    }
    if keys.first() == Some(&"volume") {
        entry.refuse_later("placing by volume");
    } else {
        let message = format!("`{word}` takes one property");
        entry.invalid("invalid_constraint", message, format!("write \"{word} label.gpu\""));
    }
    Some(None)
}

fn key_of(entry: &Entry<'_>, text: &str) -> Option<ConstraintKey> {
    match text {
        "arch" => return Some(ConstraintKey::Arch),
        "os" => return Some(ConstraintKey::Os),
        "site" => return Some(ConstraintKey::Site),
        "node" => return Some(ConstraintKey::Node),
        _ => {}
    }
    if let Some(name) = text.strip_prefix("label.") {
        return label(entry, name).map(ConstraintKey::Label);
    }
    let message = format!("nodes have no property `{}`", text.escape_debug());
    entry.invalid("unknown_property", message, suggestion(text, KEYS));
    None
}

fn values(entry: &Entry<'_>, operator: Operator, text: &str) -> Option<Vec<String>> {
    let list = matches!(operator, Operator::In | Operator::NotIn);
    let values: Vec<&str> = if list {
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let Some(inner) = inner.filter(|inner| !inner.contains(['[', ']'])) else {
            entry.invalid("invalid_constraint", "a list stands in brackets", "write \"site in [berlin, bonn]\"");
            return None;
        };
        inner.split(',').map(str::trim).collect()
    } else {
        vec![text]
    };
    let plain = |value: &&str| value.is_empty() || value.contains(|c: char| c.is_whitespace() || "\"'=<>".contains(c));
    if let Some(wrong) = values.iter().find(|value| plain(value)) {
        let message = format!("`{}` is not a value", wrong.escape_debug());
        entry.invalid("invalid_constraint", message, "a value is one word without quotes");
        return None;
    }
    let compares = matches!(operator, Operator::Greater | Operator::AtLeast | Operator::Less | Operator::AtMost);
    if compares && values.iter().any(|value| value.parse::<i64>().is_err()) {
        let message = format!("`{}` is not a whole number", values.join(" ").escape_debug());
        entry.invalid("invalid_constraint", message, "> >= < <= compare whole numbers");
        return None;
    }
    Some(values.into_iter().map(str::to_owned).collect())
}
