//! Whom this node reaches, and how: what was said of the sites, seen from here.

use std::collections::BTreeSet;

use api_types::{
    id::NodeId,
    service::{Peer, ServiceTable},
    site::{Across, Reach},
};

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

    /// Those to whose instances packets are sent, each with how.
    pub(crate) fn reached(&self) -> Vec<Peer> {
        let way = |peer: &&Peer| self.way(peer).map(|reach| Peer { reach, ..(*peer).clone() });
        self.others.iter().filter_map(way).collect()
    }

    /// Those whose instances cannot be sent packets: their sites are reached otherwise, or not at all.
    pub(crate) fn apart(&self) -> BTreeSet<&'t NodeId> {
        self.others.iter().filter(|peer| self.way(peer).is_none()).map(|peer| &peer.node).collect()
    }

    /// Inside a site as its operator said, with a node of another site by routes, unless one of the two sites says that no
    /// packets pass between them. A node that does not know its own site yet sends by routes.
    fn way(&self, peer: &Peer) -> Option<Reach> {
        let Some(own) = self.own else { return Some(Reach::Routes) };
        if own.site == peer.site {
            return Some(peer.reach);
        }
        let both = [own.across, peer.across];
        both.iter().all(|across| *across == Across::Routes).then_some(Reach::Routes)
    }
}
