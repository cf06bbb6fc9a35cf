//! `[service.x.disconnect]`: the partition contract.

use api_types::{
    disconnect::{DisconnectPolicy, OnReturn},
    rollout::UpdateOrder,
    workload::WorkloadSpec,
};

use crate::{
    fault::suggestion,
    section::{Entry, Section},
    update::word,
    workload::Kind,
};

const SECOND_MS: u64 = 1_000;
const YEAR_MS: u64 = 365 * 86_400_000;
/// Less than this would end instances for a link that hiccups.
const STOP_AFTER_MS_MIN: u64 = 5 * SECOND_MS;
const ON_RETURN: [OnReturn; 2] = [OnReturn::KeepOriginal, OnReturn::KeepReplacement];

/// Reads it.
pub(crate) fn read(section: &Section<'_>, kind: Kind) -> DisconnectPolicy {
    let mut policy = DisconnectPolicy::default();
    if let Some(entry) = section.get("replace_after") {
        match entry.text() {
            Some("never") => policy.replace_after_ms = None,
            Some(_) => policy.replace_after_ms = duration(&entry, SECOND_MS),
            None => {}
        }
    }
    if let Some(entry) = section.get("stop_after").filter(|entry| is_of_a_service(entry, kind)) {
        match entry.text() {
            Some("never") | None => {}
            Some(_) => policy.stop_after_ms = duration(&entry, STOP_AFTER_MS_MIN),
        }
    }
    if let Some(entry) = section.get("on_return").filter(|entry| is_of_a_service(entry, kind)) {
        policy.on_return = word(&entry, &ON_RETURN, OnReturn::as_str, "an answer to a return");
    }
    section.refuse_unknown();
    policy
}

/// A duration, where `never` is the only word.
fn duration(entry: &Entry<'_>, least_ms: u64) -> Option<u64> {
    let text = entry.text()?;
    if text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        let message = format!("`{text}` is neither a duration nor `never`");
        entry.invalid("unknown_value", message, suggestion(text, &["never"]));
        return None;
    }
    entry.duration_ms(least_ms, YEAR_MS)
}

fn is_of_a_service(entry: &Entry<'_>, kind: Kind) -> bool {
    let what = match kind {
        Kind::Service => return true,
        Kind::Daemon => "a daemon's instance is not replaced elsewhere",
        Kind::Job => "a job counts what its instances completed",
    };
    entry.invalid("only_for_services", format!("`{}` is for services: {what}", entry.key), "remove it");
    false
}

/// Refuses, with the table of the workload, what would let two instances of a slot run at once though `stop_after` says that
/// they never do.
pub(crate) fn refuse_overlaps(table: &Section<'_>, spec: &WorkloadSpec) {
    let Some(fenced_after_ms) = spec.fenced_after_ms() else { return };
    let Some(section) = table.get("disconnect").and_then(|entry| entry.section()) else { return };
    if let (Some(entry), Some(replace_after_ms)) = (section.get("stop_after"), spec.disconnect.replace_after_ms)
        && replace_after_ms < fenced_after_ms
    {
        let least = fenced_after_ms.div_ceil(SECOND_MS);
        let message = format!(
            "the instance may run for {least} s without being heard: until `stop_after` is over, for its grace of `stop` and \
             some seconds more; `replace_after` is shorter, so two could run at once"
        );
        entry.invalid("conflict", message, format!("write `replace_after = \"{least}s\"` or more"));
    }
    if let (Some(entry), Some(OnReturn::KeepOriginal)) = (section.get("on_return"), spec.disconnect.on_return) {
        let message = "with `stop_after` the original has ended before it could be kept";
        entry.invalid("conflict", message, "remove one of the two");
    }
    let is_start_first = spec.update.as_ref().is_some_and(|update| update.order == Some(UpdateOrder::StartFirst));
    let update = table.get("update").and_then(|entry| entry.section());
    if let (Some(entry), true) = (update.and_then(|section| section.get("order")), is_start_first) {
        let message = "`start-first` cannot be: with `disconnect.stop_after` two instances never run at once";
        entry.invalid("conflict", message, "remove it: it is stop-first by itself");
    }
    if let (Some(entry), Some(_)) = (table.get("max_restarts"), spec.restart.max_restarts) {
        let message =
            "another node tries beside the first: with `disconnect.stop_after` two instances never run at once";
        entry.invalid("conflict", message, "remove one of the two");
    }
}
