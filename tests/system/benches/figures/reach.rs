//! What it costs to reach another node wrapped or by a tunnel, over sending by a route, in the same run.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use api_types::node::Liveness;
use tests_support::{
    cluster::Bed,
    figures::{Figures, median, number},
    netns::{inside, ip},
    wait::wait_until,
};
use tests_system::cluster::{until_node, virtual_address};

use crate::Result;

/// How often each way is measured, in turn.
const ROUNDS: usize = 5;
/// How much one stream sends each time.
const BYTES: usize = 512 << 20;
const CHUNK_BYTES: usize = 64 << 10;
const PORT: u16 = 9000;
/// The node of the other site, and the site.
const HIDDEN: &str = "hidden";
/// How long any of it may take.
const LIMIT: Duration = Duration::from_secs(120);

/// One TCP stream between instances of two nodes, by routes and wrapped in turn.
pub(crate) fn vxlan_over_routes(bed: &Bed, image: &str, figures: &mut Figures) -> Result<()> {
    bed.apply(
        &format!("name = \"bench\"\n[daemon.pair]\nimage = \"{image}\"\ncommand = [\"/bin/sleep\", \"100000\"]\n"),
        &["--wait", "2m"],
    )?;
    let ((sender, _), (receiver, address)) = (end(bed, "pair", "one")?, end(bed, "pair", "two")?);
    let (mut routes, mut wrapped) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (reach, rates) in [("routes", &mut routes), ("vxlan", &mut wrapped)] {
            bed.wherry(&["site", "set", "default", "--reach", reach])?;
            let has_device = |node: &str| ip(&["-n", &bed.lan().namespace(node), "link", "show", "wh-vxlan"]).is_ok();
            wait_until(LIMIT, || ["one", "two"].iter().all(|node| has_device(node) == (reach == "vxlan")));
            rates.push(stream(&sender, &receiver, (address, PORT).into())?);
        }
    }
    bed.wherry(&["site", "set", "default", "--reach", "routes"])?;
    bed.wherry(&["delete", "pair", "--yes"])?;
    figures.note("routes_throughput_gbit_s", median(routes.clone()) * 8.0 / 1e9)?;
    Ok(figures.note("vxlan_throughput_over_routes", median(wrapped) / median(routes))?)
}

/// One TCP stream to an instance of another site, behind a router that lets nobody in, by tunnel, and one to an instance of
/// another node of the own site, by a route, in turn.
pub(crate) fn tunnel_over_routes(bed: &mut Bed, image: &str, figures: &mut Figures) -> Result<()> {
    bed.add_hidden_machine(HIDDEN)?;
    let token = bed.ask(&["node", "add", HIDDEN, "--site", HIDDEN])?;
    bed.node(HIDDEN).join(token["token"].as_str().ok_or("a token")?)?;
    bed.node_mut(HIDDEN).start_agent()?;
    until_node(bed, HIDDEN, Liveness::Ready, LIMIT)?;
    bed.wherry(&["site", "set", HIDDEN, "--across", "tunnel"])?;
    let asleep = format!("image = \"{image}\"\ncommand = [\"/bin/sleep\", \"100000\"]\n");
    bed.apply(
        &format!(
            "name = \"bench\"\n[daemon.pair]\n{asleep}[service.far]\n{asleep}across_sites = true\n\
             place = {{ require = [\"site == {HIDDEN}\"] }}\nports = {{ stream = {{ container = {PORT} }} }}\n"
        ),
        &["--wait", "2m"],
    )?;
    let ((sender, _), (near, near_address)) = (end(bed, "pair", "one")?, end(bed, "pair", "two")?);
    let (far, _) = end(bed, "far", HIDDEN)?;
    let far_address = virtual_address(bed, "far")?;
    // Refused until both agents have made the way.
    let opened = || inside(&sender, || TcpStream::connect_timeout(&(far_address, PORT).into(), LIMIT));
    wait_until(LIMIT, || opened().is_ok_and(|stream| stream.is_ok()));
    let (mut routes, mut tunnel) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        routes.push(stream(&sender, &near, (near_address, PORT).into())?);
        tunnel.push(stream(&sender, &far, (far_address, PORT).into())?);
    }
    bed.wherry(&["delete", "pair", "far", "--yes"])?;
    bed.cut_power(HIDDEN)?;
    bed.wherry(&["node", "rm", HIDDEN, "--force", "--yes"])?;
    Ok(figures.note("tunnel_throughput_over_routes", median(tunnel) / median(routes))?)
}

/// The network namespace and address of a workload's instance on a node.
fn end(bed: &Bed, workload: &str, node: &str) -> Result<(PathBuf, Ipv4Addr)> {
    let instances = bed.instances(workload)?;
    let found = instances.iter().find(|view| view.node.as_ref().is_some_and(|at| at.as_str() == node));
    let (pid, address) = found.and_then(|view| Some((view.pid?, view.address?))).ok_or("no instance there")?;
    Ok((PathBuf::from(format!("/proc/{pid}/ns/net")), address))
}

/// Bytes each second of one stream.
fn stream(sender: &Path, receiver: &Path, to: SocketAddr) -> Result<f64> {
    let listener = inside(receiver, || TcpListener::bind(("0.0.0.0", PORT)))??;
    let sink = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let (mut buffer, mut count) = (vec![0; CHUNK_BYTES], 0);
        while let length @ 1.. = stream.read(&mut buffer)? {
            count += length;
        }
        Ok::<usize, std::io::Error>(count)
    });
    let mut stream = inside(sender, || TcpStream::connect_timeout(&to, LIMIT))??;
    let begin = Instant::now();
    let chunk = vec![7; CHUNK_BYTES];
    for _ in 0..BYTES / CHUNK_BYTES {
        stream.write_all(&chunk)?;
    }
    drop(stream);
    let count = sink.join().map_err(|_| "the receiver panicked")??;
    let seconds = begin.elapsed().as_secs_f64();
    if count != BYTES {
        return Err(format!("{count} of {BYTES} bytes came").into());
    }
    Ok(number(u64::try_from(count)?) / seconds)
}
