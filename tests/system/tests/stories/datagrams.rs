//! The story of datagrams whose endpoint dies: whoever keeps sending is answered by another.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use tests_support::netns::inside;
use tests_system::{
    cluster::{published, until_healthy},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage};

/// The port of every node that leads to the service by datagrams.
const DATAGRAMS: u16 = 8081;
/// How long an answer is waited for before it is asked again.
const REST: Duration = Duration::from_millis(300);

pub(crate) fn who_keeps_sending_is_answered_by_another(stage: &mut Stage) -> Outcome {
    stage.apply(&manifest(&stage.image))?;
    let (instances, _) = until_healthy(&stage.bed, "web", NODES.len(), LIMIT)?;
    let entrance = published(&stage.bed, NODES[0], DATAGRAMS);
    let home = |name: &str| instances.iter().find(|view| view.name == name)?.node.as_ref().map(ToString::to_string);
    // A client whose datagrams the first node leads to another.
    let mut kept = None;
    stage.until("some client is led to another node", || {
        let asked = client(stage, entrance).and_then(|client| Ok((ask(&client)?, client)));
        let led = asked.ok().and_then(|(name, client)| Some((home(&name)?, name, client)));
        kept = led.filter(|(node, ..)| node != NODES[0]);
        kept.is_some()
    })?;
    let (node, before, client) = kept.ok_or("a client")?;

    stage.bed.cut_power(&node)?;
    let moved = stage.until("the same client is answered by another", || ask(&client).is_ok_and(|name| name != before));
    stage.bed.boot(&node)?;

    moved?;
    until_healthy(&stage.bed, "web", NODES.len(), LIMIT)?;
    Ok(())
}

/// A service by datagrams, of which nothing is replaced elsewhere however long its node is silent.
fn manifest(image: &str) -> String {
    let container = shop::CONTAINER;
    format!(
        r#"name = "shop"

[service.web]
image    = "{image}"
replicas = 3
ports    = {{ word = {{ container = {container}, protocol = "udp", publish = {DATAGRAMS} }} }}

[service.web.disconnect]
replace_after = "never"
"#
    )
}

/// A client outside that keeps its port.
fn client(stage: &Stage, server: SocketAddr) -> io::Result<UdpSocket> {
    let open = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(REST))?;
        socket.connect(server)?;
        Ok(socket)
    };
    inside(&stage.bed.netns("visitor"), open)?
}

/// One datagram: who answered.
fn ask(client: &UdpSocket) -> io::Result<String> {
    client.send(b"who?")?;
    let mut buffer = [0; 256];
    let length = client.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
}
