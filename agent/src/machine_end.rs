//! The end of the machine: others are told that nobody here is to be balanced to, then what runs is asked to end while
//! containerd is there to do it, so that nothing holds the machine up.

use std::{collections::BTreeMap, io, path::Path, process::Stdio, sync::Arc, time::Duration};

use agent_containerd::{Containerd, Found, FoundProcess};
use agent_core::input::Input;
use api_daemon::notify;
use api_types::{assignment::AssignmentSet, id::InstanceId, service::ServiceTable};
use futures_util::future::join_all;
use nix::libc;
use tokio::{
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{control_loop::Message, last_assignments::LastAssignments};

/// There only where systemd runs the machine.
const SYSTEMD: &str = "/run/systemd/system";
/// How long systemd may take to say what the machine does.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long the others get to balance to nobody here, and what is being asked to be answered.
const FAREWELL: Duration = Duration::from_secs(2);
/// The longest grace: systemd kills the agent 30 s after it asked it to end.
const GRACE_MAX: Duration = Duration::from_secs(18);
/// The grace of what is not on record.
const GRACE: Duration = Duration::from_secs(10);
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(23);

/// Waits for the wish to end, and says farewell if the machine ends with it.
#[derive(Debug)]
pub(crate) struct Farewell {
    /// Cancelled by the first signal that asks the agent to end.
    pub(crate) asked: CancellationToken,
    /// SIGPWR, by which something else than systemd says that the machine ends.
    pub(crate) power: Signal,
    /// Cancelled to have the neighbours told.
    pub(crate) leaving: CancellationToken,
    /// The latest service table: without other nodes there is nobody to wait for.
    pub(crate) table: watch::Receiver<Option<Arc<ServiceTable>>>,
    pub(crate) messages: mpsc::Sender<Message>,
}

/// Watches for SIGPWR from now on.
pub(crate) fn power_signal() -> io::Result<Signal> {
    signal(SignalKind::from_raw(libc::SIGPWR))
}

impl Farewell {
    /// Gives whether the machine ends, once somebody asked the agent to end and the others had their time.
    pub(crate) async fn say(mut self) -> bool {
        // Both arms are cancel-safe: a signal stays pending until it is received.
        let ends = tokio::select! {
            () = self.asked.cancelled() => {
                is_ending(machine_state(Path::new(SYSTEMD), Path::new("systemctl")).await.as_deref())
            }
            _ = self.power.recv() => true,
        };
        if !ends {
            return false;
        }
        notify::stopping();
        tracing::info!("the machine ends: nobody is to be balanced to here");
        self.leaving.cancel();
        // A loop that hangs holds no machine up.
        timeout(FAREWELL, self.messages.send(Message::Input(Input::MachineEnds))).await.ok();
        let others = self.table.borrow().as_ref().is_some_and(|table| table.peers.len() > 1);
        if others {
            sleep(FAREWELL).await;
        }
        true
    }
}

/// Stops every instance, within a time that holds no machine up.
pub(crate) async fn stop_instances(containerd: &Containerd, last: &LastAssignments) {
    if timeout(LIMIT, stop_all(containerd, last)).await.is_err() {
        tracing::warn!("the machine ends, and some instances still run: systemd kills them");
    }
}

async fn stop_all(containerd: &Containerd, last: &LastAssignments) {
    let found = match containerd.list().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the machine ends, and what runs here cannot be asked to end");
            return;
        }
    };
    let running = found.into_iter().filter(|found| matches!(found.process, FoundProcess::Running { .. }));
    let running: Vec<Found> = running.collect();
    tracing::info!(instances = running.len(), "the machine ends: stopping what runs");
    let graces = graces(last.recover().assignments.as_ref());
    let stops = running.iter().map(|found| async {
        let grace = graces.get(&found.instance).copied().unwrap_or(GRACE);
        if let Err(error) = containerd.stop(&found.instance, found.attempt, None, grace).await {
            tracing::warn!(instance = %found.instance, %error, "it could not be stopped");
        }
    });
    join_all(stops).await;
}

/// What systemd says that the machine does; `None` where it does not run, or does not say.
async fn machine_state(systemd: &Path, systemctl: &Path) -> Option<String> {
    if !systemd.exists() {
        return None;
    }
    let mut command = Command::new(systemctl);
    command.arg("is-system-running").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match timeout(ANSWER_LIMIT, command.output()).await {
        Ok(Ok(output)) => Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "systemd cannot be asked whether the machine ends: instances run on");
            None
        }
        Err(_) => {
            tracing::warn!("systemd does not say whether the machine ends: instances run on");
            None
        }
    }
}

fn is_ending(machine_state: Option<&str>) -> bool {
    machine_state == Some("stopping")
}

fn graces(set: Option<&AssignmentSet>) -> BTreeMap<InstanceId, Duration> {
    let assignments = set.into_iter().flat_map(|set| &set.assignments);
    let graces = assignments.map(|assignment| {
        let grace = Duration::from_millis(assignment.container.stop_grace_ms);
        (assignment.instance.clone(), grace.min(GRACE_MAX))
    });
    graces.collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use super::*;

    #[test]
    fn only_a_machine_that_ends_takes_its_instances_along() {
        assert!(is_ending(Some("stopping")));
        for state in ["running", "degraded", "starting", "maintenance", "offline", "unknown", ""] {
            assert!(!is_ending(Some(state)), "{state}");
        }
        assert!(!is_ending(None));
    }

    #[tokio::test]
    async fn systemd_is_asked_where_it_runs() {
        let folder = std::env::temp_dir().join(format!("wherry-machine-{}", process::id()));
        fs::create_dir_all(&folder).expect("a writable directory");
        let systemctl = folder.join("systemctl");
        // Written by another process: a file that this one has open for writing cannot be run.
        let script = "printf '#!/bin/sh\\n[ \"$*\" = is-system-running ] && echo stopping\\nexit 1\\n' > \"$0\"; chmod +x \"$0\"";
        let made = process::Command::new("sh").args(["-c", script]).arg(&systemctl).status().expect("a shell");
        assert!(made.success());

        assert_eq!(machine_state(&folder, &systemctl).await.as_deref(), Some("stopping"), "whatever its exit code");
        assert_eq!(machine_state(&folder.join("none"), &systemctl).await, None, "no systemd here");
        assert_eq!(machine_state(&folder, &folder.join("none")).await, None, "no systemctl here");
        fs::remove_dir_all(folder).expect("ours");
    }
}
