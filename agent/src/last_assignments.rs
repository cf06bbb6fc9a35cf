//! What the node boots from when nobody answers: the last assignment set and service table, which instance had which
//! address, how those ended that shall end by themselves, and how far schedules were followed; two generations each. An agent
//! that is started again on a node that ran on has a newer copy in its run directory, which costs no flash and is therefore
//! never behind.
//!
//! Secrets are sealed with a key that lies in a file of its own beside them, for root alone: a copy of these files without that one
//! tells nothing. Whoever reads all of the disk as root reads the secrets, as the node must without its scheduler.
//!
//! A file is one line `wherry NAME 1 CRC32` and JSON. A file that cannot be read is set aside as `*.bad`, never a reason to
//! stop; the generation before is used then.

mod kept;
mod sealed;

use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_core::Followed;
use api_daemon::{
    durable_file,
    sealing::{SealingError, SealingKey},
};
use api_types::{assignment::AssignmentSet, counter::Generation, id::InstanceId, job::Tries, service::ServiceTable};
use thiserror::Error;

pub(crate) use kept::Kept;

const FORMAT: &str = "1";

/// The key's file in the state directory.
const KEY: &str = "secrets.key";

/// Two generations of each on disk, and the latest in memory.
#[derive(Clone, Debug)]
pub(crate) struct LastAssignments {
    /// Outlives the node's reboot.
    disk: PathBuf,
    /// Outlives the agent alone.
    memory: PathBuf,
    /// Seals the secrets in both.
    key: Arc<SealingKey>,
    /// Why the key is a new one, if the one before was none.
    key_fault: Option<String>,
}

/// What the disk gave back.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// The newest readable assignment set.
    pub(crate) assignments: Option<AssignmentSet>,
    /// The newest readable service table.
    pub(crate) services: Option<ServiceTable>,
    /// The newest readable addresses of instances; empty if there are none.
    pub(crate) addresses: BTreeMap<InstanceId, Ipv4Addr>,
    /// How the processes ended of instances that shall end by themselves; empty if nothing is known.
    pub(crate) tries: BTreeMap<InstanceId, Tries>,
    /// How far schedules were followed by the node's own clock; empty if none was.
    pub(crate) followed: Followed,
    /// One line for people for each file that was set aside.
    pub(crate) faults: Vec<String>,
}

#[derive(Debug, Error)]
enum ReadError {
    #[error("there is no file")]
    Absent,
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    #[error("its first line is not one of ours")]
    Header,
    #[error("its checksum does not fit its content")]
    Checksum,
    #[error("its content cannot be understood: {0}")]
    Content(serde_json::Error),
}

impl LastAssignments {
    /// Opens, and makes if need be, `last` in both directories.
    pub(crate) fn open(state_dir: &Path, run_dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(state_dir)?;
        let (key, key_fault) = key(&state_dir.join(KEY))?;
        let last = Self { disk: state_dir.join("last"), memory: run_dir.join("last"), key: Arc::new(key), key_fault };
        fs::create_dir_all(&last.disk)?;
        fs::create_dir_all(&last.memory)?;
        Ok(last)
    }

    /// Reads the newest generation of each that can be read.
    pub(crate) fn recover(&self) -> Recovered {
        let mut faults: Vec<String> = self.key_fault.iter().cloned().collect();
        let mut assignments: Option<AssignmentSet> = self.newest(&mut faults);
        if let Some(set) = &mut assignments {
            let missing: Vec<String> = set.missing_secrets().map(|secret| secret.to_string()).collect();
            if !missing.is_empty() {
                let names = missing.join(", ");
                faults.push(format!("secrets that do not open with the key in {KEY}, or are not there: {names}"));
                // Older than any that the scheduler has, so that it sends all of it.
                set.generation = Generation(0);
            }
        }
        let services = self.newest(&mut faults);
        let addresses = self.newest(&mut faults).unwrap_or_default();
        let tries = self.newest(&mut faults).unwrap_or_default();
        let followed = self.newest(&mut faults).unwrap_or_default();
        Recovered { assignments, services, addresses, tries, followed, faults }
    }

