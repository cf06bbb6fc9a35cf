//! The static part of our nftables table: maps, chains and rules that are written once; services are only elements.
//!
//! ```text
//! nat_prerouting, nat_output   daddr.proto.dport → services → goto rN → dnat to slots[daddr.proto.dport.random]
//!                              to this node, proto.dport → ports → goto pN → dnat to port_slots[proto.dport.random]
//!                              where clients are remembered: goto client, port_client → dnat to
//!                              clients[saddr.daddr.proto.dport], else to slots[daddr.proto.dport.hash of saddr]
//! allow_prerouting             a port that is kept for some clients: drop all others
//! nat_postrouting              daddr.proto.dport as asked → remembered → jump mN: write clients, for so long
//!                              masquerade what would not find its way back
//! filter_forward, _output      a service address that nobody translated → unmatched
//! guard_prerouting, filter_*   what instances may not do: see the guard
//! late_input                   where others' rules for INPUT count, after them: see the door
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api_types::{container::Protocol, net::Cidr};

use crate::{
    collection::{Collection, write_set},
    door,
    family::Family,
    guard,
    message::{Requests, flag},
    rule::{Link, Must, Rule, Side, Verdict},
    vxlan,
};

/// The most slots of one service: one chain exists for each number of slots.
pub(crate) const SLOTS_MAX: usize = 64;

/// For how long clients can be remembered, in seconds: one chain exists for each.
const MEMORY_S: [u32; 9] = [10, 60, 300, 600, 1_800, 3_600, 10_800, 43_200, 86_400];

/// For how long clients are remembered: one of a few times, so that the chains need not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Memory(usize);

impl Memory {
    /// The shortest that is at least as long as this, in milliseconds; the longest for all above.
    pub(crate) fn of_ms(milliseconds: u64) -> Self {
        let enough = |seconds: &u32| u64::from(*seconds) * 1_000 >= milliseconds;
        Self(MEMORY_S.iter().position(enough).unwrap_or(MEMORY_S.len() - 1))
    }

    /// The number of its chain.
    pub(crate) fn number(self) -> usize {
        self.0
    }
}

pub(crate) const SUBSYSTEM: u16 = 10 << 8;
pub(crate) const NEW_TABLE: u16 = SUBSYSTEM;
pub(crate) const DELETE_TABLE: u16 = SUBSYSTEM | 2;
pub(crate) const NEW_CHAIN: u16 = SUBSYSTEM | 3;
pub(crate) const GET_CHAIN: u16 = SUBSYSTEM | 4;
pub(crate) const NEW_RULE: u16 = SUBSYSTEM | 6;
pub(crate) const GET_RULE: u16 = SUBSYSTEM | 7;
pub(crate) const DELETE_RULE: u16 = SUBSYSTEM | 8;
pub(crate) const NEW_SET: u16 = SUBSYSTEM | 9;
pub(crate) const DESTROY_TABLE: u16 = SUBSYSTEM | 26;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// How long the header of netfilter's messages is.
pub(crate) const FAMILY_HEADER_BYTES: usize = 4;
const BATCH_HEADER: [u8; 4] = [0, 0, 0, 10];

/// After connections are tracked (-200), before their destination is translated.
const PRIORITY_ALLOW: i32 = -110;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_FILTER: i32 = 0;
/// After all that others filter (0 to 50), before connections are remembered (the highest of all).
const PRIORITY_LATE: i32 = 200;
/// Before connections are followed: what is forged is not even remembered.
const PRIORITY_RAW: i32 = -300;
const HOOK_PREROUTING: u32 = 0;
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
const HOOK_OUTPUT: u32 = 3;
const HOOK_POSTROUTING: u32 = 4;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const PORT_OF_NAMES: u16 = 53;

/// Where a table is: its name, and whose it is of the two that may have that name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) family: Family,
}

