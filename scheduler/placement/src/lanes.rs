//! Eight 32-bit integers at once: plain loops over fixed arrays, one operation each, which every compiler turns into vector
//! instructions and which give the same everywhere.

/// How many there are.
pub(crate) const LANES: usize = 8;

/// Eight integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lanes(pub(crate) [u32; LANES]);

impl Lanes {
    /// The same in all lanes.
    #[inline(always)]
    pub(crate) const fn all(value: u32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn zip(self, other: Self, operation: impl Fn(u32, u32) -> u32) -> Self {
        let mut lanes = self.0;
        for (lane, other) in lanes.iter_mut().zip(other.0) {
            *lane = operation(*lane, other);
        }
        Self(lanes)
    }

    #[inline(always)]
    pub(crate) fn add(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_add)
    }

    #[inline(always)]
    pub(crate) fn sub(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_sub)
    }

    #[inline(always)]
    pub(crate) fn mul(self, other: Self) -> Self {
        self.zip(other, u32::wrapping_mul)
    }

    #[inline(always)]
    pub(crate) fn and(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    #[inline(always)]
    pub(crate) fn not(self) -> Self {
        Self(self.0.map(|lane| !lane))
    }

    #[inline(always)]
    pub(crate) fn or(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    #[inline(always)]
    pub(crate) fn shift_right(self, bits: u32) -> Self {
        self.zip(self, |a, _| a >> bits)
    }

    #[inline(always)]
    pub(crate) fn shift_left(self, bits: u32) -> Self {
        self.zip(self, |a, _| a << bits)
    }

    /// The difference without its sign, of numbers below 2^31.
    #[inline(always)]
    pub(crate) fn distance(self, other: Self) -> Self {
        self.zip(other, |a, b| (a.cast_signed() - b.cast_signed()).unsigned_abs())
    }

    /// All bits where this is less, none where it is not.
    #[inline(always)]
    pub(crate) fn less(self, other: Self) -> Self {
        self.zip(other, |a, b| u32::from(a < b).wrapping_neg())
    }

    /// All bits where they are equal, none where they are not.
    #[inline(always)]
    pub(crate) fn equal(self, other: Self) -> Self {
        self.zip(other, |a, b| u32::from(a == b).wrapping_neg())
    }

    /// `other` where `mask` has all bits, this where it has none.
    #[inline(always)]
    pub(crate) fn replace(self, other: Self, mask: Self) -> Self {
        self.zip(self.zip(other, |a, b| a ^ b).and(mask), |a, differs| a ^ differs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_compared_and_replaced_one_by_one() {
        let (a, b) = (Lanes([0, 1, 2, 3, u32::MAX, 5, 6, 7]), Lanes([1, 1, 1, 1, 1, 1, 1, u32::MAX]));

        assert_eq!(a.less(b).0, [u32::MAX, 0, 0, 0, 0, 0, 0, u32::MAX]);
        assert_eq!(a.replace(b, a.less(b)).0, [1, 1, 2, 3, u32::MAX, 5, 6, u32::MAX]);
        assert_eq!(a.equal(b).0, [0, u32::MAX, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Lanes::all(3).distance(Lanes::all(10)), Lanes::all(7));
    }
}
