//! What is mounted into a container; pure but for the resolution of the node's own paths.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use api_types::{container::Mount, id::Name};
use serde_json::{Value, json};

use crate::{
    error::{Error, StartError},
    shown::ShownFile,
    views::Views,
};

/// Where mounts of users may not go: the kernel's own file systems.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];
/// The size of a container's `/dev/shm`.
const SHARED_MEMORY: &str = "size=65536k";

/// A file of ours that is mounted read-only (`/etc/hosts`).
#[derive(Clone, Debug)]
pub(crate) struct OwnFile {
    pub(crate) inside: &'static str,
    pub(crate) source: PathBuf,
}

/// Gives all mounts in their order: the kernel's, ours, then the user's and what is shown, which may cover ours. `volume` has the directory
/// of a volume, `views` the files of images.
pub(crate) fn all(
    own: &[OwnFile],
    shown: &[ShownFile],
    mounts: &BTreeMap<String, Mount>,
    prefixes: &[PathBuf],
    volume: &dyn Fn(&Name) -> Result<PathBuf, Error>,
    views: &Views,
) -> Result<Vec<Value>, StartError> {
    let mut list = kernel_mounts();
    for file in own.iter().filter(|file| !mounts.contains_key(file.inside)) {
        list.push(read_only_file(file.inside, &file.source));
    }
    // A path sorts before those below it, so that each is mounted into what is there already.
    let mut wanted: BTreeMap<&str, Value> = BTreeMap::new();
    for ShownFile { inside, source } in shown {
        check_destination(inside).map_err(StartError::Forbidden)?;
        wanted.insert(inside, read_only_file(inside, source));
    }
    for (inside, mount) in mounts {
        check_destination(inside).map_err(StartError::Forbidden)?;
        wanted.insert(
            inside,
            match mount {
                Mount::Tmpfs { bytes_max } => json!({
                    "destination": inside, "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "nodev", "noexec", "mode=1777", format!("size={bytes_max}")],
                }),
                Mount::Host { path, read_only } => json!({
                    "destination": inside, "type": "bind",
                    "source": resolve_host_path(path, prefixes).map_err(StartError::Forbidden)?,
                    "options": ["rbind", "rprivate", "nosuid", "nodev", if *read_only { "ro" } else { "rw" }],
                }),
                Mount::Image { image } => match views.get(inside.as_str()) {
                    Some(view) => view.mount_at(inside),
                    None => return Err(StartError::ImageMissing { image: image.clone() }),
                },
                Mount::Volume { name, read_only } => json!({
                    "destination": inside, "type": "bind", "source": volume(name)?,
                    "options": ["bind", "rprivate", "nosuid", "nodev", if *read_only { "ro" } else { "rw" }],
                }),
            },
        );
    }
    list.extend(wanted.into_values());
    Ok(list)
}

fn read_only_file(inside: &str, source: &Path) -> Value {
    json!({
        "destination": inside, "type": "bind", "source": source,
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    })
}

/// Gives an absolute path without `.` and `..`, or `None` where it is relative or climbs.
pub(crate) fn normalized(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::from("/");
    let mut components = Path::new(path).components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    for component in components {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean)
}

/// Whether the path is one of the kernel's file systems or below.
pub(crate) fn is_reserved(path: &Path) -> bool {
    RESERVED.iter().any(|reserved| path.starts_with(reserved))
}

fn check_destination(inside: &str) -> Result<(), String> {
    let Some(clean) = normalized(inside) else {
        return Err(format!("mount `{inside}`: the path inside must be absolute and free of `..`"));
    };
    let allowed = !is_reserved(&clean) || clean == Path::new("/dev/shm");
    if clean == Path::new("/") || !allowed {
        return Err(format!("mount `{inside}`: nothing may be mounted on /, /proc, /sys and /dev"));
    }
    Ok(())
}

/// Follows all links first: what counts is where the path leads, not how it is written.
fn resolve_host_path(path: &str, prefixes: &[PathBuf]) -> Result<PathBuf, String> {
    if normalized(path).is_none() {
        return Err(format!("host path `{path}`: it must be absolute and free of `..`"));
    }
    let real = std::fs::canonicalize(path).map_err(|error| format!("host path `{path}`: {error}"))?;
    let inside = |prefix: &PathBuf| std::fs::canonicalize(prefix).is_ok_and(|prefix| real.starts_with(prefix));
    if prefixes.iter().any(inside) {
        return Ok(real);
    }
    let hint = if prefixes.is_empty() {
        "this node allows none".to_owned()
    } else {
        let list: Vec<String> = prefixes.iter().map(|prefix| prefix.display().to_string()).collect();
        format!("this node allows those below {}", list.join(", "))
    };
    Err(format!("host path `{path}` is not allowed: {hint} (host_path_prefixes in the agent's configuration)"))
}

fn kernel_mounts() -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", SHARED_MEMORY]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", SHARED_MEMORY]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_path_counts_by_where_it_leads() {
        let root = std::env::temp_dir().join(format!("wherry-mounts-{}", std::process::id()));
        let (allowed, link) = (root.join("allowed"), root.join("allowed/link"));
        std::fs::create_dir_all(allowed.join("inner")).expect("made");
        std::os::unix::fs::symlink("/etc", &link).expect("linked");

        let prefixes = [allowed.clone()];
        let resolve = |path: &Path| resolve_host_path(&path.display().to_string(), &prefixes);
        let (inner, escaped) = (resolve(&allowed.join("inner")), resolve(&link));
        let (climbing, sibling) = (resolve(&allowed.join("../allowed/inner")), resolve(Path::new("/etc")));
        std::fs::remove_dir_all(&root).expect("removed");

        assert!(inner.is_ok(), "{inner:?}");
        assert!(escaped.is_err_and(|problem| problem.contains("not allowed")));
        assert!(climbing.is_err() && sibling.is_err());
    }

    #[test]
    fn the_kernels_file_systems_cannot_be_covered() {
        for inside in ["/", "/proc", "/proc/sys", "/sys/fs", "/dev", "/dev/sda", "relative", "/a/../proc", "//"] {
            assert!(check_destination(inside).is_err(), "{inside} was accepted");
        }
        for inside in ["/tmp", "/dev/shm", "/var/lib/x", "/process"] {
            assert_eq!(check_destination(inside), Ok(()));
        }
    }
}
