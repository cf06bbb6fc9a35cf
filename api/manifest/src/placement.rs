//! `[service.x.place]`: where instances go.

use api_types::{
    id::{Name, WorkloadId},
    placement::{Affinity, Domain, LABEL_NAME_BYTES_MAX, PlacementSpec, Priority, Relation, Spread, is_label_name},
};

use crate::{
    constraint,
    fault::suggestion,
    section::{Entry, Section},
    workload::Kind,
};

const DOMAINS: &[&str] = &["label.NAME", "node", "site"];
const PRIORITIES: [Priority; 4] = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];

pub(crate) fn read(section: &Section<'_>, kind: Kind, namespace: &Name) -> PlacementSpec {
    section.refuse_later(&["prefer"]);
    let mut placement = PlacementSpec::default();
    for entry in section.get("require").and_then(|entry| entry.items()).unwrap_or_default() {
        placement.constraints.extend(constraint::read(&entry));
    }
    if let Some(entry) = for_services(section, "spread", kind) {
        placement.spread = spread(&entry);
    }
    if let Some(entry) = for_services(section, "per_node", kind) {
        placement.per_node_max = entry.integer(1, u64::from(u32::MAX)).and_then(|most| u32::try_from(most).ok());
    }
    for (key, relation) in [("with", Relation::With), ("without", Relation::Without)] {
        for item in for_services(section, key, kind).and_then(|entry| entry.items()).unwrap_or_default() {
            let Some(affinity) = affinity(&item, relation, namespace) else { continue };
            if let Some(said) = said_before(&placement.affinities, &affinity) {
                item.invalid("duplicate", format!("there is already the rule `{said}`"), "keep one of the two");
            } else {
                placement.affinities.push(affinity);
            }
        }
    }
    if let Some(entry) = section.get("priority") {
        placement.priority = priority(&entry).unwrap_or_default();
    }
    section.refuse_unknown();
    placement
}

/// The entry of a key that only services have; a daemon's is refused and still read, so that all its faults are seen.
fn for_services<'a>(section: &Section<'a>, key: &'static str, kind: Kind) -> Option<Entry<'a>> {
    let entry = section.get(key)?;
    if kind == Kind::Daemon {
        let message = format!("`{}` has no meaning for a daemon: it runs once on each matching node", entry.key);
        entry.invalid("not_for_daemons", message, "remove it");
    }
    Some(entry)
}

/// Reads `["site", "label.rack", { over = "node", max_skew = 1 }]`.
fn spread(entry: &Entry<'_>) -> Vec<Spread> {
    let mut rules: Vec<Spread> = Vec::new();
    for item in entry.items().unwrap_or_default() {
        let Some(rule) = spread_rule(&item) else { continue };
        if rules.iter().any(|other| other.over == rule.over) {
            item.invalid("duplicate", format!("`{}` is there twice", rule.over), "");
        } else {
            rules.push(rule);
        }
    }
    rules
}

fn spread_rule(item: &Entry<'_>) -> Option<Spread> {
    if item.is_text() {
        return domain(item, "instances cannot be spread over").map(Spread::soft);
    }
    let section = item.section_or("a string or a table", "write \"site\" or { over = \"site\", max_skew = 1 }")?;
    let over = section.get("over");
    if over.is_none() {
        section.missing("over", "say over what: { over = \"label.rack\", max_skew = 1 }");
    }
    let over = over.and_then(|entry| domain(&entry, "instances cannot be spread over"));
    let skew_max = section.get("max_skew").map(|entry| entry.integer(1, u64::from(u32::MAX)));
    section.refuse_unknown();
    let skew_max = match skew_max {
        Some(skew) => Some(u32::try_from(skew?).ok()?),
        None => None,
    };
    Some(Spread { over: over?, skew_max })
}

/// Reads `"db"` or `{ workload = "other/api", within = "site" }`.
fn affinity(item: &Entry<'_>, relation: Relation, namespace: &Name) -> Option<Affinity> {
    if item.is_text() {
        return Some(Affinity { workload: workload(item, namespace)?, within: Domain::Node, relation });
    }
    let section = item.section_or("a string or a table", "write \"db\" or { workload = \"db\", within = \"site\" }")?;
    let other = section.get("workload");
    if other.is_none() {
        section.missing("workload", "say which: { workload = \"db\", within = \"site\" }");
    }
    let other = other.and_then(|entry| workload(&entry, namespace));
    let within = section.get("within").map_or(Some(Domain::Node), |entry| domain(&entry, "nodes are not grouped by"));
    section.refuse_unknown();
    Some(Affinity { workload: other?, within: within?, relation })
}

/// The rule that says the same or the opposite of a new one.
fn said_before<'a>(affinities: &'a [Affinity], new: &Affinity) -> Option<&'a Affinity> {
    affinities.iter().find(|other| other.workload == new.workload && other.within == new.within)
}

/// Reads `db`, a workload of the same namespace, or `other/db`.
fn workload(entry: &Entry<'_>, namespace: &Name) -> Option<WorkloadId> {
    let text = entry.text()?;
    let id = match text.split_once('/') {
        Some((namespace, name)) => Name::new(namespace).and_then(|namespace| Ok((namespace, Name::new(name)?))),
        None => Name::new(text).map(|name| (namespace.clone(), name)),
    };
    let refuse = |problem: String| entry.invalid("invalid_name", problem, "write \"db\" or \"namespace/db\"");
    id.map(|(namespace, name)| WorkloadId { namespace, name }).map_err(|error| refuse(error.problem)).ok()
}

fn domain(entry: &Entry<'_>, refusal: &str) -> Option<Domain> {
    match entry.text()? {
        "site" => Some(Domain::Site),
        "node" => Some(Domain::Node),
        other => {
            if let Some(name) = other.strip_prefix("label.") {
                return label(entry, name).map(Domain::Label);
            }
            let message = format!("{refusal} `{}`", other.escape_debug());
            let help = match other {
                "region" | "zone" => "did you mean `site`?".to_owned(),
                "host" | "hostname" => "did you mean `node`?".to_owned(),
                _ => suggestion(other, DOMAINS),
            };
            entry.invalid("unknown_value", message, help);
            None
        }
    }
}

/// Reads what stands behind `label.`.
pub(crate) fn label(entry: &Entry<'_>, name: &str) -> Option<String> {
    if !is_label_name(name) {
        let message = format!("`{}` is not the name of a label", name.escape_debug());
        let help = format!("use letters, digits, - _ . and /, at most {LABEL_NAME_BYTES_MAX}");
        entry.invalid("invalid_constraint", message, help);
        return None;
    }
    Some(name.to_owned())
}

fn priority(entry: &Entry<'_>) -> Option<Priority> {
    let text = entry.text()?;
    let found = PRIORITIES.into_iter().find(|priority| priority.as_str() == text);
    if found.is_none() {
        let message = format!("`{}` is not a priority", text.escape_debug());
        entry.invalid("unknown_value", message, suggestion(text, &PRIORITIES.map(Priority::as_str)));
    }
    found
}
