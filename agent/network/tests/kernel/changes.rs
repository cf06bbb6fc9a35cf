//! Endpoints come and go under traffic; nobody notices.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use agent_network::TableGuard;
use tests_support::netns::inside;

use crate::{
    server::{Connection, ask},
    world::{Node, World, repeated_asks, service_address},
};

const CONNECTIONS: u32 = 4000;

#[test]
fn no_connection_is_lost_while_endpoints_change() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let instances = [node.start("web-1", 2), node.start("web-2", 3), node.start("web-3", 4), node.start("web-4", 5)];
    let [a, b, c, d] = &instances;
    node.serve(&[a, b], &[]);
    let before = repeated_asks(&node.netns);
    let done = AtomicBool::new(false);
    let changes = AtomicU32::new(0);

    thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| connect_often(&node)));
        scope.spawn(|| {
            let sets = [vec![a, b, c, d], vec![d], vec![c, d], vec![a, b, c], vec![b]];
            for set in sets.iter().cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                node.serve(set, &[]);
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        let outcomes = clients.map(thread::ScopedJoinHandle::join);
        done.store(true, Ordering::Relaxed);
        for outcome in outcomes {
            assert_eq!(outcome.expect("clients do not panic"), Ok(()));
        }
    });

    assert!(changes.load(Ordering::Relaxed) > 20, "the endpoints hardly changed");
    assert_eq!(repeated_asks(&node.netns), before, "packets met a service that was not there");
}

#[test]
fn an_established_connection_survives_its_endpoints_removal() {
    let mut world = World::new();
    let node = world.node(1, TableGuard::Owned);
    let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
    node.serve(&[&first], &[]);
    let mut connection = Connection::open(&node.netns, service_address()).expect("connected");

    node.serve(&[&second], &[]);

    connection.echo().expect("still served by the first");
    assert_eq!(ask(&node.netns, service_address()).expect("an answer").server, "web-2");
}

#[test]
fn an_established_connection_survives_an_agents_restart() {
    for guard in [TableGuard::Owned, TableGuard::Watched] {
        let mut world = World::new();
        let mut node = world.node(1, guard);
        let [first, second] = [node.start("web-1", 2), node.start("web-2", 3)];
        node.serve(&[&first], &[]);
        let mut connection = Connection::open(&node.netns, service_address()).expect("connected");

        node.restart();

        connection.echo().expect("nobody took the table along");
        assert_eq!(ask(&node.netns, service_address()).expect("an answer").server, "web-1");
        node.serve(&[&second], &[]);
        connection.echo().expect("still served after the table was taken over");
        assert_eq!(ask(&node.netns, service_address()).expect("an answer").server, "web-2");
    }
}

fn connect_often(node: &Node) -> Result<(), String> {
    let work = || {
        for number in 0..CONNECTIONS {
            let connected = TcpStream::connect_timeout(&service_address().into(), Duration::from_secs(30));
            connected.and_then(Connection::greet).map_err(|error| format!("connection {number}: {error}"))?;
        }
        Ok(())
    };
    inside(&node.netns, work).map_err(|error| error.to_string())?
}
