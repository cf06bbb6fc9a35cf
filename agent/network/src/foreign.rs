//! Other programs' tables: who drops what is forwarded, and, where the node's owner lets us, the rules that let ours pass: by our
//! links, and by the instances' addresses, since what a published port leads to another node comes and goes by the same link of the node.
//! An `accept` in our own table cannot undo a `drop` in another. The rules bear our name, by which they are found when we leave.

mod forwarded;

use std::collections::{BTreeMap, BTreeSet};

use api_types::net::Cidr;

use crate::{
    Error,
    family::Family,
    message::{Requests, attribute, flag, text},
    rule::{Link, Must, Rule, Side, Verdict},
    socket::Socket,
    table::{DELETE_RULE, GET_CHAIN, GET_RULE, NEW_RULE, transaction},
};

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
/// Both versions of the protocol, and version 4.
const INET: u8 = 1;
const IPV4: u8 = 2;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_NOTE: u16 = 7;
/// A comment of a rule, as nft and iptables read it: its kind, its length, its text.
const NOTE: &[u8] = b"\x00\x07wherry\x00";
const HEADER_BYTES: usize = 4;
/// Where Docker keeps the rules of the machine's owner; it goes through them before its own and never removes them.
const DOCKER_USER: &str = "DOCKER-USER";
/// The table that `iptables` keeps.
const IPTABLES: &str = "filter";
/// The table that firewalld keeps. It makes it anew from its own files, so rules belong there.
const FIREWALLD: &str = "firewalld";

/// What was seen of other programs' tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The chains that drop what instances send and get.
    pub(crate) dropping: Vec<Dropping>,
    /// Whether some chain drops what is forwarded unless a rule of its owner lets it pass.
    pub(crate) guarded: bool,
    /// Links of which others' rules speak where packets are forwarded.
    pub(crate) links: BTreeSet<String>,
}

/// A chain that drops what nobody of its own table accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropping {
    family: u8,
    table: String,
    chain: String,
    /// Where a rule of the machine's owner belongs.
    owners: String,
}

impl Dropping {
    /// What is so and what mends it, in one line for people.
    pub(crate) fn describe(&self, prefix: &str, range: Cidr) -> String {
        let (family, table, chain, owners) = (self.family_name(), &self.table, &self.chain, &self.owners);
        let mending = if self.is_of_iptables() {
            let rule = |what: String| format!("iptables -I {owners} {what} -j ACCEPT");
            let links = ["-i", "-o"].map(|side| rule(format!("{side} {prefix}+")));
            let addresses = ["-s", "-d"].map(|side| rule(format!("{side} {range}")));
            [links, addresses].concat().join("; ")
        } else if self.table == FIREWALLD {
            let permanent = |what: String| format!("firewall-cmd --permanent {what}");
            let trusted = [format!("--add-interface={prefix}+"), format!("--add-source={range}")];
            let trusted = trusted.map(|whom| permanent(format!("--zone=trusted {whom}")));
            let policy = ["--add-ingress-zone=ANY", "--add-egress-zone=trusted", "--set-target=ACCEPT"];
            let policy = policy.map(|what| permanent(format!("--policy=wherry {what}")));
            let new = permanent("--new-policy=wherry".to_owned());
            [&trusted[..], &[new], &policy, &["firewall-cmd --reload".to_owned()]].concat().join("; ")
        } else {
            let rule = |what: String| format!("nft insert rule {family} {table} {owners} {what} accept");
            let links = ["iifname", "oifname"].map(|side| rule(format!("{side} \"{prefix}*\"")));
            let addresses = ["saddr", "daddr"].map(|side| rule(format!("ip {side} {range}")));
            [links, addresses].concat().join("; ")
        };
        format!(
            "chain {chain} of table {family} {table} drops what instances send and get; this lets it pass: {mending}"
        )
    }

    /// Whether it is `iptables`' own, into which a pair of rules fits without anybody's tools stumbling over it.
    fn is_of_iptables(&self) -> bool {
        self.family == IPV4 && self.table == IPTABLES
    }

    fn family_name(&self) -> &'static str {
        if self.family == IPV4 { "ip" } else { "inet" }
    }

    /// Puts the rules in front of all others.
    fn open(&self, socket: &Socket, prefix: &str, range: Cidr) -> Result<(), Error> {
        let requests = transaction(|requests| {
            let rule = || Rule::of(Family::V4);
            let links = [Link::In, Link::Out].map(|link| rule().link_prefix(link, Must::Equal, prefix));
            let addresses = [Side::Source, Side::Destination].map(|side| rule().range(side, Must::Equal, range));
            for rule in links.into_iter().chain(addresses) {
                let rule = rule.verdict(Verdict::Accept);
                let header = [self.family, 0, 0, 0];
                requests.push("add a rule for ours", (NEW_RULE, flag::CREATE), &header, |attributes| {
                    attributes.text(1, &self.table);
                    attributes.text(2, &self.owners);
                    attributes.nest(RULE_EXPRESSIONS, |expressions| expressions.raw(rule.as_bytes()));
                    attributes.bytes(RULE_NOTE, NOTE);
                });
            }
        });
        socket.demand(&requests)
    }
}

