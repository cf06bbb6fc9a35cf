//! A real firewalld on a node, with a bus and files of its own.

use std::{fs, path::PathBuf};

use agent_network::Programmed;
use tests_support::{program::Program, wait::try_wait_for};

use crate::{
    door::{FRIEND, STRANGER, respecting},
    ipv6,
    server::{PATIENCE, ask, ask_from},
    world::{Node, PUBLISHED, World, service_address},
};

/// Where `packaging/setup.sh test` unpacks Debian's: installed, it would start and guard the machine itself.
const UNPACKED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/firewalld");
const MODULES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/python3-firewall/usr/lib/python3/dist-packages");

#[test]
fn firewalld_guards_published_ports_where_it_is_respected_and_lets_the_rest_pass_when_told() {
    let mut world = World::new();
    let crowd = world.crowd();
    let here = respecting(&mut world);
    ipv6::give_address(&here.netns, 1);
    let there = ipv6::dual(&mut world, 2);
    let (instance, client) = (here.start("web-1", 2), there.start("client-1", 2));
    ipv6::program(&here, &[&instance], &[&there]);
    ipv6::program(&there, &[&instance], &[&here]);
    ipv6::answer_as(&instance);
    let firewalld = Firewalld::start(&here);

    let seen = here.wait(here.network.verify()).expect("verified").programmed.dropped_by;
    let [line] = &seen[..] else { panic!("firewalld refuses what is forwarded: {seen:?}") };
    let (_, commands) = line.split_once("lets it pass: ").expect("what mends it");
    assert!(ask(&client.netns, service_address()).is_err(), "it refuses what comes from other nodes");
    firewalld.tell(&here, commands);

    assert_eq!(here.wait(here.network.verify()).expect("verified").programmed, Programmed::default());
    for netns in [&client.netns, &there.netns] {
        assert_eq!(ask(netns, service_address()).expect("from another node").server, "web-1", "{}", netns.display());
        let by_ipv6 = ipv6::ask_v6(netns, ipv6::front()).expect("from another node by IPv6");
        assert_eq!(by_ipv6.0, "web-1", "{}", netns.display());
    }
    ask_from(&crowd, FRIEND, here.published()).expect("firewalld lets him in");
    for _ in 0..2 {
        assert!(ask_from(&crowd, STRANGER, here.published()).is_err(), "firewalld does not let him in");
    }
    drop(firewalld);
}

/// A firewalld that runs. It and its bus end with this value; its table goes with the node.
struct Firewalld {
    folder: PathBuf,
    bus: Program,
    program: Program,
}

impl Firewalld {
    /// Starts it inside the node, where it lets the friend in at the published port.
    fn start(node: &Node) -> Self {
        let folder = node.settings.netns_dir.with_file_name("firewalld");
        fs::create_dir_all(folder.join("settings/zones")).expect("a folder");
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let zone = format!(
            "<zone><rule family=\"ipv4\"><source address=\"10.97.1.0/24\"/>\
             <port protocol=\"tcp\" port=\"{PUBLISHED}\"/><accept/></rule></zone>"
        );
        fs::write(folder.join("settings/zones/public.xml"), zone).expect("written");
        let bus = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\">\
             <allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/><allow user=\"*\"/>\
             </policy></busconfig>",
            at("bus")
        );
        fs::write(folder.join("bus.conf"), bus).expect("written");
        let configuration = format!("--config-file={}", at("bus.conf"));
        let bus = ["dbus-daemon", "--nofork", "--nopidfile", &configuration];
        let bus = Program::start(None, &bus, &folder.join("bus.log")).expect("a bus (package dbus)");
        try_wait_for(PATIENCE, || folder.join("bus").exists().then_some(()));
        let (of_bus, modules) =
            (format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", at("bus")), format!("PYTHONPATH={MODULES}"));
        for name in ["firewalld", "firewall-cmd"] {
            let script = format!("#!/bin/sh\nexec env {of_bus} {modules} /usr/bin/python3 {} \"$@\"\n", unpacked(name));
            fs::write(folder.join(name), script).expect("written");
            fs::set_permissions(folder.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
        }
        let (defaults, settings) = (format!("{UNPACKED}/usr/lib/firewalld"), at("settings"));
        let command = [
            &at("firewalld"),
            "--nofork",
            "--nopid",
            "--log-target=console",
            "--default-config",
            &defaults,
            "--system-config",
            &settings,
        ];
        let mut program = Program::start(Some(&node.netns), &command, &folder.join("log")).expect("started");
        let guards = || {
            node.run("nft", &["list", "table", "inet", "firewalld"])
                .is_ok_and(|rules| rules.contains(&PUBLISHED.to_string()))
        };
        let ready = try_wait_for(PATIENCE, || (!program.runs() || guards()).then_some(()));
        assert!(ready.is_some() && program.runs(), "firewalld does not guard the node:\n{}", program.log());
        Self { folder, bus, program }
    }

    /// Runs commands of its own in the node.
    fn tell(&self, node: &Node, commands: &str) {
        let script = format!("set -e; PATH={}:$PATH; {commands}", self.folder.display());
        node.run("sh", &["-c", &script]).unwrap_or_else(|error| panic!("{error}\n{}", self.program.log()));
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        self.program.kill();
        self.bus.kill();
    }
}

fn unpacked(program: &str) -> String {
    let found = ["bin", "sbin"].map(|folder| format!("{UNPACKED}/usr/{folder}/{program}"));
    let found = found.into_iter().find(|path| fs::exists(path).unwrap_or_default());
    found.expect("no firewalld here: `packaging/setup.sh test` unpacks Debian's")
}
