//! What the agent says: the hello, then signs of life and whatever waits.

use std::{sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use proto::{
    session::{FromAgent, Hello},
    v1,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use super::{outbox::Outbox, random_share};
use crate::lease;

enum Stage {
    Hello(Box<Hello>, oneshot::Receiver<Duration>),
    Wait(oneshot::Receiver<Duration>),
    Open { every: Duration, next: Instant },
}

/// What the agent says: the hello, and after the welcome heartbeats and whatever waits. A message is made when the
/// connection can take it, and a heartbeat goes first.
pub(super) fn outgoing(
    hello: Hello,
    interval: oneshot::Receiver<Duration>,
    outbox: Arc<Outbox>,
) -> impl Stream<Item = v1::FromAgent> + Send + 'static {
    let first = Stage::Hello(Box::new(hello), interval);
    let messages = stream::unfold((first, outbox), |(stage, outbox)| async move {
        let (every, next) = match stage {
            Stage::Hello(hello, interval) => return Some((FromAgent::Hello(hello), (Stage::Wait(interval), outbox))),
            Stage::Wait(interval) => {
                let every = interval.await.ok()?;
                (every, Instant::now() + jittered_tenth(every))
            }
            Stage::Open { every, next } => (every, next),
        };
        // Both arms are cancel-safe: nothing leaves the outbox before it is given.
        let message = tokio::select! {
            biased;
            () = sleep_until(next) => sign_of_life(&outbox),
            message = outbox.next() => message,
        };
        // Only the scheduler's rules say what counts as a heartbeat; a report does, but it is not answered.
        let is_report = matches!(message, FromAgent::Report(_)) && !outbox.renews_lease();
        let is_sign = is_report || matches!(message, FromAgent::Heartbeat | FromAgent::RenewLease(_));
        let next = if is_sign { Instant::now() + jittered_tenth(every) } else { next };
        Some((message, (Stage::Open { every, next }, outbox)))
    });
    messages.map(v1::FromAgent::from)
}

/// One that is answered, where something runs by a lease.
fn sign_of_life(outbox: &Outbox) -> FromAgent {
    if outbox.renews_lease() { FromAgent::RenewLease(lease::moment()) } else { FromAgent::Heartbeat }
}

/// The interval, ten percent more or less.
fn jittered_tenth(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * random_share())
}
