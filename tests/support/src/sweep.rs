//! Finds and removes everything that a bed, or one node of it, left on the machine: by its name and its folder.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        signal::Signal,
        statfs::{OVERLAYFS_SUPER_MAGIC, statfs},
    },
};

use crate::{netns, program::signal, wait::try_wait_for};

/// The programs that a bed starts, directly or not, with its folder among their arguments; in the order in which a
/// power cut must end them, so that none of them sees another one go.
const PROGRAMS: &[&str] = &[
    "wherry-agent",
    "wherry-scheduler",
    "dockerd",
    "containerd",
    "containerd-shim",
    "docker-registry",
    "wherry-logger",
    "runc",
];
/// How long killed processes and their cgroups may take to go.
const LIMIT: Duration = Duration::from_secs(60);
/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Where runc keeps one folder for each containerd namespace.
const RUNC: &str = "/run/containerd/runc";

/// Where shims keep their sockets, of all containerds together.
const SHIM_SOCKETS: &str = "/run/containerd/s/";

/// What bears the name `name`, or `name.` and more, and what lies below `folder`.
#[derive(Clone, Debug)]
pub struct Ground {
    name: String,
    folder: PathBuf,
}

impl Ground {
    /// The ground of the bed or node `name` with its files in `folder`.
    #[must_use]
    pub fn new(name: &str, folder: &Path) -> Self {
        Self { name: name.to_owned(), folder: folder.to_owned() }
    }

    /// Makes the folder. On overlayfs, where containerd cannot keep its layers, it becomes a file system in memory.
    ///
    /// # Errors
    /// If it cannot be made or mounted.
    pub fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        if statfs(&self.folder)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC {
            mount(Some("tmpfs"), &self.folder, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
        }
        Ok(())
    }

    /// Kills every process, at once and again until none is left.
    pub fn kill_all(&self) {
        let mut sockets = BTreeSet::new();
        let _left_after_the_limit = try_wait_for(LIMIT, || {
            let processes = self.processes();
            sockets.extend(processes.iter().flat_map(|(pid, _)| shim_sockets(*pid)));
            for (pid, _) in &processes {
                signal(*pid, Signal::SIGKILL);
            }
            processes.is_empty().then_some(())
        });
        for socket in sockets {
            let _already_gone = fs::remove_file(socket);
        }
    }

    /// Removes mounts below the folder, the runtime's state and cgroups: all that a reboot takes away by itself.
    pub fn forget(&self) {
        for mount in self.mounts().iter().rev() {
            let _busy_or_gone = umount2(mount.as_path(), MntFlags::MNT_DETACH);
        }
        for folder in self.runtime_states() {
            let _already_gone = fs::remove_dir_all(folder);
        }
        // A process that was killed leaves its cgroup a moment after it left the list of processes.
        let _left_after_the_limit = try_wait_for(LIMIT, || {
            for cgroup in self.cgroups().iter().rev() {
                let _busy_or_gone = fs::remove_dir(cgroup);
            }
            self.cgroups().is_empty().then_some(())
        });
    }

    /// Removes network namespaces that bear the name.
    pub fn remove_namespaces(&self) {
        for path in self.namespaces() {
            let _not_mounted = umount2(path.as_path(), MntFlags::MNT_DETACH);
            let _already_gone = fs::remove_file(path);
        }
    }

