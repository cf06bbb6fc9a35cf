//! Makes the core's wishes so: one function for each, whose outcome comes back as an input.

mod containers;
mod images;
mod networks;

use std::{path::PathBuf, sync::Arc};

use agent_containerd::{Containerd, Secrets};
use agent_core::{
    effect::{Balancing, Effect},
    input::Input,
};
use agent_network::Network;
use api_types::{assignment::AssignmentSet, service::ServiceTable};
use proto::session::Marker;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use crate::{
    control_loop::Message,
    keeper::Shelf,
    names::Names,
    probe_runner::ProbeRunner,
    session::{Link, outbox::Outbox},
};

/// Images on their way at once. Starts are bounded by the containerd adapter.
const PULLS_MAX: usize = 3;

/// What wishes are performed with; a clone is the same one.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) containerd: Containerd,
    pub(crate) network: Arc<Network>,
    pub(crate) names: Arc<Names>,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) link: Link,
    pub(crate) archive_dir: PathBuf,
    pulls: Arc<Semaphore>,
}

/// The latest of what other parts must do: whoever reads is never behind by more than one.
#[derive(Debug)]
pub(crate) struct Latest {
    pub(crate) balancing: watch::Sender<Option<(u64, Arc<Balancing>)>>,
    /// The service table as the scheduler gave it.
    pub(crate) table: watch::Sender<Option<Arc<ServiceTable>>>,
    pub(crate) observe: Arc<Notify>,
}

/// Performs wishes. It waits for what is kept alone, and not for long: what takes time is spawned.
#[derive(Debug)]
pub(crate) struct Performer {
    tools: Tools,
    latest: Latest,
    shelf: Shelf,
    outbox: Arc<Outbox>,
    probes: ProbeRunner,
    /// The secrets of the latest set.
    secrets: Secrets,
}

impl Tools {
    pub(crate) fn new(
        containerd: Containerd,
        (network, names): (Arc<Network>, Arc<Names>),
        messages: mpsc::Sender<Message>,
        link: Link,
        archive_dir: PathBuf,
    ) -> Self {
        Self { containerd, network, names, messages, link, archive_dir, pulls: Arc::new(Semaphore::new(PULLS_MAX)) }
    }

    /// Tells the loop. It is gone only when the process ends.
    async fn tell(&self, input: Input) {
        self.messages.send(Message::Input(input)).await.ok();
    }
}

impl Latest {
    pub(crate) fn new() -> Self {
        Self { balancing: watch::Sender::new(None), table: watch::Sender::new(None), observe: Arc::new(Notify::new()) }
    }
}

impl Performer {
    /// Makes one that holds the secrets of the set from disk.
    pub(crate) fn new(
        tools: Tools,
        latest: Latest,
        shelf: Shelf,
        outbox: Arc<Outbox>,
        last: Option<&AssignmentSet>,
    ) -> Self {
        let secrets = last.map(|set| set.secrets.clone()).unwrap_or_default();
        let probes = ProbeRunner::new(Some(tools.containerd.clone()), tools.messages.clone());
        Self { tools, latest, shelf, outbox, probes, secrets }
    }

    /// Begins to make one wish so. A set that is to be kept is durable before its first wish, unless the disk is slow.
    pub(crate) async fn perform(&mut self, effect: Effect) {
        let tools = self.tools.clone();
        match effect {
            Effect::KeepAssignments(set) => {
                self.tools.names.follow(set.subnet);
                self.secrets = set.secrets.clone();
                self.shelf.assignments.keep(set).await;
            }
            Effect::KeepServices(table) => {
                self.latest.table.send_replace(Some(table.clone()));
                self.shelf.services.put(table);
            }
            Effect::KeepAddresses(addresses) => self.shelf.addresses.put(addresses),
            // What is done must not be done again: before anything of it is removed.
            Effect::KeepTries(tries) => self.shelf.tries.keep(tries).await,
            // A run must not begin twice: before it begins.
            Effect::KeepFollowed(followed) => self.shelf.followed.keep(followed).await,
            Effect::Observe => self.latest.observe.notify_one(),
            Effect::EnsureImage { image } => drop(tokio::spawn(images::ensure(tools, image))),
            Effect::EnsureNetwork { network, instance, address } => {
                drop(tokio::spawn(networks::ensure(tools, network, instance, address)));
            }
            Effect::RemoveNetwork { instance, keeps_output } => {
                drop(tokio::spawn(networks::remove(tools, instance, keeps_output)));
            }
            Effect::Start { assignment, attempt, address } => {
                let secrets = self.secrets.clone();
                drop(tokio::spawn(containers::start(tools, assignment, (attempt, address), secrets)));
            }
            // In the order of the wishes: of two versions the later one stays.
            Effect::Refresh { assignment, attempt } => {
                containers::refresh(&tools, &assignment, attempt, &self.secrets);
            }
            Effect::Stop { instance, attempt, signal, grace_ms } => {
                drop(tokio::spawn(containers::stop(tools, instance, attempt, signal, grace_ms)));
            }
            Effect::Remove { instance, attempt } => drop(tokio::spawn(containers::remove(tools, instance, attempt))),
            Effect::Companion { key, wish } => {
                drop(tokio::spawn(containers::companion(tools, key, wish, self.secrets.clone())));
            }
            Effect::StartProbe { instance, attempt, kind, address, probe } => {
                self.probes.start((instance, kind), attempt, address, probe);
            }
            Effect::StopProbe { instance, kind } => self.probes.stop(&(instance, kind)),
            Effect::ReadLastLines { instance, attempt, since } => {
                drop(tokio::spawn(containers::read_last_lines(tools, instance, attempt, since)));
            }
            Effect::ProgramServices { number, balancing } => {
                drop(self.latest.balancing.send_replace(Some((number, balancing))));
            }
            Effect::ConfirmTable((epoch, generation)) => {
                // Others end what this table no longer names: an agent that is started again must not go back behind it.
                self.shelf.services.remembered().await;
                self.outbox.table(Marker { epoch, generation });
            }
            Effect::CountConnections(addresses) => drop(tokio::spawn(networks::count_connections(tools, addresses))),
            Effect::TellAlone(followed) => self.outbox.alone(followed),
            Effect::Report(report) => self.outbox.report(report),
        }
    }
}
