//! Image archives that a person loaded into the cluster: fetched from the scheduler into a file, then imported.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use agent_containerd::Containerd;
use proto::v1;
use thiserror::Error;
use tokio::{fs::File, io::AsyncWriteExt};
use tonic::Code;

use super::connector::Dispatcher;

/// Why there is no archive.
#[derive(Debug, Error)]
pub(crate) enum ArchiveError {
    /// No loaded archive holds the image.
    #[error("no archive with it was loaded into the cluster")]
    Absent,
    /// The transfer broke off.
    #[error("the transfer of the archive broke off: {0}")]
    Broken(String),
    /// It cannot be kept here.
    #[error("cannot keep the archive: {0}")]
    Disk(#[from] io::Error),
    /// It cannot be imported.
    #[error("{0}")]
    Import(String),
}

/// A file that goes when it is not needed any more.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        // What cannot be removed now goes with the directory at the next start.
        std::fs::remove_file(&self.0).ok();
    }
}

/// Makes the directory for archives on their way, without leftovers of an earlier run.
pub(crate) fn prepare(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(directory)
}

/// Fetches the archive that holds `image` (a reference or an archive's digest), imports it, and gives its references.
pub(crate) async fn load(
    mut dispatcher: Dispatcher,
    containerd: &Containerd,
    directory: &Path,
    image: &str,
) -> Result<Vec<String>, ArchiveError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let request = v1::ImageArchiveRequest { image: image.to_owned() };
    let broken = |status: tonic::Status| {
        let reason = status.message().to_owned();
        if status.code() == Code::NotFound { ArchiveError::Absent } else { ArchiveError::Broken(reason) }
    };
    let mut chunks = dispatcher.image_archive(request).await.map_err(broken)?.into_inner();
    // An empty answer to the first question would leave an empty file behind: the first chunk comes first.
    let mut chunk = chunks.message().await.map_err(broken)?;
    let passing = Passing(directory.join(format!("{}.tar", NEXT.fetch_add(1, Ordering::Relaxed))));
    let mut file = File::create(&passing.0).await?;
    while let Some(content) = chunk {
        file.write_all(&content.content).await?;
        chunk = chunks.message().await.map_err(broken)?;
    }
    file.flush().await?;
    drop(file);
    containerd.import_image(&passing.0).await.map_err(|error| ArchiveError::Import(error.to_string()))
}
