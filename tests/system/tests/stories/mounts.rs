//! Stories of what instances find at their paths.

use api_types::view::{Event, List, VolumeView};
use tests_support::oci::Image;
use tests_system::cluster::until_healthy;

use crate::stage::{LIMIT, Outcome, Stage};

/// An instance waits until the image whose files it is shown is there, and then reads them, and cannot change them; so it is
/// again after a power cut without a scheduler.
pub(crate) fn the_files_of_an_image_are_pulled_and_shown(stage: &mut Stage) -> Outcome {
    let registry = stage.image.split('/').next().unwrap_or_default().to_owned();
    stage.apply(&format!(
        "name = \"model\"\n[service.reader]\nimage = \"{}\"\nports = {{ http = {{ container = 8080 }} }}\n\
         mounts = {{ \"/model\" = \"image:{registry}/test/model:3\" }}\ndisconnect = {{ replace_after = \"never\" }}\n",
        stage.image
    ))?;
    stage.until_reason("reader", &["test/model:3"])?;
    let model = Image::busybox()?.file("weights", 0o644, b"seven\n".to_vec());
    stage.bed.registry().push(&model, "test/model", "3")?;

    let (reader, _) = until_healthy(&stage.bed, "reader", 1, LIMIT)?;
    let (name, node) = (reader[0].name.clone(), reader[0].node.clone().ok_or("it runs on a node")?.to_string());
    let read = || stage.wherry(&["exec", &name, "--", "cat", "/model/weights"]);
    stage.must(read()? == "seven\n", || "the files are there".to_owned())?;
    let written = stage.bed.wherry(&["exec", &name, "--", "touch", "/model/weights"])?;
    stage.must(written.stderr.contains("Read-only file system"), || written.stderr.clone())?;

    stage.bed.kill_scheduler();
    stage.bed.cut_power(&node)?;
    stage.bed.boot(&node)?;
    let pid = || stage.running(&node)?.into_iter().find(|(found, _)| found.starts_with("reader-")).map(|(_, pid)| pid);
    stage.until("it runs again", || pid().is_some())?;
    let seen = pid().and_then(|pid| std::fs::read(format!("/proc/{pid}/root/model/weights")).ok());
    stage.bed.start_scheduler()?;
    until_healthy(&stage.bed, "reader", 1, LIMIT)?;
    stage.must(seen.as_deref() == Some(b"seven\n"), || format!("the files are there again: {seen:?}"))
}

/// What a volume holds is measured by its node and shown; one that holds more than it is meant to is told of.
pub(crate) fn a_volume_that_holds_more_is_told_of(stage: &mut Stage) -> Outcome {
    let script = "dd if=/dev/zero of=/data/much bs=1024 count=3072 2>/dev/null && exec /bin/hello";
    stage.apply(&format!(
        "name = \"hoard\"\n[service.hoard]\nimage = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n\
         mounts = {{ \"/data\" = \"volume:heap\" }}\nvolume = {{ heap = {{ size = \"1MiB\" }} }}\n\
         ports = {{ http = {{ container = 8080 }} }}\nhealth = {{ http = \"http/health\" }}\n",
        stage.image
    ))?;
    let (hoard, _) = until_healthy(&stage.bed, "hoard", 1, LIMIT)?;
    let node = hoard[0].node.clone().ok_or("it runs on a node")?.to_string();

    // An agent looks when it starts, and then seldom.
    stage.bed.node_mut(&node).kill_agent();
    stage.bed.node_mut(&node).start_agent()?;

    let volume = || {
        let list: List<VolumeView> = serde_json::from_value(stage.bed.ask(&["get", "volumes"]).ok()?).ok()?;
        list.items.into_iter().find(|view| view.workload.name.as_str() == "hoard")
    };
    let holds = |view: &VolumeView| view.used_bytes.is_some_and(|bytes| (3 << 20..4 << 20).contains(&bytes));
    stage.until("what it holds is shown", || volume().is_some_and(|view| holds(&view)))?;
    stage.must(volume().and_then(|view| view.size_bytes) == Some(1 << 20), || format!("{:?}", volume()))?;
    let events: List<Event> = serde_json::from_value(stage.bed.ask(&["get", "events"])?)?;
    let told = events.items.iter().any(|event| event.kind == "volume-over-size" && event.message.contains("hoard"));
    stage.must(told, || format!("{:?}", events.items))
}
