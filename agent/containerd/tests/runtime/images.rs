//! Archives of images, good and bad.

use std::{fs, io};

use agent_containerd::ImageError;
use serde_json::json;
use tests_support::oci::Image;

use crate::bed::{Bed, IMAGE};

#[tokio::test]
async fn an_imported_image_is_whole_for_others_too_and_survives_garbage_collection() {
    let bed = Bed::new().await;

    let has = bed.adapter.has_image(IMAGE).await.expect("asked");
    let has_other = bed.adapter.has_image("test.lan/other:1").await.expect("asked");
    bed.adapter.ensure_image(IMAGE, |_| {}).await.expect("what is here needs no registry");
    // Deleting something with `--sync` runs garbage collection now; all that no label holds is gone afterwards.
    bed.ctr(&["leases", "create", "--id", "any"]);
    assert!(bed.ctr(&["leases", "delete", "--sync", "any"]).status.success());
    let checked = String::from_utf8_lossy(&bed.ctr(&["images", "check"]).stdout).into_owned();

    assert!(has && !has_other);
    assert!(checked.contains(IMAGE) && checked.contains("complete (2/2)"), "{checked}");
    assert!(checked.lines().any(|line| line.contains(IMAGE) && line.trim_end().ends_with("true")), "{checked}");
    let (_, lines) = bed.run("web-1", |_| {}, "echo it runs").await;
    assert_eq!(lines, ["it runs"]);
}

#[tokio::test]
async fn an_image_runs_as_its_own_configuration_says() {
    let bed = Bed::empty().await;
    let image = Image::busybox()
        .expect("busybox-static is installed")
        .set("Entrypoint", json!(["/bin/echo", "from the entrypoint"]))
        .set("Cmd", json!(["and its arguments"]))
        .set("User", json!("web"));
    bed.import(&image, IMAGE).await;

    let (_, lines) = bed.run("web-1", |container| container.command = None, "").await;

    assert_eq!(lines, ["from the entrypoint and its arguments"]);
}

#[tokio::test]
async fn an_older_docker_archive_is_taken_in() {
    let bed = Bed::empty().await;
    let blobs = Image::busybox().expect("busybox-static is installed").blobs().expect("blobs");
    let list = json!([{"Config": "c.json", "RepoTags": ["short:2"], "Layers": ["l/layer.tar"]}]);
    let file = bed.folder().join("saved.tar");
    let files = [
        ("./c.json", blobs.config.content.as_slice()),
        ("./l/layer.tar", blobs.layer.content.as_slice()),
        ("./manifest.json", list.to_string().as_bytes()),
    ]
    .map(|(name, content)| (name, content.to_vec()));
    fs::write(&file, tar_of(&files).expect("a tar")).expect("written");

    let names = bed.adapter.import_image(&file).await.expect("imported");

    assert_eq!(names, ["docker.io/library/short:2"]);
    let (_, lines) = bed.run("web-1", |container| container.image = "short:2".to_owned(), "echo it runs").await;
    assert_eq!(lines, ["it runs"]);
}

#[tokio::test]
async fn a_wrong_archive_is_refused_with_its_reason_and_leaves_nothing() {
    let bed = Bed::empty().await;
    let file = bed.folder().join("wrong.tar");
    let good = Image::busybox().expect("busybox-static is installed").archive(IMAGE).expect("an archive");
    let mut corrupt = good.clone();
    // In the middle of the layer, by far the largest part.
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let climbing = tar_of(&[(
        "index.json",
        br#"{"manifests":[{"mediaType":"x","digest":"../../etc/passwd","size":1,
        "annotations":{"io.containerd.image.name":"a.b/c:1"}}]}"#
            .to_vec(),
    )]);
    let nameless = tar_of(&[("index.json", br#"{"manifests":[]}"#.to_vec())]);
    for (content, reason) in [
        (b"no tar at all".to_vec(), "not a tar file"),
        (b"\x1f\x8b\x08".to_vec(), "compressed"),
        (tar_of(&[("other", Vec::new())]).expect("a tar"), "neither index.json nor manifest.json"),
        (nameless.expect("a tar"), "names no image"),
        (climbing.expect("a tar"), "missing in it"),
        (good[..good.len() / 2].to_vec(), ""),
        (corrupt, "digest"),
    ] {
        fs::write(&file, content).expect("written");

        let refused = bed.adapter.import_image(&file).await;

        let text = refused.as_ref().map_err(ToString::to_string);
        assert!(matches!(&text, Err(text) if text.contains(reason)), "{reason}: {text:?}");
        assert!(!bed.adapter.has_image(IMAGE).await.expect("asked"));
    }
    let absent = bed.adapter.import_image(&bed.folder().join("absent.tar")).await;
    assert!(matches!(absent, Err(ImageError::Archive(_))), "{absent:?}");
    bed.wait_until_nothing_is_left();
}

fn tar_of(files: &[(&str, Vec<u8>)]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    archive.into_inner()
}
