//! Which cluster this node belongs to, and the key that proves it: a directory that only root reads.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use api_daemon::{durable_file, identity::tls::TlsError};
use api_types::{id::NodeId, join::JoinReply};
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.crt";
const AUTHORITY: &str = "ca.crt";
const MEMBERSHIP: &str = "membership.json";
const CLOCK: &str = "clock";

/// This node's place in a cluster.
#[derive(Clone)]
pub(crate) struct Membership {
    /// The node's name.
    pub(crate) node: NodeId,
    /// Where sessions are opened (`host:port`).
    pub(crate) session_address: String,
    /// PEM of the node's key.
    pub(crate) key: String,
    /// PEM of the node's certificate.
    pub(crate) certificate: String,
    /// PEM of the cluster's CAs.
    pub(crate) authority: String,
    directory: PathBuf,
}

/// Why there is no membership.
#[derive(Debug, Error)]
pub(crate) enum MembershipError {
    /// A file or directory could not be used.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is kept cannot be understood.
    #[error("{} cannot be understood: {reason}; join again with --force", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another agent works with this directory.
    #[error("another wherry-agent uses {}: stop it first", path.display())]
    Busy {
        /// Which directory.
        path: PathBuf,
    },
    /// A key or request could not be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
    /// What the scheduler sent is of no use.
    #[error("the scheduler sent a certificate that is of no use: {0}")]
    Certificate(#[from] TlsError),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    node: NodeId,
    session_address: String,
}

impl Membership {
    /// Reads what an earlier join left; `None` where nobody joined.
    pub(crate) fn load(state_dir: &Path) -> Result<Option<Self>, MembershipError> {
        let directory = directory(state_dir);
        let path = directory.join(MEMBERSHIP);
        if !path.exists() {
            return Ok(None);
        }
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).map_err(|source| MembershipError::File { path, source })
        };
        let kept: Kept = serde_json::from_str(&read(MEMBERSHIP)?)
            .map_err(|error| MembershipError::Content { path, reason: error.to_string() })?;
        Ok(Some(Self {
            node: kept.node,
            session_address: kept.session_address,
            key: read(KEY)?,
            certificate: read(CERTIFICATE)?,
            authority: read(AUTHORITY)?,
            directory: directory.clone(),
        }))
    }

    /// Keeps a new membership, instead of an earlier one if there is one: whole or not at all.
    pub(crate) fn create(state_dir: &Path, key: &KeyPair, reply: &JoinReply) -> Result<(), MembershipError> {
        let directory = directory(state_dir);
        let (draft, old) = (directory.with_extension("new"), directory.with_extension("old"));
        let wrap = |path: &Path| {
            let path = path.to_owned();
            move |source| MembershipError::File { path, source }
        };
        for leftover in [&draft, &old] {
            remove(leftover).map_err(wrap(leftover))?;
        }
        DirBuilder::new().mode(0o700).create(&draft).map_err(wrap(&draft))?;
        let kept = Kept { node: reply.node.clone(), session_address: reply.session_address.clone() };
        let kept = serde_json::to_string(&kept)
            .map_err(|error| MembershipError::Content { path: draft.join(MEMBERSHIP), reason: error.to_string() })?;
        let files = [
            (KEY, &key.serialize_pem()),
            (CERTIFICATE, &reply.certificate),
            (AUTHORITY, &reply.ca),
            (MEMBERSHIP, &kept),
        ];
        for (name, content) in files {
            let path = draft.join(name);
            durable_file::write(&path, content.as_bytes()).map_err(wrap(&path))?;
        }
        if directory.exists() {
            fs::rename(&directory, &old).map_err(wrap(&directory))?;
        }
        fs::rename(&draft, &directory).map_err(wrap(&directory))?;
        durable_file::sync_directory(&directory).map_err(wrap(&directory))?;
        remove(&old).map_err(wrap(&old))
    }

    /// Replaces the certificate by a renewed one for the same key.
    pub(crate) fn renew(&mut self, certificate: String, authority: String) -> Result<(), MembershipError> {
        for (name, content) in [(AUTHORITY, &authority), (CERTIFICATE, &certificate)] {
            let path = self.directory.join(name);
            durable_file::write(&path, content.as_bytes()).map_err(|source| MembershipError::File { path, source })?;
        }
        (self.certificate, self.authority) = (certificate, authority);
        Ok(())
    }

    /// Makes a signing request for the node's key.
    pub(crate) fn signing_request(&self) -> Result<String, MembershipError> {
        signing_request(&KeyPair::from_pem(&self.key)?)
    }

    /// The newest time that a scheduler told, in seconds since 1970; 0 = none yet.
    pub(crate) fn clock_floor(&self) -> u64 {
        fs::read_to_string(self.directory.join(CLOCK)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Keeps the newest time that a scheduler told.
    pub(crate) fn keep_clock_floor(&self, seconds: u64) -> io::Result<()> {
        durable_file::write(&self.directory.join(CLOCK), format!("{seconds}\n").as_bytes())
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Makes the state directory, and keeps other agents out of it as long as the file lives.
pub(crate) fn lock(state_dir: &Path) -> Result<File, MembershipError> {
    let wrap = |source| MembershipError::File { path: state_dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir).map_err(wrap)?;
    let file = File::create(state_dir.join("lock")).map_err(wrap)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(MembershipError::Busy { path: state_dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(wrap(source)),
    }
}

/// Makes a signing request; the scheduler ignores every name in it.
pub(crate) fn signing_request(key: &KeyPair) -> Result<String, MembershipError> {
    Ok(CertificateParams::default().serialize_request(key)?.pem()?)
}

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("identity")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_membership_is_kept_whole_and_secret_and_can_be_replaced() {
        let state = std::env::temp_dir().join(format!("wherry-membership-{}", std::process::id()));
        let lock = lock(&state).expect("nobody else");
        let key = KeyPair::generate().expect("a key");
        let reply = |node: &str| JoinReply {
            node: NodeId::new(node).expect("a name"),
            certificate: "certificate".to_owned(),
            ca: "ca".to_owned(),
            session_address: "10.0.0.1:7700".to_owned(),
        };

        assert!(Membership::load(&state).expect("readable").is_none());
        Membership::create(&state, &key, &reply("edge-1")).expect("writable");
        Membership::create(&state, &key, &reply("edge-2")).expect("writable");
        let mut membership = Membership::load(&state).expect("readable").expect("joined");
        membership.renew("renewed".to_owned(), "ca".to_owned()).expect("writable");

        let read = Membership::load(&state).expect("readable").expect("joined");
        assert_eq!((read.node.as_str(), read.certificate.as_str()), ("edge-2", "renewed"));
        assert_eq!(read.key, key.serialize_pem());
        let mode = fs::metadata(state.join("identity/node.key")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(super::lock(&state), Err(MembershipError::Busy { .. })), "one agent for each state");
        drop(lock);
        fs::remove_dir_all(state).expect("ours");
    }
}