    /// Keeps it through a reboot.
    pub(crate) fn keep<T: Kept>(&self, value: &T) -> io::Result<()> {
        let current = self.current::<T>();
        let draft = durable_file::draft(&current, &self.content(value)?)?;
        // Between the two renames only the previous generation is there: it is whole, and is used.
        match fs::rename(&current, self.previous::<T>()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::rename(draft, &current)?;
        durable_file::sync_directory(&current)
    }

    /// Keeps it through a restart of the agent.
    pub(crate) fn remember<T: Kept>(&self, value: &T) -> io::Result<()> {
        durable_file::replace(&self.remembered::<T>(), &self.content(value)?)
    }

    /// Forgets everything: the node belongs to another cluster, or to none.
    pub(crate) fn clear(&self) -> io::Result<()> {
        self.forget::<AssignmentSet>()?;
        self.forget::<ServiceTable>()?;
        self.forget::<BTreeMap<InstanceId, Ipv4Addr>>()?;
        self.forget::<BTreeMap<InstanceId, Tries>>()?;
        self.forget::<Followed>()
    }

    fn forget<T: Kept>(&self) -> io::Result<()> {
        for path in [self.remembered::<T>(), self.current::<T>(), self.previous::<T>()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn remembered<T: Kept>(&self) -> PathBuf {
        self.memory.join(T::NAME)
    }

    fn current<T: Kept>(&self) -> PathBuf {
        self.disk.join(format!("{}.current", T::NAME))
    }

    fn previous<T: Kept>(&self) -> PathBuf {
        self.disk.join(format!("{}.previous", T::NAME))
    }

    fn newest<T: Kept>(&self, faults: &mut Vec<String>) -> Option<T> {
        for path in [self.remembered::<T>(), self.current::<T>(), self.previous::<T>()] {
            match self.read(&path) {
                Ok(value) => return Some(value),
                Err(ReadError::Absent) => {}
                Err(error) => {
                    let bad = aside(&path);
                    let fate = match fs::rename(&path, &bad) {
                        Ok(()) => format!("set aside as {}", bad.display()),
                        Err(error) => format!("cannot be set aside: {error}"),
                    };
                    faults.push(format!("{}: {error}; {fate}", path.display()));
                }
            }
        }
        None
    }

    /// What a file holds.
    fn content<T: Kept>(&self, value: &T) -> io::Result<Vec<u8>> {
        let body = value.written(&self.key)?;
        let mut content = format!("{}{:08x}\n", header::<T>(), crc32fast::hash(&body)).into_bytes();
        content.extend(body);
        Ok(content)
    }

    fn read<T: Kept>(&self, path: &Path) -> Result<T, ReadError> {
        let is_absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let content =
            fs::read(path).map_err(|error| if is_absent(&error) { ReadError::Absent } else { ReadError::Io(error) })?;
        let end = content.iter().position(|byte| *byte == b'\n').ok_or(ReadError::Header)?;
        let (line, body) = (&content[..end], &content[end + 1..]);
        let checksum = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix(&header::<T>()));
        let checksum = checksum.and_then(|text| u32::from_str_radix(text, 16).ok()).ok_or(ReadError::Header)?;
        if crc32fast::hash(body) != checksum {
            return Err(ReadError::Checksum);
        }
        T::read(body, &self.key).map_err(ReadError::Content)
    }
}

/// The node's key. One that is none is set aside: what it sealed is asked for anew, and the node goes on.
fn key(path: &Path) -> io::Result<(SealingKey, Option<String>)> {
    match SealingKey::open_or_make(path) {
        Err(error @ SealingError::Form(_)) => {
            let bad = aside(path);
            fs::rename(path, &bad)?;
            let fault = format!("{error}; set aside as {}", bad.display());
            Ok((SealingKey::open_or_make(path).map_err(io::Error::other)?, Some(fault)))
        }
        opened => Ok((opened.map_err(io::Error::other)?, None)),
    }
}

/// Where a file goes that cannot be read.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".bad");
    path.with_file_name(name)
}

fn header<T: Kept>() -> String {
    format!("wherry {} {FORMAT} ", T::NAME)
}

#[cfg(test)]
mod tests {
    use api_types::{
        counter::Epoch,
        id::NodeId,
        schedule::{JobAhead, Overlap},
        secret::{Secret, SecretValue},
        time::Timestamp,
    };

    use super::*;

