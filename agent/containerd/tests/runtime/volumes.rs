//! Volumes: what one instance wrote, the next one of its slot reads.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt};

use api_types::{assignment::Assignment, container::Mount, id::Name, instance::Exit};

use crate::bed::{Bed, assignment};

fn with_volume(name: &str, slot: u32, read_only: bool, script: &str) -> Assignment {
    let volume = Mount::Volume { name: Name::new("data").expect("a name"), read_only };
    let mut assignment = assignment(name, &["/bin/sh", "-c", script]);
    assignment.slot = slot;
    assignment.container.mounts = BTreeMap::from([("/data".to_owned(), volume)]);
    assignment
}

#[tokio::test]
async fn a_volume_outlives_the_instances_of_its_slot_and_no_other_slot_sees_it() {
    let bed = Bed::new().await;
    let volumes = bed.folder().join("volumes/shop/web/data");
    let mut first = with_volume("web-1", 0, false, "id -u; echo kept >/data/file");
    first.container.user = Some("1000:1001".to_owned());

    let (exit, lines) = bed.run_assigned(&first).await;
    bed.adapter.forget(&first.instance).expect("forgotten");
    let (_, next) = bed.run_assigned(&with_volume("web-2", 0, false, "cat /data/file; echo more >>/data/file")).await;
    let (_, reader) = bed.run_assigned(&with_volume("web-3", 0, true, "cat /data/file; : >/data/no")).await;
    let (_, other) = bed.run_assigned(&with_volume("web-4", 1, false, "ls /data | wc -l")).await;

    assert_eq!((exit, lines), (Exit::Code(0), vec!["1000".to_owned()]));
    assert_eq!(next, ["kept"]);
    assert_eq!(reader[..2], ["kept", "more"]);
    assert!(reader[2].contains("Read-only file system"), "{reader:?}");
    assert_eq!(other, ["0"]);
    let owner = |slot: &str| {
        let found = std::fs::metadata(volumes.join(slot)).expect("a volume");
        (found.uid(), found.gid(), found.mode() & 0o777)
    };
    assert_eq!((owner("0"), owner("1")), ((1000, 1001, 0o755), (0, 0, 0o755)));
    assert_eq!(std::fs::metadata(&volumes).expect("there").mode() & 0o777, 0o700);
}

#[tokio::test]
async fn what_is_in_the_way_of_a_volume_is_why_nothing_starts() {
    let bed = Bed::new().await;
    let parent = bed.folder().join("volumes/shop/web/data");
    std::fs::create_dir_all(&parent).expect("made");
    std::os::unix::fs::symlink("/etc", parent.join("0")).expect("linked");

    let refused = bed.start(&with_volume("web-1", 0, false, "ls /data"), 0).await;

    assert!(refused.is_err_and(|error| error.to_string().contains("volumes/shop/web/data/0")));
    bed.wait_until_nothing_is_left();
}
