//! What can fail here, in words for people.

use std::path::PathBuf;

use tonic::Status;

/// A call to containerd, or the work around it, that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// containerd is away; the channel dials again by itself at the next call.
    #[error("containerd does not answer at {socket}: {reason}; is the service running", socket = socket.display())]
    Away {
        /// Where it was asked.
        socket: PathBuf,
        /// What the connection said.
        reason: String,
    },
    /// containerd answered with an error.
    #[error("containerd refused {call}: {}", status.message())]
    Refused {
        /// Which call.
        call: &'static str,
        /// Its answer.
        #[source]
        status: Box<Status>,
    },
    /// A file or directory of ours could not be used.
    #[error("cannot use {path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process outlived SIGKILL.
    #[error("the process of {container} did not end within {seconds} s of SIGKILL")]
    Unkillable {
        /// Which container.
        container: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A setting makes no sense.
    #[error("setting `{setting}`: {problem}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The signal's name is unknown.
    #[error("`{0}` is not a signal: use a name such as SIGTERM, or a number from 1 to 64")]
    Signal(String),
}

impl Error {
    /// Whether containerd is away: nothing can be said of containers until it is back and was listed again.
    #[must_use]
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// An image that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The text is not an image name.
    #[error("`{image}` is not an image name: {problem}")]
    Name {
        /// What was given.
        image: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The registry has no such image.
    #[error("image {image} was not found in the registry (404); check its name and tag")]
    NotFound {
        /// Which.
        image: String,
    },
    /// The registry wants other credentials.
    #[error(
        "registry {host} refused access to {image} ({status}); check username and password of its [[registry]] entry"
    )]
    Unauthorized {
        /// Which registry.
        host: String,
        /// Which image.
        image: String,
        /// HTTP status.
        status: u16,
    },
    /// The registry speaks HTTP where TLS was expected.
    #[error("registry {host} speaks plain HTTP; name it in [[registry]] with plain_http = true")]
    PlainHttp {
        /// Which registry.
        host: String,
    },
    /// The registry could not be reached, or broke off.
    #[error("registry {host}: {problem}")]
    Registry {
        /// Which registry.
        host: String,
        /// What happened.
        problem: String,
    },
    /// The image has nothing for this machine.
    #[error("image {image} has no variant for linux/{architecture}; it has {present}")]
    Platform {
        /// Which.
        image: String,
        /// What was looked for.
        architecture: String,
        /// What it has.
        present: String,
    },
    /// What was given is not an image that we can run.
    #[error("{origin} is not a usable image: {problem}")]
    Malformed {
        /// The image or archive.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// The archive could not be read.
    #[error("cannot read the archive: {0}")]
    Archive(#[source] std::io::Error),
    /// containerd did not take it.
    #[error(transparent)]
    Containerd(#[from] Error),
}

impl ImageError {
    /// Whether the image is not there for anybody who asks for it on such a machine: trying again helps only once somebody put it there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Name { .. } | Self::NotFound { .. } | Self::Platform { .. } => true,
            Self::Unauthorized { .. } | Self::PlainHttp { .. } | Self::Registry { .. } => false,
            Self::Malformed { .. } | Self::Archive(_) | Self::Containerd(_) => false,
        }
    }
}

/// A container that could not be started. Nothing of the attempt is left.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The image is gone from the node: it must be had first.
    #[error("image {image} is not on this node")]
    ImageMissing {
        /// Which.
        image: String,
    },
    /// The node's configuration or the rules of a spec do not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// The spec cannot be run on this image.
    #[error("{0}")]
    Spec(String),
    /// The runtime could not start the process; one line for people.
    #[error("{0}")]
    Process(String),
    /// containerd did not do it.
    #[error(transparent)]
    Containerd(#[from] Error),
}

/// A command that could not be run in a container. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No process of the instance runs here.
    #[error("`{0}` does not run on this node at the moment")]
    NotRunning(String),
    /// The program was not found.
    #[error("{0}")]
    NotFound(String),
    /// The program may not be executed.
    #[error("{0}")]
    NotExecutable(String),
    /// Its process has no input that a person could write to.
    #[error("the process of `{0}` takes no input: its manifest must say stdin = true")]
    NoInput(String),
    /// Its process has no terminal.
    #[error("the process of `{0}` has no terminal: its manifest must say tty = true; `-i` alone sends what is read")]
    NoTerminal(String),
    /// As many people are attached as may be.
    #[error("too many people are attached to it already: one of them must leave first")]
    Crowded,
    /// The container's own specification is of no use.
    #[error("cannot run a command in this container: {0}")]
    Spec(String),
    /// The runtime could not start it; one line for people.
    #[error("{0}")]
    Process(String),
    /// containerd did not do it.
    #[error(transparent)]
    Containerd(#[from] Error),
}

/// Files that could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The instance's files cannot be reached.
    #[error(transparent)]
    Instance(#[from] ExecError),
    /// What was sent must not be written.
    #[error("{0}")]
    Refused(String),
    /// Something could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which, as it is in the container or the archive.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl CopyError {
    pub(crate) fn at(path: &str, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

/// Output that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The instance has written nothing here, or its output is gone.
    #[error("there is no output of {0} on this node")]
    Absent(String),
    /// A file could not be read.
    #[error("cannot read the output of {instance}: {source}")]
    Read {
        /// Whose.
        instance: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
