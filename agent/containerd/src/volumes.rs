//! Directories that stay: one for each volume and slot of a workload, below the agent's state. Nothing here removes one.
//!
//! All above a volume belongs to root alone, so nobody inside a container can exchange it for a link. Still every step is
//! taken from the directory before it and follows no link: what is in the way is an error, never a way out.

mod measure;

use std::{
    fs::DirBuilder,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use api_types::id::{Name, WorkloadId};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open, openat, renameat},
    sys::stat::{Mode, fchmod, mkdirat},
    unistd::{Gid, Uid, fchown, fsync},
};

use crate::{error::Error, user::User};

/// For root alone: the directories above volumes.
const ABOVE: Mode = Mode::S_IRWXU;
/// A volume: its owner writes, and who the owner lets in reads.
const VOLUME: Mode = Mode::from_bits_truncate(0o755);
/// Two instances that begin at once must not both make one volume.
static MAKING: Mutex<()> = Mutex::new(());

/// Which volume.
#[derive(Debug)]
pub(crate) struct Volume<'a> {
    pub(crate) workload: &'a WorkloadId,
    pub(crate) name: &'a Name,
    pub(crate) slot: u32,
}

/// Has the volume's directory and gives its path. A new one belongs to `owner`; one that is there is left as it is.
pub(crate) fn ensure(root: &Path, volume: &Volume<'_>, owner: &User) -> Result<PathBuf, Error> {
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |errno: Errno| Error::File { path, source: errno.into() }
    };
    let mut path = root.to_owned();
    let made = DirBuilder::new().recursive(true).mode(ABOVE.bits()).create(&path);
    made.map_err(|source| Error::File { path: path.clone(), source })?;
    // Where the state is kept is the operator's matter, links and all.
    let mut directory = open(root, OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed(root))?;
    let Volume { workload, name, slot } = volume;
    for part in [&workload.namespace, &workload.name, *name] {
        path.push(part.as_str());
        directory = below(&directory, part.as_str()).map_err(failed(&path))?;
    }
    let leaf = slot.to_string();
    path.push(&leaf);
    match enter(&directory, &leaf) {
        Ok(_) => {}
        Err(Errno::ENOENT) => make(&directory, &leaf, owner).map_err(failed(&path))?,
        Err(errno) => return Err(failed(&path)(errno)),
    }
    Ok(path)
}

fn enter(directory: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

/// Enters a directory, made if it is not there.
fn below(directory: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    match mkdirat(directory, name, ABOVE) {
        Ok(()) | Err(Errno::EEXIST) => enter(directory, name),
        Err(errno) => Err(errno),
    }
}

/// Makes a volume under another name first: under its own there is never one without its owner, whenever power fails.
fn make(directory: &OwnedFd, leaf: &str, owner: &User) -> nix::Result<()> {
    let name = format!(".new-{leaf}");
    let new = below(directory, &name)?;
    fchown(&new, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    fchmod(&new, VOLUME)?;
    fsync(&new)?;
    renameat(directory, name.as_str(), directory, leaf)?;
    fsync(directory)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
    };

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("wherry-volumes-{}-{name}", std::process::id()));
            fs::create_dir_all(&folder).expect("a writable directory");
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it is there");
        }
    }

    fn own() -> User {
        User { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw(), groups: Vec::new() }
    }

    fn ensure_slot(root: &Path, slot: u32, owner: &User) -> Result<PathBuf, String> {
        let workload = "prod/db".parse().map_err(|_| "an id".to_owned())?;
        let name = Name::new("data").map_err(|_| "a name".to_owned())?;
        ensure(root, &Volume { workload: &workload, name: &name, slot }, owner).map_err(|error| error.to_string())
    }

    #[test]
    fn a_volume_is_made_once_and_left_alone_afterwards() {
        let folder = Folder::new("once");
        let root = folder.0.join("volumes");

        let first = ensure_slot(&root, 0, &own()).expect("made");
        fs::write(first.join("kept"), "data").expect("written");
        fs::set_permissions(&first, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("changed");
        let again = ensure_slot(&root, 0, &User { uid: own().uid + 1, ..own() }).expect("there");
        let other = ensure_slot(&root, 1, &own()).expect("made");

        assert_eq!(first, root.join("prod/db/data/0"));
        assert_eq!((again, other), (first.clone(), root.join("prod/db/data/1")));
        assert_eq!(fs::read_to_string(first.join("kept")).expect("read"), "data");
        assert_eq!(fs::metadata(&first).expect("there").mode() & 0o777, 0o700, "somebody's own mode was changed");
        for above in ["", "prod", "prod/db", "prod/db/data"] {
            assert_eq!(fs::metadata(root.join(above)).expect("there").mode() & 0o777, 0o700, "{above}");
        }
    }

    #[test]
    fn what_a_power_cut_left_half_made_is_finished() {
        let folder = Folder::new("half");
        fs::create_dir_all(folder.0.join("prod/db/data/.new-0")).expect("made");

        let path = ensure_slot(&folder.0, 0, &own()).expect("made");

        assert!(path.is_dir() && !folder.0.join("prod/db/data/.new-0").exists());
        assert_eq!(fs::metadata(path).expect("there").mode() & 0o777, 0o755);
    }

    #[test]
    fn no_link_leads_out_of_the_volumes() {
        for name in ["prod", "prod/db", "prod/db/data", "prod/db/data/0", "prod/db/data/.new-0"] {
            let folder = Folder::new(&name.replace('/', "-"));
            let (root, outside) = (folder.0.join("volumes"), folder.0.join("outside"));
            let link = root.join(name);
            fs::create_dir_all(&outside).expect("made");
            fs::create_dir_all(link.parent().expect("a parent")).expect("made");
            symlink(&outside, &link).expect("linked");

            let refused = ensure_slot(&root, 0, &own());

            assert!(refused.is_err(), "{name} was followed: {refused:?}");
            assert_eq!(fs::read_dir(&outside).expect("there").count(), 0, "{name}");
        }
    }
}
