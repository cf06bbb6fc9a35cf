//! When the scheduler surely had heard of this node, by a clock that goes on while the machine sleeps and that nobody sets.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use api_daemon::durable_file;
use nix::time::{ClockId, clock_gettime};

/// Two clocks are read one after the other: a difference of less than this, in milliseconds, is no sleep.
const SLEEP_MS_MIN: u64 = 100;

/// What an agent that is started again on a machine that ran on must know: it lies in the run directory, and names the machine's start.
#[derive(Debug)]
pub(crate) struct LeaseBook {
    path: PathBuf,
    boot_id: String,
    /// How long the machine had slept since its start when that was last asked, in milliseconds.
    slept_ms: u64,
    /// Whether people know that it cannot be written.
    told: bool,
}

impl LeaseBook {
    pub(crate) fn new(run_dir: &Path, boot_id: String) -> Self {
        Self { path: run_dir.join("lease"), boot_id, slept_ms: slept_ms(), told: false }
    }

    /// The moment that an earlier run of this program wrote down since the machine was started.
    pub(crate) fn kept(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.path).ok()?;
        let (boot_id, moment) = text.trim_end().split_once(' ')?;
        moment.parse().ok().filter(|_| boot_id == self.boot_id)
    }

    /// Writes a moment down. One that cannot be written costs an agent that is started again what runs by the lease.
    pub(crate) fn keep(&mut self, moment: u64) {
        let line = format!("{} {moment}\n", self.boot_id);
        let kept = durable_file::replace(&self.path, line.as_bytes());
        if let Err(error) = &kept
            && !self.told
        {
            tracing::warn!(%error, path = %self.path.display(), "the lease cannot be kept: it ends with this program");
        }
        self.told = kept.is_err();
    }

    /// For how many milliseconds the machine slept since this was last asked.
    pub(crate) fn slept(&mut self) -> u64 {
        growth(&mut self.slept_ms, slept_ms())
    }
}

/// Now, in milliseconds since the machine was started, its sleep included (`CLOCK_BOOTTIME` of clock_gettime(2)).
pub(crate) fn moment() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// How much more it is than what is known, and notes that.
fn growth(known_ms: &mut u64, total_ms: u64) -> u64 {
    let more = total_ms.saturating_sub(*known_ms);
    if more < SLEEP_MS_MIN {
        return 0;
    }
    *known_ms = total_ms;
    more
}

fn slept_ms() -> u64 {
    let awake = read(ClockId::CLOCK_MONOTONIC);
    moment().saturating_sub(awake)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).map_err(io::Error::from).expect("Linux has this clock since 2.6.39");
    let (seconds, nanos) = (time.tv_sec(), time.tv_nsec());
    u64::try_from(seconds).unwrap_or(0) * 1_000 + u64::try_from(nanos).unwrap_or(0) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_known_again_until_the_machine_is_started_anew() {
        let directory = std::env::temp_dir().join(format!("wherry-lease-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("writable");
        let mut book = LeaseBook::new(&directory, "boot-1".to_owned());
        let at_first = book.kept();

        book.keep(1_234);

        assert_eq!(at_first, None);
        assert_eq!(LeaseBook::new(&directory, "boot-1".to_owned()).kept(), Some(1_234));
        assert_eq!(LeaseBook::new(&directory, "boot-2".to_owned()).kept(), None);
        fs::write(directory.join("lease"), "boot-1").expect("writable");
        assert_eq!(book.kept(), None, "one that is torn says nothing");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn what_the_machine_slept_is_told_once_and_what_two_clocks_differ_is_none() {
        let mut known_ms = 1_000;

        let told = [1_099, 1_100, 1_150, 61_100].map(|total_ms| growth(&mut known_ms, total_ms));

        assert_eq!(told, [0, 100, 0, 60_000]);
    }

    #[test]
    fn the_moments_of_one_machine_follow_each_other() {
        let first = moment();

        assert!(first > 0 && moment() >= first);
    }
}
