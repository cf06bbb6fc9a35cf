//! Sealing: what lies on a disk can be read with a key alone that lies in a file of its own.
//!
//! Each piece gets a data key of its own, which is sealed with the key of the file (an envelope). Both are AES-256-GCM
//! (NIST SP 800-38D) with random nonces; a piece opens only in the context it was sealed for. It protects what leaves the
//! machine without the key: a copy of a database, a backup, a report. It does not protect from who reads all files as root.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use thiserror::Error;

use crate::durable_file;

const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
/// The first byte of what is sealed in this way.
const FORM: u8 = 1;
/// What comes before the piece itself: form, nonce and sealed data key, nonce.
const HEAD_BYTES: usize = 1 + NONCE_LEN + KEY_BYTES + TAG_BYTES + NONCE_LEN;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum SealingError {
    /// The file cannot be used.
    #[error("cannot use the key in {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a key.
    #[error("{0} is not a key of {KEY_BYTES} bytes: restore it from a backup")]
    Form(PathBuf),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// A key that seals and opens.
pub struct SealingKey {
    key: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// Reads the key in a file, which only root may read; makes one at random where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or made, or is not a key.
    pub fn open_or_make(path: &Path) -> Result<Self, SealingError> {
        let failed = |source| SealingError::File { path: path.to_owned(), source };
        let mut bytes = Vec::with_capacity(KEY_BYTES);
        match File::open(path) {
            Ok(file) => {
                file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bytes = vec![0; KEY_BYTES];
                SystemRandom::new().fill(&mut bytes).map_err(|_| SealingError::Random)?;
                durable_file::write(path, &bytes).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| SealingError::Form(path.to_owned()))?;
        bytes.fill(0);
        Ok(Self { key: LessSafeKey::new(key), random: SystemRandom::new() })
    }

    /// Seals `plain` so that it opens in `context` alone.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Vec<u8>, SealingError> {
        let random = |bytes: &mut [u8]| self.random.fill(bytes).map_err(|_| SealingError::Random);
        let (mut data_key, mut nonces) = ([0; KEY_BYTES], [[0; NONCE_LEN]; 2]);
        random(&mut data_key)?;
        random(&mut nonces[0])?;
        random(&mut nonces[1])?;
        let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        sealed.push(FORM);
        sealed.extend(nonces[0]);
        sealed.extend(sealed_with(&self.key, nonces[0], context, &data_key));
        sealed.extend(nonces[1]);
        sealed.extend(sealed_with(&aes(&data_key), nonces[1], context, plain));
        data_key.fill(0);
        Ok(sealed)
    }

    /// Opens what was sealed in this context; `None` if it was not, or not with this key.
    #[must_use]
    pub fn open(&self, context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (head, piece) = sealed.split_at_checked(HEAD_BYTES)?;
        let (form, head) = head.split_first()?;
        let (outer, head) = head.split_first_chunk()?;
        let (data_key, inner) = head.split_at_checked(KEY_BYTES + TAG_BYTES)?;
        if *form != FORM {
            return None;
        }
        let data_key = opened_with(&self.key, *outer, context, data_key)?;
        opened_with(&aes(data_key.as_slice().try_into().ok()?), inner.try_into().ok()?, context, piece)
    }
}

fn aes(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("it has as many bytes as the cipher wants"))
}

fn sealed_with(key: &LessSafeKey, nonce: [u8; NONCE_LEN], context: &str, plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(plain.len() + TAG_BYTES);
    sealed.extend(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(context), &mut sealed).expect("it is not as long as 64 GiB");
    sealed
}

fn opened_with(key: &LessSafeKey, nonce: [u8; NONCE_LEN], context: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    let plain = key.open_in_place(nonce, Aad::from(context), &mut bytes).ok()?.len();
    bytes.truncate(plain);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_in_the_same_context_alone() {
        let (key, path) = key("opens");
        let other = SealingKey::open_or_make(&path.with_extension("other")).expect("made");

        let sealed = key.seal("shop/db 1", b"canary").expect("sealed");

        assert_eq!(key.open("shop/db 1", &sealed).as_deref(), Some(b"canary".as_slice()));
        assert_eq!(key.open("shop/db 2", &sealed), None);
        assert_eq!(other.open("shop/db 1", &sealed), None);
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
        assert_ne!(key.seal("shop/db 1", b"canary").expect("sealed"), sealed, "nothing tells that two are equal");
        clean(&path);
    }

    #[test]
    fn no_changed_or_missing_byte_opens() {
        let (key, path) = key("changed");
        let sealed = key.seal("a", b"canary").expect("sealed");

        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(key.open("a", &changed), None, "byte {index}");
            assert_eq!(key.open("a", &sealed[..index]), None, "cut to {index}");
        }
        clean(&path);
    }

    #[test]
    fn a_key_is_made_once_and_only_root_reads_it() {
        let (key, path) = key("once");
        let sealed = key.seal("a", b"canary").expect("sealed");

        let again = SealingKey::open_or_make(&path).expect("read");

        assert_eq!(again.open("a", &sealed).as_deref(), Some(b"canary".as_slice()));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").expect("writable");
        assert!(matches!(SealingKey::open_or_make(&path), Err(SealingError::Form(_))));
        clean(&path);
    }

    fn key(name: &str) -> (SealingKey, PathBuf) {
        let directory = std::env::temp_dir().join(format!("wherry-sealing-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a writable directory");
        let path = directory.join("secrets.key");
        (SealingKey::open_or_make(&path).expect("made"), path)
    }

    fn clean(path: &Path) {
        fs::remove_dir_all(path.parent().expect("it has one")).expect("ours");
    }
}
