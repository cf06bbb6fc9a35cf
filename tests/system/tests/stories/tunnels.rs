//! Stories of two sites that share no network: one is behind a router that lets nobody in.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use api_types::{node::Liveness, view::InstanceView};
use tests_support::{http, netns::inside};
use tests_system::{
    cluster::{is_healthy, published, until_node, virtual_address},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage, ask_from_process};

/// The node of the other site, and the site.
const HIDDEN: &str = "hidden";
const SITE: &str = "hamburg";
/// The ports on every node that lead to the services.
const FAR: u16 = 8091;
const NEAR: u16 = 8092;
const CLOSED: u16 = 8093;
/// The port on which what is sent comes back.
const ECHO: u16 = 9000;
const MUCH: usize = 16 << 20;
/// How long an answer is waited for that must not come: a machine that is slower passes the story too much, never one too few.
const SHUT_OUT: Duration = Duration::from_secs(2);

pub(crate) fn a_service_crosses_sites(stage: &mut Stage) -> Outcome {
    stage.bed.add_hidden_machine(HIDDEN)?;
    let token = stage.bed.ask(&["node", "add", HIDDEN, "--site", SITE])?;
    stage.bed.node(HIDDEN).join(token["token"].as_str().ok_or("a token")?)?;
    stage.bed.node_mut(HIDDEN).start_agent()?;
    until_node(&stage.bed, HIDDEN, Liveness::Ready, LIMIT)?;

    let told = tell(stage);

    stage.bed.cut_power(HIDDEN)?;
    if told.is_ok() {
        gone(stage)?;
    }
    stage.wherry(&["node", "rm", HIDDEN, "--force", "--yes"])?;
    stage.wherry(&["site", "set", SITE, "--across", "routes"]).ok();
    told
}

fn tell(stage: &mut Stage) -> Outcome {
    stage.wherry(&["site", "set", SITE, "--across", "tunnel"])?;
    let manifest = [("far", SITE, FAR, true), ("near", "default", NEAR, true), ("closed", SITE, CLOSED, false)]
        .map(|(name, site, publish, crosses)| service(&stage.image, (name, site, publish, crosses)))
        .concat();
    stage.apply(&format!("name = \"sites\"\n{manifest}"))?;
    for name in ["far", "near", "closed"] {
        stage.until(&format!("{name} is healthy"), || healthy(stage, name).is_some())?;
    }

    // Nobody here can dial the hidden node; it dials.
    for name in NODES {
        stage.until_answered_by("visitor", published(&stage.bed, name, FAR), 1)?;
    }
    let far: SocketAddr = (virtual_address(&stage.bed, "far")?, shop::SERVICE).into();
    let (here, there) = (healthy(stage, "near").ok_or("near")?, healthy(stage, "far").ok_or("far")?);
    stage.until_answered_by(NODES[0], far, 1)?;
    let answer = ask_from_process(here.pid.ok_or("a process")?, far)?;
    stage.must(there.name == *answer.trim(), || format!("an instance asked, and {answer} answered"))?;
    // And the other way, where it dials itself.
    let near: SocketAddr = (virtual_address(&stage.bed, "near")?, shop::SERVICE).into();
    stage.until_answered_by(HIDDEN, near, 1)?;

    // Who did not ask for it is not there.
    let closed = published(&stage.bed, NODES[0], CLOSED);
    let refused = stage.bed.get_from("visitor", closed, "/", SHUT_OUT);
    stage.must(refused.is_err(), || format!("a service that does not cross sites: {refused:?}"))?;
    stage.until_answered_by(HIDDEN, published(&stage.bed, HIDDEN, CLOSED), 1)?;
    // Nor is the instance that crosses, by its own address.
    let direct: SocketAddr = (there.address.ok_or("an address")?, 8080).into();
    let netns = PathBuf::from(format!("/proc/{}/ns/net", here.pid.ok_or("a process")?));
    let direct = inside(&netns, || http::get(direct, "/", SHUT_OUT).map(|answer| answer.text()))?;
    stage.must(direct.is_err(), || format!("no packet passes between the sites: {direct:?}"))?;

    much_passes_whole(stage, (&here, &there))?;
    let verified = stage.bed.wherry(&["net", "verify"])?;
    stage.must(verified.stdout.contains("tunnel"), || verified.stdout.clone())
}

/// Sends much from an instance here to one there, which says it all again.
fn much_passes_whole(stage: &Stage, (here, there): (&InstanceView, &InstanceView)) -> Outcome {
    let netns =
        |view: &InstanceView| view.pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))).ok_or("a process");
    let server = echo(&netns(there)?)?;
    let address: SocketAddr = (virtual_address(&stage.bed, "far")?, ECHO).into();
    let mut back = inside(&netns(here)?, || TcpStream::connect_timeout(&address, LIMIT))??;
    back.set_read_timeout(Some(LIMIT))?;
    let mut forth = back.try_clone()?;
    let byte = |index: usize| u8::try_from((index * 31 + index / 251) % 256).unwrap_or_default();
    let sender = thread::spawn(move || {
        forth.write_all(&(0..MUCH).map(byte).collect::<Vec<u8>>())?;
        forth.shutdown(Shutdown::Write)
    });
    let mut received = Vec::with_capacity(MUCH);
    back.read_to_end(&mut received)?;
    sender.join().map_err(|_| "the sender panicked")??;
    server.join().map_err(|_| "the server panicked")??;
    let whole = received.len() == MUCH && received.iter().enumerate().all(|(index, found)| *found == byte(index));
    stage.must(whole, || format!("{} of {MUCH} bytes came back, or others", received.len()))
}

/// Says one client again what it says, from inside a network namespace.
fn echo(netns: &Path) -> Result<JoinHandle<std::io::Result<()>>, Box<dyn std::error::Error>> {
    let listener = inside(netns, || TcpListener::bind(("0.0.0.0", ECHO)))??;
    Ok(thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut reader = stream.try_clone()?;
        std::io::copy(&mut reader, &mut stream)?;
        stream.shutdown(Shutdown::Write)
    }))
}

/// The hidden node lost its power: its endpoint leaves, and who asks is refused at once.
fn gone(stage: &Stage) -> Outcome {
    let far: SocketAddr = (virtual_address(&stage.bed, "far")?, shop::SERVICE).into();
    stage.until("who asks is refused", || {
        let asked = inside(&stage.bed.netns(NODES[0]), || http::get(far, "/", Duration::from_secs(5)));
        asked.is_ok_and(|asked| asked.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused))
    })
}

/// The service's one instance, once it is healthy.
fn healthy(stage: &Stage, name: &str) -> Option<InstanceView> {
    stage.bed.instances(name).ok()?.into_iter().find(is_healthy)
}

fn service(image: &str, (name, site, publish, crosses): (&str, &str, u16, bool)) -> String {
    format!(
        "[service.{name}]\nimage = \"{image}\"\nacross_sites = {crosses}\n\
         place = {{ require = [\"site == {site}\"] }}\n\
         [service.{name}.ports]\n\
         http = {{ container = 8080, service = {}, publish = {publish} }}\n\
         echo = {{ container = {ECHO} }}\n",
        shop::SERVICE
    )
}
