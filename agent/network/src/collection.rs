//! The table's maps and sets: what their keys and data are made of.

use crate::{
    family::Family,
    message::{Requests, flag},
    table::{NEW_SET, Place},
};

/// The most clients that are remembered. Beyond, a client's address alone tells its endpoint.
const CLIENTS_MAX: u32 = 65_536;
/// The most who may be on their way through the node's own rules, and who came through.
const LET_IN_MAX: u32 = 65_536;

/// nft's numbers of data types; a concatenation shifts each by six bits. `mark` is a number in the machine's order,
/// as the slot is drawn: with nft's `integer`, `nft list ruleset` of 1.0.6 aborts for everybody on the node.
const TYPE_BITS: u32 = 6;
const TYPE_ADDRESS: u32 = 7;
const TYPE_ADDRESS_V6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_MARK: u32 = 19;
const TYPE_VERDICT: u32 = 0xffff_ff00;
const SET_HAS_INTERVALS: u32 = 0x4;
const SET_IS_MAP: u32 = 0x8;
const SET_HAS_TIMES: u32 = 0x10;
const SET_IS_WRITTEN_BY_RULES: u32 = 0x20;
const SET_IS_CONCATENATED: u32 = 0x80;

/// One of the table's maps and sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Collection {
    /// `address . protocol . port` → chain.
    Services,
    /// `address . protocol . port . slot` → endpoint.
    Slots,
    /// `protocol . port` of this node → chain.
    Ports,
    /// `protocol . port . slot` → endpoint.
    PortSlots,
    /// Fronts that have endpoints: what of theirs is not translated is dropped, not rejected. Address zero stands for all of
    /// the node.
    Known,
    /// Addresses of instances here, twice: who reaches itself through a service.
    Hairpins,
    /// Addresses of the other nodes, and the first two of their ranges, by which they ask others' instances.
    Nodes,
    /// `protocol . port` that every node publishes.
    Published,
    /// Addresses of instances here that everybody may ask.
    Open,
    /// `address of who asks . address of the instance here` that only some may ask.
    Admitted,
    /// Addresses of instances here that only ports of the nodes lead to.
    Closed,
    /// `address . protocol . port` of those to which other nodes lead what comes to them.
    Entrances,
    /// Addresses of endpoints on other nodes that only ports of the nodes lead to.
    ClosedElsewhere,
    /// `address . protocol . port` whose clients are remembered → chain.
    Remembered,
    /// `protocol . port` of this node whose clients are remembered → chain.
    PortRemembered,
    /// `address . protocol . port` that is kept for some clients; address zero stands for all of the node.
    Guarded,
    /// `address . protocol . port . client's range` that may connect all the same.
    Allowed,
    /// `client . address . protocol . port` → endpoint. Rules write it.
    Clients,
    /// `client . address . protocol . port` of this node that the other tables' rules for INPUT let pass just now. Rules write it.
    Passed,
    /// The same of those who asked again after that. Rules write it.
    LetIn,
}

impl Collection {
    /// All that we fill.
    pub(crate) const FILLED: [Self; 17] = [
        Self::Services,
        Self::Slots,
        Self::Ports,
        Self::PortSlots,
        Self::Known,
        Self::Hairpins,
        Self::Nodes,
        Self::Published,
        Self::Open,
        Self::Admitted,
        Self::Closed,
        Self::Entrances,
        Self::ClosedElsewhere,
        Self::Remembered,
        Self::PortRemembered,
        Self::Guarded,
        Self::Allowed,
    ];

