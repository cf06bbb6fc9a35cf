//! Builds small images: an OCI archive, or its blobs for a registry, from files given by path and content.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    process::Command,
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What goes into an image.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: BTreeMap<String, (u32, Vec<u8>)>,
    links: BTreeMap<String, String>,
    config: serde_json::Map<String, Value>,
}

impl Image {
    /// An image with Debian's `busybox-static`: `/bin/busybox` and links to the programs that tests use.
    ///
    /// # Errors
    /// If `busybox` is not installed.
    pub fn busybox() -> io::Result<Self> {
        let program =
            fs::read("/bin/busybox").map_err(|error| named("/bin/busybox (package busybox-static)", &error))?;
        let mut image = Self::default().file("bin/busybox", 0o755, program);
        for name in [
            "sh", "sleep", "httpd", "wget", "hostname", "cat", "ls", "echo", "env", "id", "true", "false", "kill",
            "ps", "nc", "dd", "tail", "pwd", "touch", "mount", "trap", "head", "date", "printf", "test", "rm", "mkdir",
        ] {
            image = image.link(&format!("bin/{name}"), "busybox");
        }
        Ok(image
            .file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n".to_vec())
            .file("etc/group", 0o644, b"root:x:0:\nweb:x:1000:\n".to_vec())
            .file("tmp/.keep", 0o644, Vec::new())
            .set("Env", json!(["PATH=/bin"])))
    }

    /// Adds a file at `path`, without a leading `/`.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, content: Vec<u8>) -> Self {
        self.files.insert(path.to_owned(), (mode, content));
        self
    }

    /// Adds a symbolic link at `path` to `target`.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.links.insert(path.to_owned(), target.to_owned());
        self
    }

    /// Adds a program of this machine and every shared library that it needs.
    ///
    /// # Errors
    /// If the program or a library cannot be read, or `ldd` is missing.
    pub fn program(mut self, path: &str, program: &Path) -> io::Result<Self> {
        let content = fs::read(program).map_err(|error| named(&program.display().to_string(), &error))?;
        self = self.file(path, 0o755, content);
        let output = Command::new("ldd").arg(program).output()?;
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            self = self.file(word.trim_start_matches('/'), 0o755, fs::read(word)?);
        }
        Ok(self)
    }

    /// Sets a key of the image's `config` (`Entrypoint`, `Cmd`, `Env`, `ExposedPorts`, `User`, `WorkingDir`, `StopSignal`).
    #[must_use]
    pub fn set(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// The layer, the configuration and the manifest, each addressed by its digest.
    ///
    /// # Errors
    /// If a path does not fit into a tar header.
    pub fn blobs(&self) -> io::Result<Blobs> {
        let layer = Blob::new("application/vnd.oci.image.layer.v1.tar", self.layer()?);
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
        });
        let config = Blob::new("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(), "layers": [layer.descriptor()],
        });
        let manifest = Blob::new("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into_bytes());
        Ok(Blobs { manifest, config, layer })
    }

    /// The whole image as an OCI archive (a tar of an OCI layout) with `reference` as its name.
    ///
    /// # Errors
    /// If a path does not fit into a tar header.
    pub fn archive(&self, reference: &str) -> io::Result<Vec<u8>> {
        let blobs = self.blobs()?;
        let mut descriptor = blobs.manifest.descriptor();
        let tag = reference.rsplit(':').next().unwrap_or(reference);
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", 0o644, index.to_string().as_bytes())?;
        for blob in [&blobs.config, &blobs.layer, &blobs.manifest] {
            append(&mut archive, &format!("blobs/{}", blob.digest.replace(':', "/")), 0o644, &blob.content)?;
        }
        archive.into_inner()
    }

    fn layer(&self) -> io::Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        let folders: BTreeSet<&Path> = self
            .files
            .keys()
            .chain(self.links.keys())
            .flat_map(|path| Path::new(path).ancestors().skip(1))
            .filter(|folder| !folder.as_os_str().is_empty())
            .collect();
        for folder in folders {
            let mut header =
                header(tar::EntryType::Directory, 0, if folder == Path::new("tmp") { 0o1777 } else { 0o755 });
            layer.append_data(&mut header, folder, io::empty())?;
        }
        for (path, (mode, content)) in &self.files {
            append(&mut layer, path, *mode, content)?;
        }
        for (path, target) in &self.links {
            layer.append_link(&mut header(tar::EntryType::Symlink, 0, 0o777), path, target)?;
        }
        layer.into_inner()
    }
}

/// One image taken apart.
#[derive(Clone, Debug)]
pub struct Blobs {
    /// The manifest.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The only layer.
    pub layer: Blob,
}

/// Content with its address.
#[derive(Clone, Debug)]
pub struct Blob {
    /// What it is.
    pub media_type: &'static str,
    /// `sha256:...`
    pub digest: String,
    /// The bytes.
    pub content: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, content: Vec<u8>) -> Self {
        let digest: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { media_type, digest: format!("sha256:{digest}"), content }
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.content.len() })
    }
}

/// This machine's architecture as images name it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(tar::EntryType::Regular, content.len() as u64, mode), path, content)
}

fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("read {what}: {error}"))
}
