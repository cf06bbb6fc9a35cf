//! Keeps the kernel's balancing as the core wants it: programs the latest plan, restores what others change, proves that
//! it works.

use std::{convert::Infallible, sync::Arc, time::Duration};

use agent_core::{effect::Balancing, input::Input};
use agent_network::{ClosedInstance, HostPort, Network, Plan, Programmed};
use api_types::{balance::Bind, node::TakenPort};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{control_loop::Message, session::outbox::Outbox};

/// How often the kernel is compared with the plan.
const VERIFY_EVERY: Duration = Duration::from_secs(2);
/// How long after a failed proof the next is tried.
const PROVE_AGAIN: Duration = Duration::from_secs(60);

/// The part that owns the kernel's balancing.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) network: Arc<Network>,
    /// The latest wish, with its number.
    pub(crate) wanted: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) outbox: Arc<Outbox>,
}

/// Whether balancing was proven by a real connection.
struct Proof {
    outcome: Option<Result<String, String>>,
    next: Instant,
}

impl Balancer {
    /// Works until the token is cancelled; the kernel goes on balancing after that.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Infallible> {
        let mut ticks = interval(VERIFY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut proof = Proof { outcome: None, next: Instant::now() };
        loop {
            // All arms are cancel-safe: a change stays marked until it is read.
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.program(&mut proof).await,
                    Err(_) => return Ok(()),
                },
                _ = ticks.tick() => self.verify(&mut proof).await,
            }
        }
    }

    async fn program(&mut self, proof: &mut Proof) {
        let Some((number, wanted)) = self.wanted.borrow_and_update().clone() else { return };
        let outcome = self.network.program(&plan(&wanted)).await;
        let input = match outcome {
            Ok(programmed) => {
                self.tell_missing(&programmed);
                self.tell_switched().await;
                // Instances end on this word: what was never seen to work is not said to be so.
                match self.prove(proof).await {
                    Ok(()) => Input::ServicesProgrammed { number },
                    Err(reason) => Input::ServicesFailed { reason },
                }
            }
            Err(error) => {
                self.outbox.condition("balancing", Err(error.to_string()));
                Input::ServicesFailed { reason: error.to_string() }
            }
        };
        self.messages.send(Message::Input(input)).await.ok();
    }

    async fn verify(&self, proof: &mut Proof) {
        if self.wanted.borrow().is_none() {
            return;
        }
        match self.network.verify().await {
            Ok(verified) => {
                if verified.repaired {
                    tracing::warn!("somebody changed the kernel's balancing; it is restored");
                }
                self.tell_missing(&verified.programmed);
                // Its condition says how it went.
                self.prove(proof).await.ok();
            }
            Err(error) => self.outbox.condition("balancing", Err(error.to_string())),
        }
    }

    /// Makes a real connection once, and again after a while if it failed; says what is known.
    async fn prove(&self, proof: &mut Proof) -> Result<(), String> {
        let outcome = match proof.outcome.take() {
            Some(outcome) if outcome.is_ok() || proof.next > Instant::now() => outcome,
            Some(_) | None => {
                proof.next = Instant::now() + PROVE_AGAIN;
                self.network.self_check().await
            }
        };
        self.outbox.condition("balancing", outcome.clone());
        proof.outcome.insert(outcome).clone().map(|_| ())
    }

    /// Says which of the kernel's switches were set, from what to what: they are the machine's, and others look at them, too.
    async fn tell_switched(&self) {
        let switched = self.network.switched().await;
        let lines: Vec<_> = switched.iter().map(|one| format!("{}: {} -> {}", one.name, one.from, one.to)).collect();
        let told = if lines.is_empty() { "all were as needed".to_owned() } else { lines.join("; ") };
        self.outbox.condition("sysctls", Ok(told));
    }

    fn tell_missing(&self, programmed: &Programmed) {
        let taken = programmed.port_conflicts.iter().map(|conflict| TakenPort {
            port: conflict.port,
            protocol: conflict.protocol,
            owner: conflict.owner.clone(),
        });
        self.outbox.condition_of_ports("ports", ports(programmed), taken.collect());
        let peers: Vec<_> =
            programmed.unreachable_peers.iter().map(|peer| format!("{}: {}", peer.node, peer.reason)).collect();
        let ipv6 = programmed.ipv6_missing.clone();
        self.outbox.condition("ipv6", ipv6.map_or_else(|| Ok("nothing is missing".to_owned()), Err));
        self.outbox
            .condition("firewall", verdict(&programmed.dropped_by, "no other table drops what instances send and get"));
        self.outbox.condition("peers", verdict(&peers, "a route to each"));
    }
}