    /// Its name in the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slots => "slots",
            Self::Ports => "ports",
            Self::PortSlots => "port_slots",
            Self::Known => "known",
            Self::Hairpins => "hairpins",
            Self::Nodes => "nodes",
            Self::Published => "published",
            Self::Open => "open",
            Self::Admitted => "admitted",
            Self::Closed => "closed",
            Self::Entrances => "entrances",
            Self::ClosedElsewhere => "closed_elsewhere",
            Self::Remembered => "remembered",
            Self::PortRemembered => "port_remembered",
            Self::Guarded => "guarded",
            Self::Allowed => "allowed",
            Self::Clients => "clients",
            Self::Passed => "passed",
            Self::LetIn => "let_in",
        }
    }

    /// The parts of its key, where [`TYPE_ADDRESS`] stands for an address of the table's family.
    fn key_types(self) -> &'static [u32] {
        match self {
            Self::Services | Self::Known | Self::Guarded | Self::Remembered | Self::Entrances => {
                &[TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT]
            }
            Self::Slots => &[TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT, TYPE_MARK],
            Self::Ports | Self::PortRemembered | Self::Published => &[TYPE_PROTOCOL, TYPE_PORT],
            Self::PortSlots => &[TYPE_PROTOCOL, TYPE_PORT, TYPE_MARK],
            Self::Hairpins | Self::Admitted => &[TYPE_ADDRESS, TYPE_ADDRESS],
            Self::Nodes | Self::Open | Self::Closed | Self::ClosedElsewhere => &[TYPE_ADDRESS],
            Self::Allowed => &[TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT, TYPE_ADDRESS],
            Self::Clients | Self::Passed | Self::LetIn => &[TYPE_ADDRESS, TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT],
        }
    }

    /// The data's type and its length in bytes.
    fn data(self, family: Family) -> Option<(u32, u32)> {
        match self {
            Self::Services | Self::Ports | Self::Remembered | Self::PortRemembered => Some((TYPE_VERDICT, 0)),
            Self::Slots | Self::PortSlots | Self::Clients => Some(concatenated(family, &[TYPE_ADDRESS, TYPE_PORT])),
            Self::Known
            | Self::Hairpins
            | Self::Nodes
            | Self::Published
            | Self::Open
            | Self::Admitted
            | Self::Closed
            | Self::Entrances
            | Self::ClosedElsewhere
            | Self::Guarded
            | Self::Allowed
            | Self::Passed
            | Self::LetIn => None,
        }
    }

    /// How many elements rules may write to it.
    fn most(self) -> Option<u32> {
        match self {
            Self::Clients => Some(CLIENTS_MAX),
            Self::Passed | Self::LetIn => Some(LET_IN_MAX),
            Self::Services | Self::Slots | Self::Ports | Self::PortSlots | Self::Known | Self::Hairpins => None,
            Self::Nodes | Self::Published | Self::Open | Self::Admitted | Self::Remembered => None,
            Self::Closed | Self::Entrances | Self::ClosedElsewhere => None,
            Self::PortRemembered | Self::Guarded | Self::Allowed => None,
        }
    }

    fn flags(self) -> u32 {
        match self {
            Self::Services | Self::Slots | Self::Ports | Self::PortSlots | Self::Remembered | Self::PortRemembered => {
                SET_IS_MAP
            }
            Self::Known
            | Self::Hairpins
            | Self::Nodes
            | Self::Published
            | Self::Open
            | Self::Admitted
            | Self::Closed
            | Self::Entrances
            | Self::ClosedElsewhere
            | Self::Guarded => 0,
            Self::Allowed => SET_HAS_INTERVALS | SET_IS_CONCATENATED,
            Self::Clients => SET_IS_MAP | SET_HAS_TIMES | SET_IS_WRITTEN_BY_RULES,
            Self::Passed | Self::LetIn => SET_HAS_TIMES | SET_IS_WRITTEN_BY_RULES,
        }
    }
}

/// Makes the map or set with this number in its transaction.
pub(crate) fn write_set(requests: &mut Requests, table: Place<'_>, collection: Collection, number: u32) {
    let (key_type, key_bytes) = concatenated(table.family, collection.key_types());
    let data = collection.data(table.family);
    let parts = || collection.key_types().iter().map(|part| concatenated(table.family, &[*part]).1);
    requests.push("add a set", (NEW_SET, flag::CREATE), &table.family.header(), |set| {
        set.text(1, table.name);
        set.text(2, collection.name());
        set.number(3, collection.flags());
        set.number(4, key_type);
        set.number(5, key_bytes);
        if let Some((data_type, data_bytes)) = data {
            set.number(6, data_type);
            set.number(7, data_bytes);
        }
        if let Some(most) = collection.most() {
            set.nest(9, |description| description.number(1, most));
        }
        if collection == Collection::Allowed {
            // Where ranges are among the parts of a key, the kernel must know the parts.
            set.nest(9, |description| {
                description.nest(2, |list| parts().for_each(|bytes| list.nest(1, |part| part.number(1, bytes))));
            });
        }
        set.number(10, number);
    });
}

/// The type of a concatenation, and how many bytes it has in the kernel's registers.
fn concatenated(family: Family, types: &[u32]) -> (u32, u32) {
    types.iter().fold((0, 0), |(all, bytes), part| match (*part, family) {
        (TYPE_ADDRESS, Family::V6(_)) => (all << TYPE_BITS | TYPE_ADDRESS_V6, bytes + family.address_bytes()),
        (part, _) => (all << TYPE_BITS | part, bytes + 4),
    })
}
