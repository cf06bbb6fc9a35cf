//! One agent's session: hello, welcome, then sets and tables down, reports up, until one side is gone.
//!
//! What was last sent is the only state. A change is made when it is sent, from what was sent to what is so now; versions in
//! between are skipped, and nothing queues up behind a slow agent.

use std::sync::Arc;

use api_types::{counter::Generation, id::NodeId, service::ServiceTable};
use proto::{
    limits::HELLO_TIMEOUT,
    session::{CurrentMarkers, FromAgent, FromScheduler, Hello, Marker, Welcome},
    update::{AssignmentsUpdate, diff_services, services_marker, whole_services},
    v1,
};
use scheduler_core::{SetChange, SetOutline, input::Input};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    Dispatcher,
    registry::{Ending, Subscription},
};
use crate::{clock, control_loop::Stopped};

/// What leaves a session; boxed, because a channel keeps room for many.
pub(super) type Outgoing = Box<Result<v1::FromScheduler, Status>>;

/// One session that said hello.
struct Session<'a> {
    dispatcher: &'a Dispatcher,
    node: NodeId,
    subscription: Subscription,
    outgoing: mpsc::Sender<Outgoing>,
    /// An outline of the set that was last sent.
    sent_assignments: SetOutline,
    sent_services: Option<Arc<ServiceTable>>,
    assignments_due: bool,
    services_due: bool,
    /// The token of a lease that the agent is to be told is renewed: only the latest counts.
    lease_due: Option<u64>,
}

/// Serves a session until it ends; the last thing sent is why.
pub(super) async fn serve(
    dispatcher: Arc<Dispatcher>,
    node: NodeId,
    mut incoming: Streaming<v1::FromAgent>,
    outgoing: mpsc::Sender<Outgoing>,
    stop: CancellationToken,
) {
    let ended = match hello(&dispatcher, &mut incoming).await {
        Ok(hello) => greet(&dispatcher, &node, hello, &mut incoming, &outgoing, &stop).await,
        Err(status) => Err(status),
    };
    if let Err(status) = ended {
        tracing::info!(%node, reason = status.message(), "session refused or ended");
        // The agent may be gone already.
        outgoing.send(Box::new(Err(status))).await.ok();
    }
}

async fn hello(dispatcher: &Dispatcher, incoming: &mut Streaming<v1::FromAgent>) -> Result<Hello, Status> {
    let first = timeout(HELLO_TIMEOUT, incoming.message());
    let late = |_| Status::deadline_exceeded("no hello came in time");
    let message = first.await.map_err(late)??.ok_or_else(|| Status::invalid_argument("no hello came"))?;
    let FromAgent::Hello(hello) = read(message)? else {
        return Err(Status::invalid_argument("the first message must be the hello"));
    };
    if hello.highest_epoch > dispatcher.epoch {
        return Err(Status::failed_precondition(format!(
            "this node has seen epoch {} and this scheduler is in epoch {}: an old copy of the state directory runs here",
            hello.highest_epoch, dispatcher.epoch
        )));
    }
    Ok(*hello)
}

async fn greet(
    dispatcher: &Dispatcher,
    node: &NodeId,
    hello: Hello,
    incoming: &mut Streaming<v1::FromAgent>,
    outgoing: &mpsc::Sender<Outgoing>,
    stop: &CancellationToken,
) -> Result<(), Status> {
    let subscription = dispatcher.registry.enter(node.clone());
    let session = subscription.session;
    let markers = (hello.assignments, hello.services);
    tracing::info!(%node, %session, agent = hello.agent_version, "session opened");
    let known = dispatcher.control.open(node.clone(), session, hello.facts).await;
    let ended = match known {
        Ok(true) => {
            let this = Session {
                dispatcher,
                node: node.clone(),
                subscription,
                outgoing: outgoing.clone(),
                sent_assignments: SetOutline::default(),
                sent_services: None,
                assignments_due: false,
                services_due: false,
                lease_due: None,
            };
            this.run(markers, incoming, stop).await
        }
        Ok(false) => Err(not_registered(node)),
        Err(stopped) => Err(stopping(stopped)),
    };
    dispatcher.registry.leave(node, session);
    // The loop may be gone; then nobody counts silence.
    dispatcher.control.input(Input::SessionClosed { node: node.clone(), session }).await.ok();
    tracing::info!(%node, %session, "session closed");
    ended
}

