//! An archive of images: an OCI layout or what `docker save` writes, as an uncompressed tar file.
//!
//! It is never unpacked to disk: the places of its files are noted, and blobs are read from there.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;

use crate::{
    content::{CHUNK_BYTES, Ingest},
    documents::{CONFIG_TYPE, DOCUMENT_BYTES_MAX, Descriptor, Index, LAYER_TYPE, MANIFEST_TYPES, Manifest, sha256},
    error::ImageError,
    reference::Reference,
};

/// Files in one archive.
const ENTRIES_MAX: usize = 20_000;
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

/// An archive whose table of contents is known.
pub(crate) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    /// Where each blob is, by digest.
    blobs: BTreeMap<String, Place>,
    /// Documents that are not in the file but made from it.
    made: BTreeMap<String, Bytes>,
    /// Names and what they stand for.
    pub(crate) images: Vec<(String, Descriptor)>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    size: u64,
}

impl Archive {
    /// Reads the table of contents.
    pub(crate) async fn open(path: &Path) -> Result<Self, ImageError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(path));
        opened.await.expect("reading an archive does not panic")
    }

    pub(crate) fn holds(&self, digest: &str) -> bool {
        self.blobs.contains_key(digest) || self.made.contains_key(digest)
    }

    /// Reads a whole document.
    pub(crate) async fn document(&self, digest: &str) -> Result<Bytes, ImageError> {
        if let Some(made) = self.made.get(digest) {
            return Ok(made.clone());
        }
        let place = self.place(digest)?;
        if place.size > DOCUMENT_BYTES_MAX {
            return Err(self.malformed(format!("{digest} is too large for a document")));
        }
        self.read(place.offset, place.size).await
    }

    /// Copies a blob into an ingest, from where that stands.
    pub(crate) async fn copy(
        &self,
        digest: &str,
        ingest: &mut Ingest<'_>,
        note: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), ImageError> {
        let place = self.place(digest)?;
        while ingest.offset < place.size {
            let size = (place.size - ingest.offset).min(CHUNK_BYTES as u64);
            let chunk = self.read(place.offset + ingest.offset, size).await?;
            ingest.write(chunk).await?;
            note(ingest.offset);
        }
        Ok(())
    }

    fn open_blocking(path: PathBuf) -> Result<Self, ImageError> {
        let mut file = File::open(&path).map_err(ImageError::Archive)?;
        let mut magic = [0; 2];
        let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
        if is_gzip {
            let problem = "it is compressed; give the plain tar file (gunzip it first)".to_owned();
            return Err(ImageError::Malformed { origin: path.display().to_string(), problem });
        }
        file.rewind().map_err(ImageError::Archive)?;
        let places = table(&file).map_err(|error| ImageError::Malformed {
            origin: path.display().to_string(),
            problem: format!("it is not a tar file ({error})"),
        })?;
        let mut archive =
            Self { file: Arc::new(file), path, blobs: BTreeMap::new(), made: BTreeMap::new(), images: Vec::new() };
        for (name, place) in &places {
            if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                archive.blobs.insert(format!("sha256:{hex}"), *place);
            }
        }
        match (places.get("index.json"), places.get("manifest.json")) {
            (Some(index), _) => archive.note_layout(*index)?,
            (None, Some(manifest)) => archive.note_saved(*manifest, &places)?,
            (None, None) => return Err(archive.malformed("it holds neither index.json nor manifest.json".to_owned())),
        }
        if archive.images.is_empty() {
            return Err(archive.malformed("it names no image".to_owned()));
        }
        Ok(archive)
    }

    /// Notes the images of an OCI layout.
    fn note_layout(&mut self, index: Place) -> Result<(), ImageError> {
        let index: Index = self.parse(index)?;
        for descriptor in index.manifests {
            let name = descriptor.annotations.get(CONTAINERD_NAME).or_else(|| descriptor.annotations.get(OCI_NAME));
            if let Some(name) = name {
                if name.starts_with(|first: char| first.is_ascii_digit()) && !name.contains(['/', ':'])
                    || name == "latest"
                {
                    return Err(
                        self.malformed(format!("it names an image only by the tag `{name}`; save it by its full name"))
                    );
                }
                self.images.push((Reference::parse(name)?.to_string(), descriptor));
            }
        }
        Ok(())
    }

    /// Notes the images that an older `docker save` wrote: no manifests, so they are made here.
    fn note_saved(&mut self, manifest: Place, places: &BTreeMap<String, Place>) -> Result<(), ImageError> {
        let saved: Vec<Saved> = self.parse(manifest)?;
        for image in saved {
            let config = self.note_blob(&image.config, CONFIG_TYPE, places)?;
            let layers = image.layers.iter().map(|layer| self.note_blob(layer, LAYER_TYPE, places));
            let layers = layers.collect::<Result<Vec<_>, _>>()?;
            let media_type = MANIFEST_TYPES[0].to_owned();
            let manifest = Manifest { schema_version: 2, media_type: Some(media_type.clone()), config, layers };
            let bytes = serde_json::to_vec(&manifest).map_err(|error| self.malformed(error.to_string()))?;
            let bytes = Bytes::from(bytes);
            let descriptor = Descriptor {
                media_type,
                digest: sha256(&bytes),
                size: bytes.len() as u64,
                platform: None,
                annotations: BTreeMap::new(),
            };
            self.made.insert(descriptor.digest.clone(), bytes);
            for name in image.repo_tags.iter().flatten() {
                self.images.push((Reference::parse(name)?.to_string(), descriptor.clone()));
            }
        }
        Ok(())
    }

    fn note_blob(
        &mut self,
        name: &str,
        media_type: &str,
        places: &BTreeMap<String, Place>,
    ) -> Result<Descriptor, ImageError> {
        let Some(place) = places.get(name) else {
            return Err(self.malformed(format!("`{name}` is missing in it")));
        };
        let digest = self.digest(*place).map_err(ImageError::Archive)?;
        self.blobs.insert(digest.clone(), *place);
        let (media_type, size) = (media_type.to_owned(), place.size);
        Ok(Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() })
    }

    fn digest(&self, place: Place) -> io::Result<String> {
        use sha2::Digest as _;

        let mut hasher = sha2::Sha256::new();
        let mut file = &*self.file;
        file.seek(SeekFrom::Start(place.offset))?;
        io::copy(&mut file.take(place.size), &mut hasher)?;
        Ok(format!("sha256:{}", data_encoding::HEXLOWER.encode(&hasher.finalize())))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, place: Place) -> Result<T, ImageError> {
        if place.size > DOCUMENT_BYTES_MAX {
            return Err(self.malformed("its list of images is too large".to_owned()));
        }
        let bytes = read_at(&self.file, place.offset, place.size).map_err(ImageError::Archive)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.malformed(format!("its list of images is malformed: {error}")))
    }

    async fn read(&self, offset: u64, size: u64) -> Result<Bytes, ImageError> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || read_at(&file, offset, size)).await;
        read.expect("reading a file does not panic").map_err(ImageError::Archive)
    }

    fn place(&self, digest: &str) -> Result<Place, ImageError> {
        self.blobs.get(digest).copied().ok_or_else(|| self.malformed(format!("blob {digest} is missing in it")))
    }

    fn malformed(&self, problem: String) -> ImageError {
        ImageError::Malformed { origin: self.path.display().to_string(), problem }
    }
}

/// One image in the list of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Notes where each regular file is.
fn table(file: &File) -> io::Result<BTreeMap<String, Place>> {
    let mut places = BTreeMap::new();
    for entry in tar::Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        if places.len() >= ENTRIES_MAX {
            return Err(io::Error::other(format!("more than {ENTRIES_MAX} files")));
        }
        if entry.header().entry_type().is_file() {
            let place = Place { offset: entry.raw_file_position(), size: entry.size() };
            // Names are only keys here, so none can lead anywhere; `./` is how some programs begin them.
            let names = entry.path()?.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
            places.insert(names.display().to_string(), place);
        }
    }
    Ok(places)
}

fn read_at(file: &File, offset: u64, size: u64) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt as _;

    let mut buffer = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer.into())
}
