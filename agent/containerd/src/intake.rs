//! An image from its origin into containerd: documents, layers, snapshots, name; in that order, under a lease.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use bytes::{Bytes, BytesMut};
use containerd_client::services::v1::{CreateImageRequest, Image, UpdateImageRequest};
use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::Code;

use crate::{
    PullProgress,
    archive::Archive,
    connection::{Connection, Lease, SHORT, is_present},
    content::{CHUNK_BYTES, Ingest, Labels},
    documents::{
        DOCUMENT_BYTES_MAX, Descriptor, INDEX_TYPES, ImageConfig, Index, Manifest, chain_ids, own_platform, pick,
        sha256,
    },
    error::{Error, ImageError},
    reference::is_digest,
    registry::Source,
    unpack::as_wire,
};

/// Layers that are fetched at the same time.
const LAYERS_AT_ONCE: usize = 2;
/// Tries for one blob that bring nothing new.
const TRIES_MAX: u32 = 4;
/// Before the second try; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// Where an image comes from.
pub(crate) enum Origin<'a> {
    /// A registry.
    Registry(&'a Source<'a>),
    /// A file.
    Archive(&'a Archive),
}

/// One image on its way in.
pub(crate) struct Intake<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) snapshotter: &'a str,
    pub(crate) lease: &'a Lease,
    pub(crate) origin: Origin<'a>,
    /// The full name it is kept under.
    pub(crate) name: &'a str,
}

