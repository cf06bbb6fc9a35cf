//! Stories of configuration and secrets: shown where they are used, and nowhere else.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use api_types::{node::Liveness, view::InstanceView};
use tests_system::cluster::{is_healthy, until, until_healthy, until_node};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

const FIRST: &str = "canary-that-nobody-may-see-5c1b";
const SECOND: &str = "canary-that-came-later-and-is-longer-9e7d";
/// How both begin.
const CANARY: &str = "canary-that-";
/// The same as Base64, without the letters at its edges that depend on its neighbours.
const BASE64_FORMS: [&str; 3] = ["Y2FuYXJ5LXRoYXQt", "NhbmFyeS10aGF0L", "jYW5hcnktdGhhd"];
/// What stands in a file beside the manifest.
const CONF: &str = "greeting = \"hello\"\n[${config.app.level}]\n";

/// A secret is a file in memory of whoever uses it, follows its versions with a signal, comes back with a node that boots
/// without a scheduler, and is found in no log, answer or file.
pub(crate) fn a_secret_is_shown_where_it_is_used(stage: &mut Stage) -> Outcome {
    set_secret(stage, "vault-key", FIRST)?;
    stage.file("app.conf", CONF.as_bytes())?;
    let manifest = stage.file("vault.toml", manifest(&stage.image, "signal:HUP", "info").as_bytes())?;
    stage.wherry(&["apply", "-f", &manifest.to_string_lossy()])?;
    let (views, _) = until_healthy(&stage.bed, "vault", 1, LIMIT)?;
    let vault = views[0].clone();
    let node = vault.node.clone().ok_or("a healthy instance has a node")?;
    let inside = |command: &str| stage.wherry(&["exec", &vault.name, "--", "/bin/sh", "-c", command]);

    let shown = inside("cat /run/secrets/key; echo; stat -c '%a %u' /run/secrets/key; cat /etc/app.conf; echo $LEVEL")?;
    stage.must(shown == format!("{FIRST}\n400 0\n{CONF}info\n"), || format!("it is shown: {shown}"))?;
    let mounted = inside("grep ' /run/secrets/key ' /proc/mounts")?;
    let in_memory = mounted.starts_with("tmpfs ") && mounted.contains(" ro,");
    stage.must(in_memory, || format!("it is in memory, and read-only: {mounted}"))?;

    // A new version: the same process hears of it, once its file is whole.
    let told = set_secret(stage, "vault-key", SECOND)?;
    stage.must(told.contains("version 2"), || told.clone())?;
    let heard = format!("{}\n", SECOND.len());
    stage.until("the process hears of the new version", || inside("cat /tmp/heard").is_ok_and(|text| text == heard))?;
    let now = stage.bed.instances("vault")?;
    stage.must(now.len() == 1 && now[0].pid == vault.pid && now[0].restarts == 0, || "it was restarted".to_owned())?;

    let kept = |name: &str| stage.bed.node(name).folder().join("state/last/assignments.current");
    let holds = |name: &str| fs::read_to_string(kept(name)).is_ok_and(|text| text.contains("\"vault-key\":2"));
    stage.until("the node keeps the new version", || holds(node.as_str()))?;
    let sealed = |name: &str| fs::read_to_string(kept(name)).is_ok_and(|text| text.contains("\"sealed\""));
    let others = NODES.iter().filter(|name| **name != node.as_str());
    stage.must(others.clone().all(|name| !sealed(name)), || "a node holds what it does not run".to_owned())?;

    stage.bed.kill_scheduler();
    stage.bed.cut_power(node.as_str())?;
    stage.bed.boot(node.as_str())?;
    let from_outside = || {
        let pid = stage.running(node.as_str())?.first()?.1;
        fs::read_to_string(format!("/proc/{pid}/root/run/secrets/key")).ok()
    };
    stage.until("it starts again from the node's own disk", || from_outside().is_some_and(|text| text == SECOND))?;
    stage.bed.start_scheduler()?;
    until_node(&stage.bed, node.as_str(), Liveness::Ready, LIMIT)?;
    until_healthy(&stage.bed, "vault", 1, LIMIT)?;

    seen_nowhere(stage)
}

