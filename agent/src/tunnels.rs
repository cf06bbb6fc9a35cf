//! Follows the balancing with the tunnels between sites, and says which endpoints they reach.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use agent_core::{effect::Balancing, input::Input};
use agent_tunnel::{Identity, Peer, Plan, Remote, Served, State, Tunnel};
use api_daemon::identity::{clock::ClockFloor, tls::TlsError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{control_loop::Message, membership::Membership, session::outbox::Outbox};

/// How many nodes the condition shows.
const NODES_MAX: usize = 5;

/// The part that owns the tunnels.
#[derive(Debug)]
pub(crate) struct Tunnels {
    /// The latest wish, with its number.
    pub(crate) wanted: watch::Receiver<Option<(u64, Arc<Balancing>)>>,
    /// This node's certificate, whenever it is renewed.
    pub(crate) membership: watch::Receiver<Membership>,
    pub(crate) floor: Arc<ClockFloor>,
    /// The port at which other nodes dial; 0 = none.
    pub(crate) port: u16,
    /// What the tunnels reach, for whoever asks.
    pub(crate) reached: watch::Sender<State>,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) outbox: Arc<Outbox>,
}

impl Tunnels {
    /// Works until the token is cancelled; connections end with it.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Infallible> {
        // No port is open and nothing is known while no site is joined by a tunnel.
        let tunnel = loop {
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                changed = self.wanted.changed() => if changed.is_err() { return Ok(()) },
            }
            let wanted = self.wanted.borrow().as_ref().is_some_and(|(_, wanted)| !wanted.tunnels.peers.is_empty());
            if !wanted {
                continue;
            }
            match self.open() {
                Ok(tunnel) => break tunnel,
                Err(error) => {
                    self.outbox.condition("tunnels", Err(format!("this node's certificate is of no use: {error}")));
                }
            }
        };
        let mut states = tunnel.state();
        self.follow(&tunnel);
        loop {
            // All arms are cancel-safe: a change stays marked until it is read.
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.follow(&tunnel),
                    Err(_) => return Ok(()),
                },
                changed = self.membership.changed() => match (changed, self.identity()) {
                    (Ok(()), Ok(identity)) => tunnel.identify(identity),
                    // The one before is shown on.
                    (Ok(()), Err(error)) => tracing::error!(%error, "the renewed certificate cannot be shown"),
                    (Err(_), _) => return Ok(()),
                },
                changed = states.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let state = states.borrow_and_update().clone();
                    self.tell(state).await;
                }
            }
        }
    }

    fn open(&mut self) -> Result<Tunnel, TlsError> {
        let listens = (self.port > 0).then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)));
        Ok(Tunnel::new(self.identity()?, listens))
    }

    fn identity(&mut self) -> Result<Identity, TlsError> {
        let membership = self.membership.borrow_and_update().clone();
        Identity::new(&membership.certificate, &membership.key, &membership.authority, &self.floor)
    }

    fn follow(&mut self, tunnel: &Tunnel) {
        let wanted = self.wanted.borrow_and_update().clone();
        if let Some((_, wanted)) = wanted {
            tunnel.follow(plan(&wanted));
        }
    }

    async fn tell(&self, state: State) {
        self.outbox.condition("tunnels", verdict(&state));
        let detours = state.detours.clone();
        self.reached.send_replace(state);
        self.messages.send(Message::Input(Input::Tunnelled { detours })).await.ok();
    }
}

/// What hinders, or what is reached, in one line for people.
fn verdict(state: &State) -> Result<String, String> {
    let mut lines: Vec<String> = state.refused.iter().cloned().collect();
    let nodes = state.unreachable.iter().take(NODES_MAX);
    lines.extend(nodes.map(|(node, reason)| format!("node {node} cannot be asked: {reason}")));
    let more = state.unreachable.len().saturating_sub(NODES_MAX);
    if more > 0 {
        lines.push(format!("and {more} more nodes"));
    }
    if lines.is_empty() {
        Ok(format!("{} nodes of other sites can be asked", state.reached.len()))
    } else {
        Err(lines.join("; "))
    }
}

fn plan(wanted: &Balancing) -> Plan {
    let tunnels = &wanted.tunnels;
    let remote = tunnels.remote.iter().map(|endpoint| Remote {
        instance: endpoint.instance.clone(),
        node: endpoint.node.clone(),
        address: endpoint.address,
        ports: endpoint.ports.clone(),
    });
    let served = tunnels.served.iter().map(|served| Served {
        instance: served.instance.clone(),
        address: served.address,
        ports: served.ports.clone(),
        admitted: served.admitted.clone(),
    });
    Plan {
        // Names are asked at that address, too: whatever runs on the node has it.
        here: wanted.subnet.nth(1).unwrap_or(Ipv4Addr::LOCALHOST),
        cluster_range: wanted.cluster_range,
        peers: tunnels.peers.iter().map(|peer| Peer { node: peer.node.clone(), dialled: peer.dialled }).collect(),
        remote: remote.collect(),
        served: served.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn who_cannot_be_asked_is_named_with_the_reason() {
        let mut state = State { reached: ["edge-1".parse().expect("a name")].into(), ..State::default() };
        assert_eq!(verdict(&state), Ok("1 nodes of other sites can be asked".to_owned()));

        let names = (2..9).map(|number| format!("edge-{number}").parse().expect("a name"));
        state.unreachable = names.map(|name| (name, "no answer".to_owned())).collect::<BTreeMap<_, _>>();
        let told = verdict(&state).expect_err("some cannot be asked");

        assert!(told.starts_with("node edge-2 cannot be asked: no answer; "), "{told}");
        assert!(told.ends_with("and 2 more nodes"), "{told}");
    }
}
