//! What systemd wants to hear: ready, status, alive, stopping. Silent where there is no systemd.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the start is done, and how it stands.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says how it stands, in one line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Says that the end began.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// How often [`alive`] must be called: half of what systemd waits. `None` = it does not watch.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Says that the process works. To be called by the loop that does the work, not by a timer of its own.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd does not hear");
    }
}
