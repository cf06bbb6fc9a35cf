//! The static part of our nftables table: maps, chains and rules that are written once; services are only elements.
//!
//! ```text
//! nat_prerouting, nat_output   daddr.proto.dport → services → goto rN → dnat to slots[daddr.proto.dport.random]
//!                              to this node, proto.dport → ports → goto pN → dnat to port_slots[proto.dport.random]
//! nat_postrouting              masquerade what would not find its way back
//! filter_forward, _output      a service address that nobody translated → unmatched
//! ```

use std::net::Ipv4Addr;

use api_types::net::Cidr;

use crate::{
    message::{Requests, flag},
    rule::{FAMILY_IPV4, Link, Must, Rule, Side, Verdict},
};

/// The most slots of one service: one chain exists for each number of slots.
pub(crate) const SLOTS_MAX: usize = 64;

pub(crate) const SUBSYSTEM: u16 = 10 << 8;
pub(crate) const NEW_TABLE: u16 = SUBSYSTEM;
pub(crate) const DELETE_TABLE: u16 = SUBSYSTEM | 2;
pub(crate) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub(crate) const GET_CHAIN: u16 = SUBSYSTEM | 4;
pub(crate) const NEW_RULE: u16 = SUBSYSTEM | 6;
pub(crate) const GET_RULE: u16 = SUBSYSTEM | 7;
pub(crate) const NEW_SET: u16 = SUBSYSTEM | 9;
pub(crate) const DESTROY_TABLE: u16 = SUBSYSTEM | 26;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// Header of netfilter's messages: family, version, resource.
pub(crate) const FAMILY_HEADER: [u8; 4] = [FAMILY_IPV4, 0, 0, 0];
const BATCH_HEADER: [u8; 4] = [0, 0, 0, 10];

const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_FILTER: i32 = 0;
const HOOK_PREROUTING: u32 = 0;
const HOOK_FORWARD: u32 = 2;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
const TCP: u8 = 6;
const LOOPBACK: Cidr = Cidr { address: Ipv4Addr::new(127, 0, 0, 0), prefix: 8 };

/// nft's numbers of data types; a concatenation shifts each by six bits. `mark` is a number in the machine's order,
/// as the slot is drawn: with nft's `integer`, `nft list ruleset` of 1.0.6 aborts for everybody on the node.
const TYPE_ADDRESS: u32 = 7;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_MARK: u32 = 19;
const TYPE_VERDICT: u32 = 0xffff_ff00;
const SET_IS_MAP: u32 = 8;

/// What the static part depends on. If one of these changes, the table is replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// The range of all instances' addresses.
    pub(crate) cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub(crate) service_range: Cidr,
    /// This node's part of the cluster range.
    pub(crate) subnet: Cidr,
    /// The address that all peers can answer to.
    pub(crate) node_address: Ipv4Addr,
    /// How our links' names begin.
    pub(crate) interface_prefix: String,
    /// Whether the node forwards for others as it did before we came, or only for us.
    pub(crate) forwarding: Forwarding,
}

/// For whom the node forwards packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// It was a router before we came: what is not ours is left alone.
    AsBefore,
    /// We switched it on: between links that are not ours nothing is forwarded but translated connections.
    OnlyOurs,
}

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
    /// Services that have endpoints: what of theirs is not translated is dropped, not rejected.
    Known,
    /// Addresses of instances here, twice: who reaches itself through a service.
    Hairpins,
}

impl Collection {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Services, Self::Slots, Self::Ports, Self::PortSlots, Self::Known, Self::Hairpins];

    /// Its name in the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Slots => "slots",
            Self::Ports => "ports",
            Self::PortSlots => "port_slots",
            Self::Known => "known",
            Self::Hairpins => "hairpins",
        }
    }

    fn key_types(self) -> &'static [u32] {
        match self {
            Self::Services | Self::Known => &[TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT],
            Self::Slots => &[TYPE_ADDRESS, TYPE_PROTOCOL, TYPE_PORT, TYPE_MARK],
            Self::Ports => &[TYPE_PROTOCOL, TYPE_PORT],
            Self::PortSlots => &[TYPE_PROTOCOL, TYPE_PORT, TYPE_MARK],
            Self::Hairpins => &[TYPE_ADDRESS, TYPE_ADDRESS],
        }
    }

    /// The data's type and its length in bytes.
    fn data(self) -> Option<(u32, u32)> {
        match self {
            Self::Services | Self::Ports => Some((TYPE_VERDICT, 0)),
            Self::Slots | Self::PortSlots => Some((concatenated(&[TYPE_ADDRESS, TYPE_PORT]), 8)),
            Self::Known | Self::Hairpins => None,
        }
    }
}

/// Wraps messages into one transaction.
pub(crate) fn transaction(fill: impl FnOnce(&mut Requests)) -> Requests {
    let mut requests = Requests::default();
    requests.push("begin a transaction", (BATCH_BEGIN, 0), &BATCH_HEADER, |_| {});
    fill(&mut requests);
    requests.push("end a transaction", (BATCH_END, 0), &BATCH_HEADER, |_| {});
    requests
}

