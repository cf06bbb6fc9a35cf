//! What the node has few of: devices as its configuration names them, and which of them are there now.

use std::path::{Component, PathBuf};

use agent_containerd::DeviceFile;
use api_types::device::{DEVICE_COUNT_MAX, DEVICES_PER_NODE_MAX, Device, is_device_word};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One `[[device]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceSection {
    /// Its name, unique on the node; empty = its kind. Several are numbered: `NAME-1`, `NAME-2`.
    pub name: String,
    /// Of what kind it is (`camera`).
    pub kind: String,
    /// Which one of that kind (`t4`); empty = nobody said.
    pub model: String,
    /// How many may use it at once.
    pub shares: u32,
    /// How many of it there are; more than 1 only where there are no files.
    pub count: u32,
    /// Its files, absolute. None: it is only counted.
    pub paths: Vec<PathBuf>,
}

impl Default for DeviceSection {
    fn default() -> Self {
        Self { name: String::new(), kind: String::new(), model: String::new(), shares: 1, count: 1, paths: Vec::new() }
    }
}

/// A device of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDevice {
    /// What the cluster is told of it.
    pub offer: Device,
    /// Its files.
    pub paths: Vec<PathBuf>,
}

/// A device that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("device {device}: {problem}")]
pub struct DeviceProblem {
    /// Its name, or its number from 1.
    pub device: String,
    /// What is wrong, and what to write instead.
    pub problem: String,
}

/// Reads the devices of the configuration, sorted by name.
///
/// # Errors
/// The first that makes no sense.
pub fn read(sections: &[DeviceSection]) -> Result<Vec<OwnDevice>, DeviceProblem> {
    let mut devices: Vec<OwnDevice> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let base = if section.name.is_empty() { &section.kind } else { &section.name };
        let device = if base.is_empty() { (index + 1).to_string() } else { base.clone() };
        let fail = |problem: String| Err(DeviceProblem { device: device.clone(), problem });
        if let Err(problem) = check(section) {
            return fail(problem);
        }
        for number in 1..=section.count {
            let name = if section.count == 1 { base.clone() } else { format!("{base}-{number}") };
            if devices.iter().any(|other| other.offer.name == name) {
                return fail(format!("the name `{name}` is there twice: give each [[device]] a `name` of its own"));
            }
            let (kind, model) = (section.kind.clone(), section.model.clone());
            let offer = Device { name, kind, model, shares: section.shares };
            devices.push(OwnDevice { offer, paths: section.paths.clone() });
        }
        if devices.len() > DEVICES_PER_NODE_MAX {
            return fail(format!("a node has at most {DEVICES_PER_NODE_MAX} devices"));
        }
    }
    devices.sort_by(|a, b| a.offer.name.cmp(&b.offer.name));
    refuse_shared_files(&devices)?;
    Ok(devices)
}

fn check(section: &DeviceSection) -> Result<(), String> {
    if section.kind.is_empty() {
        return Err("it needs its `kind` (camera, gpu, licence)".to_owned());
    }
    let words = [("name", &section.name), ("kind", &section.kind), ("model", &section.model)];
    if let Some((key, word)) = words.into_iter().find(|(_, word)| !word.is_empty() && !is_device_word(word)) {
        return Err(format!("{key} `{}`: use letters, digits, - _ and ., at most 63", word.escape_debug()));
    }
    for (key, number) in [("shares", section.shares), ("count", section.count)] {
        if !(1..=DEVICE_COUNT_MAX).contains(&number) {
            return Err(format!("{key} = {number}: it is 1 to {DEVICE_COUNT_MAX}"));
        }
    }
    if section.count > 1 && !section.paths.is_empty() {
        return Err("`count` is for things without `paths`: write a [[device]] for each, or `shares`".to_owned());
    }
    let is_plain = |path: &PathBuf| {
        path.is_absolute() && !path.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir))
    };
    match section.paths.iter().find(|path| !is_plain(path)) {
        Some(path) => Err(format!("paths: `{}` must be an absolute path without `..`", path.display())),
        None => Ok(()),
    }
}

/// Two devices of one file would give it away twice.
fn refuse_shared_files(devices: &[OwnDevice]) -> Result<(), DeviceProblem> {
    let mut files: Vec<(&PathBuf, &str)> = Vec::new();
    for device in devices {
        for path in &device.paths {
            if let Some((_, first)) = files.iter().find(|(other, _)| *other == path) {
                let problem = format!("paths: `{}` belongs to device {first} already; use `shares`", path.display());
                return Err(DeviceProblem { device: device.offer.name.clone(), problem });
            }
            files.push((path, &device.offer.name));
        }
    }
    Ok(())
}

/// Looks again and again whether they are there.
#[derive(Debug)]
pub(crate) struct Watch {
    devices: Vec<OwnDevice>,
    /// The files that each had when it was last there.
    seen: Vec<Vec<DeviceFile>>,
}

/// What one look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Those that are there, sorted by name.
    pub(crate) offered: Vec<Device>,
    /// The names of those that are not, and why.
    pub(crate) missing: Vec<(String, String)>,
}

impl Watch {
    pub(crate) fn new(devices: Vec<OwnDevice>) -> Self {
        let seen = vec![Vec::new(); devices.len()];
        Self { devices, seen }
    }

    /// Whether the configuration names any.
    pub(crate) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Looks. A file that leads to another device of the kernel than at the last look counts as missing once: whoever
    /// holds the one from before must start anew.
    pub(crate) fn look(&mut self) -> Look {
        let mut look = Look::default();
        for (device, seen) in self.devices.iter().zip(&mut self.seen) {
            let found: Result<Vec<DeviceFile>, String> =
                device.paths.iter().map(|path| DeviceFile::look(path)).collect();
            let name = &device.offer.name;
            match found {
                Ok(files) => {
                    let exchanged = seen.iter().zip(&files).any(|(before, now)| !before.is_same_device(now));
                    *seen = files;
                    if exchanged {
                        look.missing.push((name.clone(), "it was exchanged".to_owned()));
                    } else {
                        look.offered.push(device.offer.clone());
                    }
                }
                Err(problem) => look.missing.push((name.clone(), problem)),
            }
        }
        look
    }
}

impl Look {
    /// The node's condition `devices`.
    pub(crate) fn condition(&self) -> Result<String, String> {
        if self.missing.is_empty() {
            return Ok(format!("{} there", self.offered.len()));
        }
        let each: Vec<String> = self.missing.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        Err(each.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sections(text: &str) -> Vec<DeviceSection> {
        crate::config::tests::toml_from(text).device
    }

    #[test]
    fn devices_are_read_and_counted_ones_are_numbered() {
        let text = "[[device]]\nname = 'front-door'\nkind = 'camera'\nmodel = 'c920'\nshares = 4\n\
            paths = ['/dev/video0', '/dev/media0']\n[[device]]\nkind = 'licence'\ncount = 3\n[[device]]\nkind = 'gpu'";

        let devices = read(&sections(text)).expect("sensible");

        let names: Vec<&str> = devices.iter().map(|device| device.offer.name.as_str()).collect();
        assert_eq!(names, ["front-door", "gpu", "licence-1", "licence-2", "licence-3"]);
        let offer = Device { name: "front-door".into(), kind: "camera".into(), model: "c920".into(), shares: 4 };
        assert_eq!(devices[0], OwnDevice { offer, paths: vec!["/dev/video0".into(), "/dev/media0".into()] });
    }

    #[test]
    fn devices_that_make_no_sense_are_named() {
        let problem = |text: &str| read(&sections(text)).expect_err("a problem").to_string();

        for (text, said) in [
            ("[[device]]", "device 1: it needs its `kind` (camera, gpu, licence)"),
            (
                "[[device]]\nkind = 'gpu'\n[[device]]\nkind = 'gpu'",
                "device gpu: the name `gpu` is there twice: give each [[device]] a `name` of its own",
            ),
            (
                "[[device]]\nkind = 'a'\ncount = 2\n[[device]]\nkind = 'b'\nname = 'a-2'",
                "device a-2: the name `a-2` is there twice: give each [[device]] a `name` of its own",
            ),
            (
                "[[device]]\nkind = 'gpu'\npaths = ['dev/gpu']",
                "device gpu: paths: `dev/gpu` must be an absolute path without `..`",
            ),
            (
                "[[device]]\nkind = 'gpu'\npaths = ['/dev/../gpu']",
                "device gpu: paths: `/dev/../gpu` must be an absolute path without `..`",
            ),
            ("[[device]]\nkind = 'a/b'", "device a/b: kind `a/b`: use letters, digits, - _ and ., at most 63"),
            ("[[device]]\nkind = 'gpu'\nshares = 0", "device gpu: shares = 0: it is 1 to 1000"),
            (
                "[[device]]\nkind = 'gpu'\ncount = 2\npaths = ['/dev/gpu']",
                "device gpu: `count` is for things without `paths`: write a [[device]] for each, or `shares`",
            ),
            (
                "[[device]]\nkind = 'a'\npaths = ['/dev/x']\n[[device]]\nkind = 'b'\npaths = ['/dev/x']",
                "device b: paths: `/dev/x` belongs to device a already; use `shares`",
            ),
        ] {
            assert_eq!(problem(text), said, "{text}");
        }
    }

    #[test]
    fn a_device_is_offered_while_it_is_there_and_missing_once_when_it_was_exchanged() {
        let path = std::env::temp_dir().join(format!("wherry-device-{}", std::process::id()));
        let link = |target: &str| {
            std::fs::remove_file(&path).ok();
            std::os::unix::fs::symlink(target, &path).expect("linked");
        };
        let section =
            DeviceSection { kind: "camera".to_owned(), paths: vec![path.clone()], ..DeviceSection::default() };
        let seat = DeviceSection { kind: "licence".to_owned(), ..DeviceSection::default() };
        let mut watch = Watch::new(read(&[section, seat]).expect("sensible"));
        let names = |look: &Look| -> Vec<String> { look.offered.iter().map(|device| device.name.clone()).collect() };

        let absent = watch.look();
        link("/dev/zero");
        let plugged = watch.look();
        link("/dev/full");
        let exchanged = watch.look();
        let settled = watch.look();
        std::fs::remove_file(&path).expect("it is there");
        let gone = watch.look();

        assert_eq!(names(&absent), ["licence"]);
        assert_eq!(absent.condition(), Err(format!("camera: {} is not there", path.display())));
        assert_eq!((names(&plugged).len(), plugged.condition()), (2, Ok("2 there".to_owned())));
        assert_eq!(exchanged.condition(), Err("camera: it was exchanged".to_owned()));
        assert_eq!(names(&settled), ["camera", "licence"]);
        assert_eq!(names(&gone), ["licence"]);
    }
}