    #[test]
    fn the_newest_set_comes_back() {
        let (last, directory) = open("newest");
        last.keep(&set(1)).expect("writable");
        last.keep(&set(2)).expect("writable");

        let recovered = last.recover();

        assert_eq!(recovered.assignments, Some(set(2)));
        assert_eq!((recovered.services, recovered.faults), (None, Vec::new()));
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn any_broken_byte_leads_to_the_generation_before() {
        let (last, directory) = open("broken");
        last.keep(&set(1)).expect("writable");
        last.keep(&set(2)).expect("writable");
        let (current, previous) = (last.current::<AssignmentSet>(), last.previous::<AssignmentSet>());
        let (whole, before) = (fs::read(&current).expect("there"), fs::read(&previous).expect("there"));

        for index in 0..whole.len() {
            let mut broken = whole.clone();
            broken[index] ^= 0x20;
            fs::write(&current, &broken).expect("writable");
            fs::write(&previous, &before).expect("writable");
            let recovered = last.recover();
            // A letter of the checksum may change its case and still say the same.
            let generation = recovered.assignments.expect("one is whole").generation;
            assert!(generation == Generation(1) || recovered.faults.is_empty(), "byte {index}");
        }
        for length in 0..whole.len() {
            fs::write(&current, &whole[..length]).expect("writable");
            let recovered = last.recover();
            assert_eq!(recovered.assignments, Some(set(1)), "cut to {length} bytes");
            assert_eq!(recovered.faults.len(), 1);
            assert!(aside(&current).exists() && !current.exists());
        }
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn secrets_come_back_and_lie_nowhere_as_they_are() {
        let (last, directory) = open("secrets");
        let set = with_secret(2);

        last.keep(&set).expect("writable");
        last.remember(&set).expect("writable");
        let recovered = last.recover();

        assert_eq!((recovered.assignments, recovered.faults), (Some(set), Vec::new()));
        for path in [last.current::<AssignmentSet>(), last.remembered::<AssignmentSet>()] {
            let text = fs::read_to_string(path).expect("readable");
            assert!(text.contains("shop/db") && !text.contains("canary") && !text.contains("Y2FuYXJ5"), "{text}");
        }
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn what_a_node_may_begin_alone_comes_back() {
        let (last, directory) = open("ahead");
        let mut set = with_secret(2);
        set.ahead.push(JobAhead {
            template: set.assignments[0].clone(),
            late_ms: 60_000,
            overlap: Overlap::Allow,
            coming: [(Timestamp(60_000), "web-2".parse().expect("a name"))].into(),
            withdrawn: ["web-3".parse().expect("a name")].into(),
        });

        last.keep(&set).expect("writable");
        let recovered = last.recover();

        assert_eq!((recovered.assignments, recovered.faults), (Some(set), Vec::new()));
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn a_set_whose_secrets_do_not_open_is_asked_for_again() {
        let spoils: [fn(&Path) -> io::Result<()>; 2] = [|key| fs::remove_file(key), |key| fs::write(key, "short")];
        for (spoil, bad) in spoils.into_iter().zip([false, true]) {
            let (last, directory) = open("other-key");
            last.keep(&with_secret(2)).expect("writable");
            spoil(&directory.join(KEY)).expect("there");

            let (last, _) = open("other-key");
            let recovered = last.recover();

            let set = recovered.assignments.expect("all else is readable");
            assert_eq!((set.generation, set.assignments.len(), set.secrets.len()), (Generation(0), 1, 0));
            let faults = recovered.faults.join("; ");
            assert!(faults.contains("shop/db") && faults.contains("set aside") == bad, "{faults}");
            assert_eq!(aside(&directory.join(KEY)).exists(), bad);
            fs::remove_dir_all(directory).expect("ours");
        }
    }

    fn with_secret(generation: u64) -> AssignmentSet {
        let mut assignments: AssignmentSet = set(generation);
        let assignment = r#"{"instance": "web-1", "workload": "shop/web", "slot": 0, "revision": 1, "desired": "run",
            "container": {"image": "web:1", "stop_grace_ms": 1000}, "ports": [], "probe": null, "secrets": {"db": 3},
            "resources": {"reserve": {"cpu_millis": 1, "memory_bytes": 1}, "memory_bytes_max": 1, "pids_max": 1}}"#;
        assignments.assignments.push(serde_json::from_str(assignment).expect("an assignment"));
        let value = SecretValue { version: 3, value: Secret::new(b"canary".to_vec()) };
        assignments.secrets.insert("shop/db".parse().expect("a name"), value);
        assignments
    }

    #[test]
    fn two_broken_generations_are_as_good_as_none() {
        let (last, directory) = open("both");
        last.keep(&set(1)).expect("writable");
        last.keep(&set(2)).expect("writable");
        fs::write(last.current::<AssignmentSet>(), "x").expect("writable");
        fs::write(last.previous::<AssignmentSet>(), "").expect("writable");

        let recovered = last.recover();

        assert_eq!((recovered.assignments, recovered.faults.len()), (None, 2));
        assert!(last.recover().faults.is_empty(), "a bad file is reported once");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn a_restart_on_a_node_that_ran_on_finds_what_the_disk_does_not_have_yet() {
        let (last, directory) = open("memory");
        last.keep(&set(1)).expect("writable");
        last.remember(&set(2)).expect("writable");

        assert_eq!(last.recover().assignments, Some(set(2)));
        let whole = fs::read(directory.join("run/last/assignments")).expect("there");
        fs::write(directory.join("run/last/assignments"), &whole[..whole.len() - 1]).expect("writable");
        let recovered = last.recover();
        assert_eq!((recovered.assignments, recovered.faults.len()), (Some(set(1)), 1), "one that is torn is set aside");
        last.remember(&set(3)).expect("writable");
        last.clear().expect("writable");
        assert_eq!(last.recover().assignments, None, "and whoever joins anew finds nothing");
        fs::remove_dir_all(directory).expect("ours");
    }

    fn open(name: &str) -> (LastAssignments, PathBuf) {
        let directory = std::env::temp_dir().join(format!("wherry-last-{}-{name}", std::process::id()));
        (LastAssignments::open(&directory, &directory.join("run")).expect("a writable directory"), directory)
    }

    fn set(generation: u64) -> AssignmentSet {
        AssignmentSet {
            epoch: Epoch(1),
            generation: Generation(generation),
            node: NodeId::new("edge-1").expect("a name"),
            subnet: "10.42.1.0/24".parse().expect("a range"),
            assignments: Vec::new(),
            met: Vec::new(),
            ahead: Vec::new(),
            secrets: BTreeMap::new(),
        }
    }
}
