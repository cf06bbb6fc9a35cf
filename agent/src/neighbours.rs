//! Signs of life between neighbours: a datagram each, signed with the cluster's key. `proto/README.md` shows its bytes; who is
//! believed to be out of reach decides [`agent_core::watch`].

mod keys;
mod wire;

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
    watch::{Sign, Watch},
};
use api_types::{id::NodeId, service::ServiceTable};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    keys::Keys,
    wire::{Said, read, write},
};
use crate::{clock::Clock, control_loop::Message, session::outbox::Outbox};

/// The UDP port of signs of life, on the node's address.
const PORT: u16 = 7472;
/// How long after a failed start the next is tried.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// More than any datagram of ours has.
const BYTES_MAX: usize = 1024;
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
                    let Some(table) = &table else { continue };
                    let answer = self.receive(watch, table, keys, (&bytes[..length], from));
                    if let Some((asker, sign)) = answer {
                        self.say(table, keys, &socket, (&asker, &Said::Sign(sign))).await;
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

    /// Takes a datagram; gives the answer to who asked for one.
    fn receive(
        &self,
        watch: &mut Watch,
        table: &ServiceTable,
        keys: &mut Keys,
        (bytes, from): (&[u8], SocketAddr),
    ) -> Option<(NodeId, Sign)> {
        let now = self.clock.now();
        let read = |key| read(bytes, key, &self.node).map(|(sender, said)| (sender, said, key));
        let (sender, said, key) = keys.believed(now).find_map(read)?;
        let address = table.peers.iter().find(|peer| peer.node == sender).map(|peer| IpAddr::V4(peer.address));
        if address != Some(from.ip()) {
            return None;
        }
        keys.heard(&sender, key);
        match said {
            Said::Sign(sign) => watch.heard(&sender, sign, now).map(|answer| (sender, answer)),
            Said::Silent(nodes) => {
                nodes.iter().for_each(|node| watch.told(&sender, node, now));
                None
            }
        }
    }

    async fn send(&self, watch: &mut Watch, table: &ServiceTable, keys: &Keys, socket: &UdpSocket) {
        for (receiver, sign) in watch.tick(self.clock.now()) {
            self.say(table, keys, socket, (&receiver, &Said::Sign(sign))).await;
        }
        let words = watch.words();
        if !words.is_empty() {
            let said = Said::Silent(words);
            for receiver in watch.neighbours() {
                self.say(table, keys, socket, (receiver, &said)).await;
            }
        }
    }

    async fn say(&self, table: &ServiceTable, keys: &Keys, socket: &UdpSocket, (receiver, said): (&NodeId, &Said)) {
        let Some(peer) = table.peers.iter().find(|peer| peer.node == *receiver) else { return };
        for key in keys.towards(receiver, self.clock.now()) {
            // What cannot be sent is missed by the other side: nothing else follows from it.
            socket.send_to(&write(said, key, (&self.node, receiver)), (peer.address, PORT)).await.ok();
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
