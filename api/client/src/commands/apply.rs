//! `wherry apply`.

use api_types::{counter::Revision, id::WorkloadId};
use clap::Args;

use crate::{
    commands::{Session, duration_ms, manifests::Files, progress},
    failure::{Failure, code},
};

#[derive(Debug, Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    /// Do not wait until it runs
    #[arg(long, conflicts_with = "wait_ms")]
    detach: bool,
    /// How long to wait until all runs and is healthy
    #[arg(long = "wait", value_name = "DURATION", value_parser = duration_ms, default_value = "5m")]
    wait_ms: u64,
    /// Refuse unless each workload that exists is at this revision
    #[arg(long, value_name = "REVISION")]
    check: Option<u64>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Apply) -> Result<(), Failure> {
    let manifests = arguments.files.read()?;
    let client = session.client()?;
    let (mut applied, mut created, mut changed) = (Vec::new(), Vec::<WorkloadId>::new(), Vec::new());
    for manifest in &manifests {
        let changes = client.apply(&manifest.text, arguments.check.map(Revision)).await;
        let changes = changes.inspect_err(|_| {
            if !applied.is_empty() {
                session.screen.say(&format!("{} failed; the files before it are applied", manifest.file));
            }
        })?;
        for change in changes {
            session.screen.data(&format!("{} {}", done(&change.action), change.workload));
            for warning in &change.warnings {
                session.screen.say(&format!("warning: {}: {warning}", change.workload));
            }
            if change.action == "create" {
                created.push(change.workload.clone());
            }
            if change.action != "none" {
                changed.push(change.workload.clone());
            }
            applied.push(change.workload);
        }
    }
    if arguments.detach {
        return Ok(());
    }
    tokio::select! {
        waited = progress::wait_until_ready(&client, session.screen, (&applied, &changed), arguments.wait_ms) => waited,
        _ = tokio::signal::ctrl_c() => {
            session.screen.say("\ndetached; the cluster goes on by itself");
            session.screen.say("  watch:  wherry get instances -w");
            // What was there before cannot be undone by deleting it.
            for name in &created {
                session.screen.say(&format!("  undo:   wherry delete {name}"));
            }
            Err(Failure::Said(code::INTERRUPTED))
        }
    }
}

fn done(action: &str) -> &str {
    match action {
        "create" => "created",
        "update" => "updated",
        "scale" => "scaled",
        "delete" => "deleted",
        "none" => "unchanged",
        other => other,
    }
}
