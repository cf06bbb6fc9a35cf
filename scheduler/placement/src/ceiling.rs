//! What no node of a class has more of: so a search passes by the classes that are full for it, without a look at a node.
//!
//! A ceiling is the most free memory of a class's nodes among those with at least so much free CPU, for each of
//! [`LEVELS`] amounts of CPU. It may be higher than the truth, never lower: who gives back raises it, who takes leaves it,
//! and a look at a class that found nothing brings the ceiling of that look down to what there is. Ceilings only save
//! time. What is found is the same without them.

use crate::{amount::Amount, class::ClassId};

/// Amounts of CPU that are told apart: two for each doubling, from 16 thousandths of a core on.
const LEVELS: usize = 32;
/// The binary logarithm of the least amount above zero that is told apart.
const FIRST_LEVEL: u32 = 4;
/// Amounts of memory in the next eighth of the way to their double are one step.
const STEP_BITS: u32 = 3;

/// The ceilings of all classes: for each level of CPU a byte for each class, beside each other. A search asks one level only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ceilings {
    levels: [Vec<u8>; LEVELS],
}

/// What a search asks the ceilings for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Height {
    level: usize,
    step: u8,
}

impl Height {
    pub(crate) fn of(amount: Amount) -> Self {
        Self { level: level(amount.cpu_millis), step: step(amount.memory_kib) }
    }

    /// The free CPU from which on a node counts for the ceiling of this height.
    pub(crate) fn least_cpu_millis(self) -> u32 {
        let Some(above_first) = u32::try_from(self.level).ok().and_then(|level| level.checked_sub(1)) else { return 0 };
        let whole = 1 << (FIRST_LEVEL + above_first / 2);
        whole + whole / 2 * (above_first % 2)
    }
}

impl Ceilings {
    /// Adds a class without nodes.
    pub(crate) fn add(&mut self) {
        self.levels.iter_mut().for_each(|classes| classes.push(0));
    }

    /// Whether a class may have a node with so much free; if not, it has none.
    #[inline]
    pub(crate) fn admits(&self, class: ClassId, height: Height) -> bool {
        self.levels[height.level][class.0 as usize] >= height.step
    }

    /// Notes that a node of a class has so much free now.
    pub(crate) fn raise(&mut self, class: ClassId, free: Amount) {
        let height = Height::of(free);
        for classes in self.levels[..=height.level].iter_mut().rev() {
            let ceiling = &mut classes[class.0 as usize];
            // Below this level it is as high, since there are more nodes to count.
            if *ceiling >= height.step {
                return;
            }
            *ceiling = height.step;
        }
    }

    /// Notes that of the nodes of a class that count for a height none has more memory free than `most_kib`.
    pub(crate) fn lower(&mut self, class: ClassId, height: Height, most_kib: u32) {
        let step = step(most_kib);
        for classes in &mut self.levels[height.level..] {
            let ceiling = &mut classes[class.0 as usize];
            if *ceiling <= step {
                return;
            }
            *ceiling = step;
        }
    }
}

/// The greatest level that is not above an amount of CPU.
fn level(cpu_millis: u32) -> usize {
    let Some(log) = cpu_millis.checked_ilog2().filter(|log| *log >= FIRST_LEVEL) else { return 0 };
    let half = cpu_millis >> (log - 1) & 1;
    ((1 + (log - FIRST_LEVEL) * 2 + half) as usize).min(LEVELS - 1)
}

/// The step that an amount of memory is in; more memory is never in a lower one.
fn step(memory_kib: u32) -> u8 {
    let log = memory_kib.checked_ilog2().unwrap_or_default();
    let Some(shift) = log.checked_sub(STEP_BITS) else {
        return u8::try_from(memory_kib).expect("it is less than a step has amounts");
    };
    let part = memory_kib >> shift & ((1 << STEP_BITS) - 1);
    u8::try_from(log << STEP_BITS | part).expect("a logarithm has five bits, and there are three more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(cpu_millis: u32, memory_kib: u32) -> Amount {
        Amount { cpu_millis, memory_kib }
    }

    /// Whether a class with these ceilings may have room.
    fn admits(ceilings: &Ceilings, cpu_millis: u32, memory_kib: u32) -> bool {
        ceilings.admits(ClassId(0), Height::of(amount(cpu_millis, memory_kib)))
    }

    fn ceilings(free: &[Amount]) -> Ceilings {
        let mut ceilings = Ceilings::default();
        ceilings.add();
        free.iter().for_each(|free| ceilings.raise(ClassId(0), *free));
        ceilings
    }

    #[test]
    fn more_is_never_in_a_lower_step_and_the_greatest_amounts_have_one() {
        let mut amounts: Vec<u32> =
            (0..32).flat_map(|log| [-1, 0, 1].map(|by| (1_u32 << log).saturating_add_signed(by))).collect();
        amounts.sort_unstable();

        assert!(amounts.iter().map(|kib| step(*kib)).is_sorted());
        assert!(amounts.iter().map(|millis| level(*millis)).is_sorted());
        assert_eq!((step(u32::MAX), level(u32::MAX)), (255, LEVELS - 1));
        assert_eq!((step(0), level(0)), (0, 0));
        for cpu_millis in amounts {
            let from = Height::of(amount(cpu_millis, 1)).least_cpu_millis();
            assert!(from <= cpu_millis && level(from) == level(cpu_millis), "{cpu_millis}: {from}");
            assert!(from == 0 || level(from - 1) < level(from), "{from} is the least of its level");
        }
    }

    #[test]
    fn a_class_without_nodes_has_no_room_and_one_with_room_is_never_passed_by() {
        let empty = ceilings(&[]);
        let two = ceilings(&[amount(4_000, 1 << 10), amount(100, 1 << 20)]);

        assert!(!admits(&empty, 0, 1));
        assert!(admits(&two, 4_000, 1 << 10) && admits(&two, 100, 1 << 20) && admits(&two, 0, 1));
        assert!(!admits(&two, 4_000, 1 << 20), "much of both has none");
        assert!(!admits(&two, 8_000, 1), "so much CPU has none");
    }

    #[test]
    fn a_look_in_vain_lowers_what_it_saw_and_nothing_less() {
        let mut seen = ceilings(&[amount(4_000, 1 << 20), amount(100, 1 << 18)]);

        // The first is taken now, up to a little.
        seen.lower(ClassId(0), Height::of(amount(1_000, 1 << 19)), 1 << 10);

        assert!(!admits(&seen, 1_000, 1 << 19) && !admits(&seen, 2_000, 1 << 19));
        assert!(admits(&seen, 1_000, 1 << 10) && admits(&seen, 100, 1 << 18));
    }
}
