//! A service that asks for it, reached by IPv6: names, virtual address, published ports.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use tests_support::netns::{inside, ipv6_address};
use tests_system::{
    cluster::{published, until_healthy, virtual_address},
    shop,
};

use crate::{
    network::{trace, verify},
    stage::{LIMIT, NODES, Outcome, Stage, ask_from_process},
};

pub(crate) fn a_service_is_reached_by_ipv6(stage: &mut Stage) -> Outcome {
    let manifest = shop::manifest(&stage.image, 3).replacen("image ", "ipv6     = true\nimage ", 1);
    let script = "while :; do nslookup web; sleep 1; done 2>&1";
    let asker = format!(
        "name = \"asker\"\n[service.asker]\nimage = \"{}\"\ncommand = [\"/bin/sh\", \"-c\", \"{script}\"]\n",
        stage.image
    );

    stage.apply(&manifest)?;
    stage.apply(&asker)?;

    let (instances, _) = until_healthy(&stage.bed, "web", 3, LIMIT)?;
    let address = virtual_address(&stage.bed, "web")?;
    let mut found = None;
    stage.until("the asker finds the service's IPv6 address", || {
        found = stage.wherry(&["logs", "asker"]).ok().and_then(|said| embedded(&said, address));
        found.is_some()
    })?;
    let front: SocketAddr = (found.ok_or("an address")?, shop::SERVICE).into();
    for instance in &instances {
        let pid = instance.pid.ok_or("a healthy instance has a process")?;
        let answers: BTreeSet<String> = (0..40).map(|_| ask_from_process(pid, front)).collect::<Result<_, _>>()?;
        stage.must(answers.len() == 3, || format!("from inside {}: {answers:?}", instance.name))?;
    }
    for name in NODES {
        stage.until_answered_by(name, front, 3)?;
        let port = (ipv6_address(stage.bed.node(name).address()), shop::PUBLISHED);
        stage.until_answered_by("visitor", port.into(), 3)?;
    }
    ways_are_tried(stage, front)
}

/// Each node asks the service and its three endpoints by IPv6, too; and a packet by IPv6 is followed to its end.
fn ways_are_tried(stage: &Stage, front: SocketAddr) -> Outcome {
    let by_ipv6 = || {
        let verdict = verify(stage, 0).ok()?;
        let checks = verdict.nodes.iter().flat_map(|node| &node.checks);
        Some(checks.filter(|check| check.subject.ends_with("by IPv6")).count())
    };
    stage.until("all ways by IPv6 are there", || by_ipv6() == Some(NODES.len() * (1 + 3)))?;
    let node = SocketAddr::from((ipv6_address(stage.bed.node(NODES[1]).address()), shop::PUBLISHED));
    for (from, to) in [("web-", front), (NODES[0], front), (NODES[1], node)] {
        let instance =
            stage.bed.instances("web")?.into_iter().map(|view| view.name).find(|name| name.starts_with(from));
        let traced = trace(stage, &["net", "trace", instance.as_deref().unwrap_or(from), &to.to_string()], 0)?;
        let is_made = traced.steps.iter().any(|step| step.at == "connection" && step.what.contains(&to.to_string()));
        stage.must(is_made && traced.destination == to.ip(), || format!("from {from} to {to}: {traced:?}"))?;
    }
    let foreign = SocketAddr::from((ipv6_address(stage.bed.node(NODES[1]).address()), 1));
    let refused = trace(stage, &["net", "trace", NODES[1], &foreign.to_string()], 1)?;
    stage.must(refused.steps.iter().any(|step| step.at == "connection" && step.stops), || format!("{refused:?}"))
}

/// How long packets are waited for that are dropped: a machine that is slower passes the story too much, never too little.
const SHUT_OUT: Duration = Duration::from_secs(1);
/// Ports of the nodes by datagrams, by HTTP and of the daemon's own node.
const DATAGRAMS: u16 = 8081;
const PAGE: u16 = 8082;
const HOST: u16 = 8083;

