//! Secrets: values that are shown to instances and to nobody else.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

/// The most bytes of one secret.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// Bytes that are never printed, never written as they are, and overwritten in memory when the last holder lets them go.
///
/// It has no `Serialize`: who stores one must seal it first.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

/// One version of a secret, as a node holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretValue {
    /// From 1, one more each time it is set.
    pub version: u64,
    /// What it is.
    pub value: Secret,
}

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// Gives the bytes, for whoever must show or seal them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_in_what_is_printed_of_it() {
        let value = SecretValue { version: 7, value: Secret::new(b"canary".to_vec()) };

        assert_eq!(format!("{value:?}"), "SecretValue { version: 7, value: *** }");
        assert_eq!(value.value.reveal(), b"canary");
    }
}
