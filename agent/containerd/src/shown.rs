//! The files that an instance is shown: configuration and secrets, in memory alone, each mounted read-only at its path.
//!
//! They are written anew in place: a mount of one file follows its inode, not its name. A process that reads at that very
//! moment may see a part of both; the signal comes after the last byte.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use api_types::{
    assignment::Assignment,
    content::{ContentSpec, FileContent, FileSpec, OnChange, Owner},
    id::{InstanceId, Name, SecretId},
    secret::SecretValue,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::statfs::{TMPFS_MAGIC, statfs},
};

use crate::{
    Containerd,
    error::{Error, StartError},
    identity::container_id,
    process::All,
    signal,
    user::User,
};

/// The directory for them below the directory of what is made for instances.
const DIRECTORY: &str = "shown";

/// The file beside an attempt's own that says: they were written anew, and its process was not told yet.
const UNTOLD: &str = "untold";

/// A file that is mounted into a container.
#[derive(Clone, Debug)]
pub(crate) struct ShownFile {
    pub(crate) inside: String,
    pub(crate) source: PathBuf,
}

/// The secrets that a node holds.
pub type Secrets = BTreeMap<SecretId, SecretValue>;

/// What one container is shown, and the secrets that are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content<'a> {
    pub(crate) spec: &'a ContentSpec,
    /// The namespace of its workload, whose secrets it names.
    pub(crate) namespace: &'a Name,
    pub(crate) secrets: &'a Secrets,
}

/// Writes what the attempt `id` is shown and says what goes where.
pub(crate) fn write(
    run_dir: &Path,
    id: &str,
    content: &Content<'_>,
    user: &User,
) -> Result<Vec<ShownFile>, StartError> {
    let files = &content.spec.files;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let directory = prepare(run_dir)?.join(id);
    // What a start left that broke off.
    remove(run_dir, id)?;
    DirBuilder::new().mode(0o700).create(&directory).map_err(failed(&directory))?;
    let mut shown = Vec::with_capacity(files.len());
    for (index, (inside, file)) in files.iter().enumerate() {
        let source = directory.join(index.to_string());
        let bytes = content.bytes(file).map_err(StartError::Spec)?;
        make(&source, bytes, file, user).map_err(failed(&source))?;
        shown.push(ShownFile { inside: inside.clone(), source });
    }
    Ok(shown)
}

impl<'a> Content<'a> {
    /// The variables that hold secrets; the error is one line for people.
    pub(crate) fn variables(&self) -> Result<Vec<(String, String)>, String> {
        let variable = |(variable, name): (&String, &Name)| {
            let text = std::str::from_utf8(self.held(name)?).ok().filter(|text| !text.contains('\0'));
            let text =
                text.ok_or_else(|| format!("secret `{name}` is not a text, as a variable must be: show it as a file"))?;
            Ok((variable.clone(), text.to_owned()))
        };
        self.spec.env.iter().map(variable).collect()
    }

    /// What a file holds; the error is one line for people.
    fn bytes(&self, file: &'a FileSpec) -> Result<&'a [u8], String> {
        match &file.content {
            FileContent::Text(text) => Ok(text.as_bytes()),
            FileContent::Secret(name) => self.held(name),
        }
    }

    fn held(&self, name: &Name) -> Result<&'a [u8], String> {
        let id = SecretId { namespace: self.namespace.clone(), name: name.clone() };
        let held = self.secrets.get(&id).map(|held| held.value.reveal());
        held.ok_or_else(|| format!("secret `{id}` is not on this node: it comes when the scheduler is reached"))
    }
}

/// Removes what an attempt was shown.
pub(crate) fn remove(run_dir: &Path, id: &str) -> Result<(), Error> {
    let directory = run_dir.join(DIRECTORY).join(id);
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&directory)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Containerd {
    /// Writes the files of an attempt that runs anew where they differ; gives the signal that its process is to get then.
    /// What was not shown anything is left alone.
    ///
    /// # Errors
    /// When a file cannot be written, or a secret is not here.
    pub fn rewrite<'a>(
        &self,
        assignment: &'a Assignment,
        attempt: u32,
        secrets: &Secrets,
    ) -> Result<Option<&'a str>, StartError> {
        let id = container_id(&assignment.instance, attempt);
        let directory = self.inner.settings.run_dir.join(DIRECTORY).join(&id);
        let content = &assignment.container.content;
        let shown = Content { spec: content, namespace: &assignment.workload.namespace, secrets };
        let untold = directory.join(UNTOLD);
        let mut differs = untold.exists();
        for (index, file) in content.files.values().enumerate() {
            let path = directory.join(index.to_string());
            let bytes = shown.bytes(file).map_err(StartError::Spec)?;
            if is_same(&path, bytes).map_err(failed(&path))? {
                continue;
            }
            // Before the first byte: whoever dies here leaves word that the process is not told yet.
            fs::write(&untold, "").map_err(failed(&untold))?;
            rewrite(&path, bytes).map_err(failed(&path))?;
            differs = true;
        }
        Ok(match &content.on_change {
            OnChange::Signal(name) if differs => Some(name),
            OnChange::Signal(_) | OnChange::Nothing | OnChange::Restart => None,
        })
    }

    /// Tells the process of an attempt that its files were written anew.
    ///
    /// # Errors
    /// When containerd is away, or the signal unknown.
    pub async fn tell(&self, instance: &InstanceId, attempt: u32, signal: &str) -> Result<(), Error> {
        let id = container_id(instance, attempt);
        self.kill(&id, signal::number(signal)?, All::No).await?;
        // It stays where the process ended meanwhile; then it goes with the files.
        fs::remove_file(self.inner.settings.run_dir.join(DIRECTORY).join(&id).join(UNTOLD)).ok();
        Ok(())
    }

    /// Lets go of the memory that holds what instances were shown. To be called when none is left.
    pub fn forget_shown(&self) {
        // Where it is a plain directory of a file system in memory nothing is mounted.
        umount2(&self.inner.settings.run_dir.join(DIRECTORY), MntFlags::MNT_DETACH).ok();
    }
}

/// Has the directory, which is in memory wherever the one above is.
fn prepare(run_dir: &Path) -> Result<PathBuf, Error> {
    let directory = run_dir.join(DIRECTORY);
    let mounted = || {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        if statfs(&directory)?.filesystem_type() != TMPFS_MAGIC {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("tmpfs"), &directory, Some("tmpfs"), flags, Some("mode=0700"))?;
        }
        Ok(())
    };
    mounted().map_err(failed(&directory))?;
    Ok(directory)
}

fn make(path: &Path, bytes: &[u8], file: &FileSpec, user: &User) -> io::Result<()> {
    let Owner { user, group } = file.owner.unwrap_or(Owner { user: user.uid, group: user.gid });
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    made.write_all(bytes)?;
    chown(path, Some(user), Some(group))?;
    made.set_permissions(fs::Permissions::from_mode(file.mode))
}

/// Whether a file holds these bytes, or is not there: then the process was started before anything was shown to it.
fn is_same(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    match fs::read(path) {
        Ok(before) => Ok(before == bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn rewrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path: path.clone(), source }
}