impl Session<'_> {
    async fn run(
        mut self,
        held: (Option<Marker>, Option<Marker>),
        incoming: &mut Streaming<v1::FromAgent>,
        stop: &CancellationToken,
    ) -> Result<(), Status> {
        self.welcome(held).await?;
        loop {
            let due = self.assignments_due || self.services_due || self.lease_due.is_some();
            let outgoing = self.outgoing.clone();
            // All arms are cancel-safe: streams and channels keep what was not taken, a permit is given back.
            tokio::select! {
                message = incoming.message() => match message? {
                    Some(message) => self.receive(message).await?,
                    None => return Ok(()),
                },
                permit = outgoing.reserve(), if due => match permit {
                    Ok(permit) => {
                        let is_current = !self.assignments_due && !self.services_due;
                        if is_current && let Some(token) = self.lease_due.take() {
                            permit.send(Box::new(Ok(FromScheduler::LeaseRenewed(token).into())));
                        } else if let Some(change) = self.next_change().await? {
                            permit.send(Box::new(Ok(change.into())));
                        }
                    }
                    Err(_) => return Ok(()),
                },
                Some(wish) = self.subscription.wishes.recv(), if !due => self.send(*wish).await?,
                Ok(()) = self.subscription.assignments.changed() => self.assignments_due = true,
                Ok(()) = self.subscription.services.changed() => self.services_due = true,
                ending = &mut self.subscription.ending => {
                    // A registry that is gone was the process's.
                    return Err(self.ended(ending.unwrap_or(Ending::Superseded)));
                }
                () = stop.cancelled() => return Err(stopping(Stopped)),
            }
        }
    }

    /// Welcomes the agent, tells it what of the held things is current, and makes the rest due.
    async fn welcome(&mut self, (assignments, services): (Option<Marker>, Option<Marker>)) -> Result<(), Status> {
        let welcome = Welcome {
            epoch: self.dispatcher.epoch,
            session: self.subscription.session,
            heartbeat_interval_ms: self.dispatcher.heartbeat_interval_ms,
            scheduler_time: clock::wall_now(),
        };
        self.send(FromScheduler::Welcome(welcome)).await?;
        self.subscription.assignments.mark_unchanged();
        let mut outline = SetOutline::default();
        let whole = self.set_change(&mut outline).await?;
        let table = self.subscription.services.borrow_and_update().clone();
        let current_set =
            whole.map(|whole| self.marker(whole.generation)).filter(|marker| Some(*marker) == assignments);
        let current_table = table.filter(|table| Some(services_marker(table)) == services);
        let current =
            CurrentMarkers { assignments: current_set, services: current_table.as_deref().map(services_marker) };
        self.assignments_due = current_set.is_none();
        self.services_due = current_table.is_none() && self.subscription.services.borrow().is_some();
        self.sent_assignments = current_set.map(|_| outline).unwrap_or_default();
        self.sent_services = current_table;
        self.send(FromScheduler::Current(current)).await
    }

    /// Why a session ends that the registry ended.
    fn ended(&self, ending: Ending) -> Status {
        match ending {
            Ending::Removed => not_registered(&self.node),
            Ending::Superseded => Status::aborted("a newer session of this node began"),
        }
    }

    /// Makes the change that is due, as of this moment; the set goes first. `None` = it was sent with the one before.
    async fn next_change(&mut self) -> Result<Option<FromScheduler>, Status> {
        // What is not due stays unseen, so that its change is noticed.
        if std::mem::take(&mut self.assignments_due) {
            // Seen first, then made: a change in between is due once more.
            self.subscription.assignments.mark_unchanged();
            let mut outline = std::mem::take(&mut self.sent_assignments);
            let change = self.set_change(&mut outline).await?;
            self.sent_assignments = outline;
            if let Some(change) = change.filter(|change| change.base != Some(change.generation)) {
                return Ok(Some(FromScheduler::Assignments(self.update(change))));
            }
        }
        if std::mem::take(&mut self.services_due) {
            let table = self.subscription.services.borrow_and_update().clone();
            // A node is taken out before the table changes for that: the key in it is for those who stay.
            if let Ok(ending) = self.subscription.ending.try_recv() {
                return Err(self.ended(ending));
            }
            let Some(table) = table else { return Ok(None) };
            let update = match &self.sent_services {
                Some(sent) => diff_services(sent, &table),
                None => whole_services(&table),
            };
            self.sent_services = Some(table);
            return Ok(Some(FromScheduler::Services(update)));
        }
        Ok(None)
    }

    /// What leads from an outline to the node's set as it is durable now; `None` for a node on its way out.
    async fn set_change(&self, outline: &mut SetOutline) -> Result<Option<SetChange>, Status> {
        let held = std::mem::take(outline);
        let made = self.dispatcher.control.set_change(self.node.clone(), held).await.map_err(stopping)?;
        Ok(made.map(|(change, after)| {
            *outline = after;
            change
        }))
    }

    fn update(&self, change: SetChange) -> AssignmentsUpdate {
        AssignmentsUpdate {
            base: change.base.map(|base| self.marker(base)),
            marker: self.marker(change.generation),
            node: self.node.clone(),
            subnet: change.subnet,
            upserts: change.upserts,
            removals: change.removals,
            secrets: self.dispatcher.vault.reveal(change.secrets).collect(),
            met: change.met,
            ahead: change.ahead,
        }
    }

    fn marker(&self, generation: Generation) -> Marker {
        Marker { epoch: self.dispatcher.epoch, generation }
    }

    async fn receive(&mut self, message: v1::FromAgent) -> Result<(), Status> {
        let (node, session) = (self.node.clone(), self.subscription.session);
        let input = match read(message)? {
            FromAgent::Hello(_) => return Err(Status::invalid_argument("hello may be said once")),
            FromAgent::Heartbeat => Input::Heartbeat { node, session },
            FromAgent::RenewLease(token) => {
                // Answered behind a look at the set, which sees all that was decided before this was heard: a node must not
                // be sure of what it was just told to end.
                self.dispatcher.control.input(Input::Heartbeat { node, session }).await.map_err(stopping)?;
                self.assignments_due = true;
                self.lease_due = Some(token);
                return Ok(());
            }
            FromAgent::RanAlone(jobs) => Input::RanAlone { node, session, jobs },
            FromAgent::Report(report) => Input::Reported {
                node,
                session,
                statuses: report.statuses,
                gone: report.gone,
                complete: report.complete,
            },
            FromAgent::NodeReport(report) => Input::NodeReported {
                node,
                session,
                conditions: report.conditions,
                facts: report.facts,
                usage: report.usage,
                instances: report.instances,
                requests: report.requests,
            },
            FromAgent::Programmed(marker) => {
                Input::Programmed { node, session, epoch: marker.epoch, generation: marker.generation }
            }
            FromAgent::VolumesMeasured(volumes) => Input::VolumesMeasured { node, session, volumes },
            FromAgent::NetworkInspected(found) => {
                self.dispatcher.inspections.inspected(&node, found);
                return Ok(());
            }
            FromAgent::ImageLoaded(loaded) => return self.dispatcher.image_loaded(&node, loaded).await,
        };
        self.dispatcher.control.input(input).await.map_err(stopping)
    }

    async fn send(&self, message: FromScheduler) -> Result<(), Status> {
        let gone = |_| Status::cancelled("the agent is gone");
        self.outgoing.send(Box::new(Ok(message.into()))).await.map_err(gone)
    }
}

fn read(message: v1::FromAgent) -> Result<FromAgent, Status> {
    FromAgent::try_from(message).map_err(|error| Status::invalid_argument(error.to_string()))
}

pub(super) fn not_registered(node: &NodeId) -> Status {
    Status::permission_denied(format!("node `{node}` is not registered here: join again with a new token"))
}

pub(super) fn stopping(stopped: Stopped) -> Status {
    Status::unavailable(stopped.to_string())
}
