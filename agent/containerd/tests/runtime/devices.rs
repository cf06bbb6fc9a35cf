//! A device that was granted is inside, with its owner; no other one can be used, however it is made.

use std::path::Path;

use agent_containerd::StartError;
use api_types::{assignment::Assignment, device::DeviceGrant, instance::Exit};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::bed::{Bed, assignment};

/// The kernel's log: to open it for writing changes nothing.
const LOG: &str = "/dev/kmsg";
/// Makes a file for a device of the kernel, as one who may can, and opens it.
const OPEN_ANOTHER: &str = "mknod /another c 10 237 && echo made; (: </another) && echo opened another";

/// A node with the kernel's log, a source of zeros at a path of its own, and a licence.
async fn bed() -> Bed {
    Bed::new_with(|settings| {
        let own = settings.run_dir.with_file_name("own-zero");
        mknod(&own, SFlag::S_IFCHR, Mode::from_bits_truncate(0o640), makedev(1, 5)).expect("root makes devices");
        std::os::unix::fs::chown(&own, Some(0), Some(44)).expect("root gives them away");
        settings.capabilities_ceiling.push("MKNOD".to_owned());
        settings.devices.insert("log".to_owned(), vec![LOG.into()]);
        settings.devices.insert("zeros".to_owned(), vec![own]);
        settings.devices.insert("seat-1".to_owned(), Vec::new());
        settings.devices.insert("gone".to_owned(), vec!["/dev/wherry-gone".into()]);
    })
    .await
}

fn given(name: &str, devices: &[(&str, &str)], script: &str) -> Assignment {
    let grant = |(device, kind): &(&str, &str)| DeviceGrant {
        device: (*device).to_owned(),
        kind: (*kind).to_owned(),
        millis: 1000,
    };
    let mut assignment = assignment(name, &["/bin/sh", "-c", script]);
    assignment.devices = devices.iter().map(grant).collect();
    assignment.container.capabilities_add = vec!["MKNOD".to_owned()];
    assignment
}

#[tokio::test]
async fn a_granted_device_is_inside_and_no_other_can_be_opened() {
    let bed = bed().await;
    let own = bed.folder().join("own-zero");
    let script = format!(
        "env | grep WHERRY | sort; ls -ln {own}; head -c 3 {own} | wc -c; (: >{LOG}) && echo opened; {OPEN_ANOTHER}; true",
        own = own.display()
    );

    let granted = given("with", &[("log", "log"), ("zeros", "Zero.Source"), ("seat-1", "licence")], &script);
    let (exit, lines) = bed.run_assigned(&granted).await;

    assert_eq!(exit, Exit::Code(0), "{lines:?}");
    assert_eq!(
        lines[..3],
        [
            "WHERRY_DEVICE_LICENCE=seat-1".to_owned(),
            format!("WHERRY_DEVICE_LOG={LOG}"),
            format!("WHERRY_DEVICE_ZERO_SOURCE={}", own.display())
        ]
    );
    let owner: Vec<&str> = lines[3].split_whitespace().take(6).collect();
    assert_eq!(owner, ["crw-r-----", "1", "0", "44", "1,", "5"]);
    let said = |text: &str| lines.iter().any(|line| line == text);
    assert!(said("3") && said("opened") && said("made"), "{lines:#?}");
    assert!(!said("opened another") && denied(&lines, "/another"), "{lines:#?}");
}

#[tokio::test]
async fn without_a_grant_a_device_is_absent_and_cannot_be_made() {
    let bed = bed().await;
    let script = format!(
        "ls {LOG} {own}; env | grep WHERRY; mknod /log c 1 11 && echo made; (: >/log) && echo opened; {OPEN_ANOTHER}; true",
        own = bed.folder().join("own-zero").display()
    );

    let (_, lines) = bed.run_assigned(&given("without", &[], &script)).await;

    let absent = |path: &Path| {
        let text = format!("ls: {}: No such file or directory", path.display());
        lines.contains(&text)
    };
    assert!(absent(Path::new(LOG)) && absent(&bed.folder().join("own-zero")), "{lines:#?}");
    assert!(lines.iter().any(|line| line == "made"), "the test has no right to make devices: {lines:#?}");
    assert!(denied(&lines, "/log") && denied(&lines, "/another"), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains("WHERRY") || line.starts_with("opened")), "{lines:#?}");
}

#[tokio::test]
async fn a_device_that_is_not_there_or_not_known_is_why_nothing_starts() {
    let bed = bed().await;
    let refusal = async |device: &str| match bed.start(&given("web", &[(device, "camera")], "true"), 0).await {
        Err(StartError::Forbidden(problem)) => problem,
        other => panic!("{other:?}"),
    };

    assert_eq!(refusal("gone").await, "device gone: /dev/wherry-gone is not there");
    assert!(refusal("never").await.contains("no such [[device]]"));
    bed.wait_until_nothing_is_left();
}

fn denied(lines: &[String], path: &str) -> bool {
    lines.iter().any(|line| line.contains(path) && line.contains("Operation not permitted"))
}
