//! A site on one machine: a bridge in a namespace of its own, nodes and a client from outside plugged into it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use agent_network::{Network, Plan, Programmed, Settings, TableGuard};
use api_types::{
    balance::BalancePolicy,
    container::Protocol,
    id::{InstanceId, NodeId, WorkloadId},
    net::Cidr,
    service::{Endpoint, Peer, Service, ServicePort},
    site::{Across, Reach},
};
use tests_support::{
    netns::{self, inside, ip},
    program,
    show::show,
};

use crate::server::{PORT, Server};

/// The virtual address of the service under test.
pub(crate) const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 43, 0, 10);
/// Its port.
pub(crate) const SERVICE_PORT: u16 = 80;
/// The port of every node that leads to it.
pub(crate) const PUBLISHED: u16 = 30080;

/// The server behind a node.
pub(crate) const FAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 98, 0, 2), PORT);

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// The site; it leaves nothing behind, however the test ends.
pub(crate) struct World {
    name: String,
    members: Vec<String>,
}

/// One node of the site with the adapter under test.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) netns: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) network: Network,
}

/// An instance with a server in it.
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) address: Ipv4Addr,
    pub(crate) netns: PathBuf,
    _server: Server,
}

impl World {
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
        let name = format!("wn{}-{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let mut world = Self { name, members: Vec::new() };
        let lan = world.add("lan");
        ip(&["-n", &lan, "link", "add", "br0", "type", "bridge"]).expect("a bridge");
        ip(&["-n", &lan, "link", "set", "br0", "up"]).expect("a bridge that is up");
        world
    }

    /// A member of the local network that is no node.
    pub(crate) fn outsider(&mut self) -> PathBuf {
        self.plug("outside", Ipv4Addr::new(10, 99, 0, 100))
    }

    /// A member that is no node and speaks from every address of 10.97.0.0/16.
    pub(crate) fn crowd(&mut self) -> PathBuf {
        let netns = self.outsider();
        let name = format!("{}.outside", self.name);
        ip(&["-n", &name, "route", "add", "local", "10.97.0.0/16", "dev", "lo"]).expect("a route");
        netns
    }

    /// Node `number` at 10.99.0.`number`, with the instances 10.42.`number`.0/24. No default route: a site alone.
    pub(crate) fn node(&mut self, number: u8, table_guard: TableGuard) -> Node {
        let address = Ipv4Addr::new(10, 99, 0, number);
        let netns = self.plug(&format!("node{number}"), address);
        inside(&netns, || fs::write("/proc/sys/net/ipv4/ip_forward", "0")).expect("enter").expect("forwarding off");
        let netns_dir = self.folder().join(format!("node{number}"));
        let settings = Settings { netns_dir, table_guard, ..Settings::new(address) };
        let network = open(&netns, &settings);
        Node { number, netns, settings, network }
    }

