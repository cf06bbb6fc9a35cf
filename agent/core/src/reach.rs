//! Whom this node reaches, and how: what was said of the sites, seen from here.

use std::collections::BTreeSet;

use api_types::{
    id::NodeId,
    service::{Peer, ServiceTable},
    site::{Across, Reach},
};

/// How another node's instances are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    /// By packets of their own.
    Packets(Reach),
    /// By a connection between the agents.
    Tunnel,
}

/// The other nodes as this one reaches their instances.
#[derive(Debug)]
pub(crate) struct Neighbours<'t> {
    own: Option<&'t Peer>,
    others: Vec<&'t Peer>,
}

impl<'t> Neighbours<'t> {
    /// Reads a table as this node.
    pub(crate) fn of(table: &'t ServiceTable, node: &NodeId) -> Self {
        let own = table.peers.iter().find(|peer| peer.node == *node);
        let others = table.peers.iter().filter(|peer| peer.node != *node).collect();
        Self { own, others }
    }

    /// Those whose instances are asked by a tunnel.
    pub(crate) fn tunnelled(&self) -> impl Iterator<Item = &'t Peer> {
        self.others.iter().copied().filter(|peer| self.way(peer) == Some(Passage::Tunnel))
    }

    /// Those to whose instances packets are sent, each with how.
    pub(crate) fn reached(&self) -> Vec<Peer> {
        let packets = |peer: &&Peer| match self.way(peer)? {
            Passage::Packets(reach) => Some(Peer { reach, ..(*peer).clone() }),
            Passage::Tunnel => None,
        };
        self.others.iter().filter_map(packets).collect()
    }

    /// Those whose instances cannot be sent packets: their sites are reached otherwise, or not at all.
    pub(crate) fn apart(&self) -> BTreeSet<&'t NodeId> {
        let packets = |peer: &&&Peer| matches!(self.way(peer), Some(Passage::Packets(_)));
        self.others.iter().filter(|peer| !packets(peer)).map(|peer| &peer.node).collect()
    }

    /// Inside a site as its operator said, with a node of another site by routes, unless one of the two sites says that no
    /// packets pass between them, or that only a tunnel leads there. A node that does not know its own site yet sends by routes.
    fn way(&self, peer: &Peer) -> Option<Passage> {
        let Some(own) = self.own else { return Some(Passage::Packets(Reach::Routes)) };
        if own.site == peer.site {
            return Some(Passage::Packets(peer.reach));
        }
        match (own.across, peer.across) {
            (Across::Apart, _) | (_, Across::Apart) => None,
            (Across::Tunnel, _) | (_, Across::Tunnel) => Some(Passage::Tunnel),
            (Across::Routes, Across::Routes) => Some(Passage::Packets(Reach::Routes)),
        }
    }
}
