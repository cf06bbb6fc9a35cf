//! How much the volumes of this node hold. Nobody waits for that: a look rests often, so that it never takes much of a processor.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use api_types::{
    id::{Name, WorkloadId},
    relay::VolumeSlot,
};
use nix::{
    dir::Dir,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};
use tokio::task::spawn_blocking;

use crate::Containerd;

/// What a look does without a rest: about a millisecond of work.
const ENTRIES_AT_ONCE: u64 = 512;
/// How long it rests then.
const REST: Duration = Duration::from_millis(10);
/// Directories within each other: each is held open while what is below it is looked at.
const DEPTH_MAX: usize = 128;
/// What the kernel counts a file's room in.
const BLOCK_BYTES: u64 = 512;

impl Containerd {
    /// The bytes that each volume of this node takes on its disk. One that is deeper than 128 directories, or cannot be read, counts
    /// as far as it can be.
    ///
    /// # Panics
    /// Never: looking at files does not panic.
    pub async fn measure_volumes(&self) -> BTreeMap<VolumeSlot, u64> {
        let root = self.inner.settings.volumes_dir.clone();
        spawn_blocking(move || all(&root)).await.expect("looking at files does not panic")
    }
}

/// Every volume below the root. All above a volume belongs to root, so nobody exchanges it meanwhile.
fn all(root: &Path) -> BTreeMap<VolumeSlot, u64> {
    let mut measured = BTreeMap::new();
    for (namespace, path) in named::<Name>(root) {
        for (name, path) in named::<Name>(&path) {
            let workload = WorkloadId { namespace: namespace.clone(), name };
            for (volume, path) in named::<Name>(&path) {
                for (slot, path) in named::<u32>(&path) {
                    let slot = VolumeSlot { workload: workload.clone(), volume: volume.clone(), slot };
                    measured.insert(slot, held(&path));
                }
            }
        }
    }
    measured
}

/// The entries of a directory that have such a name: others, like what is half-made, are none of ours.
fn named<N: std::str::FromStr>(directory: &Path) -> Vec<(N, PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect()
}

/// What one volume takes. Whoever writes there may exchange anything at any time, so no link is followed.
fn held(volume: &Path) -> u64 {
    let Ok(directory) = directory(AT_FDCWD, volume) else { return 0 };
    let Ok(status) = fstat(&directory) else { return 0 };
    let mut look = Look { device: status.st_dev, ..Look::default() };
    look.add(&status);
    look.below(directory, DEPTH_MAX);
    look.bytes
}

fn directory<P: ?Sized + nix::NixPath>(above: BorrowedFd<'_>, name: &P) -> nix::Result<OwnedFd> {
    // Without O_NOATIME a look would be written to the disk.
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_NOATIME | OFlag::O_CLOEXEC;
    openat(above, name, flags, Mode::empty())
}

fn is_directory(status: &FileStat) -> bool {
    status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

#[derive(Default)]
struct Look {
    /// What is mounted into a volume is not its own.
    device: u64,
    bytes: u64,
    entries: u64,
    /// Files that have several names are counted once.
    linked: BTreeSet<u64>,
}

impl Look {
    #[expect(clippy::disallowed_methods, reason = "it waits for nothing: it leaves the processor to others")]
    fn below(&mut self, directory: OwnedFd, depth: usize) {
        let Ok(mut listing) = Dir::from_fd(directory) else { return };
        let entries = listing.iter().flatten().map(|entry| entry.file_name().to_owned());
        let entries: Vec<_> = entries.filter(|name| !matches!(name.to_bytes(), b"." | b"..")).collect();
        for name in entries {
            self.entries += 1;
            if self.entries.is_multiple_of(ENTRIES_AT_ONCE) {
                thread::sleep(REST);
            }
            // It may have gone meanwhile.
            let Ok(status) = fstatat(listing.as_fd(), &*name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            if status.st_dev != self.device {
                continue;
            }
            self.add(&status);
            if is_directory(&status)
                && depth > 0
                && let Ok(below) = self::directory(listing.as_fd(), &*name)
            {
                self.below(below, depth - 1);
            }
        }
    }

    fn add(&mut self, status: &FileStat) {
        if is_directory(status) || status.st_nlink < 2 || self.linked.insert(status.st_ino) {
            self.bytes += u64::try_from(status.st_blocks).unwrap_or_default() * BLOCK_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_volume_holds_what_its_files_take_and_no_more() {
        let root = std::env::temp_dir().join(format!("wherry-measure-{}", std::process::id()));
        let (volume, other) = (root.join("shop/db/data/0"), root.join("shop/db/data/.new-1"));
        fs::create_dir_all(volume.join("deep/er")).expect("made");
        fs::create_dir_all(other).expect("made");
        fs::write(root.join("outside"), vec![1; 4 << 20]).expect("written");
        let before = all(&root);
        fs::write(volume.join("deep/er/file"), vec![1; 1 << 20]).expect("written");
        fs::hard_link(volume.join("deep/er/file"), volume.join("again")).expect("linked");
        symlink(root.join("outside"), volume.join("away")).expect("linked");
        symlink(&root, volume.join("round")).expect("linked");

        let after = all(&root);

        let slot = VolumeSlot {
            workload: "shop/db".parse().expect("an id"),
            volume: Name::new("data").expect("a name"),
            slot: 0,
        };
        assert_eq!((before.len(), after.len()), (1, 1), "{after:?}");
        let grown = after[&slot] - before[&slot];
        // The directories may need a block more for the names.
        assert!((1 << 20..(1 << 20) + (1 << 17)).contains(&grown), "{grown}");
        fs::remove_dir_all(root).expect("ours");
    }
}
