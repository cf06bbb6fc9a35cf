//! What instances say: kept, bounded, read and followed.

use agent_containerd::LogError;
use api_types::id::InstanceId;
use tokio::{sync::mpsc, time::timeout};

use crate::bed::{Bed, LIMIT, assignment};

#[tokio::test]
async fn both_streams_of_all_attempts_are_followed_until_the_instance_is_forgotten() {
    let bed = Bed::new().await;
    let assignment = assignment("web-1", &["/bin/sh", "-c", "echo out; echo err >&2"]);
    bed.start(&assignment, 0).await.expect("started");
    let (sender, mut lines) = mpsc::channel(10);
    let (adapter, instance) = (bed.adapter.clone(), assignment.instance.clone());
    let following = tokio::spawn(async move { adapter.logs(&instance, None, None, true, sender).await });

    let mut next = async || timeout(LIMIT, lines.recv()).await.expect("in time").map(|line| (line.stream, line.text));
    let mut first = vec![next().await.expect("a line"), next().await.expect("a line")];
    first.sort();
    bed.start(&assignment, 1).await.expect("started");
    let mut second = vec![next().await.expect("a line"), next().await.expect("a line")];
    second.sort();
    for attempt in 0..2 {
        bed.adapter.remove(&assignment.instance, attempt).await.expect("removed");
    }
    bed.adapter.forget(&assignment.instance).expect("forgotten");
    let last = next().await;
    let ended = timeout(LIMIT, following).await.expect("in time").expect("no panic");

    let both = [("stderr".to_owned(), "err".to_owned()), ("stdout".to_owned(), "out".to_owned())];
    assert_eq!((first.as_slice(), second.as_slice(), last), (both.as_slice(), both.as_slice(), None));
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn output_is_bounded_and_its_end_is_what_is_kept() {
    let bed = Bed::new().await;

    // Some 900 KiB into three files of 64 KiB.
    let script = "i=0; while [ $i -lt 9000 ]; do echo \"line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"; i=$((i+1)); done";
    let (_, lines) = bed.run("web-1", |_| {}, script).await;

    let directory = bed.folder().join("logs/web-1");
    let sizes = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("a file").metadata().expect("a size").len());
    let sizes: Vec<u64> = sizes.collect();
    assert!(sizes.len() <= 3 && sizes.iter().all(|size| *size < 66 << 10), "{sizes:?}");
    assert!(lines.len() > 1000 && lines.len() < 9000, "{} lines are kept", lines.len());
    assert!(lines.last().is_some_and(|line| line.starts_with("line 8999 ")), "{:?}", lines.last());
    let (sender, mut tail) = mpsc::channel(10);
    bed.adapter.logs(&InstanceId::new("web-1").expect("a name"), None, Some(2), false, sender).await.expect("read");
    assert!(tail.recv().await.is_some_and(|line| line.text.starts_with("line 8998 ")));
}

#[tokio::test]
async fn an_instance_that_never_was_has_no_output() {
    let bed = Bed::empty().await;
    let (sender, _lines) = mpsc::channel(10);

    let absent = bed.adapter.logs(&InstanceId::new("nobody").expect("a name"), None, None, true, sender).await;

    assert!(matches!(absent, Err(LogError::Absent(_))), "{absent:?}");
}