/// What the static part depends on. If one of these changes, the table is replaced as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Of which family the table is.
    pub(crate) family: Family,
    /// The range of all instances' addresses.
    pub(crate) cluster_range: Cidr,
    /// The range of all virtual addresses.
    pub(crate) service_range: Cidr,
    /// This node's part of the cluster range.
    pub(crate) subnet: Cidr,
    /// The address of the table's family that all peers can answer to, if there is one.
    pub(crate) node_address: Option<IpAddr>,
    /// How our links' names begin.
    pub(crate) interface_prefix: String,
    /// Whether the node forwards for others as it did before we came, or only for us.
    pub(crate) forwarding: Forwarding,
    /// Ports of nodes that instances may ask besides published ones.
    pub(crate) node_ports: Vec<(Protocol, u16)>,
    /// Whether some workload admits only some others.
    pub(crate) admission: bool,
    /// At which port names are answered instead of 53, where another program holds that on all addresses.
    pub(crate) names_port: Option<u16>,
    /// Links for which another program forwards.
    pub(crate) others_links: Vec<String>,
    /// Whether other tables' rules for INPUT say who comes in at ports of this node.
    pub(crate) asks_input: bool,
}

/// For whom the node forwards packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarding {
    /// It was a router before we came: what is not ours is left alone.
    AsBefore,
    /// We switched it on: between links that are not ours nothing is forwarded but translated connections.
    OnlyOurs,
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
pub(crate) fn write(requests: &mut Requests, table: Place<'_>, base: &Base) {
    let written_by_rules = [Collection::Clients].into_iter().chain(door::collections(base));
    for (number, collection) in (1..).zip(Collection::FILLED.into_iter().chain(written_by_rules)) {
        write_set(requests, table, collection, number);
    }
    for slots in 1..=u32::try_from(SLOTS_MAX).expect("a small number") {
        let (service, port) = (format!("r{slots}"), format!("p{slots}"));
        write_chain(requests, table, &service, None);
        write_rule(requests, table, &service, &service_slot(table.family, slots));
        write_chain(requests, table, &port, None);
        write_rule(requests, table, &port, &port_slot(table.family, slots));
    }
    for (number, seconds) in MEMORY_S.iter().enumerate() {
        let name = format!("m{number}");
        write_chain(requests, table, &name, None);
        write_rule(
            requests,
            table,
            &name,
            &Rule::of(table.family).remember_client(Collection::Clients.name(), *seconds),
        );
    }
    let chains = [
        ("client", None, stay(base, Rule::load_service_key, Rule::hash_behind_service_key, Collection::Slots)),
        ("port_client", None, stay(base, Rule::load_port_key, Rule::hash_behind_port_key, Collection::PortSlots)),
        ("allow_address", None, only_allowed(Rule::of(base.family).load_service_key())),
        ("allow_anywhere", None, only_allowed(Rule::of(base.family).load_port_key_of_any_address())),
        ("allow_prerouting", Some(("filter", HOOK_PREROUTING, PRIORITY_ALLOW)), kept(base)),
        ("unmatched", None, unmatched(base)),
        ("refused", None, refuse(base).into()),
        ("leaving", None, guard::leaving(base)),
        ("closed", None, guard::closed(base)),
        ("admission", None, guard::admission(base)),
        ("guard_prerouting", Some(("filter", HOOK_PREROUTING, PRIORITY_RAW)), guard::forged(base)),
        ("filter_input", Some(("filter", HOOK_INPUT, PRIORITY_FILTER)), guard::to_node(base)),
        ("nat_prerouting", Some(("nat", HOOK_PREROUTING, PRIORITY_DESTINATION_NAT)), door::arriving(base)),
        ("nat_output", Some(("nat", HOOK_OUTPUT, PRIORITY_DESTINATION_NAT)), translate(base)),
        ("nat_postrouting", Some(("nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT)), masquerade(base)),
        ("filter_forward", Some(("filter", HOOK_FORWARD, PRIORITY_FILTER)), forward(base)),
        ("filter_output", Some(("filter", HOOK_OUTPUT, PRIORITY_FILTER)), vec![untranslated(base)]),
    ];
    let door = base.asks_input.then(|| {
        [
            ("translate", None, translate(base)),
            ("passed", None, door::passed(base)),
            ("late_input", Some(("filter", HOOK_INPUT, PRIORITY_LATE)), door::late(base)),
        ]
    });
    for (name, hook, rules) in door.into_iter().flatten().chain(chains) {
        write_chain(requests, table, name, hook);
        for rule in rules {
            write_rule(requests, table, name, &rule);
        }
    }
}

fn service_slot(family: Family, slots: u32) -> Rule {
    Rule::of(family).load_service_key().draw_behind_service_key(slots).translate_from(Collection::Slots.name())
}

fn port_slot(family: Family, slots: u32) -> Rule {
    Rule::of(family).load_port_key().draw_behind_port_key(slots).translate_from(Collection::PortSlots.name())
}

/// Where clients are remembered: to the endpoint that is, else to that of the slot that the client's address tells.
fn stay(base: &Base, load: fn(Rule) -> Rule, hash: fn(Rule, usize) -> Rule, slots: Collection) -> Vec<Rule> {
    vec![
        Rule::of(base.family).load_client_key().translate_from(Collection::Clients.name()),
        hash(load(Rule::of(base.family)), SLOTS_MAX).translate_from(slots.name()),
    ]
}

/// Sends packets to ports of this node that are kept for some clients to be looked at.
fn kept(base: &Base) -> Vec<Rule> {
    let guarded = Collection::Guarded.name();
    vec![
        Rule::of(base.family).load_service_key().in_set(guarded).verdict(Verdict::Goto("allow_address")),
        Rule::of(base.family)
            .load_port_key_of_any_address()
            .in_set(guarded)
            .destined_here()
            .verdict(Verdict::Goto("allow_anywhere")),
    ]
}

fn only_allowed(loaded: Rule) -> Vec<Rule> {
    let family = loaded.family();
    vec![
        loaded.load_client_behind_service_key().in_set(Collection::Allowed.name()).verdict(Verdict::Accept),
        Rule::of(family).verdict(Verdict::Drop),
    ]
}

/// Leads to endpoints what is for a service or a port of this node.
pub(crate) fn translate(base: &Base) -> Vec<Rule> {
    // A program that listens on 127.0.0.1 alone keeps its port there, and whoever is asked on the node's own address of its
    // range (names) is not to be hidden by a published port.
    let loopback = match base.family {
        Family::V4 => (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        Family::V6(_) => (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    };
    let elsewhere = Rule::of(base.family).destined_here().foreign(Side::Destination, Must::Differ, loopback);
    let elsewhere = match base.subnet.nth(1) {
        Some(own) => elsewhere.address(Side::Destination, Must::Differ, own),
        None => elsewhere,
    };
    let mut rules = vec![
        Rule::of(base.family).load_service_key().verdict_from(Collection::Services.name()),
        elsewhere.load_port_key().verdict_from(Collection::Ports.name()),
    ];
    if let (Some(own), Some(port)) = (base.subnet.nth(1), base.names_port) {
        rules.extend([UDP, TCP].map(|protocol| {
            let asked = Rule::of(base.family).address(Side::Destination, Must::Equal, own);
            asked.protocol(protocol).port(PORT_OF_NAMES).translate_to(own, port)
        }));
    }
    rules
}

/// Where the client's address must be hidden. Everywhere else the instance sees its client.
fn masquerade(base: &Base) -> Vec<Rule> {
    let subnet = base.subnet;
    let elsewhere = Rule::of(base.family)
        .translated()
        .range(Side::Destination, Must::Equal, base.cluster_range)
        .range(Side::Destination, Must::Differ, subnet)
        .range(Side::Source, Must::Differ, subnet);
    let not_from_here = |rule: Rule| match base.node_address {
        Some(own @ IpAddr::V4(_)) => rule.foreign(Side::Source, Must::Differ, (own, 32)),
        Some(own @ IpAddr::V6(_)) => rule.foreign(Side::Source, Must::Differ, (own, 128)),
        None => rule,
    };
    let in_a_node = Rule::of(base.family).translated().destined_to(Collection::Nodes.name()).range(
        Side::Source,
        Must::Differ,
        subnet,
    );
    let closed = Rule::of(base.family).translated().destined_to(Collection::ClosedElsewhere.name());
    // Its node knows by it that a node leads here, whoever asked.
    let closed = match subnet.nth(1) {
        Some(own) => closed.speak_as(own),
        None => closed.masquerade(),
    };
    vec![
        // nft 1.0.6 cannot list a rule that writes to a map what it looked up: here the packet itself has it.
        Rule::of(base.family).translated().load_asked_service_key().verdict_from(Collection::Remembered.name()),
        Rule::of(base.family).translated().load_asked_port_key().verdict_from(Collection::PortRemembered.name()),
        // To itself through a service: else the answer would never leave the instance.
        Rule::of(base.family).translated().load_address_pair().in_set(Collection::Hairpins.name()).masquerade(),
        closed,
        // Translated here, answered by an instance elsewhere, asked by somebody whose answers need not come through
        // here: the instance must answer to this node, which alone can translate back.
        not_from_here(elsewhere).masquerade(),
        // The same of a process in another node's own network, which has no address of the cluster.
        not_from_here(in_a_node).masquerade(),
        // What this node itself asks of instances behind the device that wraps: their answers must come back through it.
        Rule::of(base.family)
            .link_prefix(Link::Out, Must::Equal, &vxlan::name(&base.interface_prefix))
            .range(Side::Source, Must::Differ, base.cluster_range)
            .masquerade(),
        // From an instance to the world outside, which has no route to our addresses.
        Rule::of(base.family)
            .range(Side::Source, Must::Equal, subnet)
            .range(Side::Destination, Must::Differ, base.cluster_range)
            .masquerade(),
    ]
}

fn forward(base: &Base) -> Vec<Rule> {
    let prefix = &base.interface_prefix;
    let ours = |link| Rule::of(base.family).link_prefix(link, Must::Equal, prefix).verdict(Verdict::Accept);
    // Whoever asks from outside does not know how little fits behind that device.
    let wrapping = Rule::of(base.family).link_prefix(Link::Out, Must::Equal, &vxlan::name(prefix));
    let mut rules = vec![untranslated(base), wrapping.begins_connection().clamp_segments()];
    rules.extend(guard::forwarded(base));
    match base.forwarding {
        Forwarding::AsBefore => {}
        Forwarding::OnlyOurs => {
            rules.extend([
                Rule::of(base.family).translated().verdict(Verdict::Accept),
                ours(Link::In),
                ours(Link::Out),
            ]);
            let theirs = |link, name| Rule::of(base.family).link(link, name).verdict(Verdict::Accept);
            rules.extend(base.others_links.iter().flat_map(|name| [theirs(Link::In, name), theirs(Link::Out, name)]));
            rules.push(Rule::of(base.family).verdict(Verdict::Drop));
        }
    }
    rules
}

fn untranslated(base: &Base) -> Rule {
    Rule::of(base.family).range(Side::Destination, Must::Equal, base.service_range).verdict(Verdict::Goto("unmatched"))
}

/// A packet that met a service just while it changed is dropped: TCP asks again. What nobody serves is refused at once.
fn unmatched(base: &Base) -> Vec<Rule> {
    let known = Rule::of(base.family).load_service_key().in_set(Collection::Known.name());
    let mut rules = vec![known.verdict(Verdict::Drop)];
    rules.extend(refuse(base));
    rules
}

/// Answers at once that nobody serves this.
pub(crate) fn refuse(base: &Base) -> [Rule; 2] {
    [Rule::of(base.family).protocol(TCP).reset(), Rule::of(base.family).unreachable()]
}

fn write_chain(requests: &mut Requests, table: Place<'_>, name: &str, hook: Option<(&str, u32, i32)>) {
    requests.push("add a chain", (NEW_CHAIN, flag::CREATE), &table.family.header(), |chain| {
        chain.text(1, table.name);
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
pub(crate) fn write_rule(requests: &mut Requests, table: Place<'_>, chain: &str, rule: &Rule) {
    requests.push("add a rule", (NEW_RULE, flag::CREATE | flag::APPEND), &table.family.header(), |attributes| {
        attributes.text(1, table.name);
        attributes.text(2, chain);
        attributes.nest(4, |expressions| expressions.raw(rule.as_bytes()));
    });
}
