//! Files into and out of running containers.

use agent_containerd::CopyError;
use api_types::id::InstanceId;
use tokio::sync::mpsc;

use crate::bed::{Bed, assignment};

#[tokio::test]
async fn files_go_in_as_the_containers_user_and_come_out_as_they_are() {
    let bed = Bed::new().await;
    let instance = running(&bed, |_| {}).await;

    put(&bed, &instance, "/tmp/new", &archive("any", b"from outside")).await.expect("copied");
    let archive = get(&bed, &instance, "/tmp/new").await.expect("copied");

    let mut read = tar::Archive::new(archive.as_slice());
    let mut entry = read.entries().expect("an archive").next().expect("a file").expect("whole");
    assert_eq!(entry.path().expect("a path").to_str(), Some("new"));
    assert_eq!((entry.header().uid().ok(), entry.header().gid().ok()), (Some(1234), Some(1234)));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
    assert_eq!(text, "from outside");
}

#[tokio::test]
async fn what_the_container_may_not_change_stays() {
    let bed = Bed::new().await;
    let instance = running(&bed, |container| container.read_only = true).await;

    let refused = put(&bed, &instance, "/etc/new", &archive("new", b"x")).await.expect_err("it is read-only");
    let absent = get(&bed, &instance, "/no/such").await.expect_err("it is not there");
    let stranger = InstanceId::new("nobody").expect("a name");
    let nobody = get(&bed, &stranger, "/etc").await.expect_err("nobody");
    let host = get(&bed, &instance, "/proc/1/root/etc").await;

    assert!(refused.to_string().contains("ead-only"), "{refused}");
    assert!(absent.to_string().starts_with("/no/such: "), "{absent}");
    assert!(matches!(nobody, CopyError::Instance(_)), "{nobody}");
    assert!(host.is_err(), "no link of /proc is followed");
}

async fn running(bed: &Bed, change: impl FnOnce(&mut api_types::container::ContainerSpec)) -> InstanceId {
    let mut assignment = assignment("web-1", &["/bin/sleep", "100000"]);
    assignment.container.user = Some("1234:1234".to_owned());
    change(&mut assignment.container);
    bed.start(&assignment, 0).await.expect("started");
    assignment.instance
}

async fn put(bed: &Bed, instance: &InstanceId, path: &str, archive: &[u8]) -> Result<(), CopyError> {
    let (sender, pieces) = mpsc::channel(100);
    for piece in archive.chunks(1000) {
        sender.send(piece.to_vec()).await.expect("room");
    }
    drop(sender);
    bed.adapter.copy_to(instance, path, pieces).await
}

async fn get(bed: &Bed, instance: &InstanceId, path: &str) -> Result<Vec<u8>, CopyError> {
    let (sender, mut pieces) = mpsc::channel(1);
    let gathering = async {
        let mut archive = Vec::new();
        while let Some(piece) = pieces.recv().await {
            archive.extend(piece);
        }
        archive
    };
    let (copied, archive) = tokio::join!(bed.adapter.copy_from(instance, path, sender), gathering);
    copied.map(|()| archive)
}

fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut made = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(bytes.len()).expect("small"));
    header.set_mode(0o644);
    made.append_data(&mut header, name, bytes).expect("written");
    made.into_inner().expect("an archive")
}
