//! Containers beside a main one: told apart, under one shim, in one network, each with its own output.

use std::{collections::BTreeMap, fs, time::Duration};

use agent_containerd::{Attempt, Event, ExecRequest, FoundProcess};
use api_types::{
    assignment::Assignment,
    companion::{CompanionRole, CompanionSpec},
    container::ContainerSpec,
    id::Name,
    instance::Exit,
    resources::ResourceSpec,
};
use tokio::{io::AsyncReadExt, sync::mpsc};

use crate::bed::{Bed, IMAGE, assignment, next};

const STEP: Attempt = Attempt { companion: Some(0), number: 0 };
const SIDECAR: Attempt = Attempt { companion: Some(1), number: 0 };

/// An instance of a sleeping main process with the step `prepare` and the sidecar `proxy`.
fn accompanied() -> Assignment {
    let companion = |name: &str, role, script: &str| CompanionSpec {
        name: Name::new(name).expect("a name"),
        role,
        container: ContainerSpec {
            command: Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()),
            env: BTreeMap::from([("WHO".to_owned(), name.to_owned())]),
            stop_grace_ms: 1000,
            ..ContainerSpec::of_image(IMAGE)
        },
        resources: ResourceSpec { memory_bytes_max: 16 << 20, ..ResourceSpec::default() },
    };
    let companions = vec![
        companion("prepare", CompanionRole::Init, "echo prepared; exit 4"),
        companion("proxy", CompanionRole::Sidecar, "echo proxied; exec sleep 1000"),
    ];
    Assignment { companions, ..assignment("web-1", &["/bin/sh", "-c", "echo main; exec sleep 1000"]) }
}

fn parent(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that runs");
    status.lines().find(|line| line.starts_with("PPid:")).expect("every process has one").to_owned()
}

fn network(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/ns/net")).expect("a process that runs").display().to_string()
}

#[tokio::test]
async fn containers_of_one_instance_share_shim_and_network_and_are_told_apart() {
    let bed = Bed::new().await;
    let mut events = bed.events().await;
    let assignment = accompanied();
    let instance = &assignment.instance;
    let proxy = Name::new("proxy").expect("a name");

    bed.start(&assignment, STEP).await.expect("a step");
    let exited = next(&mut events).await;
    let main = bed.start(&assignment, 0).await.expect("a main process");
    let beside = bed.start(&assignment, SIDECAR).await.expect("a sidecar");
    bed.adapter.remove(instance, STEP).await.expect("removed");

    let expected = Event::Exited { instance: instance.clone(), attempt: STEP, exit: Exit::Code(4) };
    assert_eq!(exited, expected);
    assert_eq!((parent(main), network(main)), (parent(beside), network(beside)));
    let found = bed.adapter.list().await.expect("a list");
    let mut running: Vec<Attempt> = found.iter().map(|found| found.attempt).collect();
    running.sort();
    assert_eq!(running, [Attempt::from(0), SIDECAR]);
    assert!(found.iter().all(|found| matches!(found.process, FoundProcess::Running { .. })), "{found:?}");
    assert!(bed.adapter.usage(instance, SIDECAR).is_some_and(|used| used.pids > 0));

    assert_eq!(bed.adapter.running(instance).await.expect("the main one").pid, main);
    assert_eq!(lines(&bed, &assignment, Some(&proxy)).await, ["proxied"]);
    assert_eq!(lines(&bed, &assignment, None).await, ["main"]);
    assert_eq!(lines(&bed, &assignment, Some(&Name::new("prepare").expect("a name"))).await, ["prepared"]);
    assert_eq!(exec(&bed, &assignment, "proxy", "echo $WHO at $HOSTNAME").await, "proxy at web-1\n");

    bed.adapter.stop(instance, SIDECAR, Some("SIGKILL"), Duration::ZERO).await.expect("stopped");
    bed.adapter.remove(instance, SIDECAR).await.expect("removed");
    assert!(fs::exists(format!("/proc/{main}")).expect("asked"), "the main process goes on");
    let again = bed.start(&assignment, Attempt { number: 1, ..SIDECAR }).await.expect("the next attempt");
    assert_eq!(parent(again), parent(main));

    bed.adapter.remove(instance, 0).await.expect("removed");
    bed.adapter.remove(instance, Attempt { number: 1, ..SIDECAR }).await.expect("removed");
    bed.adapter.forget(instance).expect("forgotten");
    bed.wait_until_nothing_is_left();
}

/// What a container said so far.
async fn lines(bed: &Bed, assignment: &Assignment, container: Option<&Name>) -> Vec<String> {
    let (sender, mut receiver) = mpsc::channel(100);
    let (adapter, instance, container) = (bed.adapter.clone(), assignment.instance.clone(), container.cloned());
    // Followed until the first line: the logger is a program of its own, and writes when it gets to it.
    let following = tokio::spawn(async move { adapter.logs(&instance, container.as_ref(), None, true, sender).await });
    let first = receiver.recv().await.expect("a line");
    following.abort();
    vec![first.text]
}

/// What a command in a companion said.
async fn exec(bed: &Bed, assignment: &Assignment, container: &str, script: &str) -> String {
    let command = ["/bin/sh", "-c", script].map(str::to_owned);
    let container = Name::new(container).expect("a name");
    let request = ExecRequest {
        instance: &assignment.instance,
        container: Some(&container),
        command: &command,
        stdin: false,
        terminal: None,
    };
    let mut running = bed.adapter.exec(&request).await.expect("a command");
    let mut text = String::new();
    running.stdout.take().expect("an output").read_to_string(&mut text).await.expect("read");
    assert_eq!(running.wait().await.expect("an end"), 0);
    text
}
