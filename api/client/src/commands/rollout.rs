//! `wherry rollout`: how the latest change of a workload goes, and what a person does to it.

use std::time::Duration;

use api_client::{Client, ClientError};
use api_types::{
    counter::Revision,
    id::WorkloadId,
    rollout::{RolloutAction, RolloutState},
    time::Timestamp,
    view::{RevisionView, RolloutHistory, RolloutView, WaveView},
};
use clap::{Args, Subcommand};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    commands::{Session, duration_ms, name},
    failure::{Failure, code},
    output::{
        Screen,
        amounts::{age, now},
        clean,
        table::{facts, indented, table},
    },
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// After a failed look, the next one.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Show how far it is; exit code 0 complete, 5 it did not work, 6 it is not complete
    Status(Status),
    /// Show the revisions that are kept: who, when, what changed
    History(History),
    /// Apply an earlier revision again
    Undo(Undo),
    /// Replace nothing more and roll nothing back until it is resumed
    Pause(Which),
    /// Go on; what failed is tried again
    Resume(Which),
    /// Go on beyond the canary
    Promote(Which),
    /// Bring back the last revision that is known to work
    Abort(Which),
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    which: Which,
    /// Wait so long until it is complete, did not work, or waits for a person
    #[arg(long = "wait", value_name = "DURATION", value_parser = duration_ms, default_value = "0s")]
    wait_ms: u64,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    which: Which,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Args)]
pub(crate) struct Undo {
    #[command(flatten)]
    which: Which,
    /// Which revision [default: the last before this one that is known to work]
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Which service or daemon
    #[arg(value_parser = name::<WorkloadId>)]
    workload: WorkloadId,
}

pub(crate) async fn run(session: &Session<'_>, command: &RolloutCommand) -> Result<(), Failure> {
    let (which, action) = match command {
        RolloutCommand::Status(arguments) => return status(session, arguments).await,
        RolloutCommand::History(arguments) => return history(session, arguments).await,
        RolloutCommand::Undo(Undo { which, to }) => (which, RolloutAction::Undo { to: to.map(Revision) }),
        RolloutCommand::Pause(which) => (which, RolloutAction::Pause),
        RolloutCommand::Resume(which) => (which, RolloutAction::Resume),
        RolloutCommand::Promote(which) => (which, RolloutAction::Promote),
        RolloutCommand::Abort(which) => (which, RolloutAction::Abort),
    };
    let done = session.client()?.act_on_rollout(&which.workload, action).await?;
    session.screen.data(&done.message);
    if action != RolloutAction::Pause {
        session.screen.say(&format!("  watch:  wherry rollout status {} --wait 5m", which.workload));
    }
    Ok(())
}

async fn status(session: &Session<'_>, arguments: &Status) -> Result<(), Failure> {
    let client = session.client()?;
    let view = wait(&client, session.screen, &arguments.which.workload, arguments.wait_ms).await?;
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(view)));
    } else {
        session.screen.data(&text(&view));
    }
    if view.state == RolloutState::Complete {
        return Ok(());
    }
    Err(Failure::Said(if view.state.has_failed() { code::DID_NOT_WORK } else { code::TIMEOUT }))
}

/// Looks until nothing more happens by itself, or the time is over.
async fn wait(client: &Client, screen: &Screen, id: &WorkloadId, wait_ms: u64) -> Result<RolloutView, Failure> {
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    let list = client.rollout(id, None).await?;
    let (mut version, mut view) = (list.version, only(list.items)?);
    while !is_at_rest(&view) && timeout_at(deadline, sleep(PAUSE)).await.is_ok() {
        match timeout_at(deadline, client.rollout(id, Some(version))).await {
            Err(_) => break,
            Ok(Ok(list)) => (version, view) = (list.version, only(list.items)?),
            Ok(Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Garbled { .. })) => {
                screen.say("the scheduler does not answer; trying again");
                sleep(RETRY).await;
            }
            Ok(Err(error)) => return Err(error.into()),
        }
    }
    Ok(view)
}

