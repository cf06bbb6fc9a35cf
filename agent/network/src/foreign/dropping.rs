//! A chain of another program that drops what is forwarded: how people are told, and the rules that let ours pass.

use api_types::net::Cidr;

use super::{INET, NOTE, RULE_EXPRESSIONS, RULE_NOTE};
use crate::{
    Error,
    family::Family,
    message::flag,
    rule::{Link, Must, Rule, Side, Verdict},
    socket::Socket,
    table::{NEW_RULE, transaction},
};

/// The table that `iptables` keeps, and `ip6tables`.
pub(super) const IPTABLES: &str = "filter";
/// The table that firewalld keeps. It makes it anew from its own files, so rules belong there.
const FIREWALLD: &str = "firewalld";

/// A chain that drops what nobody of its own table accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropping {
    /// netfilter's number of the family.
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) chain: String,
    /// Where a rule of the machine's owner belongs.
    pub(super) owners: String,
    /// Whether it is one of the kernel's older tables, of which nftables knows nothing.
    pub(super) is_legacy: bool,
}

impl Dropping {
    /// What is so and what mends it, in one line for people. `families`: those by which instances send and get.
    pub(super) fn describe(&self, prefix: &str, range: Cidr, families: &[Family]) -> String {
        let (family, table, chain) = (self.family_name(), &self.table, &self.chain);
        let is_seen = |of: &&Family| self.family == INET || self.family == of.number();
        let ranges: Vec<_> = families.iter().filter(is_seen).map(|of| (of.name(), of.range(range))).collect();
        let mending = if self.is_of_iptables() {
            self.by_iptables(prefix, &ranges)
        } else if self.table == FIREWALLD {
            by_firewalld(prefix, &ranges)
        } else {
            self.by_nft(prefix, &ranges)
        };
        let place = if self.is_legacy { self.iptables() } else { format!("table {family} {table}") };
        let mending = mending.join("; ");
        format!("chain {chain} of {place} drops what instances send and get; this lets it pass: {mending}")
    }

    /// Puts rules in front of all others, if it is `iptables`' own, into which they fit without anybody's tools stumbling over
    /// them. Gives whether that was so.
    pub(super) fn open(&self, socket: &Socket, family: Family, prefix: &str, range: Cidr) -> Result<bool, Error> {
        if !self.is_of_iptables() || self.is_legacy {
            return Ok(false);
        }
        let requests = transaction(|requests| {
            let rule = || Rule::of(family);
            let links = [Link::In, Link::Out].map(|link| rule().link_prefix(link, Must::Equal, prefix));
            let addresses = [Side::Source, Side::Destination].map(|side| rule().range(side, Must::Equal, range));
            for rule in links.into_iter().chain(addresses) {
                let rule = rule.verdict(Verdict::Accept);
                requests.push("add a rule for ours", (NEW_RULE, flag::CREATE), &family.header(), |attributes| {
                    attributes.text(1, &self.table);
                    attributes.text(2, &self.owners);
                    attributes.nest(RULE_EXPRESSIONS, |expressions| expressions.raw(rule.as_bytes()));
                    attributes.bytes(RULE_NOTE, NOTE);
                });
            }
        });
        socket.demand(&requests).map(|()| true)
    }

    fn is_of_iptables(&self) -> bool {
        self.family != INET && self.table == IPTABLES
    }

    fn by_iptables(&self, prefix: &str, ranges: &[(&str, String)]) -> Vec<String> {
        let links = ["-i", "-o"].map(|side| format!("{side} {prefix}+"));
        let addresses = ranges.iter().flat_map(|(_, range)| ["-s", "-d"].map(|side| format!("{side} {range}")));
        let rule = |what| format!("{} -I {} {what} -j ACCEPT", self.iptables(), self.owners);
        links.into_iter().chain(addresses).map(rule).collect()
    }

    fn by_nft(&self, prefix: &str, ranges: &[(&str, String)]) -> Vec<String> {
        let links = ["iifname", "oifname"].map(|side| format!("{side} \"{prefix}*\""));
        let addresses =
            ranges.iter().flat_map(|(of, range)| ["saddr", "daddr"].map(|side| format!("{of} {side} {range}")));
        let (family, table, owners) = (self.family_name(), &self.table, &self.owners);
        let rule = |what| format!("nft insert rule {family} {table} {owners} {what} accept");
        links.into_iter().chain(addresses).map(rule).collect()
    }

    /// The program that changes it.
    fn iptables(&self) -> String {
        format!("{}tables{}", self.family_name(), if self.is_legacy { "-legacy" } else { "" })
    }

    fn family_name(&self) -> &'static str {
        match self.family {
            INET => "inet",
            family if family == Family::V4.number() => "ip",
            _ => "ip6",
        }
    }
}

fn by_firewalld(prefix: &str, ranges: &[(&str, String)]) -> Vec<String> {
    let trusted = |what: String| format!("--zone=trusted {what}");
    let link = trusted(format!("--add-interface={prefix}+"));
    let sources = ranges.iter().map(|(_, range)| trusted(format!("--add-source={range}")));
    let policy = ["--add-ingress-zone=ANY", "--add-egress-zone=trusted", "--set-target=ACCEPT"];
    let policy = policy.map(|what| format!("--policy=wherry {what}"));
    let lasting = [link].into_iter().chain(sources).chain(["--new-policy=wherry".to_owned()]).chain(policy);
    let commands = lasting.map(|what| format!("firewall-cmd --permanent {what}"));
    commands.chain(["firewall-cmd --reload".to_owned()]).collect()
}