/// Writes the whole static part into a table that is empty.
pub(crate) fn write(requests: &mut Requests, table: &str, base: &Base) {
    for (number, collection) in (1..).zip(Collection::ALL) {
        write_set(requests, table, collection, number);
    }
    for slots in 1..=u32::try_from(SLOTS_MAX).expect("a small number") {
        let (service, port) = (format!("r{slots}"), format!("p{slots}"));
        write_chain(requests, table, &service, None);
        write_rule(requests, table, &service, &service_slot(slots));
        write_chain(requests, table, &port, None);
        write_rule(requests, table, &port, &port_slot(slots));
    }
    let chains = [
        ("unmatched", None, unmatched()),
        ("nat_prerouting", Some(("nat", HOOK_PREROUTING, PRIORITY_DESTINATION_NAT)), translate(base)),
        ("nat_output", Some(("nat", HOOK_OUTPUT, PRIORITY_DESTINATION_NAT)), translate(base)),
        ("nat_postrouting", Some(("nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT)), masquerade(base)),
        ("filter_forward", Some(("filter", HOOK_FORWARD, PRIORITY_FILTER)), forward(base)),
        ("filter_output", Some(("filter", HOOK_OUTPUT, PRIORITY_FILTER)), vec![untranslated(base)]),
    ];
    for (name, hook, rules) in chains {
        write_chain(requests, table, name, hook);
        for rule in rules {
            write_rule(requests, table, name, &rule);
        }
    }
}

fn service_slot(slots: u32) -> Rule {
    Rule::default().load_service_key().draw_behind_service_key(slots).translate_from(Collection::Slots.name())
}

fn port_slot(slots: u32) -> Rule {
    Rule::default().load_port_key().draw_behind_port_key(slots).translate_from(Collection::PortSlots.name())
}

fn translate(base: &Base) -> Vec<Rule> {
    // A program that listens on 127.0.0.1 alone keeps its port there, and whoever is asked on the node's own address of its
    // range (names) is not to be hidden by a published port.
    let elsewhere = Rule::default().destined_here().range(Side::Destination, Must::Differ, LOOPBACK);
    let elsewhere = match base.subnet.nth(1) {
        Some(own) => elsewhere.address(Side::Destination, Must::Differ, own),
        None => elsewhere,
    };
    vec![
        Rule::default().load_service_key().verdict_from(Collection::Services.name()),
        elsewhere.load_port_key().verdict_from(Collection::Ports.name()),
    ]
}

/// Where the client's address must be hidden. Everywhere else the instance sees its client.
fn masquerade(base: &Base) -> Vec<Rule> {
    let subnet = base.subnet;
    vec![
        // To itself through a service: else the answer would never leave the instance.
        Rule::default().translated().load_address_pair().in_set(Collection::Hairpins.name()).masquerade(),
        // Translated here, answered by an instance elsewhere, asked by somebody whose answers need not come through
        // here: the instance must answer to this node, which alone can translate back.
        Rule::default()
            .translated()
            .range(Side::Destination, Must::Equal, base.cluster_range)
            .range(Side::Destination, Must::Differ, subnet)
            .range(Side::Source, Must::Differ, subnet)
            .address(Side::Source, Must::Differ, base.node_address)
            .masquerade(),
        // From an instance to the world outside, which has no route to our addresses.
        Rule::default()
            .range(Side::Source, Must::Equal, subnet)
            .range(Side::Destination, Must::Differ, base.cluster_range)
            .masquerade(),
    ]
}

fn forward(base: &Base) -> Vec<Rule> {
    let prefix = &base.interface_prefix;
    let ours = |link| Rule::default().link_prefix(link, prefix).verdict(Verdict::Accept);
    let mut rules = vec![untranslated(base)];
    match base.forwarding {
        Forwarding::AsBefore => {}
        Forwarding::OnlyOurs => rules.extend([
            Rule::default().translated().verdict(Verdict::Accept),
            ours(Link::In),
            ours(Link::Out),
            Rule::default().verdict(Verdict::Drop),
        ]),
    }
    rules
}

fn untranslated(base: &Base) -> Rule {
    Rule::default().range(Side::Destination, Must::Equal, base.service_range).verdict(Verdict::Goto("unmatched"))
}

/// A packet that met a service just while it changed is dropped: TCP asks again. What nobody serves is refused at once.
fn unmatched() -> Vec<Rule> {
    vec![
        Rule::default().load_service_key().in_set(Collection::Known.name()).verdict(Verdict::Drop),
        Rule::default().protocol(TCP).reset(),
        Rule::default().unreachable(),
    ]
}

fn write_set(requests: &mut Requests, table: &str, collection: Collection, number: u32) {
    let types = collection.key_types();
    let key_bytes = 4 * u32::try_from(types.len()).expect("a key has few parts");
    requests.push("add a set", (NEW_SET, flag::CREATE), &FAMILY_HEADER, |set| {
        set.text(1, table);
        set.text(2, collection.name());
        set.number(3, if collection.data().is_some() { SET_IS_MAP } else { 0 });
        set.number(4, concatenated(types));
        set.number(5, key_bytes);
        if let Some((data_type, data_bytes)) = collection.data() {
            set.number(6, data_type);
            set.number(7, data_bytes);
        }
        set.number(10, number);
    });
}

fn write_chain(requests: &mut Requests, table: &str, name: &str, hook: Option<(&str, u32, i32)>) {
    requests.push("add a chain", (NEW_CHAIN, flag::CREATE), &FAMILY_HEADER, |chain| {
        chain.text(1, table);
        chain.text(3, name);
        if let Some((kind, hook, priority)) = hook {
            chain.nest(4, |place| {
                place.number(1, hook);
                place.number(2, priority.cast_unsigned());
            });
            chain.text(7, kind);
        }
    });
}

/// Appends a rule to a chain.
pub(crate) fn write_rule(requests: &mut Requests, table: &str, chain: &str, rule: &Rule) {
    requests.push("add a rule", (NEW_RULE, flag::CREATE | flag::APPEND), &FAMILY_HEADER, |attributes| {
        attributes.text(1, table);
        attributes.text(2, chain);
        attributes.nest(4, |expressions| expressions.raw(rule.as_bytes()));
    });
}

fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, part| all << 6 | part)
}
