//! The stream to the scheduler: dial, hello, sets and tables down, reports up; again and again, for as long as it takes.

pub(crate) mod archive;
pub(crate) mod connector;
mod logs;
pub(crate) mod outbox;
mod outgoing;
mod relays;
mod renewal;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_containerd::Containerd;
use agent_core::input::Input;
use api_daemon::identity::clock::ClockFloor;
use api_types::{assignment::AssignmentSet, counter::Epoch, service::ServiceTable};
use connector::{DialError, Dispatcher, certificate_refusal, dial};
use logs::LogStreams;
use outbox::Outbox;
use outgoing::outgoing;
use proto::{
    limits,
    session::{FromScheduler, Hello, ImageLoaded, LoadImage, Welcome},
    update::{
        AssignmentsUpdate, ServicesUpdate, apply_assignments, apply_services, assignments_marker, services_marker,
    },
    v1,
};
use relays::Relays;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::{control_loop::Message, inspection::Question, lease, membership::Membership};

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long to wait when trying again soon is no use: a person must act. Shorter than the scheduler waits for its nodes
/// after a start: one that met another cluster's scheduler meanwhile must not be given up when ours is back.
const PAUSE_REFUSED: Duration = Duration::from_secs(10);
/// A session that lasted so long ended for another reason than the one before it.
const STEADY: Duration = Duration::from_secs(10);
/// The kept time is renewed when it is older than this, in seconds: the disk is spared.
const CLOCK_STEP_S: u64 = 24 * 3600;

/// The way to the scheduler while a session is open, for those who ask for archives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link(Arc<Mutex<Option<Dispatcher>>>);

/// What this node was last told, and the newest run of a scheduler that it saw.
#[derive(Debug)]
pub(crate) struct Held {
    assignments: Option<AssignmentSet>,
    services: Option<Arc<ServiceTable>>,
    highest_epoch: Epoch,
}

/// What this node shows and by which time it judges what others show.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) floor: Arc<ClockFloor>,
    /// Told whenever the certificate was renewed.
    pub(crate) renewed: watch::Sender<Membership>,
}

/// What the session works with.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) membership: Membership,
    pub(crate) held: Held,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) containerd: Containerd,
    pub(crate) link: Link,
    pub(crate) archive_dir: PathBuf,
    pub(crate) boot_id: String,
    /// What this node shows and by which time it judges what others show.
    pub(crate) trust: Trust,
    /// Questions about the network, with the service table as it was sent.
    pub(crate) inspections: mpsc::Sender<Question>,
}

/// Why a session ended, or did not begin.
#[derive(Debug, Error)]
enum Ended {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the scheduler ended the session")]
    Closed,
    #[error("{reason}")]
    Status { reason: String, refused: bool },
    #[error("the scheduler does not answer the hello")]
    Silent,
    #[error("a message cannot be understood: {0}")]
    Unreadable(String),
    #[error("this scheduler is an old one: its epoch is {0}, epoch {1} was seen; is it restored from an old backup?")]
    OldEpoch(Epoch, Epoch),
    #[error("the agent ends")]
    Agent,
}

impl Link {
    /// Gives the way, while there is one.
    pub(crate) fn dispatcher(&self) -> Option<Dispatcher> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, dispatcher: Option<Dispatcher>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = dispatcher;
    }
}

impl Held {
    /// Begins with what the disk gave back.
    pub(crate) fn new(assignments: Option<AssignmentSet>, services: Option<Arc<ServiceTable>>) -> Self {
        let epochs = assignments.iter().map(|set| set.epoch).chain(services.iter().map(|table| table.epoch));
        let highest_epoch = epochs.max().unwrap_or_default();
        Self { assignments, services, highest_epoch }
    }
}

impl Ended {
    /// Whether trying again soon is no use.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Dial(DialError::Refused { certificate, .. }) => *certificate,
            Self::Dial(DialError::Identity(_)) | Self::OldEpoch(..) => true,
            Self::Status { refused, .. } => *refused,
            Self::Dial(DialError::Lookup { .. } | DialError::Reach { .. }) | Self::Closed | Self::Silent => false,
            Self::Unreadable(_) | Self::Agent => false,
        }
    }
}

