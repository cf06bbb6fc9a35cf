//! Looks at what containerd and the kernel have, whenever something hints that it changed.

use std::{convert::Infallible, sync::Arc, time::Duration};

use agent_containerd::{Attempt, Containerd, Event, Found, FoundProcess};
use agent_core::input::{CompanionAttempt, CompanionEvent, Input, ObservedContainer, ObservedNetwork, ObservedProcess};
use agent_network::Network;
use api_types::{id::InstanceId, instance::Exit};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{control_loop::Message, session::outbox::Outbox};

/// Events that may wait.
const EVENTS_MAX: usize = 256;
/// The pause after a look that failed while containerd answers.
const RETRY: Duration = Duration::from_secs(2);

/// The observer.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) containerd: Containerd,
    pub(crate) network: Arc<Network>,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) outbox: Arc<Outbox>,
    /// Notified by whoever wants another look.
    pub(crate) wanted: Arc<Notify>,
}

impl Observer {
    /// Watches until the token is cancelled. containerd may be away for as long as it likes.
    pub(crate) async fn run(self, token: CancellationToken) -> Result<(), Infallible> {
        let (sender, mut events) = mpsc::channel(EVENTS_MAX);
        let containerd = self.containerd.clone();
        let watching = tokio::spawn(async move { containerd.events(sender).await });
        let containerd = self.containerd.clone();
        let keeping = tokio::spawn(async move { containerd.keep_outputs().await });
        let (mut swept, mut retry_at) = (false, None::<Instant>);
        loop {
            // All arms are cancel-safe: events and permits stay until they are taken.
            let look = tokio::select! {
                () = token.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => self.event(event).await,
                    None => break,
                },
                () = self.wanted.notified() => true,
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => true,
            };
            if look {
                retry_at = match self.look(&mut swept).await {
                    Ok(()) => None,
                    Err(reason) => {
                        tracing::warn!(reason, "cannot look at what is there");
                        Some(Instant::now() + RETRY)
                    }
                };
            }
        }
        watching.abort();
        keeping.abort();
        Ok(())
    }

    /// Passes an event on; true when it asks for a look.
    async fn event(&self, event: Event) -> bool {
        match event {
            Event::Changed => true,
            Event::Exited { instance, attempt, exit } => {
                tracing::info!(%instance, %attempt, ?exit, "exited");
                self.tell(exited(instance, attempt, exit)).await;
                false
            }
            Event::Away { reason } => {
                self.away(&reason).await;
                false
            }
        }
    }

    async fn away(&self, reason: &str) {
        let names_it = reason.starts_with("containerd");
        let reason = if names_it { reason.to_owned() } else { format!("containerd does not answer: {reason}") };
        self.outbox.condition("runtime", Err(reason));
        self.outbox.runtime_version(String::new());
        self.tell(Input::RuntimeLost).await;
    }

    async fn look(&self, swept: &mut bool) -> Result<(), String> {
        let looked = async {
            if !*swept {
                self.containerd.sweep().await?;
                *swept = true;
            }
            let version = self.containerd.version().await?;
            Ok::<_, agent_containerd::Error>((version, self.containerd.list().await?))
        };
        let (version, found) = match looked.await {
            Ok(looked) => looked,
            // Its return is an event.
            Err(error) if error.is_away() => {
                self.away(&error.to_string()).await;
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        };
        let networks = self.network.list_instances().await.map_err(|error| error.to_string())?;
        self.outbox.condition("runtime", Ok(format!("containerd {version}")));
        self.outbox.runtime_version(version);
        let networks = networks.into_iter().map(|(instance, address)| ObservedNetwork { instance, address });
        let containers = found.into_iter().map(observed).collect();
        self.tell(Input::Observed { containers, networks: networks.collect() }).await;
        Ok(())
    }

    async fn tell(&self, input: Input) {
        self.messages.send(Message::Input(input)).await.ok();
    }
}

fn exited(instance: InstanceId, Attempt { companion, number }: Attempt, exit: Exit) -> Input {
    match companion {
        None => Input::Exited { instance, attempt: number, exit },
        Some(companion) => {
            let key = CompanionAttempt { instance, companion, attempt: number };
            Input::Companion { key, event: CompanionEvent::Exited { exit } }
        }
    }
}

fn observed(found: Found) -> ObservedContainer {
    let process = match found.process {
        FoundProcess::Running { pid, started_at } => ObservedProcess::Running { pid, started_at },
        FoundProcess::Ended(exit) => ObservedProcess::Ended(exit),
    };
    let Attempt { companion, number } = found.attempt;
    ObservedContainer { instance: found.instance, companion, attempt: number, process }
}
