//! The images of this node: what is here and unpacked, what must be fetched, and what they say of themselves.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use containerd_client::services::v1::{GetImageRequest, snapshots::ViewSnapshotRequest};
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    Containerd, PullProgress,
    account_files::read_accounts,
    archive::Archive,
    connection::{SHORT, is_absent},
    documents::{
        Descriptor, INDEX_TYPES, ImageConfig, Index, MANIFEST_TYPES, Manifest, RunConfig, chain_ids, own_platform,
        pick, sha256,
    },
    error::{Error, ImageError},
    intake::{Intake, Origin},
    reference::Reference,
    registry::Source,
    user::Accounts,
};

/// Images that are fetched at the same time; the rest wait.
const PULLS_AT_ONCE: usize = 2;
/// Images whose facts are remembered.
const REMEMBERED_MAX: usize = 64;

/// Numbers the views, so that no two have one name.
static VIEWS: AtomicU64 = AtomicU64::new(0);

/// What must be known of an image to run it.
#[derive(Debug)]
pub(crate) struct ImageFacts {
    /// The snapshot of its top layer; empty for an image without layers.
    pub(crate) chain: String,
    pub(crate) config: RunConfig,
    /// Its account files, read when a user is first looked up.
    accounts: OnceCell<Accounts>,
}

/// The state around images.
#[derive(Debug)]
pub(crate) struct Images {
    remembered: Mutex<BTreeMap<String, Arc<ImageFacts>>>,
    /// One pull per image: who comes later waits and finds it there.
    locks: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    pulls: Semaphore,
}

impl Images {
    pub(crate) fn new() -> Self {
        Self { remembered: Mutex::default(), locks: Mutex::default(), pulls: Semaphore::new(PULLS_AT_ONCE) }
    }

    pub(crate) fn forget(&self, name: &str) {
        self.remembered.lock().expect("no holder panics").remove(name);
    }

    fn remember(&self, name: &str, facts: ImageFacts) -> Arc<ImageFacts> {
        let facts = Arc::new(facts);
        let mut remembered = self.remembered.lock().expect("no holder panics");
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(name.to_owned(), Arc::clone(&facts));
        facts
    }

    fn lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().expect("no holder panics");
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.to_owned()).or_default())
    }
}

impl Containerd {
    /// Has the image: present and unpacked already, or pulled now. A broken pull goes on where it stopped.
    ///
    /// # Errors
    /// When it cannot be had; the text says why.
    pub async fn ensure_image(
        &self,
        image: &str,
        mut progress: impl FnMut(PullProgress) + Send,
    ) -> Result<(), ImageError> {
        let reference = Reference::parse(image)?;
        let name = reference.to_string();
        let lock = self.inner.images.lock(&name);
        let _one_pull = lock.lock().await;
        if self.load_facts(&name).await?.is_some() {
            return Ok(());
        }
        let _turn = self.inner.images.pulls.acquire().await.expect("never closed");
        let outcome = self.pull(&reference, &name, &mut progress).await;
        give_memory_back();
        outcome
    }

    /// Whether the image is present and unpacked.
    ///
    /// # Errors
    /// When its name is malformed or containerd is away.
    pub async fn has_image(&self, image: &str) -> Result<bool, ImageError> {
        Ok(self.load_facts(&Reference::parse(image)?.to_string()).await?.is_some())
    }

    /// Takes in all images of an archive (OCI layout or `docker save`, as an uncompressed tar file) and gives their names.
    ///
    /// # Errors
    /// When the archive is malformed or containerd refuses; images taken in before stay.
    pub async fn import_image(&self, archive: &Path) -> Result<Vec<String>, ImageError> {
        let archive = Archive::open(archive).await?;
        let (connection, settings) = (&self.inner.connection, &self.inner.settings);
        let mut names = Vec::new();
        for (name, root) in &archive.images {
            let lock = self.inner.images.lock(name);
            let _one_intake = lock.lock().await;
            let document = archive.document(&root.digest).await?;
            let lease = connection.lease(&lease_name(name), settings.node.as_str()).await?;
            let origin = Origin::Archive(&archive);
            let intake = Intake { connection, snapshotter: &settings.snapshotter, lease: &lease, origin, name };
            let outcome = intake.run(root.clone(), document, &mut |_| {}).await;
            connection.release(&lease).await?;
            outcome?;
            self.inner.images.forget(name);
            names.push(name.clone());
        }
        give_memory_back();
        Ok(names)
    }

    /// Gives what must be known of an image to run it, from memory if possible; `None` when it is not here.
    pub(crate) async fn image_facts(&self, image: &str) -> Result<Option<Arc<ImageFacts>>, ImageError> {
        let name = Reference::parse(image)?.to_string();
        let known = self.inner.images.remembered.lock().expect("no holder panics").get(&name).cloned();
        match known {
            Some(facts) => Ok(Some(facts)),
            None => Ok(self.load_facts(&name).await?),
        }
    }

    /// Forgets what is remembered of an image.
    pub(crate) fn forget_image(&self, image: &str) {
        if let Ok(reference) = Reference::parse(image) {
            self.inner.images.forget(&reference.to_string());
        }
    }

