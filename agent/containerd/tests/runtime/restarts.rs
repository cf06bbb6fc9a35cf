//! What happens behind the adapter's back: kills, removals, and containerd's own end.

use std::fs;

use agent_containerd::{Event, FoundProcess};
use api_types::instance::Exit;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests_support::wait::{wait_until, wait_until_async};

use crate::bed::{Bed, LIMIT, assignment, next};

#[tokio::test]
async fn a_killed_process_is_told_and_the_next_attempt_runs_beside_its_remains() {
    let bed = Bed::new().await;
    let mut events = bed.events().await;
    let assignment = assignment("web-1", &["/bin/sleep", "1000"]);
    let pid = bed.start(&assignment, 0).await.expect("started");

    kill_now(pid);

    let instance = assignment.instance.clone();
    assert_eq!(next(&mut events).await, Event::Exited { instance, attempt: 0.into(), exit: Exit::Code(137) });
    bed.start(&assignment, 1).await.expect("the next attempt needs nothing of the last");
    bed.adapter.remove(&assignment.instance, 0).await.expect("removed");
    let found = bed.adapter.list().await.expect("listed");
    assert_eq!(found.len(), 1);
    assert!(found[0].attempt == 1.into() && matches!(found[0].process, FoundProcess::Running { .. }));
}

#[tokio::test]
async fn a_container_removed_by_another_hand_is_news() {
    let bed = Bed::new().await;
    let mut events = bed.events().await;
    let assignment = assignment("web-1", &["/bin/sleep", "1000"]);
    bed.start(&assignment, 0).await.expect("started");

    assert!(bed.ctr(&["tasks", "rm", "-f", "web-1.0"]).status.success());
    let exited = next(&mut events).await;
    let found = bed.adapter.list().await.expect("listed");
    assert!(bed.ctr(&["containers", "rm", "web-1.0"]).status.success());
    let removed = next(&mut events).await;

    assert!(matches!(exited, Event::Exited { exit: Exit::Code(137), .. }), "{exited:?}");
    assert_eq!(found[0].process, FoundProcess::Ended(Exit::Unknown), "a record without a process");
    assert_eq!(removed, Event::Changed);
    assert_eq!(bed.adapter.list().await.expect("listed"), []);
}

#[tokio::test]
async fn containers_live_through_containerds_end_and_are_found_again() {
    let mut bed = Bed::new().await;
    let mut events = bed.events().await;
    let assignment = assignment("web-1", &["/bin/sh", "-c", "while true; do echo tick; sleep 0.1; done"]);
    let pid = bed.start(&assignment, 0).await.expect("started");

    bed.kill_containerd();
    let away = next(&mut events).await;
    let unlisted = bed.adapter.list().await.expect_err("nobody answers");
    let unstarted = bed.start(&assignment, 1).await.expect_err("nobody answers");
    bed.start_containerd();
    let back = next(&mut events).await;
    let found = bed.adapter.list().await.expect("listed");

    assert!(matches!(away, Event::Away { .. }), "{away:?}");
    assert!(unlisted.is_away(), "{unlisted}");
    assert!(unstarted.to_string().contains("does not answer"), "{unstarted}");
    assert_eq!(back, Event::Changed);
    assert!(matches!(found[0].process, FoundProcess::Running { pid: known, .. } if known == pid), "{found:?}");
    kill_now(pid);
    let exited = next(&mut events).await;
    assert!(matches!(exited, Event::Exited { attempt, exit: Exit::Code(137), .. } if attempt == 0.into()));
    bed.adapter.remove(&assignment.instance, 0).await.expect("removed");
    bed.wait_until_nothing_is_left();
}

#[tokio::test]
async fn containerds_end_in_the_middle_of_starts_leaves_nothing_that_cannot_be_removed() {
    let mut bed = Bed::new().await;
    let sleeper = |lane: u32, number: u32| assignment(&format!("web-{lane}-{number}"), &["/bin/sleep", "1000"]);
    let (adapter, pid) = (bed.adapter.clone(), bed.containerd_pid());
    let killer = tokio::spawn(async move {
        // The first process marks the middle: others are on their way.
        while adapter.list().await.expect("listed").is_empty() {
            tokio::task::yield_now().await;
        }
        kill_now(pid);
    });
    // Each lane starts one after the other until nobody answers, so that the end always falls between starts.
    let lanes = futures_util::future::join_all((0..4).map(|lane| {
        let (bed, sleeper) = (&bed, &sleeper);
        async move {
            let mut number = 0;
            while bed.start(&sleeper(lane, number), 0).await.is_ok() {
                number += 1;
            }
        }
    }));
    let (_, killed) = tokio::join!(lanes, killer);
    killed.expect("killed");
    bed.kill_containerd();
    bed.start_containerd();

    let later = bed.second_adapter().await;
    later.sweep().await.expect("swept");
    for found in later.list().await.expect("listed") {
        later.remove(&found.instance, found.attempt).await.expect("removed");
    }

    bed.wait_until_nothing_is_left();
    bed.start(&sleeper(0, 0), 0).await.expect("the same attempt can be started anew");
}

