//! Starts, stops and removes attempts: of main containers, and of companions.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use agent_containerd::{Attempt, Secrets, StartRequest};
use agent_core::{
    effect::CompanionWish,
    input::{CompanionAttempt, CompanionEvent, Input},
};
use api_types::{
    assignment::Assignment,
    id::{InstanceId, Name},
    instance::{Exit, LAST_LINES_BYTES_MAX},
    time::Timestamp,
    view::LogLine,
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
    let instance = assignment.instance.clone();
    tools
        .tell(match tools.begin(&assignment, (attempt.into(), address), &secrets).await {
            Ok(pid) => Input::Started { instance, attempt, pid },
            Err(reason) => Input::StartFailed { instance, attempt, reason },
        })
        .await;
}

pub(super) async fn stop(tools: Tools, instance: InstanceId, attempt: u32, signal: Option<String>, grace_ms: u64) {
    if let Some(exit) = tools.end(&instance, attempt.into(), signal.as_deref(), grace_ms).await {
        tools.tell(Input::Exited { instance, attempt, exit }).await;
    }
}

pub(super) async fn remove(tools: Tools, instance: InstanceId, attempt: u32) {
    tools
        .tell(match tools.clear(&instance, attempt.into()).await {
            Ok(()) => Input::Removed { instance, attempt },
            Err(reason) => Input::RemoveFailed { instance, attempt, reason },
        })
        .await;
}

/// Tells what a process that ended wrote last; nothing, where nothing can be read.
pub(super) async fn read_last_lines(tools: Tools, instance: InstanceId, attempt: u32, since: Timestamp) {
    if let Some(lines) = tools.last_lines(&instance, None, since).await {
        tools.tell(Input::LastLines { instance, attempt, lines }).await;
    }
}

/// Does what is wished of a container beside a main one, and tells what came of it.
pub(super) async fn companion(tools: Tools, key: CompanionAttempt, wish: CompanionWish, secrets: Secrets) {
    let attempt = Attempt { companion: Some(key.companion), number: key.attempt };
    let instance = &key.instance;
    let event = match wish {
        CompanionWish::Start { assignment, address } => {
            Some(match tools.begin(&assignment, (attempt, address), &secrets).await {
                Ok(pid) => CompanionEvent::Started { pid },
                Err(reason) => CompanionEvent::StartFailed { reason },
            })
        }
        CompanionWish::Stop { signal, grace_ms } => {
            let ended = tools.end(instance, attempt, signal.as_deref(), grace_ms).await;
            ended.map(|exit| CompanionEvent::Exited { exit })
        }
        CompanionWish::Remove => Some(match tools.clear(instance, attempt).await {
            Ok(()) => CompanionEvent::Removed,
            Err(reason) => CompanionEvent::RemoveFailed { reason },
        }),
        CompanionWish::ReadLastLines { name, since } => {
            let lines = tools.last_lines(instance, Some(&name), since).await;
            lines.map(|lines| CompanionEvent::LastLines { lines })
        }
    };
    if let Some(event) = event {
        tools.tell(Input::Companion { key, event }).await;
    }
}

impl Tools {
    /// Starts an attempt; gives its process id.
    async fn begin(
        &self,
        assignment: &Assignment,
        (attempt, address): (Attempt, Ipv4Addr),
        secrets: &Secrets,
    ) -> Result<u32, String> {
        let (netns, name_server) = (self.network.netns_path(&assignment.instance), self.names.server());
        let request = StartRequest { assignment, attempt, netns, address, name_server, secrets };
        let (outcome, instance) = (self.containerd.start(&request).await, &assignment.instance);
        match &outcome {
            Ok(pid) => tracing::info!(%instance, %attempt, pid, "started"),
            Err(error) => tracing::warn!(%instance, %attempt, %error, "not started"),
        }
        outcome.map_err(|error| error.to_string())
    }

    /// Ends an attempt; gives how, or `None` where that comes as an event, or never.
    async fn end(&self, instance: &InstanceId, attempt: Attempt, signal: Option<&str>, grace_ms: u64) -> Option<Exit> {
        if let Err(error) = self.containerd.stop(instance, attempt, signal, Duration::from_millis(grace_ms)).await {
            // The core counts the time: what outlives its grace is removed as it is.
            tracing::warn!(%instance, %attempt, %error, "cannot stop");
            return None;
        }
        tracing::info!(%instance, %attempt, "stopped");
        // Where nothing ran no event comes; a second word about one end changes nothing.
        self.containerd.wait(instance, attempt).await.ok()
    }

    /// Removes what is left of an attempt.
    async fn clear(&self, instance: &InstanceId, attempt: Attempt) -> Result<(), String> {
        let outcome = self.containerd.remove(instance, attempt).await;
        outcome.map_err(|error| {
            tracing::warn!(%instance, %attempt, %error, "cannot remove");
            error.to_string()
        })
    }

    /// The lines that a process which ended wrote last: the main one, or that of a companion.
    async fn last_lines(&self, instance: &InstanceId, companion: Option<&Name>, since: Timestamp) -> Option<String> {
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
        let reading = self.containerd.logs(instance, companion, Some(LAST_LINES), false, sender);
        match tokio::join!(reading, collect) {
            (Ok(()), lines) => Some(lines).filter(|lines| !lines.is_empty()),
            (Err(error), _) => {
                tracing::debug!(%instance, %error, "no last lines");
                None
            }
        }
    }
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
