//! `wherry plan`: what would change, where instances would go, and in which order.

mod order;

use std::{collections::BTreeMap, fmt::Write as _};

use api_types::view::{Displaced, Plan as Planned, PlannedPlacement, WorkloadChange};
use clap::Args;
use serde_json::{Map, Value};

use crate::{
    commands::{Session, counted, manifests::Files},
    failure::{Failure, code},
    output::amounts::bytes,
};

/// Show what apply would change, where instances would go and in which order
///
/// The scheduler applies it to a copy of its state, by the code that applies it otherwise; nothing is changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  wherry plan -f shop.toml\n  wherry plan -f shop.toml --exit-code || echo changes\n\n\
                        With --exit-code it ends with 0 if nothing would change, 3 if something would, and 4 if \
                        besides an instance\nwould find no node or would be displaced from its own for good."
)]
pub(crate) struct Plan {
    #[command(flatten)]
    files: Files,
    /// End with 3 if something would change, 4 if an instance would find no node
    #[arg(long)]
    exit_code: bool,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Plan) -> Result<(), Failure> {
    let manifests = arguments.files.read()?;
    let client = session.client()?;
    let mut plan = Planned::default();
    for manifest in &manifests {
        let Planned { changes, steps, displaced, cut } = client.plan(&manifest.text).await?;
        plan.changes.extend(changes);
        plan.steps.extend(steps);
        plan.displaced.extend(displaced);
        plan.cut = if plan.cut.is_empty() { cut } else { plan.cut };
    }
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(plan)));
    } else {
        session.screen.data(&text(&plan));
    }
    match exit_code(&plan) {
        Some(code) if arguments.exit_code => Err(Failure::Said(code)),
        Some(_) | None => Ok(()),
    }
}

/// What scripts are told; `None` when nothing would change.
fn exit_code(plan: &Planned) -> Option<u8> {
    if unplaced(plan) > 0 || plan.displaced.iter().any(|displaced| displaced.to.is_none()) {
        return Some(code::NOT_PLACED);
    }
    plan.changes.iter().any(|change| change.action != "none").then_some(code::CHANGES)
}

fn unplaced(plan: &Planned) -> usize {
    let placements = plan.changes.iter().flat_map(|change| &change.placements);
    placements.filter(|placement| placement.node.is_none()).count()
}

fn text(plan: &Planned) -> String {
    let mut text = String::new();
    for change in &plan.changes {
        let mark = match change.action.as_str() {
            "create" => '+',
            "delete" => '-',
            "none" => '=',
            _ => '~',
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "{mark} {} ({})", change.workload, past(&change.action));
        for field in &change.fields {
            difference(&field.path, &json(&field.before), &json(&field.after), &mut text);
        }
        text += &placements(&change.placements);
        for warning in &change.warnings {
            let _ = writeln!(text, "    warning: {warning}");
        }
    }
    text += &displaced(&plan.displaced);
    text += &order::text(&plan.steps);
    if !plan.cut.is_empty() {
        let _ = writeln!(text, "\nwarning: {}", plan.cut);
    }
    let _ = writeln!(text, "\n{}", summary(plan));
    text
}

fn summary(plan: &Planned) -> String {
    let is = |change: &&WorkloadChange, actions: &[&str]| actions.contains(&change.action.as_str());
    let count = |actions: &[&str]| plan.changes.iter().filter(|change| is(change, actions)).count();
    let mut text = format!(
        "{} to create, {} to change, {} to delete, {} as it is",
        count(&["create"]),
        count(&["update", "scale"]),
        count(&["delete"]),
        count(&["none"])
    );
    let waits = unplaced(plan);
    if waits > 0 {
        let _ = write!(text, "; {} would wait for a node", counted(waits, "instance"));
    }
    if !plan.displaced.is_empty() {
        let _ = write!(text, "; {} would be displaced", counted(plan.displaced.len(), "instance"));
    }
    text
}

/// What gives way to a higher priority.
fn displaced(displaced: &[Displaced]) -> String {
    let mut text = String::new();
    for one in displaced {
        let then = one.to.as_ref().map_or_else(|| "finds no other node".to_owned(), |to| format!("goes to {to}"));
        let _ = writeln!(text, "! {} displaces {} on {}, which {then}", one.by, one.instance, one.node);
    }
    text
}

fn past(action: &str) -> &str {
    match action {
        "none" => "no change",
        other => other,
    }
}

/// A line for each value that differs; tables are taken apart.
fn difference(path: &str, before: &Value, after: &Value, text: &mut String) {
    if let (Value::Object(old), Value::Object(new)) = (before, after) {
        for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
            let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
            difference(&format!("{path}.{key}"), &value(old), &value(new), text);
        }
    } else if before != after {
        let _ = writeln!(text, "    {path}: {} -> {}", shown(path, before), shown(path, after));
    }
}

/// The value that a field's text stands for; a field that is not there is null.
fn json(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { serde_json::from_str(text).unwrap_or_else(|_| text.into()) }
}

fn shown(path: &str, value: &Value) -> String {
    match (value, value.as_u64()) {
        (Value::Null, _) => "nothing".to_owned(),
        // Whole MiB only: a rounded amount could look the same before and after.
        (_, Some(amount)) if path.contains("_bytes") && amount.is_multiple_of(1 << 20) && amount < 1 << 30 => {
            bytes(amount)
        }
        _ => value.to_string(),
    }
}

/// How many go to each node, and why the others go nowhere.
fn placements(placements: &[PlannedPlacement]) -> String {
    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for placement in placements {
        match &placement.node {
            Some(node) => *nodes.entry(node.to_string()).or_default() += 1,
            None => *reasons.entry(&placement.reason).or_default() += 1,
        }
    }
    let mut text = String::new();
    for (node, count) in nodes {
        let _ = writeln!(text, "    {} on {node}", counted(count, "instance"));
    }
    for (reason, count) in reasons {
        let _ = writeln!(text, "    {} on no node: {reason}", counted(count, "instance"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_value_by_value() {
        let mut text = String::new();

        difference("probe", &json(r#"{"a":1,"b":{"c":2}}"#), &json(r#"{"a":1,"b":{"c":3,"d":"x"}}"#), &mut text);
        difference("memory_bytes", &json("16777216"), &json("16777217"), &mut text);
        difference("probe", &json("null"), &json(r#"{"a":1}"#), &mut text);

        assert_eq!(
            text,
            "    probe.b.c: 2 -> 3\n    probe.b.d: nothing -> \"x\"\n    memory_bytes: 16MiB -> 16777217\n    \
             probe: nothing -> {\"a\":1}\n"
        );
    }
}
