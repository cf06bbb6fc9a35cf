//! Runs a node: disk first, then the parts side by side. No part needs the scheduler.

use std::{io, net::Ipv4Addr, sync::Arc};

use agent_containerd::Containerd;
use agent_core::{Agent, Settings, effect::Balancing};
use agent_network::Network;
use api_daemon::{
    identity::clock::ClockFloor,
    notify, shutdown,
    supervisor::{PartFailed, Supervisor},
};
use api_types::{assignment::AssignmentSet, id::NodeId, service::ServiceTable};
use sysinfo::System;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    address,
    balancing::Balancer,
    clock::Clock,
    config::{Config, ConfigProblem},
    control_loop::{ControlLoop, MESSAGES_MAX, Message},
    devices::Watch,
    facts::{self, Sampler},
    gateway::HttpPorts,
    inspection::{Inspector, Question},
    keeper::Keeper,
    last_assignments::{LastAssignments, Recovered},
    lease::LeaseBook,
    machine_end::{self, Farewell},
    membership::{self, Membership, MembershipError},
    names::Names,
    neighbours::Neighbours,
    observer::Observer,
    perform::{Latest, Performer, Tools},
    session::{Held, Link, Session, Trust, archive, outbox::Outbox},
    tunnels::Tunnels,
    volumes,
};

/// Questions about the network that wait for their turn.
const INSPECTIONS_MAX: usize = 2;

