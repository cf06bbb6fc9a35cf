//! Connections that are opened while the slots change all the time, on the real kernel: how many opening packets were lost.
//!
//! `cargo bench -p agent-network --bench stress`, as root; part of `make bench`. A lost packet shows in the kernel's count of
//! those that had to be sent again. The careless order beside it, flush and fill again, must lose some, or nothing is proven.

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use agent_network::{Network, Plan, Settings, TableGuard};
use api_types::{
    balance::BalancePolicy,
    container::Protocol,
    id::{InstanceId, NodeId},
    service::{Endpoint, Service, ServicePort},
};
use nix::sched::{CloneFlags, unshare};
use tests_support::{
    figures::{Figures, number},
    netns::{inside, ip},
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Connections while slots change as they should, and at most while they change carelessly.
const CONNECTIONS: u32 = 100_000;
const CARELESS_CONNECTIONS: u32 = 20_000;
/// After so many that were lost to carelessness it is proven.
const ENOUGH_LOST: u64 = 20;
const CLIENTS: u32 = 4;
const INSTANCES: u8 = 4;
/// Each has the connections of one range of client ports to itself: none meets what is left of an earlier one.
const SERVICES: u8 = 8;
const FIRST_PORT: u16 = 8080;
const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Only a fault waits so long: a packet that was lost is sent again after one second, then after two and four.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    // `cargo test --benches` only wants to know that it builds and starts.
    if !std::env::args().any(|word| word == "--bench") {
        return Ok(());
    }
    let mut figures = Figures::of_this_build()?;
    // Before there is a second thread.
    unshare(CloneFlags::CLONE_NEWNET)?;
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "cable"])?;
    ip(&["addr", "add", &format!("{NODE}/24"), "dev", "eth0"])?;
    ip(&["link", "set", "eth0", "up"])?;
    let folder = std::env::temp_dir().join(format!("wherry-stress-{}", std::process::id()));
    let outcome = measure(&folder, &mut figures);
    let settings = settings(&folder);
    wait(async { Network::new(settings)?.remove_all().await })?;
    outcome
}

fn measure(folder: &Path, figures: &mut Figures) -> Result<()> {
    let network = Network::new(settings(folder))?;
    for number in 0..INSTANCES {
        let path = wait(network.ensure_instance(&instance(number)?, address(number)))?;
        for port in (0..SERVICES).map(port) {
            let listener = inside(&path, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??;
            // Ends with the process. Whoever was let in is sent away.
            thread::spawn(move || listener.incoming().for_each(drop));
        }
    }
    let all: Vec<u8> = (0..INSTANCES).collect();
    wait(network.program(&plan(&all)?))?;

    let sets: [&[u8]; 5] = [&all, &[3], &[2, 3], &[0, 1, 2], &[1]];
    let (changes, made, lost) = rush(CONNECTIONS, u64::MAX, |turn| {
        wait(network.program(&plan(sets[turn % sets.len()])?))?;
        Ok(())
    })?;
    figures.note("slot_stress_connections", f64::from(made))?;
    figures.note("slot_stress_changes", f64::from(changes))?;
    figures.note("slot_stress_lost", number(lost))?;

    let (_, made, lost) = rush(CARELESS_CONNECTIONS, ENOUGH_LOST, |_| {
        let flushed = Command::new("nft").args(["flush", "map", "ip", "wherry", "slots"]).status()?;
        if !flushed.success() {
            return Err(format!("nft ended with {flushed}").into());
        }
        wait(network.verify())?;
        Ok(())
    })?;
    figures.note("careless_connections", f64::from(made))?;
    figures.note("careless_lost", number(lost))?;
    if lost == 0 { Err("carelessness lost nothing: this proves nothing".into()) } else { Ok(()) }
}

/// Opens connections from several threads while another makes one change after the other, until there were `count`, or
/// `enough` packets were lost. Gives the changes, the connections, and the packets that had to be sent again.
fn rush(count: u32, enough: u64, change: impl Fn(usize) -> Result<()> + Sync) -> Result<(u32, u32, u64)> {
    let before = repeated_asks()?;
    let (done, made) = (AtomicBool::new(false), AtomicU32::new(0));
    let changes = thread::scope(|scope| -> Result<u32> {
        let changing = scope.spawn(|| -> Result<u32> {
            let mut changes = 0;
            while !done.load(Ordering::Relaxed) {
                change(usize::try_from(changes)?)?;
                changes += 1;
                if repeated_asks()? - before >= enough {
                    done.store(true, Ordering::Relaxed);
                }
            }
            Ok(changes)
        });
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| connect_often(count, &made, &done))).collect();
        let outcomes: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        let changes = changing.join().map_err(|_| "the changes panicked")??;
        outcomes.into_iter().try_for_each(|outcome| outcome.map_err(|_| "a client panicked")?)?;
        Ok(changes)
    })?;
    Ok((changes, made.load(Ordering::Relaxed), repeated_asks()? - before))
}

/// Connects to one service after the other until all connections together are `count`, or nobody wants more.
fn connect_often(count: u32, made: &AtomicU32, done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        let number = made.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            made.fetch_sub(1, Ordering::Relaxed);
            break;
        }
        let service = SocketAddrV4::new(virtual_address(u8::try_from(number % u32::from(SERVICES))?), 80);
        let mut stream = TcpStream::connect_timeout(&service.into(), PATIENCE)
            .map_err(|error| format!("connection {number} to {service}: {error}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// How often an opening packet was sent again in this network namespace.
fn repeated_asks() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().ok_or("no names")?, lines.next().ok_or("no values")?);
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = columns.find(|(name, _)| *name == "TCPSynRetrans").ok_or("no counter")?;
    Ok(value.parse()?)
}

fn settings(folder: &Path) -> Settings {
    // Others may change the table, else there could be no carelessness.
    Settings { netns_dir: folder.to_owned(), table_guard: TableGuard::Watched, ..Settings::new(NODE) }
}

/// Waits for a call of the adapter.
fn wait<T>(call: impl Future<Output = std::result::Result<T, agent_network::Error>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(call)?)
}

/// All services with the endpoints on these instances.
fn plan(instances: &[u8]) -> Result<Plan> {
    let endpoint = |number: &u8| Ok(Endpoint::new(instance(*number)?, NodeId::new("node-1")?, address(*number)));
    let endpoints: Vec<Endpoint> = instances.iter().map(endpoint).collect::<Result<_>>()?;
    let service = |number| -> Result<Service> {
        let port = ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            service: 80,
            container: port(number),
            publish: None,
            http: false,
            bind: None,
            allow: Vec::new(),
        };
        Ok(Service {
            id: format!("web-{number}").parse()?,
            address: virtual_address(number),
            ports: vec![port],
            balance: BalancePolicy::default(),
            endpoints: endpoints.clone(),
            ipv6: false,
            across_sites: false,
            counts_requests: false,
            access: None,
        })
    };
    Ok(Plan {
        cluster_range: "10.42.0.0/16".parse()?,
        service_range: "10.43.0.0/16".parse()?,
        ipv6_prefix: None,
        subnet: "10.42.1.0/24".parse()?,
        services: (0..SERVICES).map(service).collect::<Result<_>>()?,
        peers: Vec::new(),
        host_ports: Vec::new(),
        closed: Vec::new(),
        detours: Default::default(),
    })
}

fn instance(number: u8) -> Result<InstanceId> {
    Ok(InstanceId::new(&format!("web-{number}"))?)
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 42, 1, 10 + number)
}

fn virtual_address(service: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 43, 0, 10 + service)
}

fn port(service: u8) -> u16 {
    FIRST_PORT + u16::from(service)
}
