//! Starts, stops and removes attempts.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use agent_containerd::{Secrets, StartRequest};
use agent_core::input::Input;
use api_types::{
    assignment::Assignment, id::InstanceId, instance::LAST_LINES_BYTES_MAX, time::Timestamp, view::LogLine,
};
use tokio::sync::mpsc;

use super::Tools;

/// How many of the lines that a process wrote last are told.
const LAST_LINES: usize = 5;
/// How long the logger may take to write what it read: it is a program of its own.
const LOGGER_DELAY: Duration = Duration::from_millis(200);
/// A process may have written this long before the agent knew that it runs, in milliseconds.
const KNOWN_AFTER_MS: u64 = 10_000;

pub(super) async fn start(
    tools: Tools,
    assignment: Arc<Assignment>,
    (attempt, address): (u32, Ipv4Addr),
    secrets: Secrets,
) {
    let netns = tools.network.netns_path(&assignment.instance);
    let name_server = tools.names.server();
    let request = StartRequest { assignment: &assignment, attempt, netns, address, name_server, secrets: &secrets };
    let outcome = tools.containerd.start(&request).await;
    let instance = assignment.instance.clone();
    tools
        .tell(match outcome {
            Ok(pid) => {
                tracing::info!(%instance, attempt, pid, "started");
                Input::Started { instance, attempt, pid }
            }
            Err(error) => {
                tracing::warn!(%instance, attempt, %error, "not started");
                Input::StartFailed { instance, attempt, reason: error.to_string() }
            }
        })
        .await;
}

/// Shows a process what it shall be shown now.
pub(super) fn refresh(tools: &Tools, assignment: &Assignment, attempt: u32, secrets: &Secrets) {
    let instance = assignment.instance.clone();
    let signal = match tools.containerd.rewrite(assignment, attempt, secrets) {
        Ok(signal) => signal.map(str::to_owned),
        Err(error) => {
            tracing::error!(%instance, attempt, %error, "its files are not those of now: restart it");
            return;
        }
    };
    let Some(signal) = signal else { return };
    let containerd = tools.containerd.clone();
    tokio::spawn(async move {
        match containerd.tell(&instance, attempt, &signal).await {
            Ok(()) => tracing::info!(%instance, attempt, signal, "its files were written anew, and it was told"),
            Err(error) => tracing::error!(%instance, attempt, %error, "its files were written anew: it cannot be told"),
        }
    });
}

pub(super) async fn stop(tools: Tools, instance: InstanceId, attempt: u32, signal: Option<String>, grace_ms: u64) {
    let grace = Duration::from_millis(grace_ms);
    if let Err(error) = tools.containerd.stop(&instance, attempt, signal.as_deref(), grace).await {
        // The core counts the time: what outlives its grace is removed as it is.
        tracing::warn!(%instance, attempt, %error, "cannot stop");
        return;
    }
    tracing::info!(%instance, attempt, "stopped");
    // Where nothing ran no event comes; a second word about one end changes nothing.
    if let Ok(exit) = tools.containerd.wait(&instance, attempt).await {
        tools.tell(Input::Exited { instance, attempt, exit }).await;
    }
}

pub(super) async fn remove(tools: Tools, instance: InstanceId, attempt: u32) {
    let outcome = tools.containerd.remove(&instance, attempt).await;
    tools
        .tell(match outcome {
            Ok(()) => Input::Removed { instance, attempt },
            Err(error) => {
                tracing::warn!(%instance, attempt, %error, "cannot remove");
                Input::RemoveFailed { instance, attempt, reason: error.to_string() }
            }
        })
        .await;
}

/// Tells what a process that ended wrote last; nothing, where nothing can be read.
pub(super) async fn read_last_lines(tools: Tools, instance: InstanceId, attempt: u32, since: Timestamp) {
    tokio::time::sleep(LOGGER_DELAY).await;
    let (sender, mut receiver) = mpsc::channel::<LogLine>(LAST_LINES);
    let collect = async {
        let mut lines = Vec::new();
        while let Some(line) = receiver.recv().await {
            let text: String = line.text.chars().filter(|letter| !letter.is_control()).collect();
            if line.at.0 + KNOWN_AFTER_MS >= since.0 {
                lines.push(text.chars().take(LAST_LINES_BYTES_MAX).collect::<String>());
            }
        }
        lines.join("\n")
    };
    let (read, lines) = tokio::join!(tools.containerd.logs(&instance, Some(LAST_LINES), false, sender), collect);
    if let Err(error) = read {
        tracing::debug!(%instance, attempt, %error, "no last lines");
    } else if !lines.is_empty() {
        tools.tell(Input::LastLines { instance, attempt, lines }).await;
    }
}
