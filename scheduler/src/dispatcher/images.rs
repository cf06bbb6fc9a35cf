//! Archives that a person loads: spooled to disk, offered to every connected node, kept for nodes that need them later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_server::control_plane::BoxStream;
use api_types::{
    counter::RequestId,
    id::NodeId,
    view::{ImageOutcome, Problem},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use proto::{
    limits::ARCHIVE_CHUNK_BYTES,
    session::{FromScheduler, ImageLoaded, LoadImage},
    v1,
};
use ring::digest::{Context, SHA256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::registry::Registry;
use crate::{identity::records::IMAGE_PREFIX, problem, store::Write};

/// How long the nodes may take to fetch and unpack an archive.
const LOAD_LIMIT: Duration = Duration::from_secs(15 * 60);
/// The most references that one archive may give a node.
const REFERENCES_MAX: usize = 64;
/// The longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 512;
/// Archives on their way here at once: each may fill the disk up to the limit of one.
const UPLOADS_MAX: usize = 4;
/// How long a person's end may send nothing before an archive is given up.
const UPLOAD_SILENCE: Duration = Duration::from_secs(60);

/// The archives and who is importing them.
#[derive(Debug)]
pub(crate) struct Images {
    directory: PathBuf,
    bytes_max: u64,
    registry: Arc<Registry>,
    /// By reference, the archive's digest.
    known: Mutex<BTreeMap<String, String>>,
    loading: Mutex<BTreeMap<RequestId, Loading>>,
    last_request: AtomicU64,
    uploads: Semaphore,
}

/// A file that is not whole yet; what is left of it goes with whoever wrote it, also when a client's end breaks it off.
struct Draft(PathBuf);

#[derive(Debug)]
struct Loading {
    digest: String,
    waiting: BTreeSet<NodeId>,
    outcomes: mpsc::Sender<Result<ImageOutcome, Problem>>,
}

impl Images {
    /// Prepares the directory; `known` is what is durable.
    pub(crate) fn new(
        state_dir: &Path,
        bytes_max: u64,
        known: BTreeMap<String, String>,
        registry: Arc<Registry>,
    ) -> std::io::Result<Self> {
        let directory = state_dir.join("images");
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            // An upload that a crash cut off.
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(path)?;
            }
        }
        let this = Self {
            directory,
            bytes_max,
            registry,
            known: Mutex::new(known),
            loading: Mutex::default(),
            last_request: AtomicU64::new(0),
            uploads: Semaphore::new(UPLOADS_MAX),
        };
        this.prune();
        Ok(this)
    }

    /// Takes an archive, and has every connected node import it; outcomes come as the nodes send them.
    pub(crate) async fn load(self: &Arc<Self>, archive: BoxStream<Bytes>) -> Result<BoxStream<ImageOutcome>, Problem> {
        let Ok(_upload) = self.uploads.try_acquire() else {
            let title = format!("{UPLOADS_MAX} archives are being loaded already");
            return Err(problem::unavailable(&title, "try again when one of them is here"));
        };
        let request = RequestId(self.last_request.fetch_add(1, Ordering::Relaxed) + 1);
        let (digest, draft) = self.spool(request, archive).await?;
        let nodes = self.registry.connected();
        let (outcomes, receiver) = mpsc::channel(nodes.len().max(1));
        let waiting = nodes.iter().cloned().collect();
        let loading = Loading { digest: digest.clone(), waiting, outcomes };
        self.loading().insert(request, loading);
        tokio::spawn(Arc::clone(self).expire(request));
        // Only now that somebody needs it: else it could be pruned at once.
        if let Err(problem) = self.keep(&draft, &digest).await {
            self.loading().remove(&request);
            return Err(problem);
        }
        for node in &nodes {
            let wish = LoadImage { request, digest: digest.clone() };
            if !self.registry.wish(node, FromScheduler::LoadImage(wish)) {
                self.answer(request, node, Vec::new(), "the node is not connected any more".to_owned());
            }
        }
        self.close_if_done(request);
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    /// Takes what came of a load; gives what must be durable: which references the archive holds.
    pub(crate) fn loaded(&self, node: &NodeId, loaded: ImageLoaded) -> Vec<Write> {
        let fits = |image: &String| !image.is_empty() && image.len() <= REFERENCE_BYTES_MAX;
        let images: Vec<String> = loaded.images.into_iter().filter(fits).take(REFERENCES_MAX).collect();
        let Some(digest) = self.answer(loaded.request, node, images.clone(), loaded.error) else {
            return Vec::new();
        };
        self.close_if_done(loaded.request);
        let mut known = self.known();
        let changed = images.into_iter().filter(|image| known.get(image) != Some(&digest)).collect::<Vec<_>>();
        known.extend(changed.iter().map(|image| (image.clone(), digest.clone())));
        changed.iter().map(|image| Write::put(format!("{IMAGE_PREFIX}{image}"), &digest)).collect()
    }

    /// Removes archives that no reference leads to any more and no node is asked to load. To be called when what
    /// [`Self::loaded`] gave is durable: a crash before that must find the older archive.
    pub(crate) fn prune(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        // Held while removing, so that none is removed that is loaded a second time meanwhile.
        let (known, loading) = (self.known(), self.loading());
        let kept: BTreeSet<PathBuf> = known
            .values()
            .chain(loading.values().map(|loading| &loading.digest))
            .map(|digest| self.path_of(digest))
            .collect();
        for path in entries.map(|entry| entry.path()) {
            let is_archive = path.extension().is_some_and(|extension| extension == "tar");
            if is_archive
                && !kept.contains(&path)
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "an archive that nobody needs cannot be removed");
            }
        }
    }

    /// Opens an archive for a node: one that it is asked to load, or one that holds an image that it `runs`.
    pub(crate) async fn open(
        &self,
        node: &NodeId,
        image: &str,
        runs: bool,
    ) -> Result<mpsc::Receiver<Result<v1::Chunk, Status>>, Status> {
        let none = || Status::not_found(format!("no loaded archive holds `{image}`"));
        let digest = self.digest_for(node, image, runs).ok_or_else(none)?;
        let mut file = tokio::fs::File::open(self.path_of(&digest)).await.map_err(|_| none())?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let mut content = Vec::with_capacity(ARCHIVE_CHUNK_BYTES);
                let room = u64::try_from(ARCHIVE_CHUNK_BYTES).unwrap_or(u64::MAX);
                let read = (&mut file).take(room).read_to_end(&mut content).await;
                let chunk = match read {
                    Ok(0) => return,
                    Ok(_) => Ok(v1::Chunk { content: content.into() }),
                    Err(error) => Err(Status::internal(format!("the archive cannot be read: {error}"))),
                };
                if sender.send(chunk).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    fn digest_for(&self, node: &NodeId, image: &str, runs: bool) -> Option<String> {
        let offered = self.loading().values().any(|loading| loading.digest == image && loading.waiting.contains(node));
        if offered {
            return Some(image.to_owned());
        }
        if runs { self.known().get(image).cloned() } else { None }
    }

    /// Writes the archive to a draft; gives its digest when all of it is on disk.
    async fn spool(&self, request: RequestId, mut archive: BoxStream<Bytes>) -> Result<(String, Draft), Problem> {
        let draft = Draft(self.directory.join(format!("{request}.part")));
        let mut file = tokio::fs::File::create(&draft.0).await.map_err(|error| disk(&error))?;
        let mut hash = Context::new(&SHA256);
        let mut bytes = 0_u64;
        let silent = |_| problem::problem(408, "timeout", "the archive did not arrive whole in time", "");
        while let Some(part) = timeout(UPLOAD_SILENCE, archive.next()).await.map_err(silent)? {
            let part = part?;
            bytes += u64::try_from(part.len()).unwrap_or(u64::MAX);
            if bytes > self.bytes_max {
                let title = format!("the archive has more than {} bytes", self.bytes_max);
                let hint = "raise `images.archive_bytes_max` in the scheduler's configuration";
                return Err(problem::problem(413, "too_large", &title, hint));
            }
            hash.update(&part);
            file.write_all(&part).await.map_err(|error| disk(&error))?;
        }
        if bytes == 0 {
            return Err(problem::invalid("the archive is empty", "send an OCI archive (`docker save`)"));
        }
        file.sync_all().await.map_err(|error| disk(&error))?;
        Ok((format!("sha256:{}", HEXLOWER.encode(hash.finish().as_ref())), draft))
    }

    /// Gives a whole archive the name of its digest.
    async fn keep(&self, draft: &Draft, digest: &str) -> Result<(), Problem> {
        tokio::fs::rename(&draft.0, self.path_of(digest)).await.map_err(|error| disk(&error))?;
        let directory = tokio::fs::File::open(&self.directory).await.map_err(|error| disk(&error))?;
        directory.sync_all().await.map_err(|error| disk(&error))
    }

    /// Notes one node's outcome; gives the archive's digest if the node was asked.
    fn answer(&self, request: RequestId, node: &NodeId, images: Vec<String>, error: String) -> Option<String> {
        let mut loading = self.loading();
        let entry = loading.get_mut(&request)?;
        if !entry.waiting.remove(node) {
            return None;
        }
        // There is room for every node that was asked; the person may be gone.
        entry.outcomes.try_send(Ok(ImageOutcome { node: node.clone(), images, error })).ok();
        Some(entry.digest.clone())
    }

    fn close_if_done(&self, request: RequestId) {
        let mut loading = self.loading();
        if loading.get(&request).is_some_and(|entry| entry.waiting.is_empty()) {
            loading.remove(&request);
        }
    }

    async fn expire(self: Arc<Self>, request: RequestId) {
        tokio::time::sleep(LOAD_LIMIT).await;
        let waiting = self.loading().get(&request).map(|entry| entry.waiting.clone()).unwrap_or_default();
        for node in waiting {
            let error = format!("no answer within {} minutes", LOAD_LIMIT.as_secs() / 60);
            self.answer(request, &node, Vec::new(), error);
        }
        self.close_if_done(request);
        self.prune();
    }

    fn path_of(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("{}.tar", digest.trim_start_matches("sha256:")))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.known.lock().expect("nobody panics while holding it")
    }

    fn loading(&self) -> MutexGuard<'_, BTreeMap<RequestId, Loading>> {
        self.loading.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when the archive was kept; what resists is removed at the next start.
        fs::remove_file(&self.0).ok();
    }
}

fn disk(error: &std::io::Error) -> Problem {
    let title = format!("the archive cannot be kept: {error}");
    problem::problem(507, "unavailable", &title, "make room in the scheduler's state directory")
}
