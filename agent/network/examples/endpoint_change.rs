//! Measures the table with 1,000 services of 10 endpoints in a namespace of its own: load, one change, an idle verify.

#![expect(clippy::print_stdout, reason = "the figures are its output")]

use std::{net::Ipv4Addr, time::Instant};

use agent_network::{Network, Plan, Settings};
use api_types::{
    balance::BalancePolicy,
    container::Protocol,
    id::{InstanceId, NodeId},
    service::{Endpoint, Service, ServicePort},
};
use nix::{
    sched::{CloneFlags, unshare},
    time::{ClockId, clock_gettime},
};

const SERVICES: u8 = 250;
const GROUPS: u8 = 4;
const ENDPOINTS: u8 = 10;
const CHANGES: u32 = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Before there is a second thread.
    unshare(CloneFlags::CLONE_NEWNET)?;
    let folder = std::env::temp_dir().join(format!("wherry-endpoint-change-{}", std::process::id()));
    let settings = Settings { netns_dir: folder.clone(), ..Settings::new(Ipv4Addr::LOCALHOST) };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let outcome = runtime.block_on(measure(&Network::new(settings)?));
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn measure(network: &Network) -> Result<(), Box<dyn std::error::Error>> {
    let plans = [plan(ENDPOINTS)?, plan(ENDPOINTS - 1)?];
    let (started, cpu) = (Instant::now(), cpu_seconds()?);
    network.program(&plans[0]).await?;
    println!("load: {:.1} ms wall, {:.1} ms CPU", millis(started), (cpu_seconds()? - cpu) * 1e3);

    let (started, cpu) = (Instant::now(), cpu_seconds()?);
    for plan in plans.iter().cycle().skip(1).take(usize::try_from(CHANGES)?) {
        network.program(plan).await?;
    }
    let cpu = (cpu_seconds()? - cpu) * 1e3 / f64::from(CHANGES);
    println!("one endpoint changed: {:.3} ms wall, {cpu:.3} ms CPU", millis(started) / f64::from(CHANGES));

    let cpu = cpu_seconds()?;
    for _ in 0..CHANGES {
        network.verify().await?;
    }
    println!("verify, nothing changed: {:.3} ms CPU", (cpu_seconds()? - cpu) * 1e3 / f64::from(CHANGES));
    Ok(())
}

/// The first service has `first_endpoints`, the others ten.
fn plan(first_endpoints: u8) -> Result<Plan, Box<dyn std::error::Error>> {
    let mut services = Vec::new();
    for group in 0..GROUPS {
        for number in 0..SERVICES {
            let count = if (group, number) == (0, 0) { first_endpoints } else { ENDPOINTS };
            services.push(service(group, number, count)?);
        }
    }
    let [cluster_range, service_range, subnet] = ["10.42.0.0/16", "10.43.0.0/16", "10.42.1.0/24"].map(str::parse);
    let (cluster_range, service_range, subnet) = (cluster_range?, service_range?, subnet?);
    Ok(Plan {
        cluster_range,
        service_range,
        ipv6_prefix: None,
        subnet,
        services,
        peers: Vec::new(),
        host_ports: Vec::new(),
    })
}

fn service(group: u8, number: u8, count: u8) -> Result<Service, Box<dyn std::error::Error>> {
    let (instance, node) = (InstanceId::new("web-1")?, NodeId::new("edge-1")?);
    let endpoint = |last| Endpoint::new(instance.clone(), node.clone(), Ipv4Addr::new(10, 42, number, last));
    let port = ServicePort {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        service: 80,
        container: 8080,
        publish: None,
        http: false,
        bind: None,
        allow: Vec::new(),
    };
    Ok(Service {
        id: format!("s{group}-{number}").parse()?,
        address: Ipv4Addr::new(10, 43, group, number),
        ports: vec![port],
        balance: BalancePolicy::default(),
        endpoints: (0..count).map(endpoint).collect(),
        ipv6: false,
        across_sites: false,
        access: None,
    })
}

fn cpu_seconds() -> nix::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(std::time::Duration::from(time).as_secs_f64())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}
