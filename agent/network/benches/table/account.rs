//! What the kernel charges this process: memory that it holds for us, and CPU time of programs that we ran.

use std::{fs, io, path::PathBuf};

/// A memory control group with this process alone in it: what its system calls make the kernel allocate is charged to it.
pub(crate) struct Account {
    folder: PathBuf,
    above: PathBuf,
    is_v2: bool,
}

impl Account {
    /// Makes it and moves in.
    pub(crate) fn open() -> io::Result<Self> {
        let own = format!("wherry-table-{}", std::process::id());
        let v2 = PathBuf::from("/sys/fs/cgroup");
        let is_v2 = fs::read_to_string(v2.join("cgroup.controllers")).is_ok_and(|names| names.contains("memory"));
        let above = if is_v2 { v2 } else { PathBuf::from("/sys/fs/cgroup/memory") };
        if is_v2 {
            fs::write(above.join("cgroup.subtree_control"), "+memory")?;
        }
        let account = Self { folder: above.join(own), above, is_v2 };
        fs::create_dir(&account.folder)?;
        fs::write(account.folder.join("cgroup.procs"), std::process::id().to_string())?;
        Ok(account)
    }

    /// Bytes of kernel memory that are charged now.
    pub(crate) fn kernel_bytes(&self) -> io::Result<u64> {
        let text = if self.is_v2 {
            let all = fs::read_to_string(self.folder.join("memory.stat"))?;
            let line = all.lines().find_map(|line| line.strip_prefix("kernel ").or_else(|| line.strip_prefix("slab ")));
            line.unwrap_or_default().to_owned()
        } else {
            fs::read_to_string(self.folder.join("memory.kmem.usage_in_bytes"))?
        };
        text.trim().parse().map_err(|error| io::Error::other(format!("{error} in {text:?}")))
    }

    /// Moves out and removes it.
    pub(crate) fn close(self) -> io::Result<()> {
        fs::write(self.above.join("cgroup.procs"), std::process::id().to_string())?;
        fs::remove_dir(self.folder)
    }
}

/// CPU time of the programs that this process ran and that ended, in seconds (proc(5): fields 16 and 17, in ticks).
pub(crate) fn children_cpu_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u32 = after_name.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) / 100.0)
}
