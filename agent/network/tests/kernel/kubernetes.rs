//! Kubernetes' tables on the same node: what kube-proxy writes by iptables and by nftables works beside ours, and stays.

use std::net::SocketAddrV4;

use agent_network::TableGuard;

use crate::{
    server::{Server, ask},
    world::{Node, PUBLISHED, World, service_address},
};

/// A port of every node that leads to a service of Kubernetes.
const NODE_PORT: u16 = 31_000;
/// As kube-proxy leaves them: translation behind marks, and what it accepts and drops of what is forwarded.
const BY_IPTABLES: &str = "*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-SVC-FAR - [0:0]
:KUBE-SEP-FAR - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport 31000 -j KUBE-SVC-FAR
-A KUBE-SVC-FAR -j KUBE-MARK-MASQ
-A KUBE-SVC-FAR -j KUBE-SEP-FAR
-A KUBE-SEP-FAR -p tcp -m tcp -j DNAT --to-destination 10.98.0.2:8080
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -j KUBE-FORWARD
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
";
const BY_NFTABLES: &str = "add table ip kube-proxy
add chain ip kube-proxy far
add rule ip kube-proxy far meta mark set meta mark or 0x4000 meta l4proto tcp dnat to 10.98.0.2:8080
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict; }
add element ip kube-proxy service-nodeports { tcp . 31000 : goto far }
add chain ip kube-proxy services
add rule ip kube-proxy services fib daddr type local meta l4proto . th dport vmap @service-nodeports
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority dstnat; }
add rule ip kube-proxy nat-prerouting jump services
add chain ip kube-proxy nat-output { type nat hook output priority -100; }
add rule ip kube-proxy nat-output jump services
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority srcnat; }
add rule ip kube-proxy nat-postrouting meta mark & 0x4000 == 0x4000 masquerade fully-random
add chain ip kube-proxy filter-forward { type filter hook forward priority filter - 1; }
add rule ip kube-proxy filter-forward ct state invalid drop
";

#[test]
fn what_kube_proxy_writes_works_beside_ours_and_stays() {
    for (program, rules) in [("iptables-restore -n", BY_IPTABLES), ("nft -f -", BY_NFTABLES)] {
        let mut world = World::new();
        let outside = world.outsider();
        let [node, other] = [1, 2].map(|number| world.node(number, TableGuard::Owned));
        // Kubernetes asks for that before it starts.
        node.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]).expect("a switch");
        let far = world.behind(&node, &outside);
        let _far = Server::start(&far, "far");
        let [near_server, client, far_server] =
            [node.start("web-1", 2), node.start("client-1", 3), other.start("web-2", 2)];
        node.run("sh", &["-c", &format!("{program} <<'END'\n{rules}END")]).expect("kube-proxy's rules");
        let before = theirs(&node);

        node.serve(&[&near_server, &far_server], &[&other]);
        other.serve(&[&near_server, &far_server], &[&node]);

        assert_eq!(node.wait(node.network.verify()).expect("verified"), Default::default());
        let ports = [NODE_PORT, PUBLISHED].map(|port| SocketAddrV4::new(node.address(), port));
        assert_eq!(ask(&outside, ports[0]).expect("Kubernetes' port").server, "far", "{program}");
        for (from, to) in [(&outside, ports[1]), (&client.netns, service_address()), (&node.netns, service_address())] {
            // Often enough that both endpoints are drawn.
            for _ in 0..12 {
                let answer = ask(from, to).unwrap_or_else(|error| panic!("{program}: {to}: {error}"));
                assert!(answer.server.starts_with("web-"), "{program}: {answer:?}");
            }
        }
        assert_eq!(theirs(&node), before, "{program}: what is theirs is left to them");
        node.wait(node.network.remove_all()).expect("removed");
        assert_eq!(theirs(&node), before, "{program}: and when we leave");
        assert_eq!(ask(&outside, ports[0]).expect("Kubernetes' port").server, "far", "{program}");
    }
}

/// The rules of all tables but ours, without what counts.
fn theirs(node: &Node) -> String {
    let listed = node.run("nft", &["-s", "list", "ruleset", "ip"]).expect("a listing");
    let tables = listed.split("table ip ").filter(|table| !table.starts_with("wherry"));
    tables.collect()
}
