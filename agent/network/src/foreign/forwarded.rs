//! What other programs' tables say of what is forwarded: of which links they speak (bridges of Docker and of virtual machines), and
//! which chains refuse at their end what no rule before accepted.

use std::collections::{BTreeMap, BTreeSet};

use super::{HEADER_BYTES, RULE_CHAIN, RULE_EXPRESSIONS};
use crate::{
    Error,
    message::{Requests, attribute, attributes, flag, nested, text},
    socket::Socket,
    table::GET_RULE,
};

const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_BODY: u16 = 2;
const META_KEY: u16 = 2;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
/// Where a comparison has its value.
const COMPARED: [u16; 2] = [3, 1];
/// Where a verdict has the chain that it leads to.
const VERDICT_CHAIN: [u16; 3] = [2, 2, 2];

/// Where a verdict has its number, and the one that drops.
const VERDICT_CODE: [u16; 3] = [2, 2, 1];
const DROP: [u8; 4] = [0; 4];
/// Where an extension of iptables has its name, and the one that refuses.
const TARGET_NAME: u16 = 1;
pub(super) const REJECT: &str = "REJECT";

/// What the rules of one chain speak of.
#[derive(Debug, Default)]
struct Chain {
    links: BTreeSet<String>,
    leads_to: BTreeSet<String>,
    refuses: bool,
}

/// What the rules of a table's chains that see what is forwarded say.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The links that they name, and those of all chains to which they lead.
    pub(super) links: BTreeSet<String>,
    /// Which of them have a rule that refuses whatever gets to it.
    pub(super) refusing: BTreeSet<String>,
}

/// Reads the rules of these chains of a table.
pub(super) fn read(socket: &Socket, (family, table): (u8, &str), hooked: &[&str]) -> Result<Said, Error> {
    let mut requests = Requests::default();
    requests.push("list the rules of another table", (GET_RULE, flag::DUMP), &[family, 0, 0, 0], |attributes| {
        attributes.text(1, table);
    });
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    socket.dump(&requests, |message| {
        let body = message.payload.get(HEADER_BYTES..)?;
        // Older kernels list the rules of every table.
        if attribute(body, 1).map(text) == Some(table) {
            let chain = chains.entry(text(attribute(body, RULE_CHAIN)?).to_owned()).or_default();
            chain.read(attribute(body, RULE_EXPRESSIONS)?);
        }
        None::<()>
    })?;
    let refuses = |name: &&str| chains.get(*name).is_some_and(|chain| chain.refuses);
    let refusing = hooked.iter().copied().filter(refuses).map(str::to_owned).collect();
    let mut said = Said { refusing, ..Said::default() };
    let mut next: Vec<String> = hooked.iter().map(|name| (*name).to_owned()).collect();
    while let Some(chain) = next.pop().and_then(|name| chains.remove(&name)) {
        said.links.extend(chain.links);
        next.extend(chain.leads_to);
    }
    Ok(said)
}

impl Chain {
    /// Reads a rule: the value that is compared with the name of a link stands right behind what loads that.
    fn read(&mut self, expressions: &[u8]) {
        let (mut is_link, mut refuses, mut asks_nothing) = (false, false, true);
        for (_, expression) in attributes(expressions) {
            let name = attribute(expression, EXPRESSION_NAME).map(text);
            let body = attribute(expression, EXPRESSION_BODY).unwrap_or_default();
            if let Some(link) = nested(body, &COMPARED).filter(|_| is_link && name == Some("cmp")) {
                let length = link.iter().position(|byte| *byte == 0).unwrap_or(link.len());
                self.links.extend(std::str::from_utf8(&link[..length]).ok().map(str::to_owned));
            }
            self.leads_to.extend(
                nested(body, &VERDICT_CHAIN).filter(|_| name == Some("immediate")).map(text).map(str::to_owned),
            );
            let key = attribute(body, META_KEY).and_then(|key| key.try_into().ok()).map(u32::from_be_bytes);
            is_link = name == Some("meta") && [META_IIFNAME, META_OIFNAME].map(Some).contains(&key);
            match name {
                Some("counter" | "log") => {}
                Some("reject") => refuses = true,
                Some("immediate") => refuses = nested(body, &VERDICT_CODE) == Some(&DROP),
                Some("target") => refuses = attribute(body, TARGET_NAME).map(text) == Some(REJECT),
                Some(_) | None => asks_nothing = false,
            }
        }
        self.refuses |= refuses && asks_nothing;
    }
}
