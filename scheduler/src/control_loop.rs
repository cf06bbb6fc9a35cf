//! The only owner of the core: receive a batch, step it, make it durable, then let it be seen.
//!
//! It runs on a thread of its own, so that a slow disk stalls decisions and nothing else. In: one bounded queue. Out, all
//! after the commit: replies (one-shot), sets and the table to the registry of sessions, the view's version (watch).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api_daemon::{identity::pin::Pin, notify};
use api_types::{
    counter::{RequestId, SessionId},
    id::NodeId,
    node::NodeFacts,
    time::Timestamp,
};
use scheduler_core::{
    Scheduler, SetChange, SetOutline,
    effect::{Accepted, Effect, Effects, Refusal},
    input::{Change, Input},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    dispatcher::registry::Registry,
    identity::node_keys::NodeKeys,
    store::{Pending, Store, StoreError, Write},
};

/// The most messages in one batch, and so in one transaction.
const BATCH_MAX: usize = 256;

/// Milliseconds in which one batch ticks again and again while there is more to place.
const TICKS_MS_MAX: u64 = 20;

/// The most messages that wait; who brings more waits.
const QUEUE_MAX: usize = 1024;

/// A question that is asked between two batches.
pub(crate) type Query = Box<dyn FnOnce(&Scheduler, Timestamp) + Send>;

/// What came of a change.
pub(crate) type Outcome = Result<Accepted, Refusal>;

/// What the loop is told.
pub(crate) enum Message {
    /// An agent said something.
    Input(Input),
    /// A session begins; the answer says whether the node is registered.
    Open { node: NodeId, session: SessionId, facts: NodeFacts, known: oneshot::Sender<bool> },
    /// A person, `by` name, asks for a change. `with` is durable together with it, if it is accepted.
    Change { by: String, change: Change, with: Vec<Write>, reply: oneshot::Sender<Outcome> },
    /// Something beside the core's state shall be durable.
    Keep { writes: Vec<Write>, done: oneshot::Sender<()> },
    /// A node renews its certificate with this key; the answer says whether it is registered still.
    Renew { node: NodeId, pin: Pin, known: oneshot::Sender<bool> },
    /// Somebody wants to look.
    Query(Query),
}

/// The loop has ended: the process is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler is stopping")]
pub(crate) struct Stopped;

/// How the rest of the program reaches the loop.
#[derive(Clone)]
pub(crate) struct LoopHandle {
    messages: mpsc::Sender<Message>,
    version: watch::Receiver<u64>,
}

/// The loop and all it owns.
pub(crate) struct ControlLoop {
    scheduler: Scheduler,
    store: Store,
    clock: Clock,
    registry: Arc<Registry>,
    keys: Arc<NodeKeys>,
    messages: mpsc::Receiver<Message>,
    version: watch::Sender<u64>,
    next_request: RequestId,
}

/// What one batch leaves to do after its commit.
#[derive(Default)]
struct Batch {
    durable: Pending,
    replies: Vec<(oneshot::Sender<Outcome>, Outcome)>,
    opened: Vec<(NodeId, oneshot::Sender<bool>)>,
    kept: Vec<oneshot::Sender<()>>,
    renewed: Vec<(oneshot::Sender<bool>, bool)>,
    queries: Vec<Query>,
    changed: BTreeSet<NodeId>,
    services_changed: bool,
    removed: Vec<NodeId>,
    waiting: BTreeMap<RequestId, (Vec<Write>, oneshot::Sender<Outcome>)>,
}

impl LoopHandle {
    /// Tells what an agent said; waits while the queue is full.
    pub(crate) async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.messages.send(Message::Input(input)).await.map_err(|_| Stopped)
    }

    /// Begins a session; says whether the node is registered.
    pub(crate) async fn open(&self, node: NodeId, session: SessionId, facts: NodeFacts) -> Result<bool, Stopped> {
        self.ask(|known| Message::Open { node, session, facts, known }).await
    }

    /// Asks for a change; `by` is told in the history, `with` is durable together with it, if it is accepted.
    pub(crate) async fn change(&self, by: String, change: Change, with: Vec<Write>) -> Result<Outcome, Stopped> {
        self.ask(|reply| Message::Change { by, change, with, reply }).await
    }

    /// Makes something beside the core's state durable.
    pub(crate) async fn keep(&self, writes: Vec<Write>) -> Result<(), Stopped> {
        self.ask(|done| Message::Keep { writes, done }).await
    }

    /// Puts a node's renewed key on record; `false` = the node is not registered any more.
    pub(crate) async fn renew(&self, node: NodeId, pin: Pin) -> Result<bool, Stopped> {
        self.ask(|known| Message::Renew { node, pin, known }).await
    }

    /// Looks at the core between two batches.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Scheduler, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        self.ask(|answer| {
            Message::Query(Box::new(move |scheduler, now| {
                // Who asked may have gone; then nobody wants the answer.
                answer.send(look(scheduler, now)).ok();
            }))
        })
        .await
    }

    /// What leads from an outline to a node's set as it is durable, with the outline of that; `None` = the node is not
    /// registered any more.
    pub(crate) async fn set_change(
        &self,
        node: NodeId,
        mut outline: SetOutline,
    ) -> Result<Option<(SetChange, SetOutline)>, Stopped> {
        self.query(move |scheduler, _| {
            let change = scheduler.set_change(&node, &mut outline)?;
            Some((change, outline))
        })
        .await
    }

    /// Whether one of the node's assignments runs this image.
    pub(crate) async fn runs_image(&self, node: NodeId, image: String) -> Result<bool, Stopped> {
        let set = self.query(move |scheduler, _| scheduler.assignment_set(&node)).await?;
        Ok(set.is_some_and(|set| {
            set.assignments.iter().any(|assignment| assignment.images().any(|needed| needed == image))
        }))
    }

    /// The version of what a reader can see, and its changes.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.clone()
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Stopped> {
        let (sender, receiver) = oneshot::channel();
        self.messages.send(message(sender)).await.map_err(|_| Stopped)?;
        receiver.await.map_err(|_| Stopped)
    }
}