/// Who holds ports that are to lead to services, and which cannot be bound here. One that is bound to an address answers
/// only on the node that has it, so the others are well; that a link is missing is a fault.
fn ports(programmed: &Programmed) -> Result<String, String> {
    let taken = programmed
        .port_conflicts
        .iter()
        .map(|conflict| format!("{} port {}: {}", conflict.protocol.as_str(), conflict.port, conflict.owner));
    let mut faults: Vec<String> = taken.collect();
    let mut elsewhere = Vec::new();
    for unbound in &programmed.unbound_ports {
        let port = format!("{} port {}", unbound.protocol.as_str(), unbound.port);
        match &unbound.bind {
            Bind::Link(name) => faults.push(format!("{port}: no link `{name}` with an address here")),
            Bind::Address(address) => elsewhere.push(format!("{port} answers where {address} is, not here")),
        }
    }
    let well = if elsewhere.is_empty() { "all free".to_owned() } else { elsewhere.join("; ") };
    verdict(&faults, &well)
}

fn verdict(faults: &[String], well: &str) -> Result<String, String> {
    if faults.is_empty() { Ok(well.to_owned()) } else { Err(faults.join("; ")) }
}

fn plan(wanted: &Balancing) -> Plan {
    let host_ports = wanted.host_ports.iter().map(|port| HostPort {
        protocol: port.protocol,
        host: port.host,
        address: port.address,
        container: port.container,
        bind: port.bind.clone(),
        allow: port.allow.clone(),
        ipv6: port.ipv6,
    });
    let closed = wanted
        .closed
        .iter()
        .map(|instance| ClosedInstance { address: instance.address, workload: instance.workload.clone() });
    Plan {
        cluster_range: wanted.cluster_range,
        service_range: wanted.service_range,
        ipv6_prefix: wanted.ipv6_prefix,
        subnet: wanted.subnet,
        services: wanted.services.iter().map(|service| (**service).clone()).collect(),
        peers: wanted.peers.to_vec(),
        host_ports: host_ports.collect(),
        closed: closed.collect(),
        detours: wanted.tunnels.detours.clone(),
    }
}

#[cfg(test)]
mod tests {
    use agent_network::{PortConflict, UnboundPort};
    use api_types::container::Protocol;

    use super::*;

    #[test]
    fn a_port_that_answers_elsewhere_is_no_fault_but_said() {
        let unbound = |bind: &str| UnboundPort {
            port: 80,
            protocol: Protocol::Tcp,
            bind: bind.parse().expect("an address or a link"),
        };
        let conflict = PortConflict { port: 53, protocol: Protocol::Udp, owner: "named (pid 812)".to_owned() };
        let programmed =
            |port_conflicts, unbound_ports| Programmed { port_conflicts, unbound_ports, ..Programmed::default() };

        let elsewhere = ports(&programmed(Vec::new(), vec![unbound("192.0.2.7")]));
        let faulty = ports(&programmed(vec![conflict], vec![unbound("192.0.2.7"), unbound("eth7")]));

        assert_eq!(elsewhere, Ok("tcp port 80 answers where 192.0.2.7 is, not here".to_owned()));
        let faults = "udp port 53: named (pid 812); tcp port 80: no link `eth7` with an address here";
        assert_eq!(faulty, Err(faults.to_owned()));
    }
}