    /// Gives the image's account files.
    pub(crate) async fn image_accounts<'a>(&self, facts: &'a ImageFacts) -> Result<&'a Accounts, Error> {
        facts.accounts.get_or_try_init(|| self.read_image_accounts(&facts.chain)).await
    }

    async fn pull(
        &self,
        reference: &Reference,
        name: &str,
        progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<(), ImageError> {
        let (connection, settings) = (&self.inner.connection, &self.inner.settings);
        let source = Source::new(reference, &settings.registries)?;
        let (document, media_type) = source.manifest(reference.version()).await?;
        let root = Descriptor {
            media_type: document_type(&document, media_type),
            digest: sha256(&document),
            size: document.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let malformed = |problem: String| ImageError::Malformed { origin: format!("image {name}"), problem };
        if reference.digest().is_some_and(|digest| digest != root.digest) {
            return Err(malformed(format!("the registry gave {}", root.digest)));
        }
        if ![INDEX_TYPES, MANIFEST_TYPES].concat().contains(&root.media_type.as_str()) {
            return Err(malformed(format!("the registry gave a `{}`", root.media_type)));
        }
        // Kept on failure: what is here already is taken up by the next try, also that of a later run.
        let lease = connection.lease(&lease_name(name), settings.node.as_str()).await?;
        let origin = Origin::Registry(&source);
        let intake = Intake { connection, snapshotter: &settings.snapshotter, lease: &lease, origin, name };
        intake.run(root, document, progress).await?;
        connection.release(&lease).await?;
        self.inner.images.forget(name);
        Ok(())
    }

    /// Asks containerd for an image; `None` unless it is whole and unpacked.
    async fn load_facts(&self, name: &str) -> Result<Option<Arc<ImageFacts>>, Error> {
        let connection = &self.inner.connection;
        let request = connection.request(GetImageRequest { name: name.to_owned() }, SHORT);
        let target = match connection.images().get(request).await {
            Ok(answer) => answer.into_inner().image.and_then(|image| image.target),
            Err(status) if is_absent(&status) => None,
            Err(status) => return Err(connection.failed("to look for an image")(status)),
        };
        let Some(config) = (match target {
            Some(target) => self.read_config(target.digest, &target.media_type).await?,
            None => None,
        }) else {
            self.inner.images.forget(name);
            return Ok(None);
        };
        let chain = chain_ids(&config.rootfs.diff_ids).pop().unwrap_or_default();
        if !chain.is_empty() && !connection.has_snapshot(&self.inner.settings.snapshotter, &chain).await? {
            self.inner.images.forget(name);
            return Ok(None);
        }
        let facts = ImageFacts { chain, config: config.config, accounts: OnceCell::new() };
        Ok(Some(self.inner.images.remember(name, facts)))
    }

    /// Reads an image's configuration from the content store; `None` where a part is missing or malformed.
    async fn read_config(&self, mut digest: String, media_type: &str) -> Result<Option<ImageConfig>, Error> {
        let connection = &self.inner.connection;
        if INDEX_TYPES.contains(&media_type) {
            let Some(document) = connection.read_document(&digest).await? else { return Ok(None) };
            let Ok(index) = serde_json::from_slice::<Index>(&document) else { return Ok(None) };
            let (architecture, variants) = own_platform();
            let Ok(entry) = pick(&index, architecture, variants) else { return Ok(None) };
            digest.clone_from(&entry.digest);
        }
        let Some(document) = connection.read_document(&digest).await? else { return Ok(None) };
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&document) else { return Ok(None) };
        let Some(document) = connection.read_document(&manifest.config.digest).await? else { return Ok(None) };
        Ok(serde_json::from_slice(&document).ok())
    }

    async fn read_image_accounts(&self, chain: &str) -> Result<Accounts, Error> {
        if chain.is_empty() {
            return Ok(Accounts::default());
        }
        let connection = &self.inner.connection;
        let snapshotter = &self.inner.settings.snapshotter;
        // Without a lease: what a crash leaves behind is collected.
        let key = format!("wherry-view-{}-{}", std::process::id(), VIEWS.fetch_add(1, Ordering::Relaxed));
        let view = ViewSnapshotRequest {
            snapshotter: snapshotter.clone(),
            key: key.clone(),
            parent: chain.to_owned(),
            ..ViewSnapshotRequest::default()
        };
        let answer = connection.snapshots().view(connection.request(view, SHORT)).await;
        let mounts = answer.map_err(connection.failed("to look into an image"))?.into_inner().mounts;
        let read = tokio::task::spawn_blocking(move || read_accounts(&mounts)).await;
        connection.remove_snapshot(snapshotter, &key).await?;
        Ok(read.expect("reading account files does not panic"))
    }
}

/// The name of an image's lease: the same at every try.
fn lease_name(image: &str) -> String {
    format!("wherry-pull-{}", &sha256(image.as_bytes())["sha256:".len()..])
}

/// A document says its own type better than the header that it came with.
fn document_type(document: &[u8], header: String) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    serde_json::from_slice::<Typed>(document).ok().and_then(|typed| typed.media_type).unwrap_or(header)
}

/// A pull needs some MiB for a moment; the C library would keep them.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library's allocator has no safe interface")]
fn give_memory_back() {
    // SAFETY: malloc_trim takes no pointer and may be called at any time, by any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}