    /// Node `number` at 10.97.0.`number`, on a network of its own behind a router that knows the nodes' networks and nothing
    /// of instances. Nodes on the other network must be there already.
    pub(crate) fn node_behind_router(&mut self, number: u8, others: &[&Node]) -> Node {
        let router = self.plug("router", Ipv4Addr::new(10, 99, 0, 254));
        let name = format!("node{number}");
        let own = self.add(&name);
        let router_name = netns_name(&router);
        ip(&["-n", router_name, "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", &own])
            .expect("a cable");
        ip(&["-n", router_name, "addr", "add", "10.97.0.254/24", "dev", "eth1"]).expect("an address");
        ip(&["-n", router_name, "link", "set", "eth1", "up"]).expect("a link that is up");
        inside(&router, || fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("enter").expect("forwarding");
        let address = Ipv4Addr::new(10, 97, 0, number);
        ip(&["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"]).expect("an address");
        ip(&["-n", &own, "link", "set", "eth0", "up"]).expect("a link that is up");
        ip(&["-n", &own, "route", "add", "default", "via", "10.97.0.254"]).expect("a route");
        for other in others {
            ip(&["-n", netns_name(&other.netns), "route", "add", "10.97.0.0/24", "via", "10.99.0.254"])
                .expect("a route");
        }
        let netns = netns::path(&own);
        let netns_dir = self.folder().join(&name);
        let settings = Settings { netns_dir, ..Settings::new(address) };
        let network = open(&netns, &settings);
        Node { number, netns, settings, network }
    }

    /// A machine behind the node, to which the one outside has a route through the node.
    pub(crate) fn behind(&mut self, node: &Node, outside: &Path) -> PathBuf {
        let far = self.add("far");
        let (near, outside) = (netns_name(&node.netns), netns_name(outside));
        ip(&["-n", near, "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", &far])
            .expect("a cable");
        ip(&["-n", near, "addr", "add", "10.98.0.1/24", "dev", "eth1"]).expect("an address");
        ip(&["-n", near, "link", "set", "eth1", "up"]).expect("a link that is up");
        ip(&["-n", &far, "addr", "add", &format!("{}/24", FAR.ip()), "dev", "eth0"]).expect("an address");
        ip(&["-n", &far, "link", "set", "eth0", "up"]).expect("a link that is up");
        ip(&["-n", &far, "route", "add", "default", "via", "10.98.0.1"]).expect("a route");
        ip(&["-n", outside, "route", "add", "10.98.0.0/24", "via", &node.address().to_string()]).expect("a route");
        netns::path(&far)
    }

    /// What a person would look at when a test failed.
    fn show(&self) {
        let looks: [&[&str]; 4] = [
            &["ip", "-o", "address"],
            &["ip", "-4", "route", "show", "table", "all"],
            &["ip", "neighbour"],
            &["nft", "list", "ruleset"],
        ];
        for (member, look) in self.members.iter().flat_map(|member| looks.map(|look| (member, look))) {
            let output = program::within(Some(&netns::path(member)), look).output();
            let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            show(&format!("{member}: {}", look.join(" ")), &said.unwrap_or_else(|error| error.to_string()));
        }
    }

    fn folder(&self) -> PathBuf {
        std::env::temp_dir().join(&self.name)
    }

    fn add(&mut self, member: &str) -> String {
        let name = format!("{}.{member}", self.name);
        ip(&["netns", "add", &name]).expect("a namespace");
        self.members.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"]).expect("loopback");
        name
    }

    fn plug(&mut self, member: &str, address: Ipv4Addr) -> PathBuf {
        let own = self.add(member);
        let lan = format!("{}.lan", self.name);
        ip(&["-n", &lan, "link", "add", member, "type", "veth", "peer", "name", "eth0", "netns", &own])
            .expect("a cable");
        ip(&["-n", &lan, "link", "set", member, "master", "br0", "up"]).expect("a plug");
        ip(&["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"]).expect("an address");
        ip(&["-n", &own, "link", "set", "eth0", "up"]).expect("a link that is up");
        netns::path(&own)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        for member in &self.members {
            let _ = ip(&["netns", "del", member]);
        }
        for node in fs::read_dir(self.folder()).into_iter().flatten().flatten() {
            for pinned in fs::read_dir(node.path()).into_iter().flatten().flatten() {
                let _ = nix::mount::umount2(&pinned.path(), nix::mount::MntFlags::MNT_DETACH);
            }
        }
        let _ = fs::remove_dir_all(self.folder());
    }
}

impl Node {
    /// Waits for a call of the adapter on a thread inside the node, as the agent would make it.
    pub(crate) fn wait<T: Send>(&self, call: impl Future<Output = T> + Send) -> T {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(call)
        };
        inside(&self.netns, work).expect("enter the node")
    }

    /// Starts an instance with a server in it.
    pub(crate) fn start(&self, name: &str, last: u8) -> Instance {
        let id = InstanceId::new(name).expect("a name");
        let address = Ipv4Addr::new(10, 42, self.number, last);
        let netns = self.wait(self.network.ensure_instance(&id, address)).expect("a network");
        let server = Server::start(&netns, name);
        Instance { id, address, netns, _server: server }
    }

    /// Programs a service with these endpoints, knowing these peers, and expects nothing in the way.
    pub(crate) fn serve(&self, endpoints: &[&Instance], peers: &[&Node]) {
        self.program(&self.plan(endpoints, peers));
    }

    /// Programs this plan and expects nothing in the way.
    pub(crate) fn program(&self, plan: &Plan) {
        let programmed = self.wait(self.network.program(plan)).expect("programmed");
        assert_eq!(programmed, Programmed::default());
    }

