//! The bytes of what neighbours say to each other; `proto/README.md` shows them.

use agent_core::watch::{Mark, Sign, WORDS_MAX};
use api_types::{id::NodeId, service::WatchKey};
use ring::hmac;

/// What a sign of life begins with: two letters and what follows.
const SIGN: [u8; 3] = *b"WW\x01";
/// The same of a word on who is silent.
const SILENT: [u8; 3] = *b"WW\x02";
/// Bytes of the HMAC-SHA256 that are sent.
const TAG_BYTES: usize = 16;
/// The interval of a sender whose machine is being shut down: there will be no more signs.
const LEAVES: u16 = 0;
/// The interval and both marks of a sign.
const SIGN_BYTES: usize = 2 + 4 * 8;

/// What one datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// That its sender lives, and whom it hears.
    Sign(Sign),
    /// Whom its sender cannot reach, or was told to be so; at most [`WORDS_MAX`].
    Silent(Vec<NodeId>),
}

/// What is said as bytes, signed.
pub(super) fn write(said: &Said, key: WatchKey, (from, to): (&NodeId, &NodeId)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    match said {
        Said::Sign(sign) => {
            bytes.extend(SIGN);
            let interval_ms = if sign.leaves { LEAVES } else { u16::try_from(sign.interval_ms).unwrap_or(u16::MAX) };
            bytes.extend(interval_ms.to_be_bytes());
            let heard = sign.heard.unwrap_or(Mark { run: 0, count: 0 });
            for number in [sign.mark.run, sign.mark.count, heard.run, heard.count] {
                bytes.extend(number.to_be_bytes());
            }
        }
        Said::Silent(_) => bytes.extend(SILENT),
    }
    write_name(&mut bytes, from);
    write_name(&mut bytes, to);
    if let Said::Silent(nodes) = said {
        nodes.iter().take(WORDS_MAX).for_each(|node| write_name(&mut bytes, node));
    }
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), &bytes);
    bytes.extend(&tag.as_ref()[..TAG_BYTES]);
    bytes
}

/// What a datagram says, and who; `None` = it is not signed with the key, not for this node, or of no form that is known.
pub(super) fn read(bytes: &[u8], key: WatchKey, own: &NodeId) -> Option<(NodeId, Said)> {
    let (said, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
    let wanted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), said);
    let differs = wanted.as_ref()[..TAG_BYTES].iter().zip(tag).fold(0, |differs, (one, other)| differs | (one ^ other));
    if differs != 0 {
        return None;
    }
    if let Some(rest) = said.strip_prefix(&SIGN) {
        let (fixed, names) = rest.split_at_checked(SIGN_BYTES)?;
        let (from, rest) = parties(names, own)?;
        return Some((from, Said::Sign(sign(fixed)?))).filter(|_| rest.is_empty());
    }
    let (from, mut rest) = parties(said.strip_prefix(&SILENT)?, own)?;
    let mut nodes = Vec::new();
    while !rest.is_empty() && nodes.len() < WORDS_MAX {
        let (node, behind) = name(rest)?;
        nodes.push(node);
        rest = behind;
    }
    rest.is_empty().then_some((from, Said::Silent(nodes)))
}

fn sign(bytes: &[u8]) -> Option<Sign> {
    let (interval, numbers) = bytes.split_first_chunk::<2>()?;
    let mut numbers = numbers.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("8 bytes")));
    let mut mark = || Some(Mark { run: numbers.next()?, count: numbers.next()? });
    let (mark, heard) = (mark()?, mark()?);
    let interval_ms = u16::from_be_bytes(*interval);
    let heard = (heard.run != 0).then_some(heard);
    Some(Sign { mark, interval_ms: interval_ms.into(), heard, leaves: interval_ms == LEAVES })
}

/// Who speaks to whom, which must be this node, and what follows.
fn parties<'b>(bytes: &'b [u8], own: &NodeId) -> Option<(NodeId, &'b [u8])> {
    let (from, rest) = name(bytes)?;
    let (to, rest) = name(rest)?;
    (to == *own).then_some((from, rest))
}

fn write_name(bytes: &mut Vec<u8>, name: &NodeId) {
    bytes.push(u8::try_from(name.as_str().len()).expect("a name has at most 63 characters"));
    bytes.extend(name.as_str().as_bytes());
}

fn name(bytes: &[u8]) -> Option<(NodeId, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((NodeId::new(std::str::from_utf8(name).ok()?).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: WatchKey = WatchKey([7; 32]);

    #[test]
    fn what_is_said_survives_the_wire() {
        let heard = Some(Mark { run: 3, count: 4 });
        let leaves = Sign { interval_ms: 0, leaves: true, ..sign(heard) };
        let long =
            |count| Said::Silent((0..count).map(|number| node(&format!("{number}-{}", "x".repeat(60)))).collect());
        for said in [Said::Sign(sign(heard)), Said::Sign(sign(None)), Said::Sign(leaves), long(0), long(WORDS_MAX)] {
            let bytes = write(&said, KEY, (&node("edge-1"), &node("edge-2")));

            assert!(bytes.len() <= super::super::BYTES_MAX, "{} bytes", bytes.len());
            assert_eq!(read(&bytes, KEY, &node("edge-2")), Some((node("edge-1"), said)));
        }
    }

    #[test]
    fn what_is_not_signed_whole_or_for_another_is_not_read() {
        for said in [Said::Sign(sign(None)), Said::Silent(vec![node("edge-7")])] {
            let bytes = write(&said, KEY, (&node("edge-1"), &node("edge-2")));

            assert_eq!(read(&bytes, WatchKey([8; 32]), &node("edge-2")), None, "another key");
            assert_eq!(read(&bytes, KEY, &node("edge-3")), None, "another receiver");
            for length in 0..bytes.len() {
                assert_eq!(read(&bytes[..length], KEY, &node("edge-2")), None, "{length} bytes of it");
            }
            for place in 0..bytes.len() {
                let mut forged = bytes.clone();
                forged[place] ^= 1;
                assert_eq!(read(&forged, KEY, &node("edge-2")), None, "byte {place} is another");
            }
        }
    }

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn sign(heard: Option<Mark>) -> Sign {
        Sign { mark: Mark { run: 1, count: 2 }, interval_ms: 500, heard, leaves: false }
    }
}
