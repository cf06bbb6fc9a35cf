//! Starting, ending and removing: what is asked for happens, and nothing else is left.

use std::{collections::BTreeMap, time::Duration};

use agent_containerd::{Event, FoundProcess, StartError};
use api_types::{container::Mount, counter::Revision, instance::Exit};

use tests_support::wait::wait_until;

use crate::bed::{Bed, IMAGE, LIMIT, assignment, next};

#[tokio::test]
async fn a_container_runs_as_spec_and_image_say_and_is_found_again() {
    let bed = Bed::new().await;
    let assignment = assignment("web-1", &["/bin/sleep", "1000"]);

    let pid = bed.start(&assignment, 4).await.expect("started");
    let again = bed.start(&assignment, 4).await.expect("an attempt that runs is left alone");
    let found = bed.second_adapter().await.list().await.expect("listed");
    // The runtime's own threads are in there until they have become the process, a moment after its start.
    wait_until(LIMIT, || {
        let usage = bed.adapter.usage(&assignment.instance, 4).expect("a running process uses something");
        usage.pids == 1 && usage.memory_bytes > 0 && usage.cpu_nanoseconds > 0
    });

    assert_eq!(pid, again);
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].instance, found[0].attempt), (&assignment.instance, 4.into()));
    assert_eq!((found[0].workload.to_string().as_str(), found[0].revision), ("shop/web", Revision(3)));
    assert!(matches!(found[0].process, FoundProcess::Running { pid: known, .. } if known == pid), "{found:?}");

    bed.adapter.remove(&assignment.instance, 4).await.expect("removed");
    bed.adapter.remove(&assignment.instance, 4).await.expect("what is gone is removed already");
    assert_eq!(bed.adapter.list().await.expect("listed"), []);
    assert_eq!(bed.adapter.usage(&assignment.instance, 4), None);
    bed.wait_until_nothing_is_left();
}

#[tokio::test]
async fn environment_user_files_and_mounts_are_as_asked_for() {
    let bed = Bed::new().await;
    std::fs::create_dir_all(bed.folder().join("allowed/data")).expect("made");
    std::fs::write(bed.folder().join("allowed/data/file"), "from the node\n").expect("written");
    let host = |path: &str, read_only| Mount::Host { path: bed.folder().join(path).display().to_string(), read_only };
    let mounts = BTreeMap::from([
        ("/data".to_owned(), host("allowed/data", true)),
        ("/scratch".to_owned(), Mount::Tmpfs { bytes_max: 1 << 20 }),
    ]);

    let script = "id -u; id -g; pwd; echo $GREETING; echo $PATH; cat /data/file; touch /data/x || echo read-only data; \
        touch /x || echo read-only root; touch /scratch/x && echo writable scratch; \
        dd if=/dev/zero of=/scratch/y bs=1024 count=2000 2>/dev/null || echo full scratch; \
        hostname; cat /etc/hostname; cat /etc/hosts; head -1 /proc/self/oom_score_adj";
    let (exit, lines) = bed
        .run(
            "web-1",
            |container| {
                container.user = Some("web".to_owned());
                container.workdir = Some("/tmp".to_owned());
                container.env.insert("GREETING".to_owned(), "hello there".to_owned());
                container.read_only = true;
                container.mounts = mounts;
            },
            script,
        )
        .await;

    assert_eq!(exit, Exit::Code(0), "{lines:?}");
    let wanted = [
        "1000",
        "1000",
        "/tmp",
        "hello there",
        "/bin",
        "from the node",
        "read-only data",
        "read-only root",
        "writable scratch",
        "full scratch",
        "web-1",
        "10.42.0.7\tweb-1",
        "127.0.0.1\tlocalhost",
    ];
    for wanted in wanted {
        assert!(lines.iter().any(|line| line == wanted), "{wanted:?} is missing in {lines:#?}");
    }
}

#[tokio::test]
async fn an_exit_is_told_once_with_its_code_and_stays_known() {
    let bed = Bed::new().await;
    let mut events = bed.events().await;
    let assignment = assignment("web-1", &["/bin/sh", "-c", "exit 7"]);

    bed.start(&assignment, 0).await.expect("started");

    let instance = assignment.instance.clone();
    assert_eq!(next(&mut events).await, Event::Exited { instance, attempt: 0.into(), exit: Exit::Code(7) });
    assert_eq!(bed.adapter.wait(&assignment.instance, 0).await.expect("known"), Exit::Code(7));
    let found = bed.adapter.list().await.expect("listed");
    assert_eq!(found[0].process, FoundProcess::Ended(Exit::Code(7)));

    bed.adapter.remove(&assignment.instance, 0).await.expect("removed");
    assert_eq!(bed.adapter.wait(&assignment.instance, 0).await.expect("known"), Exit::Unknown);
    bed.wait_until_nothing_is_left();
    assert!(events.try_recv().is_err(), "our own removal is no news");
}

