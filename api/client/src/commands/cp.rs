//! `wherry cp`.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use api_types::{
    id::InstanceId,
    relay::{RelayPurpose, RelayRequest, RelayTarget},
};
use clap::Args;
use tokio::sync::mpsc;

use crate::{
    commands::{Session, cannot, relay},
    failure::Failure,
};

/// The size of a piece of an archive, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Copy files between here and an instance
///
/// One of both is INSTANCE:PATH, with an absolute path. A directory that is there takes the copy under its name; else the copy
/// gets the name that is said. In the instance, all belongs to the user of its process. No program is needed there.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    /// What to copy
    from: String,
    /// Where to
    to: String,
}

/// One end of a copy.
enum Place {
    Here(PathBuf),
    There(InstanceId, String),
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Copy) -> Result<(), Failure> {
    match (place(&arguments.from)?, place(&arguments.to)?) {
        (Place::Here(from), Place::There(instance, path)) => put(session, from, instance, path).await,
        (Place::There(instance, path), Place::Here(to)) => get(session, instance, path, to).await,
        (Place::Here(_), Place::Here(_)) | (Place::There(..), Place::There(..)) => {
            Err(Failure::Usage("one of both must be INSTANCE:PATH, and only one".to_owned()))
        }
    }
}

/// A name before a colon is an instance's; a path with a colon begins with `/` or `.`.
fn place(text: &str) -> Result<Place, Failure> {
    let named = text.split_once(':').filter(|_| !text.starts_with(['/', '.']));
    let Some((name, path)) = named else { return Ok(Place::Here(text.into())) };
    let instance = name.parse().map_err(|_| Failure::Usage(format!("`{name}` is not the name of an instance")))?;
    Ok(Place::There(instance, path.to_owned()))
}

async fn put(session: &Session<'_>, from: PathBuf, instance: InstanceId, path: String) -> Result<(), Failure> {
    let name = name_of(&from)?;
    // What cannot be read is better known before anything is sent.
    fs::symlink_metadata(&from).map_err(|error| cannot(&from, &error))?;
    let request = RelayRequest { target: RelayTarget::Instance(instance), purpose: RelayPurpose::CopyTo { path } };
    relay::give(session, &request, move |pieces| pack(&from, &name, pieces).map_err(|error| cannot(&from, &error)))
        .await
}

async fn get(session: &Session<'_>, instance: InstanceId, path: String, to: PathBuf) -> Result<(), Failure> {
    let request = RelayRequest { target: RelayTarget::Instance(instance), purpose: RelayPurpose::CopyFrom { path } };
    relay::take(session, &request, move |pieces| unpack(&to, pieces).map_err(|error| cannot(&to, &error))).await
}

fn name_of(path: &Path) -> Result<PathBuf, Failure> {
    // `.` and `..` have a name, too.
    let full = path.canonicalize().map_err(|error| cannot(path, &error))?;
    let name = path.file_name().or(full.file_name());
    Ok(name.map_or_else(|| PathBuf::from("root"), PathBuf::from))
}

fn pack(from: &Path, name: &Path, pieces: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(PIECE_BYTES, Sending(pieces)));
    archive.follow_symlinks(false);
    archive.sparse(false);
    if fs::metadata(from)?.is_dir() {
        archive.append_dir_all(name, from)?;
    } else {
        // A link that a person names is followed; one that is found below is kept.
        archive.append_file(name, &mut fs::File::open(from)?)?;
    }
    archive.into_inner()?.flush()
}

/// Unpacks below a directory that is there, or under the name that was said.
fn unpack(to: &Path, pieces: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let (directory, name) = if to.is_dir() {
        (to.to_owned(), None)
    } else {
        let name = to.file_name().ok_or_else(|| io::Error::other("is no name for a copy"))?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (parent.to_owned(), Some(name))
    };
    let mut archive = tar::Archive::new(Receiving { pieces, piece: Vec::new(), read: 0 });
    for entry in archive.entries()? {
        let mut entry = entry?;
        let said = entry.path()?.into_owned();
        let mut parts = said.components().map(|part| match part {
            Component::Normal(part) => Ok(part),
            Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {
                Err(io::Error::other(format!("`{}` leads out of the copy", said.display())))
            }
        });
        let root = parts.next().unwrap_or_else(|| Err(io::Error::other("an entry has no name")))?;
        let root = Ok(name.unwrap_or(root));
        let path: PathBuf = std::iter::once(root).chain(parts).collect::<io::Result<_>>()?;
        unpack_entry(&mut entry, &directory, &path)?;
    }
    Ok(())
}

fn unpack_entry(entry: &mut tar::Entry<'_, Receiving>, directory: &Path, path: &Path) -> io::Result<()> {
    let target = directory.join(path);
    // A link of the copy must not lead what follows it elsewhere.
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        if directory.join(above).is_symlink() {
            return Err(io::Error::other(format!("`{}` is a link, and is not followed", above.display())));
        }
    }
    entry.unpack(target).map(drop)
}

/// Writes pieces to a channel, and waits while it is full.
struct Sending(mpsc::Sender<Vec<u8>>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(bytes.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads pieces from a channel.
struct Receiving {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Read for Receiving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            (self.piece, self.read) = (piece, 0);
        }
        let taken = into.len().min(self.piece.len() - self.read);
        into[..taken].copy_from_slice(&self.piece[self.read..self.read + taken]);
        self.read += taken;
        Ok(taken)
    }
}