impl Session {
    /// Keeps a session open until the token is cancelled.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut pause = PAUSE_MIN;
        let mut told = String::new();
        while !token.is_cancelled() {
            let began = Instant::now();
            // Dropping a session at any moment is safe: the next one begins with everything.
            let ended = tokio::select! {
                ended = self.once() => ended,
                () = token.cancelled() => break,
            };
            let was_open = self.link.dispatcher().is_some();
            self.link.set(None);
            if was_open && self.messages.send(Message::Input(Input::SessionClosed)).await.is_err() {
                break;
            }
            let text = ended.to_string();
            if was_open || text != told {
                tracing::warn!(scheduler = self.membership.session_address, reason = text, "no session");
                told = text;
            }
            if ended.is_refusal() {
                self.outbox.condition("identity", Err(ended.to_string()));
                pause = PAUSE_REFUSED;
            } else if began.elapsed() >= STEADY || pause == PAUSE_REFUSED {
                pause = PAUSE_MIN;
            }
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                () = token.cancelled() => break,
            }
            pause = if pause == PAUSE_REFUSED { pause } else { (pause * 2).min(PAUSE_MAX) };
        }
        Ok(())
    }

    /// One session from dial to end.
    async fn once(&mut self) -> Ended {
        let dispatcher = match dial(&self.membership, self.trust.floor.clone()).await {
            Ok(dispatcher) => dispatcher,
            Err(error) => return error.into(),
        };
        match self.speak(dispatcher).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn speak(&mut self, mut dispatcher: Dispatcher) -> Result<std::convert::Infallible, Ended> {
        let (opened, interval) = oneshot::channel();
        let said_at = lease::moment();
        let outgoing = outgoing(self.hello(), interval, self.outbox.clone());
        let opening = async {
            let mut incoming = dispatcher.session(outgoing).await?.into_inner();
            let first = incoming.message().await?;
            Ok::<_, Status>((incoming, first))
        };
        let opening = timeout(limits::HELLO_TIMEOUT, opening).await.map_err(|_| Ended::Silent)?;
        let (mut incoming, first) = opening.map_err(|status| ended_by(&status))?;
        let FromScheduler::Welcome(welcome) = read(first.ok_or(Ended::Closed)?)? else {
            return Err(Ended::Unreadable("the first message is not a welcome".to_owned()));
        };
        self.welcomed(welcome, said_at, &dispatcher).await?;
        // The other end of the channel lives in the stream that the call holds.
        opened.send(Duration::from_millis(welcome.heartbeat_interval_ms.max(1))).ok();
        self.listen(welcome, &mut incoming, &dispatcher).await
    }

    async fn welcomed(&mut self, welcome: Welcome, said_at: u64, dispatcher: &Dispatcher) -> Result<(), Ended> {
        if welcome.epoch < self.held.highest_epoch {
            return Err(Ended::OldEpoch(welcome.epoch, self.held.highest_epoch));
        }
        self.held.highest_epoch = welcome.epoch;
        let seconds = welcome.scheduler_time.0 / 1000;
        if seconds > self.trust.floor.seconds() + CLOCK_STEP_S
            && let Err(error) = self.membership.keep_clock_floor(seconds)
        {
            tracing::warn!(%error, "the scheduler's time cannot be kept");
        }
        self.trust.floor.raise(seconds);
        let scheduler = &self.membership.session_address;
        tracing::info!(scheduler, epoch = welcome.epoch.0, session = welcome.session.0, "session open");
        self.link.set(Some(dispatcher.clone()));
        self.outbox.condition("identity", Ok(format!("{} of this cluster", self.membership.node)));
        self.heard(said_at).await?;
        self.tell(Input::SessionOpened { epoch: welcome.epoch }).await
    }

    async fn listen(
        &mut self,
        welcome: Welcome,
        incoming: &mut Streaming<v1::FromScheduler>,
        dispatcher: &Dispatcher,
    ) -> Result<std::convert::Infallible, Ended> {
        let (mut logs, mut relays) = (LogStreams::new(), Relays::new());
        let mut renewal = renewal::due(&self.membership).unwrap_or_else(|_| Instant::now() + renewal::RETRY);
        loop {
            // Both arms are cancel-safe: a message stays in the stream until it is whole and taken.
            let message = tokio::select! {
                message = incoming.message() => message.map_err(|status| ended_by(&status))?.ok_or(Ended::Closed)?,
                () = sleep_until(renewal) => {
                    renewal = self.renew(dispatcher).await;
                    continue;
                }
            };
            match read(message)? {
                FromScheduler::Welcome(_) => return Err(Ended::Unreadable("a second welcome".to_owned())),
                FromScheduler::Assignments(update) => self.assigned(update, welcome.epoch).await?,
                FromScheduler::Services(update) => self.serviced(update, welcome.epoch).await?,
                FromScheduler::Current(_) => {}
                FromScheduler::OpenLogs(wanted) => {
                    logs.open(dispatcher.clone(), self.containerd.clone(), wanted);
                }
                FromScheduler::CloseLogs(request) => logs.close(request),
                FromScheduler::LoadImage(wanted) => self.load(dispatcher.clone(), wanted),
                FromScheduler::OpenRelay(wanted) => {
                    relays.open(dispatcher.clone(), self.containerd.clone(), wanted);
                }
                FromScheduler::CloseRelay(request) => relays.close(request),
                FromScheduler::LeaseRenewed(said_at) => self.heard(said_at).await?,
                FromScheduler::InspectNetwork(wish) => {
                    // One at a time: who asks again meanwhile gets no answer, and is told so after a while.
                    self.inspections.try_send((wish, self.held.services.clone())).ok();
                }
            }
        }
    }

    async fn assigned(&mut self, update: AssignmentsUpdate, epoch: Epoch) -> Result<(), Ended> {
        if update.node != self.membership.node || update.marker.epoch != epoch {
            let reason = format!("a set for {} of epoch {}", update.node, update.marker.epoch);
            return Err(Ended::Unreadable(reason));
        }
        let set = apply_assignments(self.held.assignments.as_ref(), update);
        let set = set.map_err(|gap| Ended::Unreadable(gap.to_string()))?;
        self.held.assignments = Some(set.clone());
        self.tell(Input::Assigned(set)).await
    }

    async fn serviced(&mut self, update: ServicesUpdate, epoch: Epoch) -> Result<(), Ended> {
        if update.marker.epoch != epoch {
            return Err(Ended::Unreadable(format!("a service table of epoch {}", update.marker.epoch)));
        }
        let table = apply_services(self.held.services.as_deref(), update);
        let table = Arc::new(table.map_err(|gap| Ended::Unreadable(gap.to_string()))?);
        self.held.services = Some(table.clone());
        self.tell(Input::Services(table)).await
    }

    async fn tell(&self, input: Input) -> Result<(), Ended> {
        self.messages.send(Message::Input(input)).await.map_err(|_| Ended::Agent)
    }

    async fn heard(&self, said_at: u64) -> Result<(), Ended> {
        self.messages.send(Message::Heard(said_at)).await.map_err(|_| Ended::Agent)
    }

    async fn renew(&mut self, dispatcher: &Dispatcher) -> Instant {
        if renewal::is_due(&self.membership) {
            match renewal::renew(dispatcher.clone(), &mut self.membership).await {
                Ok(()) => {
                    tracing::info!("this node's certificate was renewed");
                    self.trust.renewed.send_replace(self.membership.clone());
                }
                Err(error) => {
                    self.outbox.condition("identity", Err(error.to_string()));
                    return Instant::now() + renewal::RETRY;
                }
            }
        }
        renewal::due(&self.membership).unwrap_or_else(|_| Instant::now() + renewal::RETRY)
    }

    fn load(&self, dispatcher: Dispatcher, wanted: LoadImage) {
        let (containerd, directory, outbox) = (self.containerd.clone(), self.archive_dir.clone(), self.outbox.clone());
        tokio::spawn(async move {
            let loaded = archive::load(dispatcher, &containerd, &directory, &wanted.digest).await;
            let (images, error) = match loaded {
                Ok(images) => (images, String::new()),
                Err(error) => (Vec::new(), error.to_string()),
            };
            outbox.image_loaded(ImageLoaded { request: wanted.request, images, error });
        });
    }

    fn hello(&self) -> Hello {
        Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            assignments: self.held.assignments.as_ref().map(assignments_marker),
            services: self.held.services.as_deref().map(services_marker),
            highest_epoch: self.held.highest_epoch,
            facts: self.outbox.facts(),
        }
    }
}

fn read(message: v1::FromScheduler) -> Result<FromScheduler, Ended> {
    message.try_into().map_err(|error: proto::error::ConvertError| Ended::Unreadable(error.to_string()))
}

fn ended_by(status: &Status) -> Ended {
    let refusal = certificate_refusal(status);
    let refused = refusal.is_some() || matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated);
    Ended::Status { reason: refusal.unwrap_or_else(|| status.message().to_owned()), refused }
}

/// Full jitter: anything between a tenth of the pause and the pause, so that agents do not come back together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.1 + 0.9 * random_share())
}

/// A number from 0 to 1; the standard library seeds its hashers from the system's random numbers.
fn random_share() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
