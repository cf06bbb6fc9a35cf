//! What the tables of `iptables-legacy` say of what is forwarded: the kernel has them beside nftables, which lists nothing of them.
//! They are asked for as that program asks (`linux/netfilter_ipv4/ip_tables.h` and its twin), and never changed.

use std::{collections::BTreeSet, fs, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{dropping::IPTABLES, forwarded::REJECT};
use crate::{
    family::Family,
    message::{text, u16_at, u32_at},
};

/// The chain that sees what is forwarded, and its number.
pub(super) const CHAIN: &str = "FORWARD";
const HOOK: usize = 2;
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; `ip6tables` has the same numbers.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Of what is asked and answered: the table's name, where the chains begin, how long the rules are, and where they stand.
const NAME_BYTES: usize = 32;
const BEGINNINGS: usize = NAME_BYTES + 4;
const SIZE: usize = 80;
const INFO_BYTES: usize = 84;
const ENTRIES: usize = 40;
/// Of a rule, counted from the end of what it asks of addresses and links: where its target and the next rule begin.
const TARGET_OFFSET: usize = 4;
const NEXT_OFFSET: usize = 6;
/// Of a target: its name, and a verdict.
const TARGET_NAME: usize = 2;
const VERDICT: usize = 32;
const DROP: i32 = -1;
const LINK_BYTES: usize = 16;
/// Rules that others change meanwhile are asked for again this often.
const ATTEMPTS: usize = 5;

/// What the rules that see forwarded packets say.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// The links of which they speak.
    pub(super) links: BTreeSet<String>,
    /// Whether what no rule accepts is refused, by policy or by a rule.
    pub(super) refuses: bool,
}

impl Said {
    /// Whether some rule speaks of links whose names begin like this.
    pub(super) fn names(&self, prefix: &str) -> bool {
        self.links.iter().any(|link| link.starts_with(prefix))
    }
}

/// Reads the rules, if there are any. Where there are none, nothing is asked, as the kernel would make the table then.
pub(super) fn read(family: Family) -> Option<Said> {
    // As the calling thread's namespace has them.
    let names = fs::read_to_string(format!("/proc/thread-self/net/{}_tables_names", family.name())).ok()?;
    names.lines().find(|name| *name == IPTABLES)?;
    (0..ATTEMPTS).find_map(|_| ask_for_rules(family))
}

/// `None`: somebody changed them between the two questions, or they cannot be read.
fn ask_for_rules(family: Family) -> Option<Said> {
    let mut info = vec![0; INFO_BYTES];
    ask(family, GET_INFO, &mut info)?;
    let (start, size) = (u32_at(&info, BEGINNINGS + 4 * HOOK)?, u32_at(&info, SIZE)?);
    let mut entries = vec![0; ENTRIES + usize::try_from(size).ok()?];
    entries[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&size.to_ne_bytes());
    ask(family, GET_ENTRIES, &mut entries)?;
    Some(follow(family, &entries[ENTRIES..], usize::try_from(start).ok()?))
}

/// Has the kernel fill the answer to a question about the table, whose name is put in front.
fn ask(family: Family, what: libc::c_int, answer: &mut [u8]) -> Option<()> {
    let (domain, level) = match family {
        Family::V4 => (AddressFamily::Inet, libc::IPPROTO_IP),
        Family::V6(_) => (AddressFamily::Inet6, libc::IPPROTO_IPV6),
    };
    let socket = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    answer[..IPTABLES.len()].copy_from_slice(IPTABLES.as_bytes());
    let mut length = libc::socklen_t::try_from(answer.len()).ok()?;
    #[expect(unsafe_code, reason = "nix does not know these options")]
    // SAFETY: the descriptor is open; answer and length live across the call and are as long as said.
    let outcome =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, what, answer.as_mut_ptr().cast(), &raw mut length) };
    (outcome == 0).then_some(())
}

/// Goes through a chain and all to which it leads.
fn follow(family: Family, entries: &[u8], start: usize) -> Said {
    let (mut said, mut seen, mut next) = (Said::default(), BTreeSet::new(), vec![start]);
    while let Some(chain) = next.pop() {
        if !seen.insert(chain) {
            continue;
        }
        let mut at = chain;
        while let Some(rule) = entries.get(at..).and_then(|bytes| Rule::read(family, bytes)) {
            said.links.extend(rule.links);
            next.extend(rule.leads_to);
            said.refuses |= rule.is_last && rule.refuses && chain == start;
            if rule.is_last {
                break;
            }
            at += rule.bytes;
        }
    }
    said
}

/// A rule, as far as it matters here.
struct Rule {
    bytes: usize,
    links: Vec<String>,
    /// Where in all rules the chain begins that goes on with what it takes.
    leads_to: Option<usize>,
    refuses: bool,
    /// Whether nothing gets past it: each chain ends with such a rule, which is its policy.
    is_last: bool,
}

impl Rule {
    fn read(family: Family, bytes: &[u8]) -> Option<Self> {
        // What is asked of addresses and links, where in it the links' names are, and how long a rule's head is.
        let (asked, names, head) = match family {
            Family::V4 => (84, 16, 112),
            Family::V6(_) => (136, 64, 168),
        };
        let short = |at| u16_at(bytes, at).map(usize::from);
        let (target, next) = (short(asked + TARGET_OFFSET)?, short(asked + NEXT_OFFSET)?);
        let links = bytes.get(names..names + 2 * LINK_BYTES)?.chunks(LINK_BYTES).map(text);
        let name = text(bytes.get(target + TARGET_NAME..target + VERDICT)?);
        let verdict = u32_at(bytes, target + VERDICT).map(u32::cast_signed).filter(|_| name.is_empty());
        let asks_nothing = target == head && bytes[..asked].iter().all(|byte| *byte == 0);
        let refuses = name == REJECT || verdict == Some(DROP);
        Some(Self {
            // A rule that does not go on would be read for ever.
            bytes: Some(next).filter(|next| *next >= head)?,
            links: links.filter(|link| !link.is_empty()).map(str::to_owned).collect(),
            leads_to: verdict.and_then(|verdict| usize::try_from(verdict).ok()),
            refuses,
            is_last: asks_nothing && (refuses || verdict.is_some_and(i32::is_negative)),
        })
    }
}
