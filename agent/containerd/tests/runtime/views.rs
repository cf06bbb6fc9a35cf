//! Files of images that are mounted: there, for reading alone, and kept as long as a container shows them.

use std::collections::BTreeMap;

use api_types::{assignment::Assignment, container::Mount};
use tests_support::{oci::Image, wait::wait_until};

use crate::bed::{Bed, LIMIT, assignment};

const MODEL: &str = "test.lan/models/doors:3";

/// An instance that is shown the files of an image.
fn shown(script: &str) -> Assignment {
    let mut assignment = assignment("web-1", &["/bin/sh", "-c", script]);
    assignment.container.mounts = BTreeMap::from([("/model".to_owned(), Mount::Image { image: MODEL.to_owned() })]);
    assignment
}

fn model() -> Image {
    Image::busybox().expect("an image").file("weights", 0o644, b"seven\n".to_vec())
}

#[tokio::test]
async fn the_files_of_an_image_are_shown_read_only_and_outlive_a_garbage_collection() {
    let bed = Bed::new().await;
    bed.import(&model(), MODEL).await;
    let assignment =
        shown("cat /model/weights; touch /model/no; until test -e /tmp/go; do sleep 0.1; done; cat /model/weights");

    let pid = bed.start(&assignment, 0).await.expect("started");
    collect(&bed);
    std::fs::write(format!("/proc/{pid}/root/tmp/go"), "").expect("told to go on");
    bed.adapter.wait(&assignment.instance, 0).await.expect("an exit");
    bed.adapter.remove(&assignment.instance, 0).await.expect("removed");
    let lines = bed.all_lines(&assignment.instance).await;

    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("seven", "seven"), "{lines:?}");
    assert!(lines[1].contains("Read-only file system"), "{lines:?}");
    bed.wait_until_nothing_is_left();
    // No record refers to the view any more.
    wait_until(LIMIT, || {
        collect(&bed);
        !snapshots(&bed).contains("wherry-view")
    });
}

#[tokio::test]
async fn an_image_that_is_not_here_is_why_nothing_starts() {
    let bed = Bed::new().await;

    let refused = bed.start(&shown("cat /model/weights"), 0).await;

    assert!(refused.is_err_and(|error| error.to_string().contains(MODEL)));
    bed.wait_until_nothing_is_left();
}

/// Has containerd collect its garbage, and waits for that.
fn collect(bed: &Bed) {
    let made = bed.ctr(&["leases", "create", "--id", "collect"]);
    let given = bed.ctr(&["leases", "delete", "--sync", "collect"]);
    assert!(made.status.success() && given.status.success(), "{made:?}, {given:?}");
}

fn snapshots(bed: &Bed) -> String {
    String::from_utf8_lossy(&bed.ctr(&["snapshots", "--snapshotter", "overlayfs", "ls"]).stdout).into_owned()
}
