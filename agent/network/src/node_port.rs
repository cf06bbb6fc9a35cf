//! The ports of this node: which of those that are asked for can be had, and where.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    os::fd::OwnedFd,
};

use api_types::balance::Bind;

use crate::{
    Error, PortConflict, UnboundPort,
    host_port::{self, Claim},
    kernel::local,
    route::Routing,
    wanted::{Asked, Door, Opening},
};

/// What is held of this node's ports.
#[derive(Debug, Default)]
pub(crate) struct NodePorts {
    reservations: BTreeMap<Door, OwnedFd>,
    /// Who holds a port that we could not have: the socket's number and its process.
    squatters: BTreeMap<Door, (u64, String)>,
}

/// What came of asking for all ports.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// What can be opened, and which of those that asked for the port has it.
    pub(crate) doors: BTreeMap<Door, usize>,
    /// What others hold.
    pub(crate) conflicts: Vec<PortConflict>,
    /// What cannot be bound on this node, as it is now.
    pub(crate) unbound: Vec<UnboundPort>,
}

impl NodePorts {
    /// Reserves what is asked for, gives up the rest, and names who holds what cannot be had. Nothing is published at `own`,
    /// the first address of the node's range.
    pub(crate) fn open(&mut self, asked: &Asked, own: Option<Ipv4Addr>, routing: &Routing) -> Result<Opened, Error> {
        let mut opened = Opened::default();
        for (&(protocol, port), wishes) in &asked.ports {
            for (index, wish) in wishes.iter().enumerate() {
                let openings = match &wish.bind {
                    None => vec![Opening::Everywhere],
                    Some(bind) => addresses(bind, own, routing)?.into_iter().map(Opening::At).collect(),
                };
                if let (Some(bind), true) = (&wish.bind, openings.is_empty()) {
                    opened.unbound.push(UnboundPort { port, protocol, bind: bind.clone() });
                }
                for opening in openings {
                    // A link and its address may both be named: the first keeps it.
                    opened.doors.entry((protocol, port, opening)).or_insert(index);
                }
            }
        }
        let wanted: BTreeSet<Door> = opened.doors.keys().copied().collect();
        self.reservations.retain(|door, _| wanted.contains(door));
        let known = std::mem::take(&mut self.squatters);
        for door in wanted {
            if let Some((socket, owner)) = self.claim(door, own, known.get(&door)) {
                let (protocol, port, _) = door;
                opened.doors.remove(&door);
                opened.conflicts.push(PortConflict { port, protocol, owner: owner.clone() });
                self.squatters.insert(door, (socket, owner));
            }
        }
        Ok(opened)
    }

    /// Gives everything up.
    pub(crate) fn clear(&mut self) {
        self.reservations.clear();
    }

    /// Asks for one; gives who has it instead. That is looked up only when it is not `known`.
    fn claim(&mut self, door: Door, own: Option<Ipv4Addr>, known: Option<&(u64, String)>) -> Option<(u64, String)> {
        if self.reservations.contains_key(&door) {
            return None;
        }
        let (protocol, port, opening) = door;
        match host_port::claim(protocol, port, opening, own) {
            Claim::Reserved(socket) => {
                self.reservations.insert(door, socket);
                None
            }
            Claim::Free => None,
            Claim::Taken(socket) => {
                let known = known.filter(|(number, _)| *number == socket);
                Some(known.cloned().unwrap_or_else(|| (socket, host_port::owner(socket))))
            }
        }
    }
}

/// The addresses of this node at which something that is bound so answers.
fn addresses(bind: &Bind, own: Option<Ipv4Addr>, routing: &Routing) -> Result<Vec<Ipv4Addr>, Error> {
    let found = match bind {
        Bind::Address(address) => local(*address).into_iter().collect(),
        Bind::Link(name) => match routing.link(name)? {
            Some(index) => routing.addresses_of(index)?,
            None => Vec::new(),
        },
    };
    Ok(found.into_iter().filter(|address| Some(*address) != own).collect())
}
