//! The ports of this node in one version of the protocol: which of those that are asked for can be had, and where.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::OwnedFd,
};

use api_types::{balance::Bind, net::IpVersion};

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
    /// What is bound to something of this node.
    bound: BTreeSet<UnboundPort>,
    /// What cannot be bound on this node, as it is now.
    unbound: BTreeSet<UnboundPort>,
}

/// For which version of the protocol ports are opened, and the first address of the node's range, at which none is.
pub(crate) type Half = (IpVersion, Option<IpAddr>);

impl Opened {
    /// What could be had by neither version of the protocol, each once. Who has a port by IPv6 alone is said to.
    pub(crate) fn missing(self, by_ipv6: Self) -> (Vec<PortConflict>, Vec<UnboundPort>) {
        let mut conflicts = self.conflicts;
        for conflict in by_ipv6.conflicts {
            if !conflicts.contains(&conflict) {
                conflicts.push(PortConflict { owner: format!("{}, by IPv6", conflict.owner), ..conflict });
            }
        }
        // A link with addresses of one version alone is there.
        let nowhere = self.unbound.difference(&by_ipv6.bound).chain(by_ipv6.unbound.difference(&self.bound));
        (conflicts, nowhere.cloned().collect::<BTreeSet<_>>().into_iter().collect())
    }
}

impl NodePorts {
    /// Reserves what is asked for, gives up the rest, and names who holds what cannot be had.
    pub(crate) fn open(&mut self, asked: &Asked, half: Half, routing: &Routing) -> Result<Opened, Error> {
        let mut opened = Opened::default();
        for (&(protocol, port), wishes) in &asked.ports {
            for (index, wish) in wishes.iter().enumerate() {
                let openings = match &wish.bind {
                    None => vec![Opening::Everywhere],
                    Some(bind) => addresses(bind, half, routing)?.into_iter().map(Opening::At).collect(),
                };
                if let Some(bind) = &wish.bind {
                    let list = if openings.is_empty() { &mut opened.unbound } else { &mut opened.bound };
                    list.insert(UnboundPort { port, protocol, bind: bind.clone() });
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
            if let Some((socket, owner)) = self.claim(door, half, known.get(&door)) {
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
    fn claim(&mut self, door: Door, half: Half, known: Option<&(u64, String)>) -> Option<(u64, String)> {
        if self.reservations.contains_key(&door) {
            return None;
        }
        match host_port::claim(door, half) {
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
fn addresses(bind: &Bind, (version, own): Half, routing: &Routing) -> Result<Vec<IpAddr>, Error> {
    let found: Vec<IpAddr> = match bind {
        Bind::Address(address) => local(*address).into_iter().collect(),
        Bind::Link(name) => match (routing.link(name)?, version) {
            (Some(index), IpVersion::Four) => routing.addresses_of(index)?.into_iter().map(IpAddr::from).collect(),
            (Some(index), IpVersion::Six) => routing.addresses_v6(index)?.into_iter().map(IpAddr::from).collect(),
            (None, _) => Vec::new(),
        },
    };
    Ok(found.into_iter().filter(|address| Some(*address) != own).collect())
}

#[cfg(test)]
mod tests {
    use api_types::container::Protocol;

    use super::*;

    #[test]
    fn what_one_version_of_the_protocol_has_is_not_missing_and_who_holds_both_is_named_once() {
        let port = |bind: &str| UnboundPort {
            port: 80,
            protocol: Protocol::Tcp,
            bind: bind.parse().expect("an address or a link"),
        };
        let holds = |owner: &str| PortConflict { port: 53, protocol: Protocol::Udp, owner: owner.to_owned() };
        let four = Opened {
            conflicts: vec![holds("named (pid 812)")],
            bound: [port("eth0")].into(),
            unbound: [port("eth1"), port("eth2"), port("192.0.2.7")].into(),
            ..Opened::default()
        };
        let six = Opened {
            conflicts: vec![holds("named (pid 812)"), holds("avahi (pid 7)")],
            bound: [port("eth1")].into(),
            unbound: [port("eth0"), port("eth2")].into(),
            ..Opened::default()
        };

        let (conflicts, unbound) = four.missing(six);

        assert_eq!(conflicts, [holds("named (pid 812)"), holds("avahi (pid 7), by IPv6")]);
        assert_eq!(unbound, [port("192.0.2.7"), port("eth2")]);
    }
}
