//! Requests each second through the virtual address, the published port and haproxy in TCP mode on the same node, over
//! direct, interleaved in the same rounds.
//!
//! Each path has a client with an address of its own: a client that met an instance directly and then through a
//! translated address within a minute is refused some connections by the instance's old sockets.

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
    wait_until(Duration::from_secs(60), || bed.service("balanced").is_ok_and(|service| service.endpoints == 2));
    let service = bed.service("balanced")?;
    let virtual_address = service.address.ok_or("no virtual address")?;
    let node = bed.node("one").address();
    let instances: Vec<Ipv4Addr> = bed.instances("balanced")?.into_iter().filter_map(|view| view.address).collect();
    let script = bed.folder().join("direct.lua");
    fs::write(&script, split_over(&instances))?;
    let mut haproxy = start_haproxy(bed, (node, &instances))?;

    let paths = [
        ("direct", "http://direct.invalid:8080/".to_owned(), Some(script.as_path())),
        ("vip", format!("http://{virtual_address}:8080/"), None),
        ("port", format!("http://{node}:{PUBLISHED}/"), None),
        ("haproxy", format!("http://{node}:{HAPROXY}/"), None),
    ];
    for (index, (client, ..)) in paths.iter().enumerate() {
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
            for (client, url, script) in &paths {
                round.insert(*client, wrk(&bed.netns(client), url, *script, instances[0], keep_alive)?);
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

/// Starts the peer on the node itself: one listener that hands connections on in turn, on all processors.
fn start_haproxy(bed: &Bed, (node, instances): (Ipv4Addr, &[Ipv4Addr])) -> Result<Program> {
    let servers: String = instances
        .iter()
        .enumerate()
        .map(|(index, address)| format!("  server instance-{index} {address}:8080\n"))
        .collect();
    let config = bed.folder().join("haproxy.cfg");
    let text = format!(
        "global\n  maxconn 4000\ndefaults\n  mode tcp\n  balance roundrobin\n  timeout connect 5s\n  timeout client 1m\n  \
         timeout server 1m\nlisten balanced\n  bind {node}:{HAPROXY}\n{servers}"
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
fn wrk(netns: &Path, url: &str, script: Option<&Path>, first: Ipv4Addr, keep_alive: bool) -> Result<f64> {
    // With a script the address comes from there; the URL's only has to be one that needs no look-up.
    let url = url.replace("direct.invalid", &first.to_string());
    let mut command = within(Some(netns), &["wrk", "-t2", "-c32", "-d2s"]);
    if !keep_alive {
        command.args(["-H", "Connection: close"]);
    }
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(&url).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("Non-2xx") || !output.status.success() {
        return Err(format!("wrk {url}: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).ok_or("wrk gave no rate")?;
    Ok(rate.trim().parse()?)
}

/// A script that gives each of wrk's threads one of the instances.
fn split_over(instances: &[Ipv4Addr]) -> String {
    let list: Vec<String> = instances.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "local list = {{ {} }}\nlocal count = 0\nfunction setup(thread)\n  count = count + 1\n  \
         thread.addr = wrk.lookup(list[(count - 1) % #list + 1], \"8080\")[1]\nend\n",
        list.join(", ")
    )
}

fn manifest(image: &str) -> String {
    format!(
        "name = \"bench\"\n[service.balanced]\nimage = \"{image}\"\nreplicas = 2\n\
         ports = {{ http = {{ container = 8080, publish = {PUBLISHED} }} }}\n\
         [service.balanced.place]\nrequire = [\"node == one\"]\n"
    )
}
