//! What instances may not do, whatever runs in them: the rules between them, the node, the cloud below and each other.
//!
//! ```text
//! guard_prerouting  from an instance's link, with a source that does not lead back there: dropped
//! filter_input      from an instance to the node itself: names, published ports and echoes, else refused
//! leaving           from an instance to a cloud's metadata and to other nodes' own ports: refused
//! closed            to an instance here that only ports of the nodes lead to, by another way: refused
//! admission         from an instance to an instance here that does not admit it: dropped
//! ```
//!
//! Answers pass everywhere, so the node itself may ask its instances whatever it likes, and what was translated passes:
//! services and published ports have rules of their own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    collection::Collection,
    element::protocol_number,
    family::Family,
    rule::{Link, Must, Rule, Side, Verdict},
    table::{Base, PORT_OF_NAMES, TCP, UDP, refuse},
};

/// Where clouds tell a machine its secrets: link-local (AWS, Azure, Google, OpenStack and others), and three that stand
/// elsewhere (Alibaba, Azure's agent, Oracle).
const METADATA: [(IpAddr, u8); 4] = [
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)), 32),
    (IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 32),
    (IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)), 32),
];
/// The same in version 6 (AWS, Google).
const METADATA_V6: [(IpAddr, u8); 2] = [
    (IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 128),
    (IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)), 128),
];

/// An instance sends from its own address only: the route to it leads to its link, and no other does.
pub(crate) fn forged(base: &Base) -> Vec<Rule> {
    vec![from_instance(base, Must::Equal).forged().verdict(Verdict::Drop)]
}

/// What an instance asks of the node's own programs.
pub(crate) fn to_node(base: &Base) -> Vec<Rule> {
    let accept = |rule: Rule| rule.verdict(Verdict::Accept);
    let mut rules = vec![
        accept(from_instance(base, Must::Differ)),
        accept(Rule::of(base.family).follows()),
        accept(Rule::of(base.family).translated()),
        accept(Rule::of(base.family).echo()),
    ];
    if let Some(own) = base.subnet.nth(1) {
        let names = |protocol| Rule::of(base.family).address(Side::Destination, Must::Equal, own).protocol(protocol);
        rules.extend([UDP, TCP].map(|protocol| accept(names(protocol).port(PORT_OF_NAMES))));
    }
    // What is published and arrives here was not translated: the agent listens there itself.
    rules.push(accept(Rule::of(base.family).load_port_key().in_set(Collection::Published.name())));
    rules.extend(node_ports(base).map(accept));
    rules.extend(refuse(base));
    rules
}

/// The way to [`leaving`], [`closed`] and [`admission`].
pub(crate) fn forwarded(base: &Base) -> Vec<Rule> {
    let mut rules = vec![from_instance(base, Must::Equal).verdict(Verdict::Jump("leaving"))];
    rules.push(Rule::of(base.family).destined_to(Collection::Closed.name()).verdict(Verdict::Jump("closed")));
    rules.extend(base.admission.then(|| {
        Rule::of(base.family)
            .link_prefix(Link::Out, Must::Equal, &base.interface_prefix)
            .range(Side::Source, Must::Equal, base.cluster_range)
            .verdict(Verdict::Jump("admission"))
    }));
    rules
}

/// What an instance asks of others, nodes above all.
pub(crate) fn leaving(base: &Base) -> Vec<Rule> {
    let pass = |rule: Rule| rule.verdict(Verdict::Return);
    let mut rules = vec![pass(Rule::of(base.family).follows()), pass(Rule::of(base.family).translated())];
    let metadata = match base.family {
        Family::V4 => METADATA.as_slice(),
        Family::V6(_) => &METADATA_V6,
    };
    rules.extend(metadata.iter().map(|range| {
        Rule::of(base.family).foreign(Side::Destination, Must::Equal, *range).verdict(Verdict::Goto("refused"))
    }));
    let to_nodes = || Rule::of(base.family).destined_to(Collection::Nodes.name());
    rules.push(pass(to_nodes().load_port_key().in_set(Collection::Published.name())));
    rules.push(pass(to_nodes().echo()));
    rules.extend(
        base.node_ports
            .iter()
            .map(|(protocol, port)| pass(to_nodes().protocol(protocol_number(*protocol)).port(*port))),
    );
    rules.push(to_nodes().verdict(Verdict::Goto("refused")));
    rules
}

/// Who may ask an instance here that only ports of the nodes lead to: who came by a port of this node or, to what all nodes
/// publish, by one of another node, which leads it here in its own name.
pub(crate) fn closed(base: &Base) -> Vec<Rule> {
    let pass = |rule: Rule| rule.verdict(Verdict::Return);
    vec![
        pass(Rule::of(base.family).follows()),
        pass(Rule::of(base.family).translated()),
        pass(
            Rule::of(base.family)
                .sent_by(Collection::Nodes.name())
                .load_service_key()
                .in_set(Collection::Entrances.name()),
        ),
        Rule::of(base.family).verdict(Verdict::Goto("refused")),
    ]
}

/// Who may ask an instance here. One that the table does not name yet admits nobody; what is not admitted is dropped, as
/// the table may be about to name it, and TCP asks again.
pub(crate) fn admission(base: &Base) -> Vec<Rule> {
    let pass = |rule: Rule| rule.verdict(Verdict::Return);
    let mut rules = vec![
        pass(Rule::of(base.family).follows()),
        pass(Rule::of(base.family).destined_to(Collection::Open.name())),
        pass(Rule::of(base.family).load_address_pair().in_set(Collection::Admitted.name())),
    ];
    // A node asks through the device that wraps, for itself and for those outside, by the first address of its range.
    if base.family == Family::V4 {
        rules.push(pass(Rule::of(base.family).sent_by_first_of_range(base.subnet.prefix)));
    }
    rules.push(Rule::of(base.family).verdict(Verdict::Drop));
    rules
}

fn from_instance(base: &Base, must: Must) -> Rule {
    Rule::of(base.family).link_prefix(Link::In, must, &base.interface_prefix)
}

fn node_ports(base: &Base) -> impl Iterator<Item = Rule> {
    base.node_ports
        .iter()
        .map(|(protocol, port)| Rule::of(base.family).protocol(protocol_number(*protocol)).port(*port))
}
