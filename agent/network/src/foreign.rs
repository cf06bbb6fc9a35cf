//! Other programs' tables: who drops what is forwarded, and, where the node's owner lets us, the rules that let ours pass: by our
//! links, and by the instances' addresses, since what a published port leads to another node comes and goes by the same link of the node.
//! An `accept` in our own table cannot undo a `drop` in another. The rules bear our name, by which they are found when we leave.
//! Each half of the kernel looks for itself: at tables of its version of the protocol, and at those of both.

mod dropping;
mod forwarded;
mod legacy;

use std::collections::{BTreeMap, BTreeSet};

use api_types::net::Cidr;

use self::dropping::{Dropping, IPTABLES};
use crate::{
    Error,
    family::Family,
    message::{Requests, attribute, flag, text},
    socket::Socket,
    table::{DELETE_RULE, Forwarding, GET_CHAIN, GET_RULE, Place, transaction},
};

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const HOOK_NUMBER: u16 = 1;
const HOOK_FORWARD: u32 = 2;
const POLICY_DROP: u32 = 0;
/// Both versions of the protocol (`NFPROTO_INET`).
const INET: u8 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_NOTE: u16 = 7;
/// A comment of a rule, as nft and iptables read it: its kind, its length, its text.
const NOTE: &[u8] = b"\x00\x07wherry\x00";
const HEADER_BYTES: usize = 4;
/// Where Docker keeps the rules of the machine's owner; it goes through them before its own and never removes them.
const DOCKER_USER: &str = "DOCKER-USER";

/// What was seen of other programs' tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The chains that drop what instances send and get.
    dropping: Vec<Dropping>,
    /// Whether some chain drops what is forwarded unless a rule of its owner lets it pass.
    guarded: bool,
    /// Links of which others' rules speak where packets are forwarded.
    links: BTreeSet<String>,
}

impl Surroundings {
    /// Who drops what instances send and get by these versions of the protocol, a line each for people.
    pub(crate) fn describe(&self, prefix: &str, range: Cidr, families: &[Family]) -> Vec<String> {
        self.dropping.iter().map(|found| found.describe(prefix, range, families)).collect()
    }

    /// For whom this node forwards. Where another program that needs forwarding, too, drops what its own rules do not let pass
    /// (Docker), the node is no open router, and what that program forwards is left to it.
    pub(crate) fn forwarding(&self, switched: Forwarding) -> Forwarding {
        if self.guarded { Forwarding::AsBefore } else { switched }
    }

    /// Links for which another program forwards: what comes from or goes to them is its business.
    pub(crate) fn others_links(&self) -> Vec<String> {
        self.links.iter().cloned().collect()
    }
}

/// Looks at the chains that see what is forwarded beside our table. `open`: lets what is ours pass where `iptables` drops it.
pub(crate) fn look(
    socket: &Socket,
    own: Place<'_>,
    (prefix, range): (&str, Cidr),
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
        // Who drops by both versions is told once, by the half that is always there.
        let is_told = found.family == INET && own.family != Family::V4;
        if is_told || knows(socket, &found, prefix)? {
            continue;
        }
        if !(open && found.open(socket, own.family, prefix, range).unwrap_or(false)) {
            seen.dropping.push(found);
        }
    }
    Ok(seen)
}

/// Looks at what nftables does not list, the tables of `iptables-legacy`, and adds what they do. Nothing tells whether they changed.
pub(crate) fn look_at_legacy(seen: &mut Surroundings, family: Family, prefix: &str) {
    let Some(said) = legacy::read(family) else { return };
    seen.guarded |= said.refuses;
    seen.links.extend(said.links.iter().filter(|link| !link.starts_with(prefix)).cloned());
    if said.refuses && !said.names(prefix) {
        let [table, chain] = [IPTABLES, legacy::CHAIN].map(str::to_owned);
        let owners = chain.clone();
        seen.dropping.push(Dropping { family: family.number(), table, chain, owners, is_legacy: true });
    }
}

/// Takes the rules out of `iptables`' table that let ours pass; what its owner wrote stays.
pub(crate) fn close(socket: &Socket, family: Family) -> Result<(), Error> {
    let header = family.header();
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
            is_legacy: false,
        })
    }
}

/// The chains of other tables that see what is forwarded by the version of the protocol of our table.
fn chains(socket: &Socket, own: Place<'_>) -> Result<Vec<Hooked>, Error> {
    let version = own.family.number();
    let mut requests = Requests::default();
    requests.push("list all chains", (GET_CHAIN, flag::DUMP), &[0; HEADER_BYTES], |_| {});
    let mut tables: BTreeMap<(u8, String), Hooked> = BTreeMap::new();
    let mut owners = None;
    socket.dump(&requests, |message| {
        let (family, body) = (*message.payload.first()?, message.payload.get(HEADER_BYTES..)?);
        let (table, chain) = (text(attribute(body, CHAIN_TABLE)?), text(attribute(body, CHAIN_NAME)?));
        if family == version && table == IPTABLES && chain == DOCKER_USER {
            owners = Some(chain.to_owned());
        }
        let number = |value: &[u8]| value.try_into().ok().map(u32::from_be_bytes);
        let hook = attribute(body, CHAIN_HOOK).and_then(|hook| attribute(hook, HOOK_NUMBER)).and_then(number)?;
        let policy = attribute(body, CHAIN_POLICY).and_then(number)?;
        if [INET, version].contains(&family) && hook == HOOK_FORWARD && table != own.name {
            let hooked = tables.entry((family, table.to_owned())).or_default();
            (hooked.family, hooked.table) = (family, table.to_owned());
            hooked.chains.push((chain.to_owned(), policy == POLICY_DROP));
        }
        None::<()>
    })?;
    if let Some(iptables) = tables.get_mut(&(version, IPTABLES.to_owned())) {
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