pub(crate) fn ports_answer_where_and_whom_they_shall(stage: &mut Stage) -> Outcome {
    let bound = ipv6_address(stage.bed.node(NODES[0]).address());
    let visitor = inside(&stage.bed.netns("visitor"), || source(bound))??;
    let stranger = "registry";
    stage.apply(&manifest(&stage.image, bound, &format!("{visitor}/128")))?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    until_healthy(&stage.bed, "page", 3, LIMIT)?;
    until_healthy(&stage.bed, "probe", 3, LIMIT)?;

    let raw = SocketAddr::from((bound, shop::PUBLISHED));
    stage.until_answered_by("visitor", raw, 3)?;
    for name in NODES {
        let address = ipv6_address(stage.bed.node(name).address());
        stage.until_answered_by("visitor", (address, PAGE).into(), 3)?;
        stage.until_answered_by("visitor", (address, HOST).into(), 1)?;
        stage.until("all replicas answer datagrams", || {
            let asked = || ask_by_datagram(stage, "visitor", (address, DATAGRAMS).into());
            (0..40).filter_map(|_| asked().ok()).collect::<BTreeSet<String>>().len() == 3
        })?;
    }
    let other = SocketAddr::from((ipv6_address(stage.bed.node(NODES[1]).address()), shop::PUBLISHED));
    for elsewhere in [other, published(&stage.bed, NODES[0], shop::PUBLISHED)] {
        let answer = stage.bed.get_from("visitor", elsewhere, "/", SHUT_OUT);
        stage.must(answer.is_err(), || format!("{elsewhere} answers, which is not what the port is bound to"))?;
    }
    for port in [shop::PUBLISHED, PAGE, HOST] {
        let answer = stage.bed.get_from(stranger, (bound, port).into(), "/", SHUT_OUT);
        stage.must(answer.is_err(), || format!("a stranger comes in at port {port}"))?;
    }
    let answer = ask_by_datagram(stage, stranger, (bound, DATAGRAMS).into());
    stage.must(answer.is_err(), || "a stranger's datagrams come in".to_owned())?;

    stage.apply(&manifest(&stage.image, bound, "fd77::/64"))?;
    stage.until_answered_by(stranger, raw, 3)?;
    stage.until_answered_by(stranger, (bound, PAGE).into(), 3)?;
    stage.until_answered_by(stranger, (bound, HOST).into(), 1)?;
    stage
        .until("a stranger's datagrams come in", || ask_by_datagram(stage, stranger, (bound, DATAGRAMS).into()).is_ok())
}

/// Ports of every kind that are kept for clients of one range of IPv6; one of them is bound to an address.
fn manifest(image: &str, bound: Ipv6Addr, allow: &str) -> String {
    let container = shop::CONTAINER;
    format!(
        r#"name = "dual"

[service.web]
image    = "{image}"
replicas = 3
ipv6     = true

[service.web.ports]
http = {{ container = {container}, publish = {}, bind = "{bound}", allow = ["{allow}"] }}
word = {{ container = {container}, protocol = "udp", publish = {DATAGRAMS}, allow = ["10.0.0.0/8", "{allow}"] }}

[service.page]
image    = "{image}"
replicas = 3
ports    = {{ http = {{ container = {container}, protocol = "http", publish = {PAGE}, allow = ["{allow}"] }} }}

[daemon.probe]
image    = "{image}"
ipv6     = true
ports    = {{ http = {{ container = {container}, host = {HOST}, allow = ["{allow}"] }} }}
"#,
        shop::PUBLISHED
    )
}

/// The address from which this network namespace asks another.
fn source(of: Ipv6Addr) -> io::Result<Ipv6Addr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.connect((of, 9))?;
    match socket.local_addr()? {
        SocketAddr::V6(own) => Ok(*own.ip()),
        SocketAddr::V4(_) => Err(io::Error::other("an IPv6 socket has an IPv6 address")),
    }
}

/// One datagram from a port of its own: who answered.
fn ask_by_datagram(stage: &Stage, member: &str, to: SocketAddr) -> io::Result<String> {
    let ask = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(SHUT_OUT))?;
        socket.connect(to)?;
        socket.send(b"who?")?;
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    inside(&stage.bed.netns(member), ask)?
}

/// The first IPv6 address in a text that ends with this IPv4 address.
fn embedded(text: &str, address: Ipv4Addr) -> Option<Ipv6Addr> {
    let found = text.split_whitespace().filter_map(|word| word.parse::<Ipv6Addr>().ok());
    found.into_iter().find(|found| found.octets().ends_with(&address.octets()))
}