impl ControlLoop {
    /// Makes the loop around a recovered core.
    pub(crate) fn new(
        scheduler: Scheduler,
        store: Store,
        clock: Clock,
        registry: Arc<Registry>,
        keys: Arc<NodeKeys>,
    ) -> (Self, LoopHandle) {
        let (sender, messages) = mpsc::channel(QUEUE_MAX);
        let (version, seen) = watch::channel(scheduler.view_version());
        registry.set_services(scheduler.service_table());
        let this =
            Self { scheduler, store, clock, registry, keys, messages, version, next_request: RequestId::default() };
        (this, LoopHandle { messages: sender, version: seen })
    }

    /// Runs until `stop`, or until the store fails: what is durable is unknown then, and only a new start tells.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut inbox = Vec::with_capacity(BATCH_MAX);
        // The watchdog hears from here and nowhere else: a loop that hangs is a scheduler that hangs.
        let mut alive = notify::watchdog_interval().map(interval);
        if let Some(alive) = &mut alive {
            alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let deadline = self.scheduler.next_deadline().map(|(due, _)| self.clock.instant_of(due));
            // All arms are cancel-safe: messages stay queued, timers lose nothing.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = self.messages.recv_many(&mut inbox, BATCH_MAX) => {
                    if received == 0 {
                        return Ok(());
                    }
                }
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
                () = tick(&mut alive), if alive.is_some() => {
                    notify::alive();
                    continue;
                }
            }
            self.perform(&mut inbox)?;
        }
    }

    fn perform(&mut self, inbox: &mut Vec<Message>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut effects = Effects::new();
        for message in inbox.drain(..) {
            self.receive(message, &mut batch, &mut effects);
            self.collect(&mut effects, &mut batch);
        }
        // A large piece of work takes many ticks: several share a transaction, as long as nobody waits for long.
        let began = self.clock.now();
        let mut now = began;
        while self.scheduler.next_deadline().is_some_and(|(due, _)| due <= now) {
            self.scheduler.step(now, Input::Tick, &mut effects);
            self.collect(&mut effects, &mut batch);
            now = self.clock.now();
            if now.since(began) >= TICKS_MS_MAX {
                break;
            }
        }
        let writes = batch.durable.take();
        if !writes.is_empty() {
            self.store.commit(&writes)?;
        }
        self.publish(batch);
        Ok(())
    }

    fn receive(&mut self, message: Message, batch: &mut Batch, effects: &mut Effects) {
        let now = self.clock.now();
        match message {
            Message::Input(input) => self.scheduler.step(now, input, effects),
            Message::Open { node, session, facts, known } => {
                self.scheduler.step(now, Input::SessionOpened { node: node.clone(), session, facts }, effects);
                batch.opened.push((node, known));
            }
            Message::Change { by, change, with, reply } => {
                let request = self.next_request;
                self.next_request = request.next();
                batch.waiting.insert(request, (with, reply));
                self.scheduler.step(now, Input::Request { request, by, change }, effects);
            }
            Message::Keep { writes, done } => {
                batch.durable.add(writes);
                batch.kept.push(done);
            }
            Message::Renew { node, pin, known } => {
                let renewed = self.keys.renew(&node, pin);
                batch.renewed.push((known, renewed.is_some()));
                batch.durable.add(renewed.flatten());
            }
            Message::Query(query) => batch.queries.push(query),
        }
    }

    fn collect(&self, effects: &mut Effects, batch: &mut Batch) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Persist(record) => batch.durable.persist(record),
                Effect::Forget(key) => batch.durable.forget(key),
                Effect::Reply { request, outcome } => {
                    let Some((with, reply)) = batch.waiting.remove(&request) else { continue };
                    if outcome.is_ok() {
                        batch.durable.add(with);
                    }
                    batch.replies.push((reply, outcome));
                }
                Effect::AssignmentsChanged(node) => {
                    batch.changed.insert(node);
                }
                Effect::ServicesChanged => batch.services_changed = true,
                Effect::NodeRemoved(node) => {
                    batch.durable.add([self.keys.forget(&node)]);
                    batch.removed.push(node);
                }
            }
        }
    }

    /// Everything here is durable.
    fn publish(&self, batch: Batch) {
        // First of all: what changes because a node is gone is not for that node.
        for node in &batch.removed {
            self.registry.remove(node);
        }
        for node in &batch.changed {
            self.registry.set_assignments(node, self.scheduler.assignment_generation(node));
        }
        if batch.services_changed {
            self.registry.set_services(self.scheduler.service_table());
        }
        for (node, known) in batch.opened {
            let generation = self.scheduler.assignment_generation(&node);
            let registered = generation.is_some();
            self.registry.set_assignments(&node, generation);
            known.send(registered).ok();
        }
        // Who asked may have gone; what was done stays done.
        for (reply, outcome) in batch.replies {
            reply.send(outcome).ok();
        }
        for done in batch.kept {
            done.send(()).ok();
        }
        for (answer, known) in batch.renewed {
            answer.send(known).ok();
        }
        let version = self.scheduler.view_version();
        self.version.send_if_modified(|seen| std::mem::replace(seen, version) != version);
        let now = self.clock.now();
        for query in batch.queries {
            query(&self.scheduler, now);
        }
    }
}

async fn tick(alive: &mut Option<tokio::time::Interval>) {
    match alive {
        Some(alive) => {
            alive.tick().await;
        }
        None => std::future::pending().await,
    }
}
