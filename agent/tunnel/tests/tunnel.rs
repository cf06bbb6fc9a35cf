//! Two nodes on one machine: what crosses, what does not, and what is said of it.

#[path = "support/nodes.rs"]
mod nodes;

use std::{collections::BTreeSet, net::SocketAddrV4, time::Duration};

use agent_tunnel::{Peer, Plan};
use nodes::{Cluster, Node, echo, end_of, instance, plan, remote, served};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Longer than anything here takes on a slow machine.
const LONG: Duration = Duration::from_secs(60);

/// A node that asks and one that answers for an instance; `dials` says which of both can be dialled.
fn joined(server: SocketAddrV4, (asker_is_dialled, server_is_dialled): (bool, bool)) -> (Node, Node) {
    let cluster = Cluster::new("c1");
    let (asker, answerer) = (cluster.node("edge-1"), cluster.node("edge-2"));
    answerer.tunnel.follow(Plan {
        peers: vec![Peer { node: asker.name.clone(), dialled: asker_is_dialled.then_some(asker.place) }],
        served: vec![served(server)],
        ..plan()
    });
    asker.tunnel.follow(Plan {
        peers: vec![Peer { node: answerer.name.clone(), dialled: server_is_dialled.then_some(answerer.place) }],
        remote: vec![remote(server, &answerer.name)],
        ..plan()
    });
    (asker, answerer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_side_can_dial_clients_reach_the_instance() {
    for dialled in [(false, true), (true, false), (true, true)] {
        let server = echo().await;
        let (asker, _answerer) = joined(server, dialled);
        let here = asker.detour(server).await;

        for round in 0..20_u8 {
            let mut client = TcpStream::connect(here).await.expect("listened on");
            client.write_all(&[round; 100]).await.expect("sent");
            client.shutdown().await.expect("half of it ends");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.expect("answered");
            assert_eq!(
                answer, [round; 100],
                "the answer comes after the client said its last word, dialled: {dialled:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_passes_whole_in_both_directions_at_once() {
    const BYTES: usize = 32 << 20;
    let server = echo().await;
    let (asker, _answerer) = joined(server, (false, true));
    let client = TcpStream::connect(asker.detour(server).await).await.expect("listened on");
    let (mut back, mut forth) = client.into_split();
    let byte = |index: usize| u8::try_from((index * 31 + index / 251) % 256).expect("a byte");

    let sent = tokio::spawn(async move {
        let bytes: Vec<u8> = (0..BYTES).map(byte).collect();
        forth.write_all(&bytes).await.expect("sent");
        forth.shutdown().await.expect("ended");
    });
    let mut received = Vec::with_capacity(BYTES);
    back.read_to_end(&mut received).await.expect("received");

    sent.await.expect("all of it");
    assert_eq!(received.len(), BYTES);
    assert!(received.iter().enumerate().all(|(index, found)| *found == byte(index)), "nothing is changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_passed_on_and_is_no_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = end_of(&listener);
    let (asker, _answerer) = joined(server, (false, true));
    let mut client = TcpStream::connect(asker.detour(server).await).await.expect("listened on");

    client.write_all(b"hello").await.expect("sent");
    let (mut instance, _) = listener.accept().await.expect("connected");
    instance.read_exact(&mut [0; 5]).await.expect("heard");
    SockRef::from(&instance).set_linger(Some(Duration::ZERO)).expect("a reset");
    drop(instance);

    let end = timeout(LONG, client.read(&mut [0; 16])).await.expect("told");
    assert!(end.is_err(), "a reset looked like the end of an answer: {end:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_read_holds_the_client_back() {
    const MUCH: usize = 64 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = end_of(&listener);
    let (asker, _answerer) = joined(server, (false, true));
    let mut client = TcpStream::connect(asker.detour(server).await).await.expect("listened on");
    client.write_all(b"hello").await.expect("sent");
    let (mut instance, _) = listener.accept().await.expect("connected");

    let block = vec![7; 64 << 10];
    let mut sent = 5;
    // What fits into the kernel's buffers and ours goes at once; then nothing does, until somebody reads.
    while let Ok(written) = timeout(Duration::from_millis(500), client.write(&block)).await {
        sent += written.expect("open");
        assert!(sent < MUCH, "the tunnel keeps what nobody reads");
    }
    client.shutdown().await.expect("ended");
    let mut received = Vec::new();
    instance.read_to_end(&mut received).await.expect("all of it");

    assert_eq!(received.len(), sent, "what was taken arrives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_not_open_to_other_sites_is_not_reached() {
    let server = echo().await;
    let (asker, answerer) = joined(server, (false, true));
    let here = asker.detour(server).await;
    answerer.tunnel.follow(Plan { peers: vec![Peer { node: asker.name.clone(), dialled: None }], ..plan() });

    // It may be told while it connects, or a moment later.
    if let Ok(mut client) = TcpStream::connect(here).await {
        let end = timeout(LONG, client.read(&mut [0; 16])).await.expect("told");
        assert!(end.is_err(), "nobody answers for it: {end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_neither_side_can_dial_it_is_said_and_nothing_is_open() {
    let server = echo().await;
    let (asker, answerer) = joined(server, (false, false));

    let mut states = asker.tunnel.state();
    let state = states.wait_for(|state| !state.unreachable.is_empty()).await.expect("said").clone();

    assert!(state.detours.is_empty(), "nobody is balanced there");
    let reason = &state.unreachable[&answerer.name];
    assert!(reason.contains("names no address"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_the_address_must_be_the_node_that_is_meant() {
    let (ours, theirs) = (Cluster::new("c1"), Cluster::new("c1"));
    let server = echo().await;
    let other = ours.node("edge-3");
    let foreign = theirs.node("edge-2");
    for wrong in [&other, &foreign] {
        let asker = ours.node("edge-1");
        wrong.tunnel.follow(Plan {
            peers: vec![Peer { node: asker.name.clone(), dialled: None }],
            served: vec![served(server)],
            ..plan()
        });
        asker.tunnel.follow(Plan {
            peers: vec![Peer { node: instance("edge-2"), dialled: Some(wrong.place) }],
            remote: vec![remote(server, &instance("edge-2"))],
            ..plan()
        });

        let mut states = asker.tunnel.state();
        let state = states.wait_for(|state| !state.unreachable.is_empty()).await.expect("said").clone();

        assert!(state.detours.is_empty() && state.reached == BTreeSet::new(), "{state:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_is_not_answered_and_its_connections_end() {
    let server = echo().await;
    let (asker, answerer) = joined(server, (false, true));
    let mut client = TcpStream::connect(asker.detour(server).await).await.expect("listened on");
    client.write_all(b"x").await.expect("sent");
    client.read_exact(&mut [0]).await.expect("answered");

    answerer.tunnel.follow(Plan { served: vec![served(server)], ..plan() });

    let end = timeout(LONG, client.read(&mut [0; 16])).await.expect("told");
    assert!(end.is_err(), "its connection is broken off: {end:?}");
    let mut states = asker.tunnel.state();
    let state = states.wait_for(|state| !state.unreachable.is_empty()).await.expect("said").clone();
    assert!(state.detours.is_empty(), "{state:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_is_noticed_and_found_again() {
    let server = echo().await;
    let (asker, answerer) = joined(server, (false, true));
    let here = asker.detour(server).await;
    let (name, place) = (answerer.name.clone(), answerer.place);
    let cluster = answerer.cluster.clone();

    drop(answerer);
    let mut states = asker.tunnel.state();
    states.wait_for(|state| state.unreachable.contains_key(&name)).await.expect("noticed");
    let back = cluster.node_at(name.as_str(), place);
    back.tunnel.follow(Plan {
        peers: vec![Peer { node: asker.name.clone(), dialled: None }],
        served: vec![served(server)],
        ..plan()
    });

    assert_eq!(asker.detour(server).await, here, "at the same place");
}
