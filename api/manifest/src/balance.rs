//! `[service.x.balance]`: how its connections are shared out.

use api_types::balance::{BalancePolicy, BalanceSpec, Preference, WEIGHT_MAX, WeightRule, WhenNoneReady};

use crate::{
    constraint,
    fault::suggestion,
    section::{Entry, Section},
    workload::Kind,
};

const SECOND_MS: u64 = 1_000;
const HOUR_MS: u64 = 3_600_000;
const PREFERENCES: [Preference; 3] = [Preference::Local, Preference::Site, Preference::Any];
const WHEN_NONE_READY: [WhenNoneReady; 2] = [WhenNoneReady::Keep, WhenNoneReady::Refuse];

pub(crate) fn read(section: &Section<'_>, entry: &Entry<'_>, kind: Kind) -> BalanceSpec {
    if kind == Kind::Daemon {
        let message = "`balance` is for services: a daemon has no address of its own";
        entry.invalid("not_for_daemons", message, "remove it, or make it a [service.x]");
    }
    let mut policy = BalancePolicy::default();
    if let Some(entry) = section.get("prefer") {
        let help = |word: &str| match word {
            "node" | "host" => "did you mean `local`?".to_owned(),
            "zone" | "region" => "did you mean `site`?".to_owned(),
            "all" | "none" | "remote" => "did you mean `any`?".to_owned(),
            _ => suggestion(word, &PREFERENCES.map(Preference::as_str)),
        };
        policy.prefer = word(&entry, &PREFERENCES, Preference::as_str, "a preference", help).unwrap_or_default();
    }
    if let Some(entry) = section.get("affinity") {
        policy.affinity_ms = entry.duration_ms(SECOND_MS, 24 * HOUR_MS);
    }
    if let Some(entry) = section.get("slow_start") {
        policy.slow_start_ms = entry.duration_ms(SECOND_MS, HOUR_MS);
    }
    if let Some(entry) = section.get("when_none_ready") {
        let help = |word: &str| suggestion(word, &WHEN_NONE_READY.map(WhenNoneReady::as_str));
        let known = word(&entry, &WHEN_NONE_READY, WhenNoneReady::as_str, "an answer", help);
        policy.when_none_ready = known.unwrap_or_default();
    }
    let rules = section.get("weights").and_then(|entry| entry.items()).unwrap_or_default();
    let weights = rules.iter().filter_map(weight_rule).collect();
    section.refuse_unknown();
    BalanceSpec { policy, weights }
}

/// Reads one of a few words.
fn word<T: Copy>(
    entry: &Entry<'_>,
    known: &[T],
    name: fn(T) -> &'static str,
    what: &str,
    help: impl FnOnce(&str) -> String,
) -> Option<T> {
    let text = entry.text()?;
    let found = known.iter().copied().find(|candidate| name(*candidate) == text);
    if found.is_none() {
        entry.invalid("unknown_value", format!("`{}` is not {what}", text.escape_debug()), help(text));
    }
    found
}

/// Reads `{ nodes = "label.size == large", weight = 3 }`.
fn weight_rule(item: &Entry<'_>) -> Option<WeightRule> {
    let section = item.section_or("a table", "write { nodes = \"label.size == large\", weight = 3 }")?;
    let (nodes, weight) = (section.get("nodes"), section.get("weight"));
    if nodes.is_none() {
        section.missing("nodes", "say on which nodes: { nodes = \"label.size == large\", weight = 3 }");
    }
    if weight.is_none() {
        section.missing("weight", "say how much, where others have 1: { nodes = \"label.size == large\", weight = 3 }");
    }
    let nodes = nodes.and_then(|entry| constraint::read(&entry));
    let weight = weight.and_then(|entry| entry.integer(1, u64::from(WEIGHT_MAX)));
    section.refuse_unknown();
    Some(WeightRule { nodes: nodes?, weight: u16::try_from(weight?).ok()? })
}