fn only(mut views: Vec<RolloutView>) -> Result<RolloutView, Failure> {
    views.pop().ok_or_else(|| Failure::Other("the scheduler said nothing of the rollout".to_owned()))
}

/// Whether it goes on only if a person does something.
fn is_at_rest(view: &RolloutView) -> bool {
    match view.state {
        RolloutState::Complete | RolloutState::RolledBack | RolloutState::Failed | RolloutState::AwaitingPromotion => {
            true
        }
        RolloutState::Progressing | RolloutState::RollingBack => !view.paused.is_empty(),
    }
}

fn text(view: &RolloutView) -> String {
    let mut text = facts(&[
        ("workload", view.workload.to_string()),
        ("revision", view.revision.to_string()),
        ("state", view.state.as_str().to_owned()),
        ("paused", view.paused.clone()),
        ("did not work", view.failed.map(|failed| format!("revision {failed}")).unwrap_or_default()),
        ("cause", clean(&view.cause)),
        ("updated", format!("{} of {}", view.updated, view.wanted)),
        ("ports", clean(&view.closed_ports)),
    ]);
    if !view.waves.is_empty() {
        text += &format!("\nWaves\n{}", indented(&waves(&view.waves)));
    }
    if !view.waits_for.is_empty() {
        text += &format!("\nWaits for\n{}", indented(&clean(&view.waits_for.join("\n"))));
    }
    text
}

/// The sites in the order of their turns, and how far each is.
fn waves(waves: &[WaveView]) -> String {
    let rows = waves.iter().map(|wave| {
        let silent = if wave.silent == 0 { String::new() } else { format!(", {} silent", wave.silent) };
        let updated = format!("{} of {}{silent}", wave.updated, wave.wanted);
        vec![clean(&wave.site), wave.turn.as_str().to_owned(), updated]
    });
    table(&["SITE", "TURN", "UPDATED"], &rows.collect::<Vec<_>>())
}

/// How a rollout goes, in one line for `describe`; empty when there is nothing to tell.
pub(crate) fn in_one_line(view: Option<&RolloutView>) -> String {
    let Some(view) = view else { return String::new() };
    let failed = view.failed.map(|failed| format!("revision {failed} did not work")).unwrap_or_default();
    let parts = [view.state.as_str(), &view.paused, &failed, &view.cause];
    clean(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; "))
}

async fn history(session: &Session<'_>, arguments: &History) -> Result<(), Failure> {
    let history = session.client()?.rollout_history(&arguments.which.workload).await?;
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(history)));
    } else {
        session.screen.data(&history_text(&history, now()));
    }
    Ok(())
}

/// The newest first: that is what a person looks for.
fn history_text(history: &RolloutHistory, now: Timestamp) -> String {
    let revisions = history.revisions.iter().rev().map(|revision| revision_text(revision, now));
    revisions.collect::<Vec<_>>().join("\n")
}

fn revision_text(view: &RevisionView, now: Timestamp) -> String {
    let marks = [view.is_current.then_some("current"), view.is_good.then_some("works")];
    let marks = marks.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let marks = if marks.is_empty() { marks } else { format!(" ({marks})") };
    let by = if view.by.is_empty() { String::new() } else { format!(" by {}", view.by) };
    let mut lines = vec![view.reason.clone(), view.image.clone()];
    let changes = view.changes.iter().map(|change| match (change.before.as_str(), change.after.as_str()) {
        ("", after) => format!("{}: {after}", change.path),
        (before, "") => format!("{}: {before} -> nothing", change.path),
        (before, after) => format!("{}: {before} -> {after}", change.path),
    });
    lines.extend(changes);
    let head = format!("revision {}{marks}, {} ago{by}\n", view.revision, age(view.at, now));
    head + &indented(&clean(&lines.join("\n")))
}
