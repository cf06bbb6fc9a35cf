//! `[job.x]`: what runs until it is done.

use api_types::{
    container::{ContainerSpec, Mount},
    job::{COMPLETIONS_MAX, JobSpec, KEEP_MAX, KeepSpec, RETRIES_MAX},
    schedule::Overlap,
};

use crate::section::{Entry, Section};

const SECOND_MS: u64 = 1_000;
const MONTH_MS: u64 = 30 * 86_400_000;
/// Keys of other kinds, and why a job does not have them.
const FOREIGN: &[(&str, &str)] = &[
    ("scale", "say with `completions` how many instances must end with success"),
    ("replicas", "say with `completions` how many instances must end with success"),
    ("ports", "nobody is led to what ends by itself; make it a [service.x]"),
    ("balance", "nobody is led to what ends by itself; make it a [service.x]"),
    ("ipv6", "nobody is led to what ends by itself; make it a [service.x]"),
    ("across_sites", "nobody is led to what ends by itself; make it a [service.x]"),
    ("allow_from", "nobody is led to what ends by itself; make it a [service.x]"),
    ("update", "a changed job runs once more; what still runs is ended"),
    ("health", "the code with which its process ends says how it went"),
    ("startup", "the code with which its process ends says how it went"),
    ("liveness", "the code with which its process ends says how it went; `deadline` ends what hangs"),
    ("max_restarts", "say with `retries` how often it is tried again"),
];

/// Reads what only jobs have.
pub(crate) fn read(section: &Section<'_>, container: Option<&ContainerSpec>) -> JobSpec {
    for (key, instead) in FOREIGN {
        if let Some(entry) = section.get(key) {
            entry.invalid("not_for_jobs", format!("`{key}` has no meaning for a job"), *instead);
        }
    }
    refuse_shared_volumes(section, container);
    let mut job = JobSpec::default();
    if let Some(completions) = section.get("completions").and_then(|entry| number(&entry, 1, COMPLETIONS_MAX)) {
        job.completions = completions;
    }
    if let Some(parallelism) = section.get("parallelism").and_then(|entry| number(&entry, 1, COMPLETIONS_MAX)) {
        job.parallelism = parallelism;
    }
    if let Some(retries) = section.get("retries").and_then(|entry| number(&entry, 0, RETRIES_MAX)) {
        job.retries = retries;
    }
    job.deadline_ms = section.get("deadline").and_then(|entry| entry.duration_ms(SECOND_MS, MONTH_MS));
    if let Some(keep) = section.get("keep").and_then(|entry| entry.section()) {
        job.keep = self::keep(&keep);
    }
    job
}

/// Reads `{ ok = 3, failed = 5 }`.
fn keep(section: &Section<'_>) -> KeepSpec {
    let usual = KeepSpec::default();
    let read = |key| section.get(key).and_then(|entry| number(&entry, 0, KEEP_MAX));
    let keep =
        KeepSpec { succeeded: read("ok").unwrap_or(usual.succeeded), failed: read("failed").unwrap_or(usual.failed) };
    section.refuse_unknown();
    keep
}

/// Each slot has data of its own, whichever run fills it.
fn refuse_shared_volumes(section: &Section<'_>, container: Option<&ContainerSpec>) {
    let has_volume =
        container.is_some_and(|container| container.mounts.values().any(|mount| matches!(mount, Mount::Volume { .. })));
    let allows = |entry: &Entry<'_>| entry.text().is_some_and(|text| text == Overlap::Allow.as_str());
    if let Some(entry) = section.get("overlap").filter(|entry| has_volume && allows(entry)) {
        let help = "write \"forbid\" or \"replace\", or do without the volume";
        entry.invalid("shared_volume", "two runs at once would write to the same volume", help);
    }
}

fn number(entry: &Entry<'_>, low: u32, high: u32) -> Option<u32> {
    entry.integer(low.into(), high.into()).and_then(|number| u32::try_from(number).ok())
}
