//! Volumes: what one instance wrote, the next one of its slot reads.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, time::Duration};

use agent_containerd::CopyError;
use api_types::{assignment::Assignment, container::Mount, id::Name, instance::Exit, relay::VolumeSlot};
use tests_support::wait::wait_until;
use tokio::sync::mpsc;

use crate::bed::{Bed, LIMIT, assignment};

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
        let found = fs::metadata(volumes.join(slot)).expect("a volume");
        (found.uid(), found.gid(), found.mode() & 0o777)
    };
    assert_eq!((owner("0"), owner("1")), ((1000, 1001, 0o755), (0, 0, 0o755)));
    assert_eq!(fs::metadata(&volumes).expect("there").mode() & 0o777, 0o700);
}

#[tokio::test]
async fn what_is_in_the_way_of_a_volume_is_why_nothing_starts() {
    let bed = Bed::new().await;
    let parent = bed.folder().join("volumes/shop/web/data");
    fs::create_dir_all(&parent).expect("made");
    std::os::unix::fs::symlink("/etc", parent.join("0")).expect("linked");

    let refused = bed.start(&with_volume("web-1", 0, false, "ls /data"), 0).await;

    assert!(refused.is_err_and(|error| error.to_string().contains("volumes/shop/web/data/0")));
    bed.wait_until_nothing_is_left();
}

#[tokio::test]
async fn a_volume_is_put_back_whole_and_only_while_nobody_uses_it() {
    let bed = Bed::new().await;
    let file = bed.folder().join("volumes/shop/web/data/0/file");
    let script = "echo first >/data/file; chown 12:34 /data/file; chmod 4750 /data/file; exec sleep 100000";
    let user = with_volume("web-1", 0, false, script);
    let volume =
        VolumeSlot { workload: user.workload.clone(), volume: Name::new("data").expect("a name"), slot: user.slot };
    bed.start(&user, 0).await.expect("started");
    let is_written = || fs::metadata(&file).is_ok_and(|found| found.mode() & 0o7777 == 0o4750);
    wait_until(LIMIT, is_written);

    let archive = back_up(&bed, &volume).await.expect("what runs is no obstacle");
    let used = restore(&bed, &volume, &archive).await.expect_err("it is used");
    bed.adapter.stop(&user.instance, 0, None, Duration::from_millis(1)).await.expect("stopped");
    fs::write(&file, "second").expect("written");
    let cut = restore(&bed, &volume, &archive[..archive.len() - 1024]).await.expect_err("it lacks its end");
    let other = restore(&bed, &volume, b"no archive").await.expect_err("it is none");
    let before = fs::read_to_string(&file).expect("there");
    restore(&bed, &volume, &archive).await.expect("nobody uses it");

    assert!(matches!(&used, CopyError::Refused(why) if why.contains("`web-1`, which still runs")), "{used}");
    assert!(matches!(&cut, CopyError::Refused(why) if why.contains("cut")), "{cut}");
    assert!(matches!(&other, CopyError::File { .. } | CopyError::Refused(_)), "{other}");
    assert_eq!(before, "second", "what could not be restored changed nothing");
    assert_eq!(fs::read_to_string(&file).expect("there"), "first\n");
    let found = fs::metadata(&file).expect("there");
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (12, 34, 0o4750));
    let beside = fs::read_dir(bed.folder().join("volumes/shop/web/data")).expect("a directory").count();
    assert_eq!(beside, 1, "nothing is left of the one before");
    let absent = VolumeSlot { slot: 7, ..volume };
    assert!(back_up(&bed, &absent).await.is_err_and(|error| error.to_string().contains("holds nothing yet")));
}

async fn back_up(bed: &Bed, volume: &VolumeSlot) -> Result<Vec<u8>, CopyError> {
    let (sender, mut pieces) = mpsc::channel(1);
    let mut archive = Vec::new();
    let collecting = async {
        while let Some(piece) = pieces.recv().await {
            archive.extend(piece);
        }
    };
    let (packed, ()) = tokio::join!(bed.adapter.back_up(volume, sender), collecting);
    packed.map(|()| archive)
}

async fn restore(bed: &Bed, volume: &VolumeSlot, archive: &[u8]) -> Result<(), CopyError> {
    let (sender, pieces) = mpsc::channel(100);
    for piece in archive.chunks(1000) {
        sender.send(piece.to_vec()).await.expect("room");
    }
    drop(sender);
    bed.adapter.restore(volume, pieces).await
}