    /// Removes everything: processes, mounts, namespaces with their links and tables, cgroups, files.
    ///
    /// # Errors
    /// If the folder cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        self.kill_all();
        self.forget();
        self.remove_namespaces();
        let _not_a_mount = umount2(self.folder.as_path(), MntFlags::MNT_DETACH);
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// One line for each thing that is still there; empty when the ground is clean.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes().into_iter().map(|(pid, command)| format!("process {pid}: {command}")).collect();
        let mut add = |kind: &str, paths: Vec<PathBuf>| {
            left.extend(paths.into_iter().map(|path| format!("{kind} {}", path.display())));
        };
        add("mount", self.mounts());
        add("network namespace", self.namespaces());
        add("cgroup", self.cgroups());
        add("runtime state", self.runtime_states());
        add("files", if self.folder.exists() { vec![self.folder.clone()] } else { Vec::new() });
        add("link", entries("/sys/class/net").filter(|path| self.bears_name(path)).collect());
        left
    }

    /// The processes with their command lines, in the order of [`PROGRAMS`], then those in our cgroups.
    fn processes(&self) -> Vec<(u32, String)> {
        let below = format!("{}/", self.folder.display());
        let mut found: Vec<(usize, u32, String)> = Vec::new();
        for process in entries("/proc") {
            let Some(pid) = number(&process) else { continue };
            let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&arguments).replace('\0', " ");
            if !command.contains(&below) {
                continue;
            }
            let program = fs::read_link(process.join("exe")).unwrap_or_default();
            let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(rank) = PROGRAMS.iter().rposition(|name| program.starts_with(name)) {
                found.push((rank, pid, command));
            }
        }
        for cgroup in self.cgroups() {
            let list = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            for pid in list.lines().filter_map(|line| line.parse().ok()) {
                if !found.iter().any(|(_, known, _)| *known == pid) {
                    found.push((PROGRAMS.len(), pid, format!("in cgroup {}", cgroup.display())));
                }
            }
        }
        found.sort();
        found.into_iter().map(|(_, pid, command)| (pid, command)).collect()
    }

    fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        // The kernel writes a blank as \040.
        let points = points.map(|point| PathBuf::from(point.replace("\\040", " ")));
        points.filter(|point| point.starts_with(&self.folder) && *point != self.folder).collect()
    }

    fn namespaces(&self) -> Vec<PathBuf> {
        entries(netns::FOLDER).filter(|path| self.bears_name(path)).collect()
    }

    fn runtime_states(&self) -> Vec<PathBuf> {
        entries(RUNC).filter(|path| self.bears_name(path)).collect()
    }

    /// Our cgroups in every hierarchy, each before what is inside of it.
    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = std::iter::once(PathBuf::from(CGROUPS)).chain(entries(CGROUPS));
        let mut found: Vec<PathBuf> =
            hierarchies.flat_map(entries).filter(|path| self.bears_name(path) && path.is_dir()).collect();
        let mut next = 0;
        while next < found.len() {
            let inside: Vec<PathBuf> = entries(&found[next]).filter(|path| path.is_dir()).collect();
            found.extend(inside);
            next += 1;
        }
        found
    }

    fn bears_name(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(&self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Clears the grounds of beds `PREFIX` + process id whose process is gone: somebody stopped it before it could clean up.
pub fn clear_abandoned(prefix: &str) {
    for netns in entries(netns::FOLDER) {
        let file = netns.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(name) = file.strip_suffix(".lan") else { continue };
        let Some(pid) = name.strip_prefix(prefix).and_then(|rest| rest.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let _seen_again_by_the_next_one = Ground::new(name, &std::env::temp_dir().join(name)).clear();
        }
    }
}

/// The shim's sockets that the process has open; a killed shim leaves its file behind. The table lists those of the whole
/// network namespace, which other beds may share.
fn shim_sockets(pid: u32) -> Vec<PathBuf> {
    let links = entries(format!("/proc/{pid}/fd")).filter_map(|link| fs::read_link(link).ok());
    let open: BTreeSet<PathBuf> = links.collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
    let socket = |line: &str| {
        let mut words = line.split_whitespace().skip(6);
        let (inode, path) = (words.next()?, words.next()?);
        let own = path.starts_with(SHIM_SOCKETS) && open.contains(Path::new(&format!("socket:[{inode}]")));
        own.then(|| PathBuf::from(path))
    };
    table.lines().filter_map(socket).collect()
}

fn entries(folder: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.parse().ok()
}
