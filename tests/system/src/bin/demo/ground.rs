//! Where the demo stands, and how it goes: one name, one folder, and the machine as it was before.

use std::{
    collections::BTreeSet,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use tests_support::sweep::Ground;

/// The name that everything of the demo bears.
pub(crate) const NAME: &str = "wherry-demo";

/// The folder with all of the demo's files, in the folder it is called from.
///
/// # Errors
/// If there is no such folder.
pub(crate) fn folder() -> io::Result<PathBuf> {
    Ok(env::current_dir()?.join(".demo"))
}

/// Takes the demo down and looks whether anything is left.
///
/// # Errors
/// If something is left, with a list of it.
pub(crate) fn down() -> io::Result<()> {
    let folder = folder()?;
    let ground = Ground::new(NAME, &folder);
    let before = fs::read_to_string(before_file(&folder)).ok();
    ground.clear()?;
    let mut left = ground.leftovers();
    if let Some(before) = before {
        let before: BTreeSet<&str> = before.lines().collect();
        left.extend(machine().into_iter().filter(|line| !before.contains(line.as_str())));
    }
    if !left.is_empty() {
        return Err(io::Error::other(format!("{} things are left:\n  {}", left.len(), left.join("\n  "))));
    }
    println!(
        "The demo is gone: no process, mount, network namespace, link, nftables table, cgroup or file of it is left."
    );
    Ok(())
}

/// Notes what the machine has of its own, so that [`down`] can tell.
///
/// # Errors
/// If the note cannot be written.
pub(crate) fn note_the_machine(folder: &Path, machine: &[String]) -> io::Result<()> {
    fs::write(before_file(folder), machine.join("\n"))
}

/// The links and nftables tables of the machine's own network that bear our names.
pub(crate) fn machine() -> Vec<String> {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    };
    let tables = said("nft", &["list", "tables"]);
    let tables = tables.lines().filter(|line| line.contains("wherry")).map(|line| format!("nftables {line}"));
    let links = said("ip", &["-brief", "link"]);
    let links = links.lines().filter_map(|line| line.split_whitespace().next());
    let links = links.filter(|name| name.starts_with("wh-")).map(|name| format!("link {name}"));
    tables.chain(links).collect()
}

fn before_file(folder: &Path) -> PathBuf {
    folder.join("machine-before")
}
