//! Signs of life between neighbours: a datagram each, signed with the cluster's key. `proto/README.md` shows its bytes; who is
//! believed to be out of reach decides [`agent_core::watch`].

mod keys;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent_core::{
    input::Input,
    watch::{Mark, Sign, Watch},
};
use api_types::{
    id::NodeId,
    service::{ServiceTable, WatchKey},
};
use ring::hmac;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::keys::Keys;
use crate::{clock::Clock, control_loop::Message, session::outbox::Outbox};

/// The UDP port of signs of life, on the node's address.
const PORT: u16 = 7472;
/// How long after a failed start the next is tried.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// What every datagram begins with: two letters and the version of the form.
const HEAD: [u8; 3] = *b"WW\x01";
/// Bytes of the HMAC-SHA256 that are sent.
const TAG_BYTES: usize = 16;
/// The interval of a sender whose machine is being shut down: there will be no more signs.
const LEAVES: u16 = 0;
/// Before the names.
const FIXED_BYTES: usize = HEAD.len() + 2 + 4 * 8;
/// More than any datagram of ours has.
const BYTES_MAX: usize = 640;
/// How many names a condition shows.
const NAMES_MAX: usize = 5;

/// The part that exchanges signs of life.
#[derive(Debug)]
pub(crate) struct Neighbours {
    pub(crate) node: NodeId,
    /// Where this node is reached.
    pub(crate) address: Ipv4Addr,
    /// The latest service table.
    pub(crate) table: watch::Receiver<Option<Arc<ServiceTable>>>,
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) clock: Clock,
    /// Cancelled when the machine is being shut down.
    pub(crate) leaving: CancellationToken,
}

/// What was told last of who is out of reach.
#[derive(Debug, Default)]
struct Told {
    /// In the node's condition: who, and of how many; `None` = that says something else.
    said: Option<(BTreeSet<NodeId>, usize)>,
    /// To the core.
    unreachable: BTreeSet<NodeId>,
}

impl Neighbours {
    /// Works until the token is cancelled.
    pub(crate) async fn run(mut self, token: CancellationToken) -> Result<(), Infallible> {
        let mut watch = Watch::new(self.node.clone(), run_number(), self.clock.now());
        let (mut keys, mut told) = (Keys::default(), Told::default());
        while !token.is_cancelled() {
            let ended = tokio::select! {
                ended = self.exchange(&mut watch, &mut keys, &mut told) => ended,
                () = token.cancelled() => break,
            };
            let Err(error) = ended else { break };
            self.outbox.condition("neighbours", Err(format!("UDP port {PORT}: {error}")));
            told.said = None;
            tokio::select! {
                () = sleep(TRY_EVERY) => {}
                () = token.cancelled() => break,
            }
        }
        Ok(())
    }

    /// Exchanges signs until the socket fails, or nobody gives tables any more.
    async fn exchange(&mut self, watch: &mut Watch, keys: &mut Keys, told: &mut Told) -> io::Result<()> {
        let socket = UdpSocket::bind((self.address, PORT)).await?;
        let mut table = self.table.borrow_and_update().clone();
        self.follow(watch, keys, table.as_deref());
        let mut bytes = [0; BYTES_MAX];
        loop {
            self.tell(watch, told).await;
            let due = watch.deadline().filter(|_| keys.any()).map(|at| self.clock.instant(at));
            // All arms are cancel-safe: a datagram stays with the kernel until it is taken.
            tokio::select! {
                received = socket.recv_from(&mut bytes) => {
                    // An answer that some port is closed is no end of ours.
                    let Ok((length, from)) = received else { continue };
                    if let Some(table) = &table {
                        self.receive(watch, table, keys, (&bytes[..length], from));
                    }
                }
                changed = self.table.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    table = self.table.borrow_and_update().clone();
                    self.follow(watch, keys, table.as_deref());
                }
                () = self.leaving.cancelled(), if !watch.leaves() => watch.leave(self.clock.now()),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some(table) = &table {
                        self.send(watch, table, keys, &socket).await;
                    }
                }
            }
        }
    }

    /// Takes over who the neighbours are, and with what they sign.
    fn follow(&self, watch: &mut Watch, keys: &mut Keys, table: Option<&ServiceTable>) {
        watch.follow(table.map_or(&[], |table| &table.peers));
        keys.follow(table.and_then(|table| table.watch_key), self.clock.now());
    }

    fn receive(&self, watch: &mut Watch, table: &ServiceTable, keys: &mut Keys, (bytes, from): (&[u8], SocketAddr)) {
        let read = |key| read(bytes, key, &self.node).map(|(sender, sign)| (sender, sign, key));
        let Some((sender, sign, key)) = keys.believed(self.clock.now()).find_map(read) else { return };
        let address = table.peers.iter().find(|peer| peer.node == sender).map(|peer| IpAddr::V4(peer.address));
        if address == Some(from.ip()) {
            keys.heard(&sender, key);
            watch.heard(&sender, sign, self.clock.now());
        }
    }

    async fn send(&self, watch: &mut Watch, table: &ServiceTable, keys: &Keys, socket: &UdpSocket) {
        for (receiver, sign) in watch.tick(self.clock.now()) {
            let Some(peer) = table.peers.iter().find(|peer| peer.node == receiver) else { continue };
            for key in keys.towards(&receiver, self.clock.now()) {
                // What cannot be sent is missed by the other side: nothing else follows from it.
                socket.send_to(&write(sign, key, (&self.node, &receiver)), (peer.address, PORT)).await.ok();
            }
        }
    }

    /// Tells the core who is out of reach now, when that changed.
    async fn tell(&self, watch: &Watch, told: &mut Told) {
        let (silent, count) = (watch.unreachable(), watch.neighbours().count());
        // Asked after every datagram: most say nothing new.
        if told.said.as_ref().is_some_and(|(said, of)| *of == count && said == silent) {
            return;
        }
        let outcome = if silent.is_empty() {
            Ok(format!("{count} are watched"))
        } else {
            let names: Vec<&str> = silent.iter().take(NAMES_MAX).map(NodeId::as_str).collect();
            let more = silent.len().saturating_sub(NAMES_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Err(format!(
                "{}{more}: no sign of life, or shut down, so this node does not balance to them",
                names.join(", ")
            ))
        };
        self.outbox.condition("neighbours", outcome);
        told.said = Some((silent.clone(), count));
        if *silent != told.unreachable {
            told.unreachable.clone_from(silent);
            self.messages.send(Message::Input(Input::Unreachable { nodes: silent.clone() })).await.ok();
        }
    }
}

