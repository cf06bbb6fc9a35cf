//! A volume whole: out of its directory, and into it again.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use api_types::relay::VolumeSlot;
use containerd_client::services::v1::ListContainersRequest;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, RenameFlags, open, renameat2},
    sys::stat::Mode,
    unistd::{fsync, syncfs},
};
use serde_json::Value;
use tokio::{sync::mpsc, task::spawn_blocking};

use super::{Files, PIECE_BYTES, Receiving, Sending, pack, unpack};
use crate::{
    Containerd,
    connection::SHORT,
    error::{CopyError, ExecError},
    identity,
};

impl Containerd {
    /// Sends all that is in a volume as a tar archive; its root is named as the volume. Who writes meanwhile is not held up.
    ///
    /// # Errors
    /// When the volume is not on this node, or something cannot be read.
    pub async fn back_up(&self, volume: &VolumeSlot, pieces: mpsc::Sender<Vec<u8>>) -> Result<(), CopyError> {
        let path = self.path_of(volume);
        let root = directory(&path).map_err(|errno| absent(volume, errno))?;
        let sending = Sending { pieces, held: Vec::with_capacity(PIECE_BYTES) };
        let (files, name) = (Files { root, owner: None }, volume.volume.to_string());
        let packed = spawn_blocking(move || pack::pack(&files, Path::new("/"), OsStr::new(&name), sending));
        packed.await.expect("packing does not panic")
    }

    /// Puts the root of a tar archive in the place of a volume, with the archive's owners and modes. Until it is whole and on
    /// the disk the volume is as it was.
    ///
    /// # Errors
    /// When an instance uses the volume, the archive is none, is cut or leads out of its root, or something cannot be written.
    pub async fn restore(&self, volume: &VolumeSlot, pieces: mpsc::Receiver<Vec<u8>>) -> Result<(), CopyError> {
        let path = self.path_of(volume);
        self.must_be_idle(volume, &path).await?;
        let (above, draft) = (path.with_file_name(""), format!(".restored-{}", volume.slot));
        let new = above.join(&draft);
        let unpacked = spawn_blocking(move || unpack_beside(&above, &draft, pieces));
        let mut outcome = unpacked.await.expect("unpacking does not panic");
        if outcome.is_ok() {
            // It takes time to bring an archive.
            outcome = self.must_be_idle(volume, &path).await;
        }
        if outcome.is_ok() {
            let new = new.clone();
            outcome = spawn_blocking(move || exchange(&new, &path)).await.expect("a rename does not panic");
        }
        // What was there before, or what did not become one.
        let removed = spawn_blocking(move || remove(&new)).await.expect("removing does not panic");
        outcome.and(removed)
    }

    fn path_of(&self, VolumeSlot { workload, volume, slot }: &VolumeSlot) -> PathBuf {
        let root = &self.inner.settings.volumes_dir;
        root.join(workload.namespace.as_str()).join(workload.name.as_str()).join(volume.as_str()).join(slot.to_string())
    }

    /// Whoever runs on it would go on with what is taken away.
    async fn must_be_idle(&self, volume: &VolumeSlot, path: &Path) -> Result<(), CopyError> {
        let connection = &self.inner.connection;
        let filter = format!("labels.\"{}\"==\"{}\"", identity::NODE, self.inner.settings.node);
        let request = connection.request(ListContainersRequest { filters: vec![filter] }, SHORT);
        let answer = connection.containers().list(request).await.map_err(connection.failed("to look for containers"));
        for container in answer.map_err(ExecError::from)?.into_inner().containers {
            let spec = container.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
            let spec: Value = serde_json::from_slice(spec).unwrap_or_default();
            let mut mounts = spec["mounts"].as_array().into_iter().flatten();
            let uses = mounts.any(|mount| mount["source"].as_str().map(Path::new) == Some(path));
            if uses && self.running_pid(&container.id).await.map_err(ExecError::from)?.is_some() {
                let who = identity::identify(&container.id, &container.labels);
                let who = who.map_or(container.id, |who| who.instance.to_string());
                return Err(CopyError::Refused(format!("{volume} is used by `{who}`, which still runs")));
            }
        }
        Ok(())
    }
}

/// Unpacks an archive as a new directory that is whole on the disk.
fn unpack_beside(above: &Path, draft: &str, pieces: mpsc::Receiver<Vec<u8>>) -> Result<(), CopyError> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |errno: Errno| CopyError::at(&path, errno.into())
    };
    remove(&above.join(draft))?;
    let root = directory(above).map_err(at(above))?;
    unpack::unpack(&Files { root, owner: None }, &Path::new("/").join(draft), Receiving::new(pieces))?;
    let new = directory(&above.join(draft));
    let new = new.map_err(|_| CopyError::Refused("the archive's root is not a directory".to_owned()))?;
    syncfs(&new).map_err(at(above))
}

/// Exchanges both, or gives the first the second's name where there is none.
fn exchange(new: &Path, volume: &Path) -> Result<(), CopyError> {
    let renamed = match renameat2(AT_FDCWD, new, AT_FDCWD, volume, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::ENOENT) => renameat2(AT_FDCWD, new, AT_FDCWD, volume, RenameFlags::RENAME_NOREPLACE),
        done => done,
    };
    let durable = renamed.and_then(|()| fsync(directory(&volume.with_file_name(""))?));
    durable.map_err(|errno| CopyError::at(&volume.display().to_string(), errno.into()))
}

fn remove(directory: &Path) -> Result<(), CopyError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CopyError::at(&directory.display().to_string(), error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

fn absent(volume: &VolumeSlot, errno: Errno) -> CopyError {
    if errno == Errno::ENOENT {
        return CopyError::Refused(format!("{volume} holds nothing yet: no instance of it has started here"));
    }
    CopyError::at(&volume.to_string(), errno.into())
}
