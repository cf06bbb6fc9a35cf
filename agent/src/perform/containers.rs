//! Starts, stops and removes attempts.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use agent_containerd::StartRequest;
use agent_core::input::Input;
use api_types::{assignment::Assignment, id::InstanceId};

use super::Tools;

pub(super) async fn start(tools: Tools, assignment: Arc<Assignment>, attempt: u32, address: Ipv4Addr) {
    let netns = tools.network.netns_path(&assignment.instance);
    let request = StartRequest { assignment: &assignment, attempt, netns, address, name_server: tools.names.server() };
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
