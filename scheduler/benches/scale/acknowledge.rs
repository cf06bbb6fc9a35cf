//! A million replicas through the whole loop: decided, durable, sent as protobuf, read by agents, reported, acknowledged.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

use api_types::{
    id::{InstanceId, NodeId},
    instance::{Findings, Health, InstanceState, InstanceStatus},
};
use prost::Message;
use proto::{
    session::{FromAgent, FromScheduler, Marker, Report},
    update::AssignmentsUpdate,
    v1,
};
use scheduler_core::{SetOutline, input::Input};
use tests_support::figures::{Figures, number};

use crate::{
    Result,
    cluster::{Cluster, NOW, SESSION, node_id, services},
};

const NODES: u32 = 10_000;
const SERVICES: u32 = 1_000;
const REPLICAS: u32 = 1_000;
const ALL: u64 = SERVICES as u64 * REPLICAS as u64;

/// As many messages share a batch, as in the control loop.
const BATCH_MAX: usize = 256;

/// A message on its way, as bytes, with the node at the agent's end.
type Letter = (u32, Vec<u8>);

/// `ack_1m_s`: from the request to the moment at which the scheduler knows that the last of 1,000,000 replicas runs, on
/// 10,000 agents in one process. One thread is the scheduler's control loop and its sessions, the other one all agents; each
/// message is encoded by one side and decoded by the other with the real types. Left out are TLS, sockets and containers:
/// an agent says of what it is given at once that it runs.
pub(crate) fn million(figures: &mut Figures) -> Result<()> {
    let mut cluster = Cluster::new("acknowledge", NODES)?;
    let specs = services(SERVICES, REPLICAS)?;
    let (to_agents, at_agents) = channel();
    let (to_scheduler, at_scheduler) = channel();
    let agents = thread::spawn(move || agents(&at_agents, &to_scheduler));

    let began = Instant::now();
    cluster.apply(specs)?;
    let sent = run(&mut cluster, &to_agents, &at_scheduler)?;
    let seconds = began.elapsed().as_secs_f64();

    drop(to_agents);
    agents.join().map_err(|_| "the agents' thread ended early")??;
    let running: u64 = cluster.scheduler.workload_views().iter().map(|workload| u64::from(workload.running)).sum();
    if (running, cluster.placed()) != (ALL, ALL) {
        return Err(format!("{running} of {ALL} replicas are known to run, {} are placed", cluster.placed()).into());
    }
    figures.note("ack_1m_s", seconds)?;
    Ok(figures.note("ack_1m_sent_mib", number(sent) / number(1 << 20))?)
}

/// The scheduler's side, until every replica is known to run; gives how many bytes it sent.
fn run(cluster: &mut Cluster, to_agents: &Sender<Letter>, at_scheduler: &Receiver<Letter>) -> Result<u64> {
    let mut names = BTreeMap::new();
    for index in 0..NODES {
        names.insert(node_id(index)?, index);
    }
    let mut outlines = vec![SetOutline::default(); NODES as usize];
    let (mut due, mut is_due) = (VecDeque::new(), vec![false; NODES as usize]);
    let (mut acknowledged, mut sent) = (0, 0);
    while acknowledged < ALL {
        let mut letters: Vec<Letter> = at_scheduler.try_iter().take(BATCH_MAX).collect();
        if letters.is_empty() && due.is_empty() && !cluster.is_due() {
            letters.push(at_scheduler.recv()?);
        }
        for (index, bytes) in letters {
            acknowledged += receive(cluster, index, &bytes)?;
        }
        cluster.tick();
        cluster.commit()?;
        // Everything that is seen from here on is durable. Who is due already gets the newer change with the older one.
        for node in std::mem::take(&mut cluster.changed) {
            let index = names[&node];
            if !std::mem::replace(&mut is_due[index as usize], true) {
                due.push_back(index);
            }
        }
        for index in due.drain(..due.len().min(BATCH_MAX)) {
            is_due[index as usize] = false;
            let bytes = change(cluster, index, &mut outlines[index as usize])?;
            sent += bytes.len() as u64;
            to_agents.send((index, bytes))?;
        }
    }
    Ok(sent)
}

/// What a session does with a report: the number of replicas that it says run.
fn receive(cluster: &mut Cluster, index: u32, bytes: &[u8]) -> Result<u64> {
    let FromAgent::Report(report) = FromAgent::try_from(v1::FromAgent::decode(bytes)?)? else {
        return Err("an agent said something else than a report".into());
    };
    let running = report.statuses.len() as u64;
    let Report { statuses, gone, complete } = report;
    cluster.step(Input::Reported { node: node_id(index)?, session: SESSION, statuses, gone, complete });
    Ok(running)
}

/// What a session does when a set differs.
fn change(cluster: &Cluster, index: u32, outline: &mut SetOutline) -> Result<Vec<u8>> {
    let node: NodeId = node_id(index)?;
    let change = cluster.scheduler.set_change(&node, outline).ok_or("a node is not registered")?;
    let marker = |generation| Marker { epoch: cluster.scheduler.epoch(), generation };
    let update = AssignmentsUpdate {
        base: change.base.map(marker),
        marker: marker(change.generation),
        node,
        subnet: change.subnet,
        upserts: change.upserts,
        removals: change.removals,
        secrets: BTreeMap::new(),
        met: change.met,
        ahead: change.ahead,
    };
    Ok(v1::FromScheduler::from(FromScheduler::Assignments(update)).encode_to_vec())
}

/// All agents: each takes over what it is given, and reports it as running.
fn agents(at_agents: &Receiver<Letter>, to_scheduler: &Sender<Letter>) -> Result<()> {
    let mut held: BTreeMap<u32, (Option<Marker>, u64)> = BTreeMap::new();
    for (index, bytes) in at_agents {
        let message = FromScheduler::try_from(v1::FromScheduler::decode(bytes.as_slice())?)?;
        let FromScheduler::Assignments(update) = message else {
            return Err("the scheduler said something else than a set".into());
        };
        let (marker, count) = held.entry(index).or_default();
        if update.base != *marker {
            return Err(format!("node {index} holds {marker:?}, the change starts from {:?}", update.base).into());
        }
        *marker = Some(update.marker);
        let statuses = update.upserts.iter().map(|assignment| {
            *count += 1;
            running(&assignment.instance, update.subnet.nth(*count + 1))
        });
        let report = Report { statuses: statuses.collect(), gone: Vec::new(), complete: false };
        // The scheduler's side ends first when it failed; its error is the one that tells.
        to_scheduler.send((index, v1::FromAgent::from(FromAgent::Report(report)).encode_to_vec())).ok();
    }
    Ok(())
}

fn running(instance: &InstanceId, address: Option<std::net::Ipv4Addr>) -> InstanceStatus {
    InstanceStatus {
        instance: instance.clone(),
        state: InstanceState::Running,
        health: Health::Unknown,
        address,
        pid: Some(4_242),
        restarts: 0,
        last_exit: None,
        reason: String::new(),
        since: NOW,
        findings: Findings::default(),
    }
}
