//! The long-lived parts of a process: each has a name and a policy for its failure; all end with the token.

use std::{fmt::Display, future::Future, time::Duration};

use thiserror::Error;
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long parts may take to end after the token is cancelled.
const END_LIMIT: Duration = Duration::from_secs(15);
/// A part that ran for so long before it failed begins with the shortest pause again.
const STEADY: Duration = Duration::from_secs(60);
/// More parts than this are a mistake.
const PARTS_MAX: usize = 32;

/// What the failure of a part means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The process ends.
    EndProcess,
    /// The part begins again, after a pause that doubles up to `pause_max`.
    Restart {
        /// The first pause.
        pause_min: Duration,
        /// The longest pause.
        pause_max: Duration,
    },
}

/// A part failed, and its policy is to end the process.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum PartFailed {
    /// It gave an error.
    #[error("{part}: {reason}")]
    Error {
        /// Which part.
        part: &'static str,
        /// Why.
        reason: String,
    },
    /// It panicked.
    #[error("{part} panicked")]
    Panic {
        /// Which part.
        part: &'static str,
    },
    /// It ended although nobody asked it to.
    #[error("{part} ended by itself")]
    Ended {
        /// Which part.
        part: &'static str,
    },
}

/// Runs parts until the token is cancelled or one fails for good.
#[derive(Debug)]
pub struct Supervisor {
    token: CancellationToken,
    parts: JoinSet<Result<(), PartFailed>>,
    names: Vec<(Id, &'static str)>,
}

impl Supervisor {
    /// Makes a supervisor whose parts end with `token`.
    #[must_use]
    pub fn new(token: CancellationToken) -> Self {
        Self { token, parts: JoinSet::new(), names: Vec::new() }
    }

    /// Starts a part whose failure ends the process. It must end by itself when the token is cancelled.
    ///
    /// # Panics
    /// When there are more than 32 parts.
    pub fn spawn_once<E: Display + 'static>(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let mut part = Some(part);
        self.spawn(name, Policy::EndProcess, move || {
            let part = part.take();
            async move {
                match part {
                    Some(part) => part.await.map_err(|error| error.to_string()),
                    None => Err("it cannot begin twice".to_owned()),
                }
            }
        });
    }

    /// Starts a part. `part` is called again for each new beginning; it must end by itself when the token is cancelled.
    ///
    /// # Panics
    /// When there are more than 32 parts.
    pub fn spawn<F, E>(&mut self, name: &'static str, policy: Policy, part: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display + 'static,
    {
        assert!(self.names.len() < PARTS_MAX, "a process has at most {PARTS_MAX} parts");
        let handle = self.parts.spawn(run_part(name, policy, self.token.clone(), part));
        self.names.push((handle.id(), name));
    }

    /// Waits until all parts ended.
    ///
    /// # Errors
    /// The first failure whose policy is to end the process.
    pub async fn run(mut self) -> Result<(), PartFailed> {
        let mut first = Ok(());
        let mut end: Option<Instant> = None;
        while !self.parts.is_empty() {
            // Both arms are cancel-safe: a part that ended stays in the set until it is taken.
            let ended = tokio::select! {
                ended = self.parts.join_next_with_id() => ended,
                () = self.token.cancelled(), if end.is_none() => {
                    end = Some(Instant::now() + END_LIMIT);
                    continue;
                }
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    tracing::warn!(parts = self.parts.len(), "parts did not end in time");
                    self.parts.abort_all();
                    break;
                }
            };
            let Some(ended) = ended else { break };
            let failed = match ended {
                Ok((_, Ok(()))) => continue,
                Ok((_, Err(failed))) => failed,
                Err(error) => PartFailed::Panic { part: self.name(error.id()) },
            };
            if first.is_ok() {
                first = Err(failed);
            }
            self.token.cancel();
        }
        first
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.iter().find(|(known, _)| *known == id).map_or("a part", |(_, name)| name)
    }
}

async fn run_part<F, E>(
    name: &'static str,
    policy: Policy,
    token: CancellationToken,
    mut part: impl FnMut() -> F,
) -> Result<(), PartFailed>
where
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let mut pause = Duration::ZERO;
    loop {
        let began = Instant::now();
        let failed = match part().await {
            Ok(()) if token.is_cancelled() => return Ok(()),
            Ok(()) => PartFailed::Ended { part: name },
            Err(error) => PartFailed::Error { part: name, reason: error.to_string() },
        };
        let Policy::Restart { pause_min, pause_max } = policy else { return Err(failed) };
        let steady = began.elapsed() >= STEADY;
        pause = if steady || pause.is_zero() { pause_min } else { (pause * 2).min(pause_max) };
        tracing::warn!(part = name, %failed, pause_ms = pause.as_millis(), "a part failed and begins again");
        if timeout(pause, token.cancelled()).await.is_ok() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    const RESTART: Policy =
        Policy::Restart { pause_min: Duration::from_millis(1), pause_max: Duration::from_millis(4) };

    #[tokio::test]
    async fn a_failure_ends_all_parts_and_is_named() {
        let token = CancellationToken::new();
        let mut supervisor = Supervisor::new(token.clone());
        supervisor.spawn("patient", Policy::EndProcess, move || {
            let token = token.clone();
            async move {
                token.cancelled().await;
                Ok::<(), String>(())
            }
        });
        supervisor.spawn("weak", Policy::EndProcess, || async { Err("no disk") });

        let ended = supervisor.run().await;

        assert_eq!(ended, Err(PartFailed::Error { part: "weak", reason: "no disk".to_owned() }));
    }

    #[tokio::test]
    async fn a_part_that_may_begin_again_does_so_until_the_end() {
        let token = CancellationToken::new();
        let mut supervisor = Supervisor::new(token.clone());
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        supervisor.spawn("shaky", RESTART, move || {
            if counted.fetch_add(1, Ordering::Relaxed) == 4 {
                token.cancel();
            }
            async { Err("lost") }
        });

        assert_eq!(supervisor.run().await, Ok(()));
        assert_eq!(runs.load(Ordering::Relaxed), 5);
    }

    #[tokio::test]
    async fn a_part_that_just_ends_is_a_failure() {
        let mut supervisor = Supervisor::new(CancellationToken::new());
        supervisor.spawn("brief", Policy::EndProcess, || async { Ok::<(), String>(()) });

        assert_eq!(supervisor.run().await, Err(PartFailed::Ended { part: "brief" }));
    }
}
