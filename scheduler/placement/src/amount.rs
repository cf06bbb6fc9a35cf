//! Amounts of CPU and memory as the columns hold them.

/// CPU and memory in 32 bits each. Made by rounding a request up ([`Amount::request`]) or a capacity down
/// ([`Amount::capacity`]), so that what fits here fits in truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount {
    /// Thousandths of one CPU.
    pub cpu_millis: u32,
    /// Memory in units of 1,024 bytes.
    pub memory_kib: u32,
}

impl Amount {
    /// What is asked for: rounded up, at least one KiB, so that an empty place in a column never takes anything.
    /// More than can be counted becomes the most that can be.
    #[must_use]
    pub fn request(cpu_millis: u64, memory_bytes: u64) -> Self {
        Self { cpu_millis: clamp(cpu_millis), memory_kib: clamp(memory_bytes.div_ceil(1 << 10).max(1)) }
    }

    /// What a node can give away: rounded down. Above 4 TiB of memory or four million CPUs the rest is not counted.
    #[must_use]
    pub fn capacity(cpu_millis: u64, memory_bytes: u64) -> Self {
        Self { cpu_millis: clamp(cpu_millis), memory_kib: clamp(memory_bytes >> 10) }
    }

    /// Whether `wanted` fits in this, in both.
    #[must_use]
    pub fn fits(self, wanted: Self) -> bool {
        wanted.cpu_millis <= self.cpu_millis && wanted.memory_kib <= self.memory_kib
    }

    /// Adds, stopping at the most that can be counted.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory_kib: self.memory_kib.saturating_add(other.memory_kib),
        }
    }

    /// Subtracts, stopping at zero.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(other.cpu_millis),
            memory_kib: self.memory_kib.saturating_sub(other.memory_kib),
        }
    }
}

fn clamp(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_up_and_capacities_round_down() {
        assert_eq!(Amount::request(50, 1_025), Amount { cpu_millis: 50, memory_kib: 2 });
        assert_eq!(Amount::capacity(50, 2_047), Amount { cpu_millis: 50, memory_kib: 1 });
        assert_eq!(Amount::request(0, 0), Amount { cpu_millis: 0, memory_kib: 1 });
        assert_eq!(Amount::capacity(0, u64::MAX).memory_kib, u32::MAX);
    }
}
