//! Owns the core: receive → step → perform. The only place where the node's state changes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use agent_containerd::Attempt;
use agent_core::{
    Agent,
    input::{CompanionAttempt, Input},
};
use api_daemon::notify;
use api_types::{id::InstanceId, instance::InstanceState};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    lease::{self, LeaseBook},
    perform::Performer,
    session::outbox::Outbox,
};

/// What the parts may have waiting for the loop.
pub(crate) const MESSAGES_MAX: usize = 256;
/// Two ticks are at least this far apart, whatever the core's deadlines say.
const TICK_MIN: Duration = Duration::from_millis(5);
/// systemd is told of the start's end at the latest after this, with or without containerd.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// A timer that is always set: how long to sleep when there is nothing to wait for.
const LONG: Duration = Duration::from_secs(3600);
/// While something runs by a lease, or by the wall clock, it is asked so often whether the machine slept, as timers did, too, and
/// whether somebody set that clock.
const LOOK: Duration = Duration::from_secs(1);

/// The wall clock is ahead or behind by something else once that differs by so many milliseconds: it is also corrected a little.
const WALL_MS_MIN: u64 = 1_000;

/// What the loop is told or asked.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something happened.
    Input(Input),
    /// The scheduler heard what this node said at this [`lease::moment`].
    Heard(u64),
    /// Which attempts run, of main containers and of companions?
    Running(oneshot::Sender<Vec<(InstanceId, Attempt)>>),
}

/// The loop.
#[derive(Debug)]
pub(crate) struct ControlLoop {
    pub(crate) core: Agent,
    pub(crate) clock: Clock,
    pub(crate) messages: mpsc::Receiver<Message>,
    pub(crate) performer: Performer,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) lease: LeaseBook,
    /// How far the wall clock is ahead of the core's time, as the core was told.
    pub(crate) wall_ahead_ms: i64,
}

impl ControlLoop {
    /// Runs until the token is cancelled. Instances run on.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Infallible> {
        let watchdog = notify::watchdog_interval();
        let mut alive_at = Instant::now();
        let mut ready = Ready { told: false, latest: Instant::now() + READY_LIMIT };
        let mut last_tick = Instant::now();
        if let Some(moment) = self.lease.kept() {
            self.heard(moment).await;
        }
        loop {
            let deadline = self.core.next_deadline().map(|(at, _)| self.clock.instant(at).max(last_tick + TICK_MIN));
            let watch_at = watchdog.map(|every| alive_at + every);
            let ready_at = (!ready.told).then_some(ready.latest);
            let looks = self.core.holds_leases() || self.core.follows_schedules();
            let look_at = looks.then(|| Instant::now() + LOOK);
            let wake = [deadline, watch_at, ready_at, look_at].into_iter().flatten().min();
            // All arms are cancel-safe: a message stays in the channel until it is received.
            tokio::select! {
                biased;
                () = token.cancelled() => return Ok(()),
                message = self.messages.recv() => match message {
                    Some(message) => self.receive(message, &mut ready).await,
                    None => return Ok(()),
                },
                () = sleep_until(wake.unwrap_or_else(|| Instant::now() + LONG)) => {}
            }
            let now = Instant::now();
            if deadline.into_iter().chain(look_at).any(|at| at <= now) {
                last_tick = now;
                self.step(Input::Tick).await;
            }
            if watch_at.is_some_and(|at| at <= now) {
                alive_at = now;
                notify::alive();
            }
            if ready_at.is_some_and(|at| at <= now) {
                ready.tell("waiting for containerd");
            }
        }
    }

    async fn receive(&mut self, message: Message, ready: &mut Ready) {
        match message {
            Message::Running(answer) => {
                let running = self.core.instances().filter(|(_, _, state, _)| *state == InstanceState::Running);
                let running = running.map(|(id, attempt, _, _)| (id, Attempt::from(attempt)));
                let beside = self.core.companions_running().map(|CompanionAttempt { instance, companion, attempt }| {
                    (instance, Attempt { companion: Some(companion), number: attempt })
                });
                // Whoever asked may have gone.
                answer.send(running.chain(beside).collect()).ok();
            }
            Message::Heard(moment) => {
                self.lease.keep(moment);
                self.heard(moment).await;
            }
            Message::Input(input) => {
                if matches!(input, Input::SessionOpened { .. }) {
                    self.outbox.begin();
                }
                let is_list = matches!(input, Input::Observed { .. });
                self.step(input).await;
                if is_list && !ready.told {
                    ready.tell(&format!("{} instances", self.core.instances().count()));
                }
            }
        }
    }

    async fn heard(&mut self, moment: u64) {
        // Only now: whatever time went by since it was heard is part of its age.
        self.step(Input::LeaseRenewed { age_ms: lease::moment().saturating_sub(moment) }).await;
    }

    async fn step(&mut self, input: Input) {
        tracing::trace!(?input, "step");
        let (mut effects, ms) = (Vec::new(), self.lease.slept());
        if ms > 0 {
            self.core.step(self.clock.now(), Input::Slept { ms }, &mut effects);
        }
        let ahead_ms = self.clock.wall_ahead_ms();
        if ahead_ms.abs_diff(self.wall_ahead_ms) >= WALL_MS_MIN {
            self.wall_ahead_ms = ahead_ms;
            self.core.step(self.clock.now(), Input::WallClock { ahead_ms }, &mut effects);
        }
        self.core.step(self.clock.now(), input, &mut effects);
        self.outbox.renew_lease(self.core.holds_leases());
        for effect in effects {
            tracing::debug!(?effect, "perform");
            self.performer.perform(effect).await;
        }
    }
}

struct Ready {
    told: bool,
    latest: Instant,
}

impl Ready {
    fn tell(&mut self, status: &str) {
        self.told = true;
        tracing::info!(status, "ready");
        notify::ready(status);
    }
}
