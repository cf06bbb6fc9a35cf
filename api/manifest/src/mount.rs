//! `mounts`: what of the node, and which memory, a container sees at which path.

use std::collections::BTreeMap;

use api_types::{container::Mount, id::Name};

use crate::{
    fault::nearest,
    image,
    section::{Entry, Section},
    units::{self, Wrong},
};

/// One page of the smallest machine; less cannot be mounted.
const TMPFS_BYTES_MIN: u64 = 4096;
/// Files that the agent writes for each instance.
const OWN_FILES: &[&str] = &["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
/// Where a mount would replace what the kernel shows, or what the runtime makes.
pub(crate) const KERNEL_PATHS: &[&str] = &["/proc", "/sys", "/dev"];

pub(crate) fn read(section: &Section<'_>) -> BTreeMap<String, Mount> {
    let mut mounts = BTreeMap::new();
    for entry in section.entries() {
        check_destination(&entry);
        if let Some(mount) = mount(&entry) {
            mounts.insert(entry.key.to_owned(), mount);
        }
    }
    mounts
}

/// Refuses a key that is no path at which something can be mounted.
pub(crate) fn check_destination(entry: &Entry<'_>) {
    let path = entry.key;
    let taken = OWN_FILES.contains(&path) || (is_below(path, KERNEL_PATHS) && !is_below(path, &["/dev/shm"]));
    if path == "/" || !is_plain_path(path) || taken {
        let message = format!("nothing can be mounted at `{}`", path.escape_debug());
        let help = "write an absolute path without `..`, outside of /proc, /sys, /dev and the files the agent writes";
        entry.faults.report_with_help("invalid_path", &entry.path, entry.key_place.clone(), message, help);
    }
}

/// Reads `host:/path[:ro]`, `volume:data[:ro]`, `image:REFERENCE` and `tmpfs:64MiB`.
fn mount(entry: &Entry<'_>) -> Option<Mount> {
    let text = entry.text()?;
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "host" => {
            let (path, read_only) = access(entry, kind, rest)?;
            if !is_plain_path(path) {
                let message = format!("`{}` is not an absolute path without `..`", path.escape_debug());
                entry.invalid("invalid_mount", message, "write \"host:/path\"");
                return None;
            }
            Some(Mount::Host { path: path.to_owned(), read_only })
        }
        "tmpfs" => match units::size_bytes(rest.trim()) {
            Ok(bytes_max) if bytes_max >= TMPFS_BYTES_MIN => Some(Mount::Tmpfs { bytes_max }),
            Ok(_) => {
                entry.invalid("out_of_range", "a tmpfs needs 4KiB at least", "");
                None
            }
            Err((message, help)) => {
                entry.invalid("wrong_unit", message, help);
                None
            }
        },
        "image" => {
            let refuse = |(message, help): Wrong| entry.invalid("invalid_image", message, help);
            image::complete(rest).map_err(refuse).ok().map(|image| Mount::Image { image })
        }
        "volume" => {
            let (name, read_only) = access(entry, kind, rest)?;
            let refuse = |problem: String| entry.invalid("invalid_mount", problem, "write \"volume:data\"");
            let name = Name::new(name).map_err(|error| refuse(error.problem)).ok()?;
            Some(Mount::Volume { name, read_only })
        }
        other => {
            let message = format!("`{}` is not a kind of mount", other.escape_debug());
            let help = match nearest(other, ["host", "image", "tmpfs", "volume"]) {
                Some(kind) => format!("did you mean `{kind}:`?"),
                None => "write \"volume:data\", \"image:registry.lan/a:1\", \"host:/path[:ro]\" or \"tmpfs:64MiB\""
                    .to_owned(),
            };
            entry.invalid("invalid_mount", message, help);
            None
        }
    }
}

/// Splits `WHAT[:ro|:rw]` into what, and whether it is read-only.
fn access<'t>(entry: &Entry<'_>, kind: &str, text: &'t str) -> Option<(&'t str, bool)> {
    match text.split_once(':') {
        None => Some((text, false)),
        Some((what, "ro")) => Some((what, true)),
        Some((what, "rw")) => Some((what, false)),
        Some((_, flag)) => {
            let what = if kind == "host" { "/path" } else { "data" };
            let message = format!("`{}` is neither `ro` nor `rw`", flag.escape_debug());
            entry.invalid("invalid_mount", message, format!("write \"{kind}:{what}:ro\" or \"{kind}:{what}\""));
            None
        }
    }
}

/// Whether this is an absolute path in its one plain form: nothing empty, no `.`, no `..`.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    path.len() < 4096
        && !path.contains('\0')
        && (rest.is_empty() || !rest.split('/').any(|part| matches!(part, "" | "." | "..")))
}

pub(crate) fn is_below(path: &str, roots: &[&str]) -> bool {
    roots.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}
