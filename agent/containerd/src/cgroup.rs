//! Our containers' cgroups, version 1 and 2: usage, out-of-memory kills, and processes that nobody owns.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use crate::UsageSample;

const MOUNT: &str = "/sys/fs/cgroup";
/// How long processes may take to leave their cgroup after SIGKILL.
pub(crate) const CLEAR_LIMIT: Duration = Duration::from_secs(10);
/// How often the members of a session are looked for to kill them.
const ROUNDS: usize = 3;
/// The pause between two looks at that.
const PAUSE: Duration = Duration::from_millis(10);

/// The cgroups below one parent, which no other node shares.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    mount: PathBuf,
    parent: String,
    is_unified: bool,
}

impl Cgroups {
    /// `parent` is absolute from each hierarchy's root. Hybrid systems count as version 1.
    pub(crate) fn new(parent: String) -> Self {
        Self::at(PathBuf::from(MOUNT), parent)
    }

    fn at(mount: PathBuf, parent: String) -> Self {
        let is_unified = mount.join("cgroup.controllers").exists();
        Self { mount, parent, is_unified }
    }

    /// What a specification says: `linux.cgroupsPath`.
    pub(crate) fn path_of(&self, id: &str) -> String {
        format!("{}/{id}", self.parent)
    }

    /// Whether swap is limited apart from memory.
    pub(crate) fn limits_swap(&self) -> bool {
        self.is_unified || self.mount.join("memory/memory.memsw.limit_in_bytes").exists()
    }

    pub(crate) fn usage(&self, id: &str) -> Option<UsageSample> {
        let (memory, pids) = (self.directory("memory", id), self.directory("pids", id));
        let (cpu_nanoseconds, current, inactive) = if self.is_unified {
            let microseconds = keyed(&self.directory("cpu", id).join("cpu.stat"), "usage_usec")?;
            (microseconds * 1000, "memory.current", "inactive_file")
        } else {
            let nanoseconds = number(&self.directory("cpuacct", id).join("cpuacct.usage"))?;
            (nanoseconds, "memory.usage_in_bytes", "total_inactive_file")
        };
        let reclaimable = keyed(&memory.join("memory.stat"), inactive).unwrap_or(0);
        let memory_bytes = number(&memory.join(current))?.saturating_sub(reclaimable);
        let pids = number(&pids.join("pids.current")).unwrap_or(0);
        Some(UsageSample { cpu_nanoseconds, memory_bytes, pids, connections: None })
    }

    /// The process of a container that is the first of its namespace; `None` when it is not there (any more).
    pub(crate) fn first_process(&self, id: &str) -> Option<u32> {
        let processes = fs::read_to_string(self.directory("pids", id).join("cgroup.procs")).ok()?;
        processes.lines().filter_map(|line| line.parse().ok()).find(|pid| is_first(*pid))
    }

    /// Tells every process of a container's cgroup that belongs to a session that its terminal is gone.
    pub(crate) fn hang_up_session(&self, id: &str, leader: u32) {
        self.signal_session(id, leader, Signal::SIGHUP);
        // One that is stopped would not hear it.
        self.signal_session(id, leader, Signal::SIGCONT);
    }

    /// Kills every process of a container's cgroup that belongs to a session.
    pub(crate) fn kill_session(&self, id: &str, leader: u32) {
        // More than once: what was being forked while the list was read is in the next one.
        for _ in 0..ROUNDS {
            if self.signal_session(id, leader, Signal::SIGKILL) == 0 {
                return;
            }
        }
    }

    /// Signals the members of a session that are not dead yet, and says how many there were.
    fn signal_session(&self, id: &str, leader: u32, signal: Signal) -> usize {
        let processes = fs::read_to_string(self.directory("pids", id).join("cgroup.procs")).unwrap_or_default();
        let members =
            processes.lines().filter_map(|line| line.parse().ok()).filter(|pid| session_of(*pid) == Some(leader));
        members.filter(|pid| kill(Pid::from_raw(pid.cast_signed()), signal).is_ok()).count()
    }

    /// Whether the kernel killed one of its processes for the memory limit.
    pub(crate) fn was_killed_for_memory(&self, id: &str) -> bool {
        let file = if self.is_unified { "memory.events" } else { "memory.oom_control" };
        keyed(&self.directory("memory", id).join(file), "oom_kill").is_some_and(|count| count > 0)
    }

