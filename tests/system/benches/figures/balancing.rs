//! Requests each second through the virtual address, the published port and haproxy in TCP mode on the same node, over
//! direct, interleaved in the same rounds.
//!
//! Each path has a client with an address of its own: a client that met an instance directly and then through a
//! translated address within a minute is refused some connections by the instance's old sockets.
//!
//! There is one instance, so that all paths meet the same server in the same order: `wrk` asks one address from each of its
//! threads, and two instances that are asked directly by a thread each are quicker than two that meet both by turns.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::Path, time::Duration};

use tests_support::{
    cluster::Bed,
    figures::{Figures, median},
    netns::ip,
    program::{Program, within},
    wait::{try_wait_for, wait_until},
};

use crate::Result;

/// How often each path is measured.
const ROUNDS: usize = 5;
/// The port that is published on every node.
const PUBLISHED: u16 = 8090;
/// The port of the node at which haproxy listens.
const HAPROXY: u16 = 8095;

/// Measures all paths and notes the ratios' medians.
pub(crate) fn ratios(bed: &Bed, image: &str, figures: &mut Figures) -> Result<()> {
    bed.apply(&manifest(image), &[])?;
    wait_until(Duration::from_secs(60), || bed.service("balanced").is_ok_and(|service| service.endpoints == 1));
    let service = bed.service("balanced")?;
    let virtual_address = service.address.ok_or("no virtual address")?;
    let node = bed.node("one").address();
    let instance = bed.instances("balanced")?.into_iter().find_map(|view| view.address).ok_or("no instance")?;
    let mut haproxy = start_haproxy(bed, node, instance)?;

    let paths = [
        ("direct", format!("http://{instance}:8080/")),
        ("vip", format!("http://{virtual_address}:8080/")),
        ("port", format!("http://{node}:{PUBLISHED}/")),
        ("haproxy", format!("http://{node}:{HAPROXY}/")),
    ];
    for (index, (client, _)) in paths.iter().enumerate() {
        let address = Ipv4Addr::new(10, 77, 0, 100 + u8::try_from(index)?);
        bed.lan().attach(client, address)?;
        let namespace = bed.lan().namespace(client);
        for range in ["10.42.0.0/16", "10.43.0.0/16"] {
            ip(&["-n", &namespace, "route", "add", range, "via", &node.to_string()])?;
        }
    }
    let mut rates: BTreeMap<(&str, bool), Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for keep_alive in [true, false] {
            let mut round = BTreeMap::new();
            for (client, url) in &paths {
                round.insert(*client, wrk(&bed.netns(client), url, keep_alive)?);
            }
            let direct = round["direct"];
            for (path, rate) in round {
                rates.entry((path, keep_alive)).or_default().push(if path == "direct" { rate } else { rate / direct });
            }
        }
    }
    haproxy.kill();
    for ((path, keep_alive), values) in rates {
        let way = if keep_alive { "keepalive" } else { "newconn" };
        let name = match path {
            "direct" => format!("direct_{way}_rps"),
            "haproxy" => format!("haproxy_{way}_over_direct"),
            ours => format!("lb_{ours}_{way}_over_direct"),
        };
        figures.note(&name, median(values))?;
    }
    bed.wherry(&["delete", "balanced", "--yes"])?;
    Ok(())
}

/// Starts the peer on the node itself: one listener that hands connections on, on all processors.
fn start_haproxy(bed: &Bed, node: Ipv4Addr, instance: Ipv4Addr) -> Result<Program> {
    let config = bed.folder().join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  balance roundrobin\n  timeout connect 5s\n  timeout client 1m\n  \
         timeout server 1m\nlisten balanced\n  bind {node}:{HAPROXY}\n  server instance {instance}:8080\n"
    );
    fs::write(&config, text)?;
    let command = ["haproxy", "-db", "-f", &config.to_string_lossy()].map(str::to_owned);
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut haproxy = Program::start(Some(&bed.netns("one")), &command, &bed.folder().join("haproxy.log"))?;
    let answers = || bed.get_from("visitor", (node, HAPROXY).into(), "/", Duration::from_secs(1)).is_ok();
    if try_wait_for(Duration::from_secs(30), || (!haproxy.runs() || answers()).then_some(())).is_none()
        || !haproxy.runs()
    {
        return Err(format!("haproxy does not answer: {}", haproxy.log()).into());
    }
    Ok(haproxy)
}

/// Two threads, 32 connections, two seconds; gives requests each second and fails if any request failed.
fn wrk(netns: &Path, url: &str, keep_alive: bool) -> Result<f64> {
    let mut command = within(Some(netns), &["wrk", "-t2", "-c32", "-d2s"]);
    if !keep_alive {
        command.args(["-H", "Connection: close"]);
    }
    let output = command.arg(url).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Non-2xx") || !output.status.success() {
        return Err(format!("wrk {url}: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).ok_or("wrk gave no rate")?;
    Ok(rate.trim().parse()?)
}

fn manifest(image: &str) -> String {
    format!(
        "name = \"bench\"\n[service.balanced]\nimage = \"{image}\"\nreplicas = 1\n\
         ports = {{ http = {{ container = 8080, publish = {PUBLISHED} }} }}\n\
         [service.balanced.place]\nrequire = [\"node == one\"]\n"
    )
}
