//! Programs that ask by a node's own settings, each test on a node of its own: a network and mounts that nobody else sees.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use agent_names::Upstream;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tests_support::{
    look_up::{CLibrary, build},
    netns::ip,
    program::Program,
    wait::try_wait_for,
};

use crate::bed::{Bed, LIMIT, bed_at, other_server};

/// The address of the node that is ours.
const OWN: Ipv4Addr = Ipv4Addr::new(10, 42, 1, 1);
/// The address of another name server.
const OTHER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 53);
/// What the agent writes into instances.
const INSTANCE: &str =
    "nameserver 10.42.1.1\nsearch default.wherry.internal wherry.internal\noptions ndots:1 timeout:2\n";
const ENDPOINTS: &str = "endpoints.web.default.wherry.internal";
/// Where systemd-resolved keeps its files.
const RESOLVED: &str = "/run/systemd/resolve";
/// Where `packaging/setup.sh test` unpacks Debian's: installed, it would change the machine's own settings.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/resolved/lib/systemd/systemd-resolved");

#[test]
fn programs_of_both_c_libraries_find_names_and_are_told_what_is_not_there() {
    on_a_node(|folder| {
        let _bed = server(3, Upstream::Servers(Vec::new()));
        show(folder, "/etc/resolv.conf", INSTANCE);
        let names = ["web", "web.default", "web.default.wherry.internal", "none.default.wherry.internal"];

        for library in [CLibrary::Glibc, CLibrary::Musl] {
            let said = run(&build(library, folder).expect("built"), &names);

            let expected = "web: 10.43.0.1\nweb.default: 10.43.0.1\nweb.default.wherry.internal: 10.43.0.1\n\
                            none.default.wherry.internal: none\n";
            assert_eq!(said, expected, "{library:?}");
        }
    });
}

#[test]
fn programs_find_all_of_a_hundred_addresses_or_as_many_as_their_c_library_takes() {
    on_a_node(|folder| {
        let _bed = server(100, Upstream::Servers(Vec::new()));
        show(folder, "/etc/resolv.conf", INSTANCE);
        let found = |library| run(&build(library, folder).expect("built"), &[ENDPOINTS]).split_whitespace().count() - 1;

        assert_eq!(found(CLibrary::Glibc), 100, "it comes by a stream for what was cut");
        // Before 1.2.4 musl asks by datagrams alone; after that it takes 48 at most.
        let few = found(CLibrary::Musl);
        assert!((27..=48).contains(&few), "{few} addresses");
    });
}

#[test]
fn systemd_resolved_and_the_server_on_one_node_leave_each_other_alone() {
    on_a_node(|folder| {
        let _other = other_server(OTHER, 1);
        let resolved = Resolved::start(folder, "[Resolve]\nDNS=10.77.0.1\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n");
        assert!(fs::read_to_string("/etc/resolv.conf").expect("there").contains("nameserver 127.0.0.53"));
        let _bed = server(1, resolved.upstream());
        let program = build(CLibrary::Glibc, folder).expect("built");

        let of_the_node = run(&program, &["-4", "example.org"]);
        show(folder, "/etc/resolv.conf", INSTANCE);
        let of_an_instance = run(&program, &["-4", "web", "example.com"]);

        assert_eq!(of_the_node, "example.org: 198.51.100.7\n", "{}", resolved.program.log());
        assert_eq!(of_an_instance, "web: 10.43.0.1\nexample.com: 198.51.100.7\n", "{}", resolved.program.log());
    });
}

#[test]
fn systemd_resolved_that_asks_the_server_for_everything_makes_no_circle() {
    on_a_node(|folder| {
        let resolved = Resolved::start(folder, "[Resolve]\nDNS=10.42.1.1\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n");
        let _bed = server(1, resolved.upstream());
        let program = build(CLibrary::Glibc, folder).expect("built");

        let said = run(&program, &["-4", "web.default.wherry.internal", "example.com"]);

        let refused = "web.default.wherry.internal: 10.43.0.1\nexample.com: Temporary failure in name resolution\n";
        assert_eq!(said, refused, "{}", resolved.program.log());
    });
}

/// Our server with its table, at the port of name servers.
fn server(endpoints: u8, upstream: Upstream) -> Bed {
    bed_at((OWN, 53), endpoints, upstream)
}

/// Runs a test on a thread with a network and mounts of its own, and a folder.
fn on_a_node(test: impl FnOnce(&Path) + Send + 'static) {
    assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
    let node = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("a network and mounts of its own");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("mounts that nobody else sees");
        // systemd-resolved asks nobody on a node with nothing but a loopback.
        ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]).expect("a cable");
        for (address, link) in [(OWN.into(), "lo"), (OTHER.ip(), "eth0")] {
            ip(&["addr", "add", &format!("{address}/32"), "dev", link]).expect("an address");
            ip(&["link", "set", link, "up"]).expect("a link that is up");
        }
        ip(&["link", "set", "eth1", "up"]).expect("a link that is up");
        // Gone with the last who sees it.
        empty("/mnt");
        show(Path::new("/mnt"), "/etc/nsswitch.conf", "hosts: files dns\n");
        test(Path::new("/mnt"));
    });
    node.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Puts an empty folder over one of the node's.
fn empty(path: &str) {
    mount(Some("none"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("an empty folder");
}

/// Puts a file with this content over one of the node's.
fn show(folder: &Path, path: &str, content: &str) {
    let file = folder.join(path.replace('/', "-"));
    fs::write(&file, content).expect("written");
    cover(path, &file);
}

fn cover(path: &str, file: &Path) {
    mount(Some(file), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a file over another");
}

/// What a program says.
fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("started");
    assert!(output.status.success(), "{}: {output:?}", program.display());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A systemd-resolved that is the node's resolver, without a bus. It ends with this value.
struct Resolved {
    program: Program,
}

impl Resolved {
    fn start(folder: &Path, settings: &str) -> Self {
        let program = ["/lib/systemd/systemd-resolved", UNPACKED].into_iter().find(|path| Path::new(path).exists());
        let program = program.expect("no systemd-resolved here: `packaging/setup.sh test` unpacks Debian's");
        empty("/run");
        fs::create_dir("/run/systemd").expect("created");
        empty("/etc/systemd");
        fs::write("/etc/systemd/resolved.conf", settings).expect("written");
        for (file, line) in
            [("passwd", "systemd-resolve:x:997:997::/:/usr/sbin/nologin"), ("group", "systemd-resolve:x:997:")]
        {
            let path = format!("/etc/{file}");
            let others = fs::read_to_string(&path).expect("every machine has it");
            show(folder, &path, &format!("{line}\n{others}"));
        }
        let mut program = Program::start(None, &[program], &folder.join("resolved.log")).expect("started");
        let (stub, listens) =
            (PathBuf::from(format!("{RESOLVED}/stub-resolv.conf")), || TcpStream::connect("127.0.0.53:53").is_ok());
        let ready = try_wait_for(LIMIT, || (!program.runs() || (stub.exists() && listens())).then_some(()));
        assert!(ready.is_some() && program.runs(), "it does not listen:\n{}", program.log());
        cover("/etc/resolv.conf", &stub);
        Self { program }
    }

    /// As the agent looks for other servers: first what `/etc/resolv.conf` leads to.
    fn upstream(&self) -> Upstream {
        Upstream::Files(["stub-resolv.conf", "resolv.conf"].map(|file| Path::new(RESOLVED).join(file)).to_vec())
    }
}

impl Drop for Resolved {
    fn drop(&mut self) {
        self.program.kill();
    }
}
