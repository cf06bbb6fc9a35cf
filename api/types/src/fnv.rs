//! FNV-1a (draft-eastlake-fnv), 64 bits: a sum that is small and the same on every machine. Whoever chooses the bytes can
//! make two of them equal, so nothing that must be safe rests on it.

/// The sum of no bytes.
pub const EMPTY: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The sum of some bytes.
#[must_use]
pub fn sum(bytes: impl IntoIterator<Item = u8>) -> u64 {
    sum_after(EMPTY, bytes)
}

/// The sum of the bytes that `before` is of, and then these.
#[must_use]
pub fn sum_after(before: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(before, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the draft's table of test vectors.
    #[test]
    fn sums_are_as_published() {
        assert_eq!(sum(*b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(sum(*b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(sum(*b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(sum_after(sum(*b"foo"), *b"bar"), sum(*b"foobar"));
    }
}
