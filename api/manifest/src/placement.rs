//! `[service.x.place]`: where instances go.

use api_types::placement::{Constraint, ConstraintKey, Domain, Operator, PlacementSpec, Spread};

use crate::{
    fault::suggestion,
    section::{Entry, Section},
    workload::Kind,
};

const KEYS: &[&str] = &["arch", "label.NAME", "node", "os", "site"];
const ARCHITECTURES: &[(&str, &str)] =
    &[("x86_64", "amd64"), ("x86-64", "amd64"), ("aarch64", "arm64"), ("armv7", "arm"), ("armhf", "arm")];
/// The longest name of a label, in bytes.
const LABEL_BYTES_MAX: usize = 63;

pub(crate) fn read(section: &Section<'_>, kind: Kind) -> PlacementSpec {
    section.refuse_later(&["prefer"]);
    let mut placement = PlacementSpec::default();
    for entry in section.get("require").and_then(|entry| entry.items()).unwrap_or_default() {
        placement.constraints.extend(constraint(&entry));
    }
    if let Some(entry) = section.get("spread") {
        only_for_services(&entry, kind);
        placement.spread = spread(&entry);
    }
    if let Some(entry) = section.get("per_node") {
        only_for_services(&entry, kind);
        placement.per_node_max = entry.integer(1, u64::from(u32::MAX)).and_then(|most| u32::try_from(most).ok());
    }
    section.refuse_unknown();
    placement
}

fn only_for_services(entry: &Entry<'_>, kind: Kind) {
    if kind == Kind::Daemon {
        let message = format!("`{}` has no meaning for a daemon: it runs once on each matching node", entry.key);
        entry.invalid("not_for_daemons", message, "remove it");
    }
}

fn spread(entry: &Entry<'_>) -> Vec<Spread> {
    let mut keys = Vec::new();
    for item in entry.items().unwrap_or_default() {
        let key = match item.text() {
            None => continue,
            Some("site") => Spread::soft(Domain::Site),
            Some("node") => Spread::soft(Domain::Node),
            Some(label) if label.starts_with("label.") => {
                item.refuse_later("spreading over a label");
                continue;
            }
            Some(other) => {
                let message = format!("instances cannot be spread over `{}`", other.escape_debug());
                item.invalid("unknown_value", message, suggestion(other, &["site", "node"]));
                continue;
            }
        };
        if keys.contains(&key) {
            item.invalid("duplicate", "is there twice", "");
        } else {
            keys.push(key);
        }
    }
    keys
}

/// Reads `arch == arm64`, `label.tier in [a, b]`, `has label.gpu`.
fn constraint(entry: &Entry<'_>) -> Option<Constraint> {
    let text = entry.text()?.trim();
    let words: Vec<&str> = text.split_whitespace().collect();
    if let ["has", key @ ..] = words.as_slice() {
        let [key] = key else {
            if key.first() == Some(&"volume") {
                entry.refuse_later("placing by volume");
            } else {
                entry.invalid("invalid_constraint", "`has` takes one property", "write \"has label.gpu\"");
            }
            return None;
        };
        return Some(Constraint { key: constraint_key(entry, key)?, operator: Operator::Has, values: Vec::new() });
    }
    let example = "write a property, one of == != in notin > <, and a value: \"arch == arm64\", \"site in [a, b]\", \
                   or \"has label.gpu\"";
    let [key, word, ..] = words.as_slice() else {
        entry.invalid("invalid_constraint", format!("`{}` is not a constraint", text.escape_debug()), example);
        return None;
    };
    let operator = match *word {
        "==" => Operator::Equal,
        "!=" => Operator::NotEqual,
        "in" => Operator::In,
        "notin" => Operator::NotIn,
        ">" => Operator::Greater,
        "<" => Operator::Less,
        other => {
            entry.invalid("invalid_constraint", format!("`{}` is not an operator", other.escape_debug()), example);
            return None;
        }
    };
    // Behind the key and the operator, whatever blanks are between them.
    let values = text[key.len()..].trim_start()[word.len()..].trim();
    let (key, values) = (constraint_key(entry, key), constraint_values(entry, operator, values));
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

fn constraint_key(entry: &Entry<'_>, text: &str) -> Option<ConstraintKey> {
    match text {
        "arch" => return Some(ConstraintKey::Arch),
        "os" => return Some(ConstraintKey::Os),
        "site" => return Some(ConstraintKey::Site),
        "node" => return Some(ConstraintKey::Node),
        _ => {}
    }
    if let Some(label) = text.strip_prefix("label.") {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.bytes().all(inner) {
            let message = format!("`{}` is not the name of a label", label.escape_debug());
            entry.invalid("invalid_constraint", message, "use letters, digits, - _ . and /, at most 63");
            return None;
        }
        return Some(ConstraintKey::Label(label.to_owned()));
    }
    let message = format!("nodes have no property `{}`", text.escape_debug());
    entry.invalid("unknown_property", message, suggestion(text, KEYS));
    None
}

fn constraint_values(entry: &Entry<'_>, operator: Operator, text: &str) -> Option<Vec<String>> {
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
    if matches!(operator, Operator::Greater | Operator::Less)
        && values.iter().any(|value| value.parse::<i64>().is_err())
    {
        let message = format!("`{}` is not a whole number", values.join(" ").escape_debug());
        entry.invalid("invalid_constraint", message, "> and < compare whole numbers");
        return None;
    }
    Some(values.into_iter().map(str::to_owned).collect())
}