/// Looks at the chains that drop what is forwarded. `open`: lets what is ours pass where `iptables` drops it.
pub(crate) fn look(
    socket: &Socket,
    (own, prefix): (&str, &str),
    range: Cidr,
    open: bool,
) -> Result<Surroundings, Error> {
    let (mut seen, mut dropping) = (Surroundings::default(), Vec::new());
    for hooked in chains(socket, own)? {
        let chains: Vec<&str> = hooked.chains.iter().map(|(name, _)| name.as_str()).collect();
        let mut said = forwarded::read(socket, (hooked.family, &hooked.table), &chains)?;
        seen.links.append(&mut said.links);
        dropping.extend(hooked.dropping(&said.refusing));
    }
    seen.guarded = !dropping.is_empty();
    // Ours have rules of their own.
    seen.links.retain(|link| !link.starts_with(prefix));
    for found in dropping {
        if knows(socket, &found, prefix)? {
            continue;
        }
        if !(open && found.is_of_iptables() && found.open(socket, prefix, range).is_ok()) {
            seen.dropping.push(found);
        }
    }
    Ok(seen)
}

/// Takes the rules out of `iptables`' table that let ours pass; what its owner wrote stays.
pub(crate) fn close(socket: &Socket) -> Result<(), Error> {
    let header = [IPV4, 0, 0, 0];
    let mut listing = Requests::default();
    listing.push("list the rules of another table", (GET_RULE, flag::DUMP), &header, |attributes| {
        attributes.text(1, IPTABLES);
    });
    let listed = socket.dump(&listing, |message| {
        let body = message.payload.get(HEADER_BYTES..)?;
        let ours = attribute(body, 1).map(text) == Some(IPTABLES) && attribute(body, RULE_NOTE) == Some(NOTE);
        ours.then(|| Some((attribute(body, RULE_CHAIN)?.to_vec(), attribute(body, RULE_HANDLE)?.to_vec()))).flatten()
    });
    let rules = match listed {
        Err(error) if error.errno() == Some(libc::ENOENT) => Vec::new(),
        listed => listed?,
    };
    if rules.is_empty() {
        return Ok(());
    }
    socket.demand(&transaction(|requests| {
        for (chain, handle) in &rules {
            requests.push("delete a rule for ours", (DELETE_RULE, 0), &header, |attributes| {
                attributes.text(1, IPTABLES);
                attributes.bytes(RULE_CHAIN, chain);
                attributes.bytes(RULE_HANDLE, handle);
            });
        }
    }))
}

/// A table of another program, with the chains that see what is forwarded.
#[derive(Debug, Default)]
struct Hooked {
    family: u8,
    table: String,
    /// Their names, and whether they drop by policy.
    chains: Vec<(String, bool)>,
    /// Where the rules of the machine's owner belong, if not in the very chain that drops.
    owners: Option<String>,
}

impl Hooked {
    /// The chains that drop what none of their rules accepts: by policy, or because they are among those that refuse at their end.
    fn dropping(&self, refusing: &BTreeSet<String>) -> impl Iterator<Item = Dropping> {
        let drops = |(name, by_policy): &&(String, bool)| *by_policy || refusing.contains(name);
        self.chains.iter().filter(drops).map(|(chain, _)| Dropping {
            family: self.family,
            table: self.table.clone(),
            chain: chain.clone(),
            owners: self.owners.clone().unwrap_or_else(|| chain.clone()),
        })
    }
}

/// The chains of other tables that see what is forwarded.
fn chains(socket: &Socket, own: &str) -> Result<Vec<Hooked>, Error> {
    let mut requests = Requests::default();
    requests.push("list all chains", (GET_CHAIN, flag::DUMP), &[0; HEADER_BYTES], |_| {});
    let mut tables: BTreeMap<(u8, String), Hooked> = BTreeMap::new();
    let mut owners = None;
    socket.dump(&requests, |message| {
        let (family, body) = (*message.payload.first()?, message.payload.get(HEADER_BYTES..)?);
        let (table, chain) = (text(attribute(body, CHAIN_TABLE)?), text(attribute(body, CHAIN_NAME)?));
        if family == IPV4 && table == IPTABLES && chain == DOCKER_USER {
            owners = Some(chain.to_owned());
        }
        let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        let hook = attribute(body, CHAIN_HOOK).and_then(|hook| attribute(hook, HOOK_NUMBER)).and_then(number)?;
        let policy = attribute(body, CHAIN_POLICY).and_then(number)?;
        if [INET, IPV4].contains(&family) && hook == HOOK_FORWARD && table != own {
            let hooked = tables.entry((family, table.to_owned())).or_default();
            (hooked.family, hooked.table) = (family, table.to_owned());
            hooked.chains.push((chain.to_owned(), policy == POLICY_DROP));
        }
        None::<()>
    })?;
    if let Some(iptables) = tables.get_mut(&(IPV4, IPTABLES.to_owned())) {
        iptables.owners = owners;
    }
    Ok(tables.into_values().collect())
}

/// Whether some rule of that table speaks of our links: whoever wrote it has thought of them.
fn knows(socket: &Socket, found: &Dropping, prefix: &str) -> Result<bool, Error> {
    let mut requests = Requests::default();
    requests.push("list the rules of another table", (GET_RULE, flag::DUMP), &[found.family, 0, 0, 0], |attributes| {
        attributes.text(1, &found.table);
    });
    let rules = socket.dump(&requests, |message| {
        let body = message.payload.get(HEADER_BYTES..)?;
        // Older kernels list the rules of every table.
        let ours = attribute(body, 1).map(text) == Some(&found.table)
            && body.windows(prefix.len()).any(|bytes| bytes == prefix.as_bytes());
        ours.then_some(())
    })?;
    Ok(!rules.is_empty())
}