#[tokio::test]
async fn a_process_over_its_memory_limit_ends_as_out_of_memory() {
    let bed = Bed::new().await;
    let mut events = bed.events().await;
    // `tail` keeps all of an endless line.
    let mut assignment = assignment("web-1", &["/bin/tail", "/dev/zero"]);
    assignment.resources.memory_bytes_max = 32 << 20;

    bed.start(&assignment, 0).await.expect("started");

    let instance = assignment.instance.clone();
    assert_eq!(next(&mut events).await, Event::Exited { instance, attempt: 0.into(), exit: Exit::OutOfMemory });
    let found = bed.adapter.list().await.expect("listed");
    assert_eq!(found[0].process, FoundProcess::Ended(Exit::OutOfMemory));
}

#[tokio::test]
async fn a_process_is_asked_to_end_and_killed_only_after_its_grace() {
    let bed = Bed::new().await;
    let polite =
        assignment("polite", &["/bin/sh", "-c", "trap 'exit 3' USR1; echo ready; while true; do sleep 0.1; done"]);
    let deaf = assignment("deaf", &["/bin/sleep", "1000"]);
    for assignment in [&polite, &deaf] {
        bed.start(assignment, 0).await.expect("started");
    }
    let (sender, mut lines) = tokio::sync::mpsc::channel(10);
    let (adapter, instance) = (bed.adapter.clone(), polite.instance.clone());
    tokio::spawn(async move { adapter.logs(&instance, None, None, true, sender).await });
    let ready = tokio::time::timeout(LIMIT, lines.recv()).await.expect("in time").expect("a line");
    assert_eq!(ready.text, "ready");

    bed.adapter.stop(&polite.instance, 0, Some("SIGUSR1"), LIMIT).await.expect("stopped");
    // The first process of a container ignores what it has no handler for.
    bed.adapter.stop(&deaf.instance, 0, None, Duration::from_millis(50)).await.expect("stopped");
    bed.adapter.stop(&deaf.instance, 0, None, LIMIT).await.expect("nothing to stop is success");
    let unknown = bed.adapter.stop(&deaf.instance, 0, Some("SIGNOTHING"), LIMIT).await;

    assert_eq!(bed.adapter.wait(&polite.instance, 0).await.expect("known"), Exit::Code(3));
    assert_eq!(bed.adapter.wait(&deaf.instance, 0).await.expect("known"), Exit::Code(137));
    assert!(unknown.is_err_and(|error| error.to_string().contains("SIGNOTHING")));
}

#[tokio::test]
async fn what_cannot_start_says_why_in_one_line_and_leaves_nothing() {
    let bed = Bed::new().await;
    let reason = async |command: &[&str], image: &str, workdir: Option<&str>| {
        let mut assignment = assignment("web-1", command);
        assignment.container.image = image.to_owned();
        assignment.container.workdir = workdir.map(str::to_owned);
        bed.start(&assignment, 0).await.expect_err("it cannot start")
    };

    let absent = reason(&["nothing-here"], IMAGE, None).await.to_string();
    assert_eq!(absent, "command `nothing-here` was not found in the image (looked in PATH)");
    let missing = reason(&["/bin/nothing-here"], IMAGE, None).await.to_string();
    assert_eq!(missing, "command `/bin/nothing-here` does not exist in the image");
    let plain = reason(&["/etc/passwd"], IMAGE, None).await.to_string();
    assert_eq!(plain, "command `/etc/passwd` may not be executed: permission denied");
    let image = reason(&["/bin/true"], "test.lan/other:1", None).await;
    assert!(matches!(image, StartError::ImageMissing { .. }), "{image}");
    let handle = reason(&["/bin/true"], IMAGE, Some("/proc/self/fd/7")).await.to_string();
    assert!(handle.contains("outside /proc"), "{handle}");
    bed.wait_until_nothing_is_left();
}

#[tokio::test]
async fn fifty_containers_start_at_once() {
    let bed = Bed::new().await;
    let all: Vec<_> = (0..50).map(|number| assignment(&format!("web-{number}"), &["/bin/sleep", "1000"])).collect();

    let mut starts = tokio::task::JoinSet::new();
    let bed = std::sync::Arc::new(bed);
    for assignment in all {
        let bed = bed.clone();
        starts.spawn(async move { bed.start(&assignment, 0).await.map(|_| ()) });
    }
    let outcomes = starts.join_all().await;

    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let found = bed.adapter.list().await.expect("listed");
    assert_eq!(found.iter().filter(|found| matches!(found.process, FoundProcess::Running { .. })).count(), 50);
}
