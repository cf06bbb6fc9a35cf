//! What stories say of rollouts.

use std::{collections::BTreeMap, fmt::Write as _};

use api_types::{
    counter::Revision,
    id::WorkloadId,
    rollout::{OnFailure, RolloutAction, Share, UpdateOrder, UpdateSpec},
};
use scheduler_core::{Scheduler, input::Change};

/// `healthy_for=10s deadline=60s parallel=25% canary=1 order=stop-first on_failure=pause`, or `update` alone.
pub(crate) fn spec(options: &BTreeMap<String, String>) -> Option<UpdateSpec> {
    let get = |key: &str| options.get(key).map(String::as_str);
    let known =
        ["update", "healthy_for", "deadline", "parallel", "canary", "order", "on_failure", "waves", "canary_weight"];
    if !known.iter().any(|key| options.contains_key(*key)) {
        return None;
    }
    let default = UpdateSpec::default();
    Some(UpdateSpec {
        order: get("order").map(|word| match word {
            "stop-first" => UpdateOrder::StopFirst,
            _ => UpdateOrder::StartFirst,
        }),
        parallel: get("parallel").map(share),
        canary: get("canary").map(share),
        canary_weight: get("canary_weight").map(|percent| percent.trim_end_matches('%').parse().expect("a number")),
        waves: get("waves").map(|sites| sites.split(',').map(str::to_owned).collect()),
        healthy_for_ms: get("healthy_for").map_or(default.healthy_for_ms, super::milliseconds),
        deadline_ms: get("deadline").map_or(default.deadline_ms, super::milliseconds),
        on_failure: if get("on_failure") == Some("pause") { OnFailure::Pause } else { OnFailure::Rollback },
    })
}

pub(crate) fn share(text: &str) -> Share {
    match text.strip_suffix('%') {
        Some(percent) => Share::Percent(percent.parse().expect("a number")),
        None => Share::Count(text.parse().expect("a number")),
    }
}

/// `web undo`, `web undo 2`, `web pause`, ...
pub(crate) fn change(words: &[&str]) -> Change {
    let action = match words[1] {
        "undo" => RolloutAction::Undo { to: words.get(2).map(|to| Revision(to.parse().expect("a number"))) },
        "pause" => RolloutAction::Pause,
        "resume" => RolloutAction::Resume,
        "promote" => RolloutAction::Promote,
        "abort" => RolloutAction::Abort,
        other => panic!("no such action: {other}"),
    };
    Change::Rollout { workload: super::id(words[0]), action }
}

/// How far a rollout is, line by line.
pub(crate) fn show(scheduler: &Scheduler, id: &WorkloadId) -> String {
    let view = match scheduler.rollout_view(id) {
        Ok(view) => view,
        Err(refusal) => return format!("refused: {refusal}\n"),
    };
    let mut text = format!("r{} {}, {} of {}", view.revision, view.state.as_str(), view.updated, view.wanted);
    for word in [view.paused, view.failed.map(|failed| format!("r{failed} failed")).unwrap_or_default(), view.cause] {
        if !word.is_empty() {
            write!(text, "; {word}").expect("a text takes all");
        }
    }
    text.push('\n');
    for wave in &view.waves {
        let silent = if wave.silent == 0 { String::new() } else { format!(", {} silent", wave.silent) };
        writeln!(text, "  wave {} {}: {} of {}{silent}", wave.site, wave.turn.as_str(), wave.updated, wave.wanted)
            .expect("a text takes all");
    }
    let closed = Some(&view.closed_ports).filter(|ports| !ports.is_empty());
    view.waits_for.iter().chain(closed).for_each(|line| writeln!(text, "  {line}").expect("a text takes all"));
    text
}

/// The revisions that are kept.
pub(crate) fn history(scheduler: &Scheduler, id: &WorkloadId) -> String {
    let history = scheduler.rollout_history(id).expect("a known workload");
    let mut text = String::new();
    for kept in history.revisions {
        let marks = [kept.is_current.then_some("current"), kept.is_good.then_some("works")];
        let marks = marks.into_iter().flatten().collect::<Vec<_>>().join(", ");
        writeln!(text, "r{} by {}: {} [{marks}]", kept.revision, kept.by, kept.reason).expect("a text takes all");
        for change in kept.changes {
            writeln!(text, "  {} {} -> {}", change.path, change.before, change.after).expect("a text takes all");
        }
    }
    text
}