    /// Kills and removes every cgroup below the parent that is not one of `known`.
    pub(crate) async fn sweep(&self, known: &BTreeSet<String>) {
        for parent in self.parents() {
            for cgroup in below(&parent) {
                let id = cgroup.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if known.contains(&id) {
                    continue;
                }
                tracing::info!(cgroup = %cgroup.display(), "removing a cgroup that no container owns");
                if !remove(&cgroup).await {
                    tracing::warn!(cgroup = %cgroup.display(), "a cgroup that no container owns could not be removed");
                }
            }
        }
    }

    /// Kills what is left in a container's cgroups and removes them; `false` if something outlives that.
    pub(crate) async fn clear(&self, id: &str) -> bool {
        let mut is_clear = true;
        for cgroup in self.parents().into_iter().map(|parent| parent.join(id)).filter(|cgroup| cgroup.is_dir()) {
            tracing::info!(cgroup = %cgroup.display(), "removing what the runtime left of a container");
            is_clear &= remove(&cgroup).await;
        }
        is_clear
    }

    fn directory(&self, controller: &str, id: &str) -> PathBuf {
        let hierarchy = if self.is_unified { self.mount.clone() } else { self.mount.join(controller) };
        hierarchy.join(self.parent.trim_start_matches('/')).join(id)
    }

    /// Our parent in each hierarchy.
    fn parents(&self) -> Vec<PathBuf> {
        let relative = self.parent.trim_start_matches('/');
        if self.is_unified {
            return vec![self.mount.join(relative)];
        }
        let hierarchies = fs::read_dir(&self.mount).into_iter().flatten().flatten();
        hierarchies.map(|entry| entry.path().join(relative)).filter(|path| path.is_dir()).collect()
    }
}

/// Whether a process is number 1 where it lives.
fn is_first(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().next_back()) == Some("1")
}

/// The session that a living process belongs to: the sixth word of its `stat`, the fourth after the name in parentheses.
fn session_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(words.next()?, "Z" | "X") {
        return None;
    }
    words.nth(2)?.parse().ok()
}

/// Kills and removes a cgroup with all below it; `false` if it outlives that.
async fn remove(cgroup: &Path) -> bool {
    let end = Instant::now() + CLEAR_LIMIT;
    while Instant::now() < end {
        kill_all(cgroup);
        if remove_empty(cgroup) {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

fn kill_all(cgroup: &Path) {
    for cgroup in below(cgroup) {
        kill_all(&cgroup);
    }
    for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
        // 0 would be ourselves: it stands for a process of another pid namespace.
        if let Some(pid) = pid.parse().ok().filter(|pid| *pid > 1) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// From the leaves up: the kernel takes only empty ones.
fn remove_empty(cgroup: &Path) -> bool {
    for cgroup in below(cgroup) {
        remove_empty(&cgroup);
    }
    fs::remove_dir(cgroup).map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
}

fn below(cgroup: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Reads the value of one line `key value`.
fn keyed(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == key)?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_both_versions() {
        let root = std::env::temp_dir().join(format!("wherry-cgroup-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        };
        write("two/cgroup.controllers", "cpu memory pids\n");
        write("two/w/n/a.0/cpu.stat", "usage_usec 1500\nuser_usec 1000\n");
        write("two/w/n/a.0/memory.current", "5000\n");
        write("two/w/n/a.0/memory.stat", "anon 3000\ninactive_file 1000\n");
        write("two/w/n/a.0/memory.events", "oom 1\noom_kill 1\n");
        write("two/w/n/a.0/pids.current", "3\n");
        write("one/cpuacct/w/n/a.0/cpuacct.usage", "1500000\n");
        write("one/memory/w/n/a.0/memory.usage_in_bytes", "5000\n");
        write("one/memory/w/n/a.0/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n");
        write("one/memory/w/n/a.0/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n");
        write("one/pids/w/n/a.0/pids.current", "3\n");

        let of = |version: &str| Cgroups::at(root.join(version), "/w/n".to_owned());
        let (one, two) = (of("one"), of("two"));
        let samples = (one.usage("a.0"), two.usage("a.0"), two.usage("b.0"));
        let kills = (one.was_killed_for_memory("a.0"), two.was_killed_for_memory("a.0"));
        fs::remove_dir_all(&root).expect("removed");

        let expected = UsageSample { cpu_nanoseconds: 1_500_000, memory_bytes: 4000, pids: 3, connections: None };
        assert_eq!(samples, (Some(expected), Some(expected), None));
        assert_eq!(kills, (false, true));
    }
}
