//! Where other tables' rules for INPUT say who comes in at a port of this node (`Firewall::Respect`).
//!
//! What is translated on arrival never meets those rules. So the first packet of somebody who is not known is not translated: it
//! goes the way of what is meant for a program of the node, through everybody's rules. If it gets to their end, its sender is
//! noted and the packet dropped; nothing remembers it. The sender asks again (TCP after a second), and now is translated.
//!
//! ```text
//! nat_prerouting   to a service, from an instance, or from one who is let in → translate
//! late_input       to a port that leads to endpoints → passed: note who it is, drop
//! ```

use crate::{
    collection::Collection,
    rule::{Link, Must, Rule, Side, Verdict},
    table::{self, Base},
};

/// For how long who passed is waited for to ask again, in seconds: TCP does after 1, 3 and 7.
const PASSED_S: u32 = 10;
/// After how many seconds the rules are asked again about somebody. Changes of nftables' rules are noticed at once.
const LET_IN_S: u32 = 600;

/// What rules write of who comes in.
pub(crate) fn collections(base: &Base) -> impl Iterator<Item = Collection> {
    base.asks_input.then_some([Collection::Passed, Collection::LetIn]).into_iter().flatten()
}

/// What arrives, and whether it is translated.
pub(crate) fn arriving(base: &Base) -> Vec<Rule> {
    let rule = || Rule::of(base.family);
    let translate = |rule: Rule| rule.verdict(Verdict::Goto("translate"));
    if !base.asks_input {
        return table::translate(base);
    }
    let passed = || rule().load_client_key().in_set(Collection::Passed.name());
    vec![
        translate(rule().range(Side::Destination, Must::Equal, base.service_range)),
        translate(rule().link_prefix(Link::In, Must::Equal, &base.interface_prefix)),
        translate(rule().load_client_key().in_set(Collection::LetIn.name())),
        passed().note_client(Collection::LetIn.name(), LET_IN_S),
        // A rule of its own: where nobody more can be let in for longer, who passed still comes in.
        translate(passed()),
    ]
}

/// What came through all rules for INPUT and leads to endpoints, not to a program of the node.
pub(crate) fn late(base: &Base) -> Vec<Rule> {
    let rule = || Rule::of(base.family);
    let known = Collection::Known.name();
    vec![
        rule().link_prefix(Link::In, Must::Equal, &base.interface_prefix).verdict(Verdict::Accept),
        rule().follows().verdict(Verdict::Accept),
        rule().translated().verdict(Verdict::Accept),
        rule().load_service_key().in_set(known).verdict(Verdict::Goto("passed")),
        rule().load_port_key_of_any_address().in_set(known).verdict(Verdict::Goto("passed")),
    ]
}

/// Notes who it is. Before the connection is remembered, so the next packet counts as its first.
pub(crate) fn passed(base: &Base) -> Vec<Rule> {
    vec![
        Rule::of(base.family).load_client_key().note_client(Collection::Passed.name(), PASSED_S),
        Rule::of(base.family).verdict(Verdict::Drop),
    ]
}
