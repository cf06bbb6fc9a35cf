//! How many replicas the numbers of one metric ask for.

/// What one metric says of a service, or of the part of it in one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// How many instances were measured.
    pub(crate) measured: u64,
    /// What these have to do together.
    pub(crate) load: u128,
    /// How many more there are that do not answer yet, or did not for long enough to tell.
    pub(crate) unready: u64,
    /// What one replica shall have to do, above zero.
    pub(crate) target: u128,
}

impl Reading {
    /// How many replicas it asks for where `replicas` are wanted now; `None` = nothing was measured.
    ///
    /// The mean load of those measured may miss the target by the tolerance. Beyond it the load is shared out anew: who is not
    /// ready does nothing when there is too much to do, and as much as it shall when there is too little, so that neither
    /// makes a change larger.
    pub(crate) fn wish(&self, replicas: u32, tolerance_percent: u32) -> Option<u32> {
        if self.measured == 0 {
            return None;
        }
        let tolerance = u128::from(tolerance_percent.min(100));
        let full = u128::from(self.measured).saturating_mul(self.target.max(1));
        let enough = self.load.div_ceil(self.target.max(1));
        let number = |count: u128| u32::try_from(count).unwrap_or(u32::MAX);
        if self.load.saturating_mul(100) > full.saturating_mul(100 + tolerance) {
            return Some(number(enough).max(replicas));
        }
        if self.load.saturating_mul(100) < full.saturating_mul(100 - tolerance) {
            return Some(number(enough.saturating_add(self.unready.into())).clamp(1, replicas.max(1)));
        }
        Some(replicas)
    }

    /// The mean load in a unit in which the target is so much; `None` = nothing was measured.
    pub(crate) fn mean(&self, target: u32) -> Option<u64> {
        let full = u128::from(self.measured).checked_mul(self.target).filter(|full| *full > 0)?;
        u64::try_from(self.load.saturating_mul(target.into()) / full).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(measured: u64, load: u128, unready: u64) -> Reading {
        Reading { measured, load, unready, target: 100 }
    }

    #[test]
    fn a_load_near_its_target_changes_nothing() {
        assert_eq!(reading(4, 440, 0).wish(4, 10), Some(4));
        assert_eq!(reading(4, 360, 0).wish(4, 10), Some(4));
        assert_eq!(reading(4, 441, 0).wish(4, 10), Some(5));
        assert_eq!(reading(4, 299, 0).wish(4, 10), Some(3));
    }

    #[test]
    fn what_is_asked_for_is_not_more_once_it_is_there() {
        for load in 1..2_000 {
            let first = reading(3, load, 0).wish(3, 10).expect("measured");

            let then = reading(first.into(), load, 0).wish(first, 10).expect("measured");

            assert_eq!(then, first, "load {load}");
        }
    }

    #[test]
    fn those_who_are_not_ready_make_no_change_larger() {
        assert_eq!(reading(2, 400, 2).wish(4, 10), Some(4), "the two that start will take their part");
        assert_eq!(reading(2, 20, 2).wish(4, 10), Some(3), "they may have as much to do as they shall");
        assert_eq!(reading(0, 0, 4).wish(4, 10), None);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let most = Reading { measured: u64::MAX, load: u128::MAX, unready: u64::MAX, target: u128::MAX };

        assert_eq!(most.wish(3, 10), Some(3));
        assert_eq!(Reading { target: 1, ..most }.wish(3, 10), Some(u32::MAX));
    }
}