/// Why the agent cannot run, or ended.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    /// Nobody joined yet.
    #[error("this node has not joined a cluster: `wherry node add` on the scheduler prints the command to run here")]
    NotJoined,
    /// The state directory cannot be used.
    #[error("cannot use the state directory: {0}")]
    State(#[from] io::Error),
    /// The identity cannot be used.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// A setting makes no sense.
    #[error(transparent)]
    Setting(#[from] ConfigProblem),
    /// containerd's adapter cannot be made.
    #[error(transparent)]
    Containerd(#[from] agent_containerd::Error),
    /// The kernel's networking cannot be used.
    #[error(transparent)]
    Network(#[from] agent_network::Error),
    /// The machine's CPU and memory cannot be read.
    #[error("cannot read what this machine is: {0}")]
    Facts(#[from] sysinfo::Error),
    /// A part failed.
    #[error(transparent)]
    Part(#[from] PartFailed),
}

/// What an earlier run left on disk.
struct Disk {
    membership: Membership,
    last: LastAssignments,
    recovered: Recovered,
}

/// The parts that run, and what a farewell needs of them.
struct Parts {
    supervisor: Supervisor,
    messages: mpsc::Sender<Message>,
    table: watch::Receiver<Option<Arc<ServiceTable>>>,
}

/// What this node works with, whoever asks.
struct Node {
    outbox: Arc<Outbox>,
    containerd: Containerd,
    network: Arc<Network>,
    system: System,
    devices: Watch,
    /// Where other nodes reach this one.
    address: Ipv4Addr,
}

/// The parts that follow how the node shall balance, before they start.
struct Followers {
    node: NodeId,
    /// Where other nodes reach this one.
    address: Ipv4Addr,
    network: Arc<Network>,
    outbox: Arc<Outbox>,
    messages: mpsc::Sender<Message>,
    balancing: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
    questions: mpsc::Receiver<Question>,
    /// This node's certificate, whenever it is renewed, and the time by which others' are judged.
    certificate: (watch::Receiver<Membership>, Arc<ClockFloor>),
    tunnel_port: u16,
}

impl Followers {
    fn start(self, parts: &mut Supervisor, token: &CancellationToken) {
        let Self { node, address, network, outbox, messages, balancing, questions, certificate, tunnel_port } = self;
        let (membership, floor) = certificate;
        let tunnels = Tunnels {
            wanted: balancing.clone(),
            membership,
            floor,
            port: tunnel_port,
            reached: watch::Sender::default(),
            messages: messages.clone(),
            outbox: outbox.clone(),
        };
        let balancer =
            Balancer { network: network.clone(), wanted: balancing.clone(), messages, outbox: outbox.clone() };
        let http_ports = HttpPorts { wanted: balancing.clone(), outbox: outbox.clone() };
        let tunnelled = tunnels.reached.subscribe();
        let inspector = Inspector { questions, outbox, node, address, network, table: balancing, tunnelled };
        parts.spawn_once("balancer", balancer.run(token.clone()));
        parts.spawn_once("http ports", http_ports.run(token.clone()));
        parts.spawn_once("tunnels", tunnels.run(token.clone()));
        parts.spawn_once("inspector", inspector.run(token.clone()));
    }
}

/// Runs until SIGTERM or SIGINT; instances run on, unless the machine ends.
pub(crate) async fn run(config: &Config) -> Result<(), RunError> {
    let (asked, power, token) = (shutdown::on_signals()?, machine_end::power_signal()?, CancellationToken::new());
    let _lock = membership::lock(&config.agent.state_dir)?;
    let disk = open(config)?;
    let node = node(config, &disk).await?;
    let (containerd, last) = (node.containerd.clone(), disk.last.clone());
    let leaving = CancellationToken::new();
    let Parts { supervisor, messages, table } = parts(config, disk, node, (&token, &leaving))?;
    let farewell = Farewell { asked: asked.clone(), power, leaving: leaving.clone(), table, messages };
    let ending = tokio::spawn(async move {
        let machine_ends = farewell.say().await;
        token.cancel();
        machine_ends
    });
    let ended = supervisor.run().await;
    notify::stopping();
    // If a part failed, nobody may have been asked to end.
    let is_asked = asked.is_cancelled() || leaving.is_cancelled();
    if is_asked && ending.await.unwrap_or_default() {
        // Nobody starts anything any more.
        machine_end::stop_instances(&containerd, &last).await;
    }
    Ok(ended?)
}

fn open(config: &Config) -> Result<Disk, RunError> {
    let state_dir = &config.agent.state_dir;
    let membership = Membership::load(state_dir)?.ok_or(RunError::NotJoined)?;
    let last = LastAssignments::open(state_dir, &config.agent.run_dir)?;
    let mut recovered = last.recover();
    recovered.assignments = recovered.assignments.filter(|set| set.node == membership.node);
    tracing::info!(
        node = %membership.node,
        assignments = recovered.assignments.as_ref().map(|set| set.assignments.len()),
        services = recovered.services.as_ref().map(|table| table.services.len()),
        "starting from disk"
    );
    Ok(Disk { membership, last, recovered })
}

async fn node(config: &Config, disk: &Disk) -> Result<Node, RunError> {
    let scheduler = &disk.membership.session_address;
    let address = address::find(config.address()?, scheduler, &config.agent.state_dir).await;
    let network = Arc::new(Network::new(config.network_settings(address))?);
    let containerd = Containerd::connect(config.containerd_settings(disk.membership.node.clone())?).await?;
    let system = facts::system()?;
    let outbox = Arc::new(Outbox::new(facts::facts(config, address, &system)));
    let faults = &disk.recovered.faults;
    // Before the first session: a scheduler that knows the node but not its devices would find its grants broken.
    let mut devices = Watch::new(config.devices().map_err(ConfigProblem::from)?);
    outbox.devices(devices.look().offered);
    outbox.set_ipv6_address(network.ipv6_address().await?);
    outbox.condition("state", if faults.is_empty() { Ok("readable".to_owned()) } else { Err(faults.join("; ")) });
    Ok(Node { outbox, containerd, network, system, devices, address })
}

/// Answers at once for the range that the last set names.
fn followed(names: Names, set: Option<&AssignmentSet>) -> Arc<Names> {
    if let Some(set) = set {
        names.follow(set.subnet);
    }
    Arc::new(names)
}

fn observer(
    (containerd, network, messages, outbox): (&Containerd, &Arc<Network>, &mpsc::Sender<Message>, &Arc<Outbox>),
    latest: &Latest,
) -> Observer {
    Observer {
        containerd: containerd.clone(),
        network: network.clone(),
        messages: messages.clone(),
        outbox: outbox.clone(),
        wanted: latest.observe.clone(),
    }
}

/// Starts the parts; each says in its own file what it does.
fn parts(
    config: &Config,
    disk: Disk,
    node: Node,
    (token, leaving): (&CancellationToken, &CancellationToken),
) -> Result<Parts, RunError> {
    let Disk { membership, last, recovered } = disk;
    let Recovered { assignments, services, addresses, tries, followed: alone, faults: _ } = recovered;
    let Node { outbox, containerd, network, system, devices, address } = node;
    let archive_dir = config.agent.state_dir.join("archives");
    archive::prepare(&archive_dir)?;
    let (messages, inbox) = mpsc::channel(MESSAGES_MAX);
    let (latest, link, clock) = (Latest::new(), Link::default(), Clock::start());

    let (shelf, keeper) = Keeper::new(&last);
    let observer = observer((&containerd, &network, &messages, &outbox), &latest);
    let (inspections, questions) = mpsc::channel(INSPECTIONS_MAX);
    let floor = Arc::new(ClockFloor::new(membership.clock_floor()));
    let renewed = watch::Sender::new(membership.clone());
    let certificate = (renewed.subscribe(), floor.clone());
    let followers = Followers {
        node: membership.node.clone(),
        address,
        network: network.clone(),
        outbox: outbox.clone(),
        messages: messages.clone(),
        balancing: latest.balancing.subscribe(),
        questions,
        certificate,
        tunnel_port: config.network.tunnel_port,
    };
    let (own, wanted) = (membership.node.clone(), latest.balancing.subscribe());
    let names = Names::new(own, address, wanted, outbox.clone(), network.clone());
    let names = followed(names, assignments.as_ref());
    let state_dir = config.agent.state_dir.clone();
    let sampling = (containerd.clone(), network.clone(), messages.clone(), outbox.clone());
    let sampler = Sampler::new(sampling, state_dir, system, devices);
    let measuring = volumes::measure(containerd.clone(), outbox.clone(), token.clone());
    let services = services.map(Arc::new);
    let settings = Settings { node_address: Some(node.address), ..Settings::new(membership.node.clone()) };
    let core = Agent::new(settings, assignments.clone(), services.clone(), addresses, (tries, alone), clock.now());
    let kernel = (network, names.clone());
    let tools = Tools::new(containerd.clone(), kernel, messages.clone(), link.clone(), archive_dir.clone());
    let neighbours = Neighbours {
        node: membership.node.clone(),
        address,
        table: latest.table.subscribe(),
        messages: messages.clone(),
        outbox: outbox.clone(),
        clock,
        leaving: leaving.clone(),
    };
    let (to_loop, table) = (messages.clone(), latest.table.subscribe());
    latest.table.send_replace(services.clone());
    let performer = Performer::new(tools, latest, shelf, outbox.clone(), assignments.as_ref());
    let (boot_id, held) = (facts::boot_id(), Held::new(assignments, services));
    let lease = LeaseBook::new(&config.agent.run_dir, boot_id.clone());
    let control_loop =
        ControlLoop { core, clock, messages: inbox, performer, outbox: outbox.clone(), lease, wall_ahead_ms: 0 };
    let trust = Trust { floor, renewed };
    let session =
        Session { membership, trust, held, outbox, messages, containerd, link, archive_dir, boot_id, inspections };

    let mut parts = Supervisor::new(token.clone());
    parts.spawn_once("control loop", control_loop.run(token.clone()));
    parts.spawn_once("observer", observer.run(token.clone()));
    followers.start(&mut parts, token);
    parts.spawn_once("names", names.run(token.clone()));
    parts.spawn_once("neighbours", neighbours.run(token.clone()));
    parts.spawn_once("keeper", keeper.run(token.clone()));
    parts.spawn_once("session", session.run(token.clone()));
    parts.spawn_once("sampler", sampler.run(token.clone()));
    parts.spawn_once("volumes", measuring);
    Ok(Parts { supervisor: parts, messages: to_loop, table })
}
