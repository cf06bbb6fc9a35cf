//! What the table of 1,000 services with 10 endpoints each costs: its load, one endpoint that changes, its kernel memory.
//!
//! `cargo bench -p agent-network --bench table`, as root; part of `make bench`. All times are CPU time of the process, the
//! kernel's part included: nothing in here waits, and others may use the machine. The peer is `nft`, which changes one element
//! of a map as large in a table of its own, in the same rounds.

mod account;

use std::{
    fs,
    io::Write,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

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
use tests_support::{
    figures::{Figures, median, number},
    wait::pace,
};

use account::{Account, children_cpu_seconds};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SERVICES: u8 = 250;
const GROUPS: u8 = 4;
const ENDPOINTS: u8 = 10;
/// How often the table is loaded whole.
const LOADS: usize = 7;
/// How often an endpoint changes in each round, by us and by `nft`.
const CHANGES: u32 = 40;
const CHANGES_BY_NFT: u32 = 5;
const ROUNDS: usize = 7;
/// Longer than what was looked through for exchanges that are over is left alone.
const LULL: Duration = Duration::from_millis(1_100);

fn main() -> Result<()> {
    // `cargo test --benches` only wants to know that it builds and starts.
    if !std::env::args().any(|word| word == "--bench") {
        return Ok(());
    }
    let mut figures = Figures::of_this_build()?;
    // Before there is a second thread.
    unshare(CloneFlags::CLONE_NEWNET)?;
    let folder = std::env::temp_dir().join(format!("wherry-table-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let outcome = runtime.block_on(measure(&folder, &mut figures));
    fs::remove_dir_all(&folder)?;
    outcome
}

async fn measure(folder: &Path, figures: &mut Figures) -> Result<()> {
    let settings = || Settings { netns_dir: folder.to_owned(), ..Settings::new(Ipv4Addr::LOCALHOST) };
    let [empty, full, less] = [plan(0, 0)?, plan(ENDPOINTS, ENDPOINTS)?, plan(ENDPOINTS, ENDPOINTS - 1)?];

    let account = Account::open()?;
    let network = Network::new(settings())?;
    network.program(&empty).await?;
    let before = account.kernel_bytes()?;
    network.program(&full).await?;
    figures.note("table_kernel_kib", number(account.kernel_bytes()?.saturating_sub(before)) / 1024.0)?;
    account.close()?;
    drop(network);

    let mut loads = Vec::new();
    for _ in 0..LOADS {
        // As an agent that was started again: it knows nothing of what the kernel has.
        let network = Network::new(settings())?;
        let begin = cpu_seconds()?;
        network.program(&full).await?;
        loads.push((cpu_seconds()? - begin) * 1e3);
    }
    figures.note("table_load_ms", median(loads))?;

    let network = Network::new(settings())?;
    network.program(&full).await?;
    nft(&map_of_the_peer())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = cpu_seconds()?;
        for plan in [&less, &full].into_iter().cycle().take(usize::try_from(CHANGES)?) {
            network.program(plan).await?;
        }
        ours.push((cpu_seconds()? - begin) * 1e6 / f64::from(CHANGES));
        let begin = children_cpu_seconds()?;
        for _ in 0..CHANGES_BY_NFT {
            nft("delete element ip peer slots { 10.43.0.0 . 80 . 0 }\n\
                 add element ip peer slots { 10.43.0.0 . 80 . 0 : 10.42.9.9 }\n")?;
        }
        theirs.push((children_cpu_seconds()? - begin) * 1e6 / f64::from(CHANGES_BY_NFT));
    }
    figures.note("endpoint_change_cpu_us", median(ours))?;
    figures.note("endpoint_change_by_nft_cpu_us", median(theirs))?;

    let mut alone = Vec::new();
    for plan in [&less, &full, &less] {
        pace(LULL);
        let begin = cpu_seconds()?;
        network.program(plan).await?;
        alone.push((cpu_seconds()? - begin) * 1e6);
    }
    figures.note("endpoint_change_with_sweep_cpu_us", median(alone))?;

    // The first of these compare everything, as `nft` changed a table, and sweep what the changes left to do.
    for _ in 0..3 {
        pace(LULL);
        network.verify().await?;
    }
    let begin = cpu_seconds()?;
    for _ in 0..CHANGES {
        network.verify().await?;
    }
    Ok(figures.note("table_verify_cpu_us", (cpu_seconds()? - begin) * 1e6 / f64::from(CHANGES))?)
}

/// The first service has `first` endpoints, the others `each`; no service at all has none.
fn plan(each: u8, first: u8) -> Result<Plan> {
    let mut services = Vec::new();
    for (group, number) in (0..GROUPS).flat_map(|group| (0..SERVICES).map(move |number| (group, number))) {
        let count = if (group, number) == (0, 0) { first } else { each };
        services.extend((count > 0).then(|| service(group, number, count)).transpose()?);
    }
    let [cluster_range, service_range, subnet] = ["10.42.0.0/16", "10.43.0.0/16", "10.42.1.0/24"].map(str::parse);
    Ok(Plan {
        cluster_range: cluster_range?,
        service_range: service_range?,
        ipv6_prefix: None,
        subnet: subnet?,
        services,
        peers: Vec::new(),
        host_ports: Vec::new(),
        closed: Vec::new(),
        detours: Default::default(),
    })
}

fn service(group: u8, number: u8, count: u8) -> Result<Service> {
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
        counts_requests: false,
        access: None,
    })
}

/// A table with one map of as many elements.
fn map_of_the_peer() -> String {
    let services = (0..GROUPS).flat_map(|group| (0..SERVICES).map(move |number| (group, number)));
    let slots = services.flat_map(|(group, number)| {
        (0..ENDPOINTS).map(move |slot| format!("10.43.{group}.{number} . 80 . {slot} : 10.42.{number}.{slot}"))
    });
    format!(
        "table ip peer {{\nmap slots {{\ntype ipv4_addr . inet_service . mark : ipv4_addr\nelements = {{ {} }}\n}}\n}}\n",
        slots.collect::<Vec<_>>().join(", ")
    )
}

/// Gives `nft` a script, as who programs the kernel by it does.
fn nft(script: &str) -> Result<()> {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("nft has no input")?.write_all(script.as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("nft ended with {status}").into()) }
}

fn cpu_seconds() -> nix::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(Duration::from(time).as_secs_f64())
}
