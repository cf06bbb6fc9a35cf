//! Instance networks: made, reached, listed, restored, removed.

use std::os::unix::fs::MetadataExt;

use agent_network::TableGuard;
use tests_support::netns::ip;

use crate::{
    server::ask,
    world::{World, netns_name, repeated_asks},
};

#[test]
fn an_instance_is_reached_from_its_node_and_from_the_instance_beside_it() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    node.serve(&[], &[]);

    let from_node = ask(&node.netns, first.at()).expect("reached from the node");
    let from_beside = ask(&second.netns, first.at()).expect("reached from beside");

    assert_eq!((from_node.server.as_str(), from_node.client), ("web-1", node.address()));
    assert_eq!((from_beside.server.as_str(), from_beside.client), ("web-1", second.address));
}

#[test]
fn the_first_packet_to_and_from_an_instance_arrives() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    node.serve(&[], &[]);
    let mut lost = Vec::new();

    for number in 2..12 {
        let instance = node.start(&format!("web-{number}"), number);
        let before = repeated_asks(&node.netns);
        ask(&node.netns, instance.at()).expect("an answer");
        lost.extend((repeated_asks(&node.netns) > before).then_some(number));
    }

    // A machine that stands still for a second asks again too; a packet that is not let through is lost each time.
    assert!(lost.len() < 2, "the first packets to {lost:?} were lost");
}

#[test]
fn making_a_network_again_changes_nothing() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    let inode = instance.netns.metadata().expect("pinned").ino();
    let links = node.links();

    let again = node.wait(node.network.ensure_instance(&instance.id, instance.address)).expect("again");

    assert_eq!(again, node.network.netns_path(&instance.id));
    assert_eq!(again.metadata().expect("pinned").ino(), inode);
    assert_eq!(node.links(), links);
}

#[test]
fn a_restarted_agent_finds_the_instances_that_are_there() {
    let mut world = World::new();
    let mut node = world.node(1, TableGuard::Owned);
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];

    node.restart();

    let listed = node.wait(node.network.list_instances()).expect("a list");
    assert_eq!(listed, [(first.id.clone(), first.address), (second.id.clone(), second.address)]);
}

#[test]
fn a_removed_network_leaves_nothing_and_may_be_removed_again() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let links = node.links();
    let instance = node.start("web-1", 2);

    for _ in 0..2 {
        node.wait(node.network.remove_instance(&instance.id)).expect("removed");
    }

    assert!(!instance.netns.exists());
    assert_eq!(node.links(), links);
    assert_eq!(node.wait(node.network.list_instances()).expect("a list"), []);
}

#[test]
fn a_file_left_from_before_a_reboot_is_no_network() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.wait(node.network.remove_instance(&instance.id)).expect("removed");
    std::fs::write(&instance.netns, "").expect("a leftover");

    assert_eq!(node.wait(node.network.list_instances()).expect("a list"), []);
    node.wait(node.network.ensure_instance(&instance.id, instance.address)).expect("made anew");
    assert_eq!(node.wait(node.network.list_instances()).expect("a list"), [(instance.id.clone(), instance.address)]);
}

#[test]
fn what_an_agent_left_half_made_is_found_by_the_next_and_leaves_nothing() {
    let mut world = World::new();
    let mut node = world.node(1, TableGuard::Owned);
    let links = node.links();
    // As an agent leaves it that ends after making the file, after pinning the namespace, and after making the link.
    let [only_file, only_namespace, whole] = [node.start("web-1", 2), node.start("web-2", 3), node.start("web-3", 4)];
    node.wait(node.network.remove_instance(&only_file.id)).expect("removed");
    std::fs::write(&only_file.netns, "").expect("a file");
    let without_link = node.links().into_iter().find(|(number, _)| !links.iter().any(|(known, _)| known == number));
    let (_, link) = without_link.expect("the first link that was made");
    node.run("ip", &["link", "del", &link]).expect("no link");

    node.restart();

    assert!(!only_file.netns.exists());
    let listed = node.wait(node.network.list_instances()).expect("a list");
    assert_eq!(listed, [(only_namespace.id.clone(), [0, 0, 0, 0].into()), (whole.id.clone(), whole.address)]);
    for (instance, _) in listed {
        node.wait(node.network.remove_instance(&instance)).expect("removed");
    }
    assert_eq!(node.links(), links);
    assert_eq!(std::fs::read_dir(&node.settings.netns_dir).expect("the folder").count(), 0);
}

#[test]
fn a_link_that_somebody_removed_is_made_again() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    let links = node.links();
    let (_, name) = links.iter().find(|(_, name)| name.starts_with("wh-")).expect("our link");
    ip(&["-n", netns_name(&node.netns), "link", "del", name]).expect("sabotage");

    let verified = node.wait(node.network.verify()).expect("verified");

    assert!(verified.repaired);
    ask(&node.netns, instance.at()).expect("reached again");
}

#[test]
fn removing_all_leaves_the_node_as_it_was() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let looks = || {
        // Not IPv6: the kernel gives links addresses and routes of that by itself, some time after they are up.
        let commands: [(&str, &[&str]); 3] = [
            ("ip", &["-4", "route", "show", "table", "all"]),
            ("nft", &["list", "ruleset"]),
            ("cat", &["/proc/sys/net/ipv4/ip_forward"]),
        ];
        let said = commands.map(|(program, arguments)| node.run(program, arguments).expect("a look"));
        (node.links(), said)
    };
    let before = looks();
    let instance = node.start("web-1", 2);
    node.serve(&[&instance], &[]);
    assert_ne!(looks(), before);

    node.wait(node.network.remove_all()).expect("removed");

    assert_eq!(looks(), before);
    assert!(!instance.netns.exists());
}
