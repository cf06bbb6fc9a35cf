//! A million replicas decided and durable, started again from the store, and what they take in memory.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use api_types::{
    counter::Epoch,
    id::InstanceId,
    instance::{Findings, Health, InstanceState, InstanceStatus, InstanceUsage},
    node::NodeUsage,
};
use scheduler::store::{CORE_PREFIX, Store};
use scheduler_core::{Scheduler, effect::Record, input::Input};
use tests_support::figures::{Figures, number};

use crate::{
    Result,
    cluster::{Cluster, NOW, SESSION, facts, node_id, services, settings},
    counting::live_bytes,
    timing::note_time,
};

/// The shape of the C1M challenge: 1,000 services of 1,000 replicas on 5,000 nodes.
const NODES: u32 = 5_000;
const SERVICES: u32 = 1_000;
const REPLICAS: u32 = 1_000;
const ALL: u64 = SERVICES as u64 * REPLICAS as u64;

/// Rounds of a start; the first reads a file that was just written.
const STARTS: usize = 3;

/// `c1m_durable_s`: from the request that names all services to the commit of the last placement, in transactions as the
/// control loop makes them, on the disk that holds the target folder. `restart_1m_s`: from opening that store to a core
/// that answers. `core_bytes_per_replica`: what the core allocates for 1,000,000 instances, specs and nodes left out;
/// `core_observed_bytes_per_replica`: what it takes in addition once each was reported running and its usage sampled.
pub(crate) fn million(figures: &mut Figures) -> Result<()> {
    let mut cluster = Cluster::new("durable", NODES)?;
    let specs = services(SERVICES, REPLICAS)?;
    let began = Instant::now();
    cluster.apply(specs)?;
    loop {
        let more = cluster.tick();
        cluster.commit()?;
        if !more {
            break;
        }
    }
    figures.note("c1m_durable_s", began.elapsed().as_secs_f64())?;
    if cluster.placed() != ALL {
        return Err(format!("{} of {ALL} replicas are placed", cluster.placed()).into());
    }
    let store_bytes: u64 =
        fs::read_dir(&cluster.state.0)?.map(|file| Ok(file?.metadata()?.len())).sum::<Result<u64>>()?;
    figures.note("c1m_store_mib", number(store_bytes) / number(1 << 20))?;
    let before = sets(&cluster.scheduler)?;

    let mut state = cluster.close();
    let mut rounds = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let cluster = Cluster::open(state)?;
        rounds.push(began.elapsed().as_secs_f64());
        if sets(&cluster.scheduler)? != before {
            return Err("the nodes' sets differ after a start".into());
        }
        state = cluster.close();
    }
    note_time(figures, "restart_1m_s", &rounds)?;
    weigh(figures, &state.0)
}

/// What each node is told to run.
fn sets(scheduler: &Scheduler) -> Result<Vec<(InstanceId, u32)>> {
    let mut all = Vec::new();
    for index in 0..NODES {
        let set = scheduler.assignment_set(&node_id(index)?).ok_or("a node is not registered")?;
        all.extend(set.assignments.iter().map(|assignment| (assignment.instance.clone(), index)));
    }
    Ok(all)
}

/// Notes what a core with a million instances allocates beyond one with the same nodes and specs and no instances.
fn weigh(figures: &mut Figures, state: &Path) -> Result<()> {
    let (_, without) = recovered(state, |record| !matches!(record, Record::Instances(_)))?;
    let (mut scheduler, with) = recovered(state, |_| true)?;
    figures.note("core_bytes_per_replica", number((with - without) as u64) / number(ALL))?;

    let before = live_bytes();
    for index in 0..NODES {
        report(&mut scheduler, index)?;
    }
    let grown = live_bytes() - before;
    let running: u64 = scheduler.workload_views().iter().map(|workload| u64::from(workload.running)).sum();
    if running != ALL {
        return Err(format!("{running} of {ALL} replicas are known to run").into());
    }
    Ok(figures.note("core_observed_bytes_per_replica", number(grown as u64) / number(ALL))?)
}

/// A core of some of a store's records, and how much is allocated for it.
fn recovered(state: &Path, wanted: fn(&Record) -> bool) -> Result<(Scheduler, usize)> {
    let before = live_bytes();
    let (store, loaded) = Store::open(state)?;
    let mut records: Vec<Record> = loaded.below::<Record>(CORE_PREFIX)?.into_values().collect();
    drop((store, loaded));
    records.retain(wanted);
    let scheduler = Scheduler::recover(settings(), Epoch(99), records, NOW);
    Ok((scheduler, live_bytes() - before))
}

/// A node reports that all it was given runs, and what it uses.
fn report(scheduler: &mut Scheduler, index: u32) -> Result<()> {
    let node = node_id(index)?;
    let set = scheduler.assignment_set(&node).ok_or("a node is not registered")?;
    let addresses = (10..).filter_map(|place| set.subnet.nth(place));
    let statuses = set.assignments.iter().zip(addresses).map(|(assignment, address)| InstanceStatus {
        instance: assignment.instance.clone(),
        state: InstanceState::Running,
        health: Health::Unknown,
        address: Some(address),
        pid: Some(4_242),
        restarts: 0,
        last_exit: None,
        reason: String::new(),
        since: NOW,
        findings: Findings::default(),
    });
    let usage = InstanceUsage { cpu_millis: 7, memory_bytes: 9 << 20, pids: 3, new_connections_millis: None };
    let instances = set.assignments.iter().map(|assignment| (assignment.instance.clone(), usage.clone()));
    let inputs = [
        Input::SessionOpened { node: node.clone(), session: SESSION, facts: facts(index) },
        Input::Reported {
            node: node.clone(),
            session: SESSION,
            statuses: statuses.collect(),
            gone: Vec::new(),
            complete: true,
        },
        Input::NodeReported {
            node,
            session: SESSION,
            conditions: None,
            facts: None,
            usage: NodeUsage::default(),
            instances: instances.collect(),
            requests: BTreeMap::new(),
        },
    ];
    for input in inputs {
        scheduler.step(NOW, input, &mut Vec::new());
    }
    Ok(())
}
