//! The devices that an instance was given: their files, what its cgroup lets it use, and how it learns of them.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use api_types::device::DeviceGrant;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};

/// A file of the node that stands for a device of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFile {
    /// Where it is, on the node as inside.
    path: PathBuf,
    /// Whether the kernel reads and writes it by blocks.
    is_block: bool,
    major: u64,
    minor: u64,
    /// Permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
}

impl DeviceFile {
    /// Looks at a file; links are followed, as systems name devices by links that stay.
    ///
    /// # Errors
    /// One line for people when it is not there or no device.
    pub fn look(path: &Path) -> Result<Self, String> {
        let found = std::fs::metadata(path).map_err(|error| {
            let is_absent = error.kind() == io::ErrorKind::NotFound;
            if is_absent { format!("{} is not there", path.display()) } else { format!("{}: {error}", path.display()) }
        })?;
        let kind = found.file_type();
        if !kind.is_char_device() && !kind.is_block_device() {
            return Err(format!("{} is not the file of a device", path.display()));
        }
        Ok(Self {
            path: path.to_owned(),
            is_block: kind.is_block_device(),
            major: major(found.rdev()),
            minor: minor(found.rdev()),
            mode: found.mode() & 0o777,
            uid: found.uid(),
            gid: found.gid(),
        })
    }

    /// Whether both lead to the same device of the kernel.
    #[must_use]
    pub fn is_same_device(&self, other: &Self) -> bool {
        (self.is_block, self.major, self.minor) == (other.is_block, other.major, other.minor)
    }

    fn kind(&self) -> &'static str {
        if self.is_block { "b" } else { "c" }
    }
}

/// All that an instance was given.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    files: Vec<DeviceFile>,
    /// What its environment says of it.
    pub(crate) variables: BTreeMap<String, String>,
}

/// Finds what was granted; the error is one line for people.
pub(crate) fn resolve(grants: &[DeviceGrant], known: &BTreeMap<String, Vec<PathBuf>>) -> Result<Granted, String> {
    let mut granted = Granted::default();
    for grant in grants {
        let Some(paths) = known.get(&grant.device) else {
            return Err(format!("device {}: there is no such [[device]] in the agent's configuration", grant.device));
        };
        let mut words = Vec::new();
        for path in paths {
            let file = DeviceFile::look(path).map_err(|problem| format!("device {}: {problem}", grant.device))?;
            words.push(path.display().to_string());
            if !granted.files.contains(&file) {
                granted.files.push(file);
            }
        }
        if words.is_empty() {
            words.push(grant.device.clone());
        }
        let variable = granted.variables.entry(grant.variable()).or_default();
        for word in words {
            if !variable.is_empty() {
                variable.push(' ');
            }
            variable.push_str(&word);
        }
    }
    Ok(granted)
}

impl Granted {
    /// The files that the runtime makes inside (`linux.devices`), owned as on the node.
    pub(crate) fn files(&self) -> Value {
        let file = |file: &DeviceFile| {
            json!({
                "path": file.path, "type": file.kind(), "major": file.major, "minor": file.minor,
                "fileMode": file.mode, "uid": file.uid, "gid": file.gid,
            })
        };
        self.files.iter().map(file).collect()
    }

    /// What the cgroup allows (`linux.resources.devices`): nothing but these. The runtime adds the few that every
    /// container has (`/dev/null` and its like), and makes a list for cgroup v1 or a program for v2 of it.
    pub(crate) fn rules(&self) -> Value {
        let allow = |file: &DeviceFile| {
            json!({
                "allow": true, "type": file.kind(), "major": file.major, "minor": file.minor, "access": "rw",
            })
        };
        let nothing = json!({"allow": false, "access": "rwm"});
        std::iter::once(nothing).chain(self.files.iter().map(allow)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(device: &str, kind: &str) -> DeviceGrant {
        DeviceGrant { device: device.to_owned(), kind: kind.to_owned(), millis: 1000 }
    }

    #[test]
    fn what_was_granted_is_opened_and_named_and_nothing_else() {
        let known = BTreeMap::from([
            ("sink".to_owned(), vec!["/dev/full".into()]),
            ("pair".to_owned(), vec!["/dev/zero".into(), "/dev/full".into()]),
            ("seat-1".to_owned(), Vec::new()),
        ]);

        let none = resolve(&[], &known).expect("nothing");
        let all = resolve(&[grant("sink", "sink.a"), grant("pair", "sink-a"), grant("seat-1", "licence")], &known);
        let all = all.expect("all are there");

        assert_eq!((none.files(), none.rules()), (json!([]), json!([{"allow": false, "access": "rwm"}])));
        assert_eq!(
            all.rules(),
            json!([
                {"allow": false, "access": "rwm"},
                {"allow": true, "type": "c", "major": 1, "minor": 7, "access": "rw"},
                {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rw"},
            ])
        );
        assert_eq!(all.files()[0]["path"], "/dev/full");
        assert_eq!(
            all.variables.into_iter().collect::<Vec<_>>(),
            [
                ("WHERRY_DEVICE_LICENCE".to_owned(), "seat-1".to_owned()),
                ("WHERRY_DEVICE_SINK_A".to_owned(), "/dev/full /dev/zero /dev/full".to_owned()),
            ]
        );
    }

    #[test]
    fn what_is_not_there_or_no_device_is_named() {
        let known = BTreeMap::from([
            ("gone".to_owned(), vec!["/dev/wherry-gone".into()]),
            ("plain".to_owned(), vec!["/etc/passwd".into()]),
        ]);
        let problem = |device: &str| resolve(&[grant(device, "camera")], &known).expect_err("refused");

        assert_eq!(problem("gone"), "device gone: /dev/wherry-gone is not there");
        assert_eq!(problem("plain"), "device plain: /etc/passwd is not the file of a device");
        assert!(problem("other").contains("no such [[device]]"));
    }
}
