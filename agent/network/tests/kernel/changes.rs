//! Endpoints come and go under traffic; nobody notices.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use agent_network::TableGuard;
use tests_support::{netns::inside, wait::pace};

use crate::{
    server::{Connection, PATIENCE, ask},
    world::{Node, World, repeated_asks, service_address},
};

/// How many connections each client makes as fast as it can.
const CONNECTIONS: u32 = 4000;
/// How often the endpoints change at least. A client that is done before goes on at its leisure.
const CHANGES: u32 = 30;
/// How many more connections a client makes at its leisure, at most.
const LEISURELY: u32 = 4000;
/// The rest between two of those.
const REST: Duration = Duration::from_millis(10);

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
        let clients = [(); 2].map(|()| scope.spawn(|| connect_often(&node, &changes)));
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

    assert!(changes.load(Ordering::Relaxed) >= CHANGES, "the endpoints hardly changed");
    // A machine that stands still for a second asks again too, hardly ever twice; a gap at each change meets many packets.
    let lost = repeated_asks(&node.netns) - before;
    assert!(lost < 2, "{lost} packets met a service that was not there");
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

fn connect_often(node: &Node, changes: &AtomicU32) -> Result<(), String> {
    let work = || {
        for number in 0..CONNECTIONS + LEISURELY {
            if number >= CONNECTIONS {
                if changes.load(Ordering::Relaxed) >= CHANGES {
                    break;
                }
                pace(REST);
            }
            let connected = TcpStream::connect_timeout(&service_address().into(), PATIENCE);
            connected.and_then(Connection::greet).map_err(|error| format!("connection {number}: {error}"))?;
        }
        Ok(())
    };
    inside(&node.netns, work).map_err(|error| error.to_string())?
}
