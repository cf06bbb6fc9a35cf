//! What time it is for certificates, on machines whose clock may start in 1970.
//!
//! A clock that is earlier than a moment known to have passed is plainly wrong; then a certificate that is "not valid
//! yet" is accepted. Expiry is always checked, against the later of the clock and that moment.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls_pki_types::UnixTime;

/// A lower bound of the time, in seconds since 1970: the newest time that an authenticated scheduler told.
#[derive(Debug, Default)]
pub struct ClockFloor(AtomicU64);

impl ClockFloor {
    /// Begins with what an earlier run kept.
    #[must_use]
    pub fn new(seconds: u64) -> Self {
        Self(AtomicU64::new(seconds))
    }

    /// Notes a time that has certainly passed.
    pub fn raise(&self, seconds: u64) {
        self.0.fetch_max(seconds, Ordering::Relaxed);
    }

    /// Gives the bound, in seconds since 1970.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Gives the time by which to judge a certificate. `trusted` is the beginning of the validity of a CA that is
    /// trusted already, `begins` that of the certificate.
    #[must_use]
    pub(crate) fn judge_at(&self, system: UnixTime, trusted: u64, begins: u64) -> UnixTime {
        let floor = self.seconds().max(trusted);
        let believed = system.as_secs().max(floor);
        let plainly_wrong = system.as_secs() < floor;
        let seconds = if plainly_wrong { believed.max(begins) } else { believed };
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }
}
