//! `[service.x.update]`: how a change is rolled out, and what follows when it does not work.

use api_types::{
    container::PortSpec,
    rollout::{CANARY_WEIGHT_MAX, CANARY_WEIGHT_MIN, OnFailure, Share, UpdateOrder, UpdateSpec, WAVES_MAX},
    workload::REPLICAS_MAX,
};

use crate::{
    fault::suggestion,
    section::{Entry, Section},
    workload::Kind,
};

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;
const ORDERS: [UpdateOrder; 2] = [UpdateOrder::StartFirst, UpdateOrder::StopFirst];
const ON_FAILURE: [OnFailure; 2] = [OnFailure::Rollback, OnFailure::Pause];

/// Reads it; `has_volume` says whether an instance holds data that stays on its node.
pub(crate) fn read(section: &Section<'_>, kind: Kind, ports: &[PortSpec], has_volume: bool) -> UpdateSpec {
    let mut update = UpdateSpec::default();
    if let Some(entry) = section.get("order") {
        update.order = order(&entry, kind, ports, has_volume);
    }
    if let Some(entry) = section.get("parallel") {
        update.parallel = share(&entry);
    }
    if let Some(entry) = section.get("canary") {
        update.canary = share(&entry);
    }
    if let Some(entry) = section.get("canary_weight") {
        update.canary_weight = canary_weight(&entry, update.canary.is_some());
    }
    if let Some(entry) = section.get("waves") {
        update.waves = waves(&entry);
    }
    let healthy_for = section.get("healthy_for");
    if let Some(time) = healthy_for.as_ref().and_then(|entry| entry.duration_ms(0, DAY_MS)) {
        update.healthy_for_ms = time;
    }
    if let Some(time) = section.get("deadline").and_then(|entry| entry.duration_ms(SECOND_MS, DAY_MS)) {
        update.deadline_ms = time;
    }
    if let Some(entry) = healthy_for
        && update.healthy_for_ms >= update.deadline_ms
    {
        let message = "`healthy_for` is not shorter than `deadline`: nothing could be healthy for so long in time";
        entry.invalid("out_of_range", message, "raise `deadline`, 5m where it is left out");
    }
    if let Some(entry) = section.get("on_failure") {
        let known = word(&entry, &ON_FAILURE, OnFailure::as_str, "an answer to a failure");
        update.on_failure = known.unwrap_or(OnFailure::Rollback);
    }
    section.refuse_unknown();
    update
}

/// Two instances cannot be there at once where they would share a port of the node, data, or the node itself.
fn order(entry: &Entry<'_>, kind: Kind, ports: &[PortSpec], has_volume: bool) -> Option<UpdateOrder> {
    let order = word(entry, &ORDERS, UpdateOrder::as_str, "an order")?;
    if order == UpdateOrder::StopFirst {
        return Some(order);
    }
    let why = if kind == Kind::Daemon {
        "a daemon's instance leaves its node before the next comes"
    } else if ports.iter().any(|port| port.host.is_some()) {
        "two instances cannot hold the same host port"
    } else if has_volume {
        "two instances cannot hold the same volume"
    } else {
        return Some(order);
    };
    entry.invalid("conflict", format!("`start-first` cannot be: {why}"), "remove it: it is stop-first by itself");
    None
}

/// Reads `"10%"`: how much of the connections those get that a person wants to see first.
fn canary_weight(entry: &Entry<'_>, has_canary: bool) -> Option<u8> {
    let text = entry.text()?;
    if !has_canary {
        let message = "`canary_weight` says how much of the connections a canary gets, and there is no `canary`";
        entry.invalid("conflict", message, "add `canary = 1`, or remove it");
        return None;
    }
    let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u8>().ok());
    let weight = percent.filter(|percent| (CANARY_WEIGHT_MIN..=CANARY_WEIGHT_MAX).contains(percent));
    if weight.is_none() {
        let message = format!("`{}` is not a part of the connections", text.escape_debug());
        entry.invalid("out_of_range", message, "write a share such as \"10%\", from 1% to 99%");
    }
    weight
}

/// Reads `["lab", "north"]`: sites in the order of their turns.
fn waves(entry: &Entry<'_>) -> Option<Vec<String>> {
    let mut sites: Vec<String> = Vec::new();
    let items = entry.items()?;
    if items.len() > WAVES_MAX {
        entry.invalid("out_of_range", format!("at most {WAVES_MAX} sites"), "the others follow by name");
        return None;
    }
    for item in items {
        let Some(site) = item.text() else { continue };
        if sites.iter().any(|known| known == site) {
            item.invalid("duplicate", format!("site `{}` is there twice", site.escape_debug()), "keep one of the two");
        } else {
            sites.push(site.to_owned());
        }
    }
    Some(sites)
}

/// Reads `2` or `"25%"`.
pub(crate) fn share(entry: &Entry<'_>) -> Option<Share> {
    if !entry.is_text() {
        let count = entry.integer(1, REPLICAS_MAX.into())?;
        return u32::try_from(count).ok().map(Share::Count);
    }
    let text = entry.text()?;
    let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<u8>().ok());
    let share = percent.filter(|percent| (1..=100).contains(percent)).map(Share::Percent);
    if share.is_none() {
        let message = format!("`{}` is not a part of the instances", text.escape_debug());
        entry.invalid("out_of_range", message, "write a number such as 2, or \"25%\" from 1% to 100%");
    }
    share
}

/// Reads one of two words.
pub(crate) fn word<T: Copy>(entry: &Entry<'_>, known: &[T; 2], name: fn(T) -> &'static str, what: &str) -> Option<T> {
    let text = entry.text()?;
    let found = known.iter().copied().find(|candidate| name(*candidate) == text);
    if found.is_none() {
        let message = format!("`{}` is not {what}", text.escape_debug());
        entry.invalid("unknown_value", message, suggestion(text, &known.map(name)));
    }
    found
}
