//! `schedule` of a `[job.x]`, and the keys that belong to it.

use api_types::schedule::{CATCH_UP_MS_MAX, Cron, ON_TIME_MS, Overlap, ScheduleSpec, is_time_zone_name};

use crate::{
    fault::suggestion,
    section::{Entry, Section},
};

/// Keys that say more about `schedule`.
const MORE: [&str; 4] = ["time_zone", "catch_up", "overlap", "suspend"];

/// Reads when a job runs by itself; `None` = it runs when it is applied, or its schedule has a fault.
pub(crate) fn read(section: &Section<'_>) -> Option<ScheduleSpec> {
    let schedule = section.get("schedule");
    let [time_zone, catch_up, overlap, suspend] = MORE.map(|key| section.get(key));
    if schedule.is_none() {
        for entry in [&time_zone, &catch_up, &overlap, &suspend].into_iter().flatten() {
            let message = format!("`{}` is about a `schedule`, and there is none", entry.key);
            entry.invalid("no_schedule", message, "remove it, or say when the job runs: schedule = \"15 3 * * *\"");
        }
    }
    let time_zone = time_zone.and_then(|entry| self::time_zone(&entry));
    let catch_up_ms = catch_up.and_then(|entry| self::catch_up(&entry));
    let overlap = overlap.and_then(|entry| self::overlap(&entry));
    let suspend = suspend.and_then(|entry| entry.boolean());
    let usual = ScheduleSpec::at(cron(&schedule?)?);
    Some(ScheduleSpec {
        time_zone: time_zone.unwrap_or(usual.time_zone),
        catch_up_ms,
        overlap: overlap.unwrap_or_default(),
        suspend: suspend.unwrap_or_default(),
        cron: usual.cron,
    })
}

fn cron(entry: &Entry<'_>) -> Option<Cron> {
    let help = "write minute, hour, day, month and day of the week, such as \"*/15 8-18 * * mon-fri\", or \"@daily\"";
    entry
        .text()?
        .parse()
        .map_err(|error: api_types::error::ValidationError| {
            entry.invalid("invalid_schedule", error.problem, help);
        })
        .ok()
}

/// Which zones there are is known where the scheduler runs.
fn time_zone(entry: &Entry<'_>) -> Option<String> {
    let name = entry.text()?;
    if is_time_zone_name(name) {
        return Some(name.to_owned());
    }
    let message = format!("`{}` is not the name of a time zone", name.escape_debug());
    entry.invalid("invalid_time_zone", message, "write such as \"Europe/Berlin\" or \"UTC\"");
    None
}

fn catch_up(entry: &Entry<'_>) -> Option<u64> {
    if entry.text()? == "none" {
        return None;
    }
    entry.duration_ms(ON_TIME_MS, CATCH_UP_MS_MAX)
}

fn overlap(entry: &Entry<'_>) -> Option<Overlap> {
    let word = entry.text()?;
    let overlap = Overlap::ALL.into_iter().find(|overlap| overlap.as_str() == word);
    if overlap.is_none() {
        let message = format!("`{}` says nothing of overlap", word.escape_debug());
        entry.invalid("unknown_value", message, suggestion(word, &Overlap::ALL.map(Overlap::as_str)));
    }
    overlap
}
