//! What a container must not be able to do, on the real kernel.

use std::collections::BTreeMap;

use agent_containerd::StartError;
use api_types::{container::Mount, instance::Exit};
use serde_json::{Value, json};
use tests_support::oci::Image;

use crate::bed::{Bed, IMAGE, assignment};

#[tokio::test]
async fn a_container_holds_the_nine_capabilities_and_a_filter() {
    let bed = Bed::new().await;

    let script = "cat /proc/self/status; mount -t tmpfs x /tmp || echo no mount; date -s 2030-01-01; \
        echo 1 > /proc/sys/kernel/panic || echo no sysctl; cat /proc/kcore | head -c 1; echo; ls /dev";
    let (_, as_root) = bed.run("root", |_| {}, script).await;
    let (_, as_user) = bed.run("user", |container| container.user = Some("1000".to_owned()), script).await;

    let field = |lines: &[String], name: &str| -> String {
        let line = lines.iter().find_map(|line| line.strip_prefix(name)).expect("the kernel shows it");
        line.trim().to_owned()
    };
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE.
    assert_eq!(field(&as_root, "CapEff:"), "00000000000005fb");
    assert_eq!(field(&as_root, "CapBnd:"), "00000000000005fb");
    assert_eq!(field(&as_root, "CapInh:"), "0000000000000000");
    assert_eq!(field(&as_user, "CapEff:"), "0000000000000000");
    for lines in [&as_root, &as_user] {
        assert_eq!((field(lines, "NoNewPrivs:").as_str(), field(lines, "Seccomp:").as_str()), ("1", "2"));
        for refused in ["no mount", "date: can't set date: Operation not permitted", "no sysctl"] {
            assert!(lines.iter().any(|line| line == refused), "{refused} is missing in {lines:#?}");
        }
        assert!(
            !lines.iter().any(|line| line == "sda" || line == "vda" || line == "kmsg"),
            "a device of the node: {lines:#?}"
        );
    }
}

#[tokio::test]
async fn system_calls_that_reach_out_of_the_container_are_refused_and_others_are_not() {
    const REFUSED: i32 = nix::libc::EPERM;
    const UNKNOWN: i32 = nix::libc::ENOSYS;
    let bed = Bed::empty().await;
    let probe =
        std::env::current_exe().expect("a path").ancestors().nth(2).expect("a folder").join("examples/syscall-probe");
    let image = Image::default()
        .program("probe", &probe)
        .expect("`cargo test` without `--test` builds it")
        .set("Entrypoint", json!(["/probe"]));
    bed.import(&image, IMAGE).await;

    let (exit, lines) = bed.run("web-1", |container| container.command = None, "").await;

    assert_eq!(exit, Exit::Code(0), "{lines:?}");
    let expected = [
        ("unshare", REFUSED),
        ("setns", REFUSED),
        ("mount", REFUSED),
        ("keyctl", REFUSED),
        ("bpf", REFUSED),
        ("io_uring_setup", REFUSED),
        ("chroot", REFUSED),
        ("clone3", UNKNOWN),
        ("clone_namespace", REFUSED),
        ("socket_alg", REFUSED),
        ("socket_vsock", REFUSED),
        ("socket_inet", 0),
        ("socket_netlink", 0),
        ("getpid", 0),
        ("memfd_create", 0),
        ("thread", 0),
    ];
    let expected: Vec<String> = expected.iter().map(|(name, errno)| format!("{name} {errno}")).collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn an_images_labels_never_become_a_containers_labels() {
    let bed = Bed::empty().await;
    let canary = bed.folder().join("canary");
    let labels = json!({
        "containerd.io/restart.status": "running",
        "containerd.io/restart.loguri": format!("binary:///bin/touch?{}", canary.display()),
        "wherry.node": "another",
    });
    let image = Image::busybox().expect("busybox-static is installed").set("Labels", labels);
    bed.import(&image, IMAGE).await;
    let assignment = assignment("web-1", &["/bin/sleep", "1000"]);

    bed.start(&assignment, 0).await.expect("started");

    let shown = bed.ctr(&["containers", "info", "web-1.0"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let labels = shown["Labels"].as_object().expect("labels");
    assert!(labels.keys().all(|label| label.starts_with("wherry.")), "{labels:?}");
    assert_eq!(labels["wherry.node"], "edge-1");
    assert!(!canary.exists());
}

#[tokio::test]
async fn what_the_node_does_not_allow_is_refused() {
    let bed = Bed::new().await;
    std::fs::create_dir_all(bed.folder().join("allowed")).expect("made");
    std::os::unix::fs::symlink("/etc", bed.folder().join("allowed/link")).expect("linked");
    let refusal = async |host_path: Option<String>, capability: &str| {
        let mut assignment = assignment("web-1", &["/bin/true"]);
        assignment.container.capabilities_add = vec![capability.to_owned()];
        if let Some(path) = host_path {
            assignment.container.mounts = BTreeMap::from([("/data".to_owned(), Mount::Host { path, read_only: true })]);
        }
        bed.start(&assignment, 0).await
    };

    let path = |name: &str| Some(bed.folder().join(name).display().to_string());
    let through_link = refusal(path("allowed/link"), "KILL").await;
    let outside = refusal(Some("/etc".to_owned()), "KILL").await;
    let capability = refusal(None, "SYS_ADMIN").await;
    let within = refusal(path("allowed"), "SYS_TIME").await;

    for refused in [through_link, outside] {
        assert!(
            matches!(&refused, Err(StartError::Forbidden(problem)) if problem.contains("host_path_prefixes")),
            "{refused:?}"
        );
    }
    assert!(capability.is_err_and(|error| error.to_string().contains("capabilities_ceiling")));
    assert!(within.is_ok(), "{within:?}");
}

#[tokio::test]
async fn a_fork_bomb_and_a_busy_loop_stay_within_their_limits() {
    let bed = Bed::new().await;
    // The limit counts the threads of the runtime's own start too, and those grow with the number of processors.
    let script = "i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; sleep 1000";
    let mut bomb = assignment("bomb", &["/bin/sh", "-c", script]);
    bomb.resources.pids_max = 60;
    bomb.resources.memory_bytes_max = 128 << 20;
    bomb.resources.cpu_millis_max = Some(200);

    bed.start(&bomb, 0).await.expect("started");
    let exit = bed.adapter.wait(&bomb.instance, 0).await.expect("an exit");

    let shown = bed.ctr(&["containers", "info", "bomb.0"]);
    bed.adapter.remove(&bomb.instance, 0).await.expect("removed");

    assert_ne!(exit, Exit::Code(0), "two hundred processes were allowed");
    assert!(bed.all_lines(&bomb.instance).await.iter().any(|line| line.contains("fork")));
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let resources = &shown["Spec"]["linux"]["resources"];
    assert_eq!((&resources["cpu"]["quota"], &resources["pids"]["limit"]), (&json!(20_000), &json!(60)));
}
