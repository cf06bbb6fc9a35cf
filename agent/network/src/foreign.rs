//! Other programs' tables: who drops what is forwarded, and, where the node's owner lets us, the pair of rules that lets ours
//! pass. An `accept` in our own table cannot undo a `drop` in another.

use crate::{
    Error,
    family::Family,
    message::{Requests, attribute, flag, text},
    rule::{Link, Must, Rule, Verdict},
    socket::Socket,
    table::{GET_CHAIN, GET_RULE, NEW_RULE, transaction},
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
const HEADER_BYTES: usize = 4;
/// Where Docker keeps the rules of the machine's owner; it goes through them before its own and never removes them.
const DOCKER_USER: &str = "DOCKER-USER";
/// The table that `iptables` keeps.
const IPTABLES: &str = "filter";

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
    pub(crate) fn describe(&self, prefix: &str) -> String {
        let (family, table, chain, owners) = (self.family_name(), &self.table, &self.chain, &self.owners);
        let mending = if self.is_of_iptables() {
            format!("iptables -I {owners} -i {prefix}+ -j ACCEPT; iptables -I {owners} -o {prefix}+ -j ACCEPT")
        } else {
            let rule = |side: &str| format!("nft insert rule {family} {table} {owners} {side} \"{prefix}*\" accept");
            format!("{}; {}", rule("iifname"), rule("oifname"))
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

    /// Puts the pair of rules in front of all others.
    fn open(&self, socket: &Socket, prefix: &str) -> Result<(), Error> {
        let requests = transaction(|requests| {
            for link in [Link::In, Link::Out] {
                let rule = Rule::of(Family::V4).link_prefix(link, Must::Equal, prefix).verdict(Verdict::Accept);
                let header = [self.family, 0, 0, 0];
                requests.push("add a rule for ours", (NEW_RULE, flag::CREATE), &header, |attributes| {
                    attributes.text(1, &self.table);
                    attributes.text(2, &self.owners);
                    attributes.nest(4, |expressions| expressions.raw(rule.as_bytes()));
                });
            }
        });
        socket.demand(&requests)
    }
}

/// The chains that drop what instances send and get. `open`: lets it pass where `iptables` drops it.
pub(crate) fn look(socket: &Socket, prefix: &str, open: bool) -> Result<Vec<Dropping>, Error> {
    let mut dropping = Vec::new();
    for found in chains(socket)? {
        if knows(socket, &found, prefix)? {
            continue;
        }
        if !(open && found.is_of_iptables() && found.open(socket, prefix).is_ok()) {
            dropping.push(found);
        }
    }
    Ok(dropping)
}

fn chains(socket: &Socket) -> Result<Vec<Dropping>, Error> {
    let mut requests = Requests::default();
    requests.push("list all chains", (GET_CHAIN, flag::DUMP), &[0; HEADER_BYTES], |_| {});
    let mut owners = Vec::new();
    let mut dropping = socket.dump(&requests, |message| {
        let (family, body) = (*message.payload.first()?, message.payload.get(HEADER_BYTES..)?);
        let (table, chain) = (text(attribute(body, CHAIN_TABLE)?), text(attribute(body, CHAIN_NAME)?));
        if family == IPV4 && table == IPTABLES && chain == DOCKER_USER {
            owners.push(chain.to_owned());
        }
        let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        let hook = attribute(body, CHAIN_HOOK).and_then(|hook| attribute(hook, HOOK_NUMBER)).and_then(number)?;
        let policy = attribute(body, CHAIN_POLICY).and_then(number)?;
        let matters = [INET, IPV4].contains(&family) && hook == HOOK_FORWARD && policy == POLICY_DROP;
        matters.then(|| Dropping { family, table: table.to_owned(), chain: chain.to_owned(), owners: chain.to_owned() })
    })?;
    for found in dropping.iter_mut().filter(|found| found.is_of_iptables()) {
        found.owners = owners.first().cloned().unwrap_or_else(|| found.chain.clone());
    }
    Ok(dropping)
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