    pub(crate) fn plan(&self, endpoints: &[&Instance], peers: &[&Node]) -> Plan {
        Plan {
            cluster_range: "10.42.0.0/16".parse().expect("a range"),
            service_range: "10.43.0.0/16".parse().expect("a range"),
            ipv6_prefix: None,
            subnet: self.subnet(),
            services: vec![service(endpoints)],
            peers: peers.iter().map(|node| node.peer()).collect(),
            host_ports: Vec::new(),
            closed: Vec::new(),
            detours: Default::default(),
        }
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.settings.node_address
    }

    /// The published port of this node.
    pub(crate) fn published(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address(), PUBLISHED)
    }

    /// As if the agent had been killed and started again.
    pub(crate) fn restart(&mut self) {
        self.network = open(&self.netns, &self.settings);
    }

    /// Runs a program of the distribution inside the node and gives what it prints.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let output = inside(&self.netns, || Command::new(program).args(arguments).output())
            .and_then(|output| output)
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{program} {arguments:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// The links by number and name. Their state is left out: the kernel looks after that a while later.
    pub(crate) fn links(&self) -> Vec<(u32, String)> {
        let links = self.run("ip", &["-o", "link"]).expect("links");
        let link = |line: &str| {
            let mut words = line.split(": ");
            let (number, name) = (words.next()?, words.next()?);
            Some((number.parse().ok()?, name.split('@').next()?.to_owned()))
        };
        links.lines().map(|line| link(line).expect("a number and a name")).collect()
    }

    pub(crate) fn peer(&self) -> Peer {
        let node = NodeId::new(&format!("node{}", self.number)).expect("a name");
        Peer {
            node,
            address: self.address(),
            ipv6_address: None,
            subnet: self.subnet(),
            site: "default".to_owned(),
            reach: Reach::Routes,
            across: Across::Routes,
            tunnel: None,
        }
    }

    fn subnet(&self) -> Cidr {
        Cidr::new(Ipv4Addr::new(10, 42, self.number, 0), 24).expect("a range")
    }
}

impl Instance {
    /// Where its server listens.
    pub(crate) fn at(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, PORT)
    }
}

/// The service under test: TCP and UDP on the same port, TCP published.
pub(crate) fn service(endpoints: &[&Instance]) -> Service {
    let port = |name: &str, protocol, publish| ServicePort {
        name: name.to_owned(),
        protocol,
        service: SERVICE_PORT,
        container: PORT,
        publish,
        http: false,
        bind: None,
        allow: Vec::new(),
    };
    let endpoint = |instance: &&Instance| {
        let node = NodeId::new(&format!("node{}", instance.address.octets()[2])).expect("a name");
        Endpoint::new(instance.id.clone(), node, instance.address)
    };
    Service {
        id: "web".parse::<WorkloadId>().expect("a name"),
        address: SERVICE,
        ports: vec![port("dgram", Protocol::Udp, None), port("http", Protocol::Tcp, Some(PUBLISHED))],
        balance: BalancePolicy::default(),
        endpoints: endpoints.iter().map(endpoint).collect(),
        ipv6: false,
        across_sites: false,
        counts_requests: false,
        access: None,
    }
}

/// Where the service under test answers.
pub(crate) fn service_address() -> SocketAddrV4 {
    SocketAddrV4::new(SERVICE, SERVICE_PORT)
}

/// The name of a namespace, as `ip` knows it.
pub(crate) fn netns_name(netns: &Path) -> &str {
    netns.file_name().and_then(|name| name.to_str()).expect("a name")
}

/// How often connections in this namespace had to ask a second time: each time a packet was lost.
pub(crate) fn repeated_asks(netns: &Path) -> u64 {
    let text = inside(netns, || fs::read_to_string("/proc/thread-self/net/netstat")).expect("enter").expect("read");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut columns = names.split_whitespace().zip(values.split_whitespace());
    let (_, value) = columns.find(|(name, _)| *name == "TCPSynRetrans").expect("a counter");
    value.parse().expect("a number")
}

fn open(netns: &Path, settings: &Settings) -> Network {
    inside(netns, || Network::new(settings.clone())).expect("enter").expect("a network")
}