impl Intake<'_> {
    /// Takes in the image that the document `root` describes, an index or a manifest.
    pub(crate) async fn run(
        &self,
        root: Descriptor,
        document: Bytes,
        progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<(), ImageError> {
        let is_index = INDEX_TYPES.contains(&root.media_type.as_str());
        let (manifest_descriptor, manifest_bytes) = if is_index {
            let index: Index = self.parse(&document)?;
            let (architecture, variants) = own_platform();
            let child = pick(&self.available(index), architecture, variants).cloned().map_err(|present| {
                ImageError::Platform { image: self.name.to_owned(), architecture: architecture.to_owned(), present }
            })?;
            let bytes = self.document(&child).await?;
            (child, bytes)
        } else {
            (root.clone(), document.clone())
        };
        let manifest: Manifest = self.parse(&manifest_bytes)?;
        let config_bytes = self.document(&manifest.config).await?;
        let config: ImageConfig = self.parse(&config_bytes)?;
        let diff_ids = &config.rootfs.diff_ids;
        self.check(&manifest, diff_ids)?;

        self.fetch_layers(&manifest.layers, diff_ids, progress).await?;
        let write =
            async |descriptor, bytes, labels| self.connection.write_blob(self.lease, descriptor, bytes, labels).await;
        write(&manifest.config, config_bytes, self.config_labels(diff_ids)).await?;
        write(&manifest_descriptor, manifest_bytes, manifest_labels(&manifest)).await?;
        if is_index {
            write(&root, document.clone(), index_labels(&self.parse(&document)?)).await?;
        }
        self.connection.unpack(self.lease, self.snapshotter, &manifest.layers, diff_ids, self.name).await?;
        self.keep_name(&root).await?;
        Ok(())
    }

    /// Fetches a document and verifies it.
    async fn document(&self, descriptor: &Descriptor) -> Result<Bytes, ImageError> {
        if !is_digest(&descriptor.digest) || descriptor.size > DOCUMENT_BYTES_MAX {
            return Err(self.malformed(format!("document {} is no document", descriptor.digest)));
        }
        let is_manifest = descriptor.media_type.contains("manifest") || descriptor.media_type.contains("index");
        let bytes = match &self.origin {
            Origin::Registry(source) if is_manifest => source.manifest(&descriptor.digest).await?.0,
            Origin::Registry(source) => {
                let mut body = source.blob(&descriptor.digest, 0).await?;
                let mut bytes = BytesMut::new();
                while let Some(part) = body.next().await? {
                    bytes.extend_from_slice(&part);
                    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
                        return Err(self.malformed(format!("document {} is too large", descriptor.digest)));
                    }
                }
                bytes.freeze()
            }
            Origin::Archive(archive) => archive.document(&descriptor.digest).await?,
        };
        if sha256(&bytes) != descriptor.digest {
            return Err(self.malformed(format!("document {} came with other content", descriptor.digest)));
        }
        Ok(bytes)
    }

    /// An archive may hold only some of an index's images.
    fn available(&self, mut index: Index) -> Index {
        if let Origin::Archive(archive) = &self.origin {
            index.manifests.retain(|entry| archive.holds(&entry.digest));
        }
        index
    }

    fn check(&self, manifest: &Manifest, diff_ids: &[String]) -> Result<(), ImageError> {
        if manifest.layers.len() != diff_ids.len() {
            let (layers, named) = (manifest.layers.len(), diff_ids.len());
            return Err(self.malformed(format!("it has {layers} layers, but its configuration names {named}")));
        }
        let is_layer = |kind: &str| {
            kind.starts_with("application/vnd.oci.image.layer.v1.tar")
                || kind.starts_with("application/vnd.docker.image.rootfs.diff.tar")
        };
        match manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            Some(layer) => Err(self.malformed(format!("it has a layer of the unknown kind {}", layer.media_type))),
            None if manifest
                .layers
                .iter()
                .map(|layer| &layer.digest)
                .chain(diff_ids)
                .all(|digest| is_digest(digest)) =>
            {
                Ok(())
            }
            None => Err(self.malformed("it names a layer by something other than a sha256 digest".to_owned())),
        }
    }

    async fn fetch_layers(
        &self,
        layers: &[Descriptor],
        diff_ids: &[String],
        progress: &mut (dyn FnMut(PullProgress) + Send),
    ) -> Result<(), ImageError> {
        let bytes_total = layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add);
        let state = Mutex::new((0_u64, progress));
        let advance = |bytes: u64| {
            let (done, progress) = &mut *state.lock().expect("no holder panics");
            *done += bytes;
            progress(PullProgress { bytes_done: *done, bytes_total });
        };
        let each = layers.iter().zip(diff_ids).map(|(layer, diff_id)| self.fetch_layer(layer, diff_id, &advance));
        let all: Vec<_> = each.collect();
        stream::iter(all).buffer_unordered(LAYERS_AT_ONCE).try_collect().await
    }

    /// Fetches a layer, from where an earlier try broke off.
    async fn fetch_layer(
        &self,
        layer: &Descriptor,
        diff_id: &str,
        advance: &(dyn Fn(u64) + Sync),
    ) -> Result<(), ImageError> {
        let labels = Labels::from([("containerd.io/uncompressed".to_owned(), diff_id.to_owned())]);
        let (mut tries, mut seen) = (0, 0);
        loop {
            let attempt = self.try_layer(layer, &labels, &mut seen, advance, &mut tries).await;
            match attempt {
                Ok(()) => return Ok(()),
                Err(error) if tries >= TRIES_MAX || !may_pass(&error) => return Err(error),
                Err(error) => tracing::debug!(layer = layer.digest, %error, tries, "fetching a layer again"),
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(tries)).await;
            tries += 1;
        }
    }

    async fn try_layer(
        &self,
        layer: &Descriptor,
        labels: &Labels,
        seen: &mut u64,
        advance: &(dyn Fn(u64) + Sync),
        tries: &mut u32,
    ) -> Result<(), ImageError> {
        let Some(mut ingest) = self.connection.ingest(self.lease, layer).await? else {
            advance(layer.size.saturating_sub(*seen));
            return Ok(self.connection.label_blob(&layer.digest, labels.clone()).await?);
        };
        if ingest.offset > layer.size {
            ingest.abort().await;
            return Err(self.malformed(format!("layer {} is longer than its manifest says", layer.digest)));
        }
        let mut note = |offset: u64| {
            if offset > *seen {
                advance(offset - *seen);
                (*seen, *tries) = (offset, 0);
            }
        };
        note(ingest.offset);
        if ingest.offset < layer.size {
            match &self.origin {
                Origin::Registry(source) => self.copy_from(source, layer, &mut ingest, &mut note).await?,
                Origin::Archive(archive) => archive.copy(&layer.digest, &mut ingest, &mut note).await?,
            }
        }
        ingest.commit(labels.clone()).await?;
        Ok(())
    }

    async fn copy_from(
        &self,
        source: &Source<'_>,
        layer: &Descriptor,
        ingest: &mut Ingest<'_>,
        note: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), ImageError> {
        let mut body = source.blob(&layer.digest, ingest.offset).await?;
        // A registry that cannot begin in the middle sends again what is here.
        let mut skip = ingest.offset.saturating_sub(body.offset);
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        let mut left = layer.size - ingest.offset;
        while let Some(mut part) = body.next().await? {
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(part.len());
            skip -= skipped as u64;
            part = part.slice(skipped..);
            if part.len() as u64 > left {
                return Err(self.malformed(format!("layer {} is longer than its manifest says", layer.digest)));
            }
            left -= part.len() as u64;
            while !part.is_empty() {
                let taken = part.split_to(part.len().min(CHUNK_BYTES - chunk.len()));
                chunk.extend_from_slice(&taken);
                if chunk.len() == CHUNK_BYTES {
                    ingest.write(chunk.split().freeze()).await?;
                    chunk.reserve(CHUNK_BYTES);
                    note(ingest.offset);
                }
            }
        }
        if !chunk.is_empty() {
            ingest.write(chunk.freeze()).await?;
            note(ingest.offset);
        }
        if left > 0 {
            let problem = format!("layer {} broke off {left} bytes before its end", layer.digest);
            return Err(ImageError::Registry { host: self.name.to_owned(), problem });
        }
        Ok(())
    }

    fn config_labels(&self, diff_ids: &[String]) -> Labels {
        let top = chain_ids(diff_ids).pop();
        top.map(|chain| (format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter), chain)).into_iter().collect()
    }

    /// Gives the image its name: only now is it seen.
    async fn keep_name(&self, root: &Descriptor) -> Result<(), Error> {
        let image = Image { name: self.name.to_owned(), target: Some(as_wire(root)), ..Image::default() };
        let create = CreateImageRequest { image: Some(image.clone()), source_date_epoch: None };
        match self.connection.images().create(self.connection.request(create, SHORT)).await {
            Ok(_) => Ok(()),
            Err(status) if is_present(&status) => {
                let update = UpdateImageRequest { image: Some(image), update_mask: None, source_date_epoch: None };
                let answer = self.connection.images().update(self.connection.request(update, SHORT)).await;
                answer.map(|_| ()).map_err(self.connection.failed("to rename an image"))
            }
            Err(status) => Err(self.connection.failed("to name an image")(status)),
        }
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(bytes).map_err(|error| self.malformed(format!("a document of it is malformed: {error}")))
    }

    fn malformed(&self, problem: String) -> ImageError {
        ImageError::Malformed { origin: format!("image {}", self.name), problem }
    }
}