/// A number that no two runs of an agent share: when it began, to the nanosecond.
fn run_number() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// A sign as bytes, signed.
fn write(sign: Sign, key: WatchKey, (from, to): (&NodeId, &NodeId)) -> Vec<u8> {
    let heard = sign.heard.unwrap_or(Mark { run: 0, count: 0 });
    let mut bytes = Vec::with_capacity(FIXED_BYTES + TAG_BYTES + 2 + from.as_str().len() + to.as_str().len());
    bytes.extend(HEAD);
    let interval_ms = if sign.leaves { LEAVES } else { u16::try_from(sign.interval_ms).unwrap_or(u16::MAX) };
    bytes.extend(interval_ms.to_be_bytes());
    for number in [sign.mark.run, sign.mark.count, heard.run, heard.count] {
        bytes.extend(number.to_be_bytes());
    }
    for name in [from, to] {
        bytes.push(u8::try_from(name.as_str().len()).expect("a name has at most 63 characters"));
        bytes.extend(name.as_str().as_bytes());
    }
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), &bytes);
    bytes.extend(&tag.as_ref()[..TAG_BYTES]);
    bytes
}

/// What a datagram says, and who; `None` = it is not signed with the key, not for this node, or not of this form.
fn read(bytes: &[u8], key: WatchKey, own: &NodeId) -> Option<(NodeId, Sign)> {
    let (said, tag) = bytes.split_at_checked(bytes.len().checked_sub(TAG_BYTES)?)?;
    let rest = said.strip_prefix(&HEAD)?;
    let wanted = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key.0), said);
    let differs = wanted.as_ref()[..TAG_BYTES].iter().zip(tag).fold(0, |differs, (one, other)| differs | (one ^ other));
    if differs != 0 {
        return None;
    }
    let (interval, rest) = rest.split_first_chunk::<2>()?;
    let (numbers, rest) = rest.split_first_chunk::<32>()?;
    let mut numbers = numbers.chunks_exact(8).map(|chunk| u64::from_be_bytes(chunk.try_into().expect("8 bytes")));
    let mut mark = || Some(Mark { run: numbers.next()?, count: numbers.next()? });
    let (mark, heard) = (mark()?, mark()?);
    let (from, rest) = name(rest)?;
    let (to, rest) = name(rest)?;
    let (interval_ms, heard) = (u16::from_be_bytes(*interval), (heard.run != 0).then_some(heard));
    let sign = Sign { mark, interval_ms: interval_ms.into(), heard, leaves: interval_ms == LEAVES };
    (to == *own && rest.is_empty()).then_some((from, sign))
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
    fn a_sign_survives_the_wire() {
        let heard = Some(Mark { run: 3, count: 4 });
        let leaves = Sign { interval_ms: 0, leaves: true, ..sign(heard) };
        for sign in [sign(heard), sign(None), leaves] {
            let bytes = write(sign, KEY, (&node("edge-1"), &node("edge-2")));

            assert_eq!(read(&bytes, KEY, &node("edge-2")), Some((node("edge-1"), sign)));
        }
    }

    #[test]
    fn what_is_not_signed_whole_or_for_another_is_not_read() {
        let bytes = write(sign(None), KEY, (&node("edge-1"), &node("edge-2")));

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

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("a name")
    }

    fn sign(heard: Option<Mark>) -> Sign {
        Sign { mark: Mark { run: 1, count: 2 }, interval_ms: 500, heard, leaves: false }
    }
}