#[tokio::test]
async fn a_process_that_no_container_owns_is_swept_away() {
    let bed = Bed::new().await;
    let assignment = assignment("web-1", &["/bin/sleep", "1000"]);
    let pid = bed.start(&assignment, 0).await.expect("started");
    let mut stray = std::process::Command::new("sleep").arg("1000").spawn().expect("started");
    let paths = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    let own =
        paths.lines().find_map(|line| line.split_once(":pids:").or_else(|| line.split_once("::"))).expect("a cgroup").1;
    let hierarchy = if paths.contains(":pids:") { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
    let foreign = format!("{hierarchy}{}", own.replace("web-1.0", "gone.7"));
    fs::create_dir_all(&foreign).expect("made");
    fs::write(format!("{foreign}/cgroup.procs"), stray.id().to_string()).expect("moved");

    // It stays a zombie until this test looks at it, and a zombie keeps no cgroup. On a machine that is busy with other
    // things it may outlive one sweep.
    wait_until_async(LIMIT, async || {
        bed.adapter.sweep().await.expect("swept");
        !fs::exists(&foreign).expect("asked")
    })
    .await;

    wait_until(LIMIT, || stray.try_wait().is_ok_and(|status| status.is_some()));
    let found = bed.adapter.list().await.expect("listed");
    assert!(matches!(found[0].process, FoundProcess::Running { .. }), "what is owned is left alone");
}

#[tokio::test]
async fn a_process_that_the_runtime_forgot_goes_with_its_container() {
    let bed = Bed::new().await;
    let orphan = assignment("orphan-1", &["/bin/sh", "-c", "sleep 1000 & sleep 1001"]);
    let unknown = assignment("unknown-1", &["/bin/sleep", "1000"]);
    let orphan_pid = bed.start(&orphan, 0).await.expect("started");
    let unknown_pid = bed.start(&unknown, 0).await.expect("started");
    let shim = parent(orphan_pid);
    for id in ["orphan-1.0", "unknown-1.0"] {
        fs::remove_dir_all(bed.runtime_state(id)).expect("runc's state of it");
    }
    kill_now(shim);
    wait_until(LIMIT, || !String::from_utf8_lossy(&bed.ctr(&["tasks", "ls", "-q"]).stdout).contains("orphan-1.0"));
    assert!(lives(orphan_pid) && lives(unknown_pid), "nobody killed them yet");

    bed.adapter.remove(&orphan.instance, 0).await.expect("removed without its shim");
    bed.adapter.remove(&unknown.instance, 0).await.expect("removed without runc's state");

    assert!(!lives(orphan_pid) && !lives(unknown_pid), "still there");
    bed.wait_until_nothing_is_left();
}

#[tokio::test]
async fn a_process_whose_shim_does_not_answer_runs_none_the_less() {
    let bed = Bed::new().await;
    let assignment = assignment("web-1", &["/bin/sleep", "1000"]);
    let pid = bed.start(&assignment, 0).await.expect("started");
    let shim = Stopped::new(parent(pid));

    let found = bed.adapter.list().await;
    drop(shim);

    let found = found.expect("listed");
    assert!(matches!(found[0].process, FoundProcess::Running { pid: known, .. } if known == pid), "{found:?}");
}

/// A process that is stopped, and goes on when this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
        kill(pid, Signal::SIGSTOP).expect("stopped");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // One that is gone does not go on.
        kill(self.0, Signal::SIGCONT).ok();
    }
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    line.trim().parse().expect("a pid")
}

/// Whether it runs: a zombie does not.
fn lives(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !status.contains("State:\tZ"))
}

fn kill_now(pid: u32) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL).expect("killed");
}