/// A changed configuration or secret replaces the instances that keep what they were shown.
pub(crate) fn what_is_shown_is_replaced_or_signalled(stage: &mut Stage) -> Outcome {
    set_secret(stage, "vault-key", FIRST)?;
    stage.file("app.conf", CONF.as_bytes())?;
    let apply = |on_change, level| -> Result<(), Box<dyn Error>> {
        let manifest = stage.file("vault.toml", manifest(&stage.image, on_change, level).as_bytes())?;
        stage.wherry(&["apply", "-f", &manifest.to_string_lossy()])?;
        Ok(())
    };
    apply("restart", "info")?;
    let (first, _) = until_healthy(&stage.bed, "vault", 1, LIMIT)?;
    let is_another = |before: &InstanceView| {
        let before = before.name.clone();
        move |views: &[InstanceView]| views.len() == 1 && views[0].name != before && is_healthy(&views[0])
    };

    let told = set_secret(stage, "vault-key", SECOND)?;
    stage.must(told.contains("replaces the instances of vault"), || told.clone())?;
    let (second, _) = until(&stage.bed, "vault", LIMIT, is_another(&first[0]))?;
    let shown = stage.wherry(&["exec", &second[0].name, "--", "cat", "/run/secrets/key"])?;
    stage.must(shown == SECOND, || "the next instance is shown the new version".to_owned())?;

    apply("restart", "debug")?;
    let (third, _) = until(&stage.bed, "vault", LIMIT, is_another(&second[0]))?;

    // A text may change under it from now on; a variable still needs another process.
    apply("signal:HUP", "debug")?;
    stage.file("app.conf", b"another = true\n")?;
    apply("signal:HUP", "debug")?;
    let inside = |command: &str| stage.wherry(&["exec", &third[0].name, "--", "/bin/sh", "-c", command]);
    stage.until("its file is another", || inside("cat /etc/app.conf").is_ok_and(|text| text == "another = true\n"))?;
    stage.until("it hears of that", || inside("cat /tmp/heard").is_ok_and(|text| !text.is_empty()))?;
    let now = stage.bed.instances("vault")?;
    stage.must(now.len() == 1 && now[0].pid == third[0].pid, || "it was restarted".to_owned())
}

fn manifest(image: &str, on_change: &str, level: &str) -> String {
    format!(
        "name = \"vault\"\n[config.app]\nlevel = \"{level}\"\nconf = {{ file = \"app.conf\" }}\n\
         [service.vault]\nimage = \"{image}\"\non_change = \"{on_change}\"\nstop = {{ grace = \"1s\" }}\n\
         command = [\"/bin/sh\", \"-c\", \"trap 'wc -c </run/secrets/key >/tmp/heard' HUP; while :; do sleep 1; done\"]\n\
         env = {{ LEVEL = \"${{config.app.level}}\" }}\nfiles = {{ \"/etc/app.conf\" = \"${{config.app.conf}}\" }}\n\
         secrets = {{ \"/run/secrets/key\" = \"vault-key\" }}\n"
    )
}

/// Sets a secret from a file that is gone afterwards.
fn set_secret(stage: &Stage, name: &str, value: &str) -> Result<String, Box<dyn Error>> {
    let file = stage.file("secret", value.as_bytes())?;
    let told = stage.wherry(&["secret", "set", name, "--file", &file.to_string_lossy()]);
    fs::remove_file(file)?;
    told
}

/// Looks for the canaries in every answer, log and file of the cluster.
fn seen_nowhere(stage: &Stage) -> Outcome {
    let manifest = stage.bed.folder().join("vault.toml");
    let answers: [&[&str]; 7] = [
        &["secret", "get"],
        &["secret", "get", "-o", "json"],
        &["get", "services", "-o", "json"],
        &["get", "instances", "-o", "json"],
        &["get", "events", "-o", "json"],
        &["describe", "service", "vault"],
        &["plan", "-f", &manifest.to_string_lossy()],
    ];
    for arguments in answers {
        let answer = stage.wherry(arguments)?;
        stage.must(!holds_canary(answer.as_bytes()), || format!("wherry {arguments:?} shows it"))?;
    }
    let files = files_below(stage.bed.folder());
    stage.must(files.len() > 20, || format!("only {} files were looked into", files.len()))?;
    let found: Vec<&PathBuf> =
        files.iter().filter(|path| fs::read(path).is_ok_and(|bytes| holds_canary(&bytes))).collect();
    stage.must(found.is_empty(), || format!("it lies in {found:?}"))
}

/// As it is, as the list of numbers that bytes are printed as, and as Base64 from each place where a group may begin.
fn holds_canary(bytes: &[u8]) -> bool {
    let numbers = CANARY.as_bytes().iter().map(u8::to_string).collect::<Vec<_>>();
    let forms = [CANARY.to_owned(), numbers.join(", "), numbers.join(",")];
    let finder = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
    forms.iter().any(|form| finder(form.as_bytes())) || BASE64_FORMS.iter().any(|form| finder(form.as_bytes()))
}

/// All files but those in memory that are shown to instances.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type());
        match kind {
            Ok(kind) if kind.is_dir() && !path.ends_with("instances/shown") => files.extend(files_below(&path)),
            Ok(kind) if kind.is_file() => files.push(path),
            Ok(_) | Err(_) => {}
        }
    }
    files
}
