//! A real registry (Debian's docker-registry) on a bed's network, and pushing to it.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    http::{Reply, get, request},
    netns::inside,
    oci::{Blob, Image},
    program::Program,
    wait::try_wait_for,
};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(180);

/// A registry that was started; it speaks plain HTTP.
#[derive(Debug)]
pub struct Registry {
    program: Program,
    address: SocketAddr,
    netns: PathBuf,
}

impl Registry {
    /// Starts a registry at `address`, inside the namespace at `netns`, with its files below `folder`.
    ///
    /// # Errors
    /// If it cannot be started or does not answer, with what it said.
    pub fn start(folder: &Path, netns: &Path, address: Ipv4Addr) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let address = SocketAddr::from((address, 5000));
        let config = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            folder.join("blobs").display()
        );
        fs::write(&config, text)?;
        let command = ["docker-registry", "serve", &config.to_string_lossy()].map(str::to_owned);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let program = Program::start(Some(netns), &command, &folder.join("log"))?;
        let mut registry = Self { program, address, netns: netns.to_owned() };
        let answers = try_wait_for(START_LIMIT, || {
            let gone = !registry.program.runs();
            let reply = registry.ask(|| get(address, "/v2/", LIMIT));
            (gone || reply.is_ok_and(|reply| reply.status == 200)).then_some(!gone)
        });
        if answers != Some(true) {
            return Err(io::Error::other(format!("docker-registry does not answer:\n{}", registry.program.log())));
        }
        Ok(registry)
    }

    /// `host:port`, as it stands in image references.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pushes `image` as `name:tag` and gives the full reference.
    ///
    /// # Errors
    /// If the registry refuses.
    pub fn push(&self, image: &Image, name: &str, tag: &str) -> io::Result<String> {
        let blobs = image.blobs()?;
        self.upload(name, &blobs.config)?;
        self.upload(name, &blobs.layer)?;
        let headers = [("Content-Type", blobs.manifest.media_type)];
        let path = format!("/v2/{name}/manifests/{tag}");
        let reply = self.ask(|| request(self.address, "PUT", &path, &headers, &blobs.manifest.content, LIMIT))?;
        expect(&reply, 201, &path)?;
        Ok(format!("{}/{name}:{tag}", self.address))
    }

    fn upload(&self, name: &str, blob: &Blob) -> io::Result<()> {
        let path = format!("/v2/{name}/blobs/uploads/");
        let begun = self.ask(|| request(self.address, "POST", &path, &[], &[], LIMIT))?;
        expect(&begun, 202, &path)?;
        let location = begun.headers.get("location").ok_or_else(|| io::Error::other("an upload without a location"))?;
        let origin = format!("http://{}", self.address);
        let location = location.strip_prefix(&origin).unwrap_or(location);
        let path = format!("{location}{}digest={}", if location.contains('?') { '&' } else { '?' }, blob.digest);
        let headers = [("Content-Type", "application/octet-stream")];
        let done = self.ask(|| request(self.address, "PUT", &path, &headers, &blob.content, LIMIT))?;
        expect(&done, 201, &path)
    }

    fn ask(&self, request: impl FnOnce() -> io::Result<Reply> + Send) -> io::Result<Reply> {
        inside(&self.netns, request)?
    }
}

fn expect(reply: &Reply, status: u16, path: &str) -> io::Result<()> {
    if reply.status == status {
        return Ok(());
    }
    Err(io::Error::other(format!("the registry answers {path} with {}: {}", reply.status, reply.text())))
}