/// Whether another try may end better.
fn may_pass(error: &ImageError) -> bool {
    match error {
        ImageError::Registry { .. } => true,
        // The last try's stream may still hold the blob.
        ImageError::Containerd(Error::Refused { status, .. }) => status.code() == Code::Unavailable,
        ImageError::Name { .. }
        | ImageError::NotFound { .. }
        | ImageError::Unauthorized { .. }
        | ImageError::PlainHttp { .. }
        | ImageError::Platform { .. }
        | ImageError::Malformed { .. }
        | ImageError::Archive(_)
        | ImageError::Containerd(_) => false,
    }
}

/// The labels by which garbage collection finds what a manifest needs.
fn manifest_labels(manifest: &Manifest) -> Labels {
    let layers = manifest.layers.iter().enumerate();
    let mut labels: HashMap<_, _> = layers
        .map(|(index, layer)| (format!("containerd.io/gc.ref.content.l.{index}"), layer.digest.clone()))
        .collect();
    labels.insert("containerd.io/gc.ref.content.config".to_owned(), manifest.config.digest.clone());
    labels
}

/// The labels by which garbage collection finds what an index needs; images that are not here do no harm.
fn index_labels(index: &Index) -> Labels {
    let entries = index.manifests.iter().enumerate();
    entries.map(|(number, entry)| (format!("containerd.io/gc.ref.content.m.{number}"), entry.digest.clone())).collect()
}
