//! Files and secrets in stories: `secret db`, `apply web secret=db text=hello on_change=signal`, `show content`.

use std::{collections::BTreeMap, fmt::Write as _};

use api_types::{
    content::{ContentSpec, FileContent, FileSpec, OnChange},
    id::{Name, SecretId},
};
use scheduler_core::{Scheduler, input::Change};

use crate::fleet::Fleet;

/// `secret db`: the next version of it; `secret db 7`: this one; `delete-secret db`.
pub(super) fn change(scheduler: &Scheduler, words: &[&str]) -> Change {
    let secret: SecretId = words[1].parse().expect("a name");
    if words[0] == "delete-secret" {
        return Change::DeleteSecret { secret };
    }
    let next = scheduler.next_secret_version(&secret);
    let version = words.get(2).map_or(next, |version| version.parse().expect("a number"));
    Change::SetSecret { secret, version, bytes: 5, set_by: "t1".to_owned(), sealed: format!("sealed {version}") }
}

/// What a workload shows.
pub(super) fn spec(options: &BTreeMap<String, String>) -> ContentSpec {
    let mut files = BTreeMap::new();
    let mut add = |path: &str, content| files.insert(path.to_owned(), FileSpec { content, mode: 0o400, owner: None });
    if let Some(text) = options.get("text") {
        add("/etc/app", FileContent::Text(text.clone()));
    }
    if let Some(name) = options.get("secret") {
        add("/run/secret", FileContent::Secret(Name::new(name).expect("a name")));
    }
    let on_change = match options.get("on_change").map(String::as_str) {
        None => OnChange::Restart,
        Some("none") => OnChange::Nothing,
        Some(_) => OnChange::Signal("SIGHUP".to_owned()),
    };
    ContentSpec { files, env: BTreeMap::new(), on_change }
}

/// What each instance is shown, as its node was told, and the secrets that there are.
pub(super) fn show(fleet: &Fleet) -> String {
    let mut text = String::new();
    for set in fleet.told_sets.values() {
        for assignment in &set.assignments {
            let files = assignment.container.content.files.iter().map(|(path, file)| match &file.content {
                FileContent::Text(text) => format!("{path}={text}"),
                FileContent::Secret(name) => format!("{path}={name} v{}", assignment.secrets[name]),
            });
            let files: Vec<String> = files.collect();
            let (instance, node) = (&assignment.instance, &set.node);
            writeln!(text, "{instance}  r{}  {node}  {}", assignment.revision, files.join("  ")).expect("it takes all");
        }
    }
    for view in fleet.scheduler.secret_views() {
        let used_by: Vec<String> = view.used_by.iter().map(ToString::to_string).collect();
        writeln!(text, "{}  v{}  by {}  for [{}]", view.secret, view.version, view.set_by, used_by.join(", "))
            .expect("it takes all");
    }
    text
}
