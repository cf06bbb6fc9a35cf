//! What can go wrong between the plan and the kernel.

use std::{io, path::PathBuf};

/// Why the kernel is not as the plan says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot work.
    #[error("network setting `{name}`: {problem}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The kernel refused a request.
    #[error("{what}: {source}{detail}")]
    Refused {
        /// What was asked.
        what: String,
        /// What the kernel added, with a leading separator; often empty.
        detail: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// An instance asks for the node's own network, which this node's administrator does not give.
    #[error(
        "the node's own network is not given to workloads here: `allow_host_network = true` in section [network] of the \
         agent's configuration gives it"
    )]
    NotGiven,
    /// The caller is not root.
    #[error("not allowed to change the network: run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    NotAllowed,
    /// The kernel was built without something that balancing needs.
    #[error("this kernel lacks {what}: load or build the module {module}, then start the agent again")]
    KernelLacks {
        /// What is missing.
        what: String,
        /// The kernel's name for it.
        module: String,
    },
    /// A file or directory could not be used.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("the kernel's answer to {what} is cut short")]
    Answer {
        /// What was asked.
        what: &'static str,
    },
    /// Something was asked before the first plan.
    #[error("nothing is programmed yet: give a plan first")]
    Unprogrammed,
}

impl Error {
    /// Wraps a refusal without further detail.
    pub(crate) fn refused(what: impl Into<String>, source: io::Error) -> Self {
        Self::Refused { what: what.into(), detail: String::new(), source }
    }

    /// The kernel's error number, where there is one.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::File { source, .. } => source.raw_os_error(),
            Self::Setting { .. }
            | Self::NotGiven
            | Self::KernelLacks { .. }
            | Self::Answer { .. }
            | Self::NotAllowed
            | Self::Unprogrammed => None,
        }
    }
}
