//! Proves by real connections that this kernel balances: a listener in a scratch instance, a test service before it,
//! one client on the node and one inside the instance.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use api_types::container::Protocol;
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::TimeVal,
};

use crate::{
    Error, instance,
    kernel::{Current, Kernel},
    namespace,
    vxlan::MTU_DEFAULT,
    wanted::Front,
};

/// Not a name that an instance can have.
const SCRATCH: &str = ".self-check";
/// Outside the cluster range, so it is nobody's.
const SCRATCH_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);
const SERVICE_PORT: u16 = 1;
const PATIENCE: Duration = Duration::from_secs(1);
const WORD: [u8; 8] = *b"balanced";

/// Runs the check. It leaves nothing behind, whatever comes of it.
pub(crate) fn run(kernel: &mut Kernel) -> Result<String, String> {
    let Some((base, wanted)) = kernel.current.as_ref().and_then(Current::applied) else {
        return Err(Error::Unprogrammed.to_string());
    };
    let range = base.service_range;
    let Some(address) = range.size().checked_sub(2).and_then(|index| range.nth(index)) else {
        return Err(format!("the service range {range} is too small for a test address"));
    };
    let service = SocketAddrV4::new(address, SERVICE_PORT);
    let front = Front::Service(address, Protocol::Tcp, SERVICE_PORT);
    let outcome = listen(kernel).and_then(|listener| {
        let endpoint = endpoint(&listener)?;
        let mut with_check = wanted.clone();
        with_check.fronts.insert(front, Arc::new(endpoint.into()));
        with_check.hairpins.insert(SCRATCH_ADDRESS);
        kernel.balancer.program(&base, &with_check).map_err(|error| error.to_string())?;
        try_both(kernel, &listener, service)
    });
    let restored = kernel.balancer.program(&base, &wanted);
    let removed = instance::remove(&kernel.settings, &kernel.routing, SCRATCH);
    outcome?;
    restored.and(removed).map_err(|error| format!("the test could not be cleaned up: {error}"))?;
    Ok(format!(
        "connections through the test service {service} reached their endpoint from the node and from an instance"
    ))
}

/// Removes what an earlier check left when the agent was killed in it.
pub(crate) fn clean(kernel: &Kernel) -> Result<(), Error> {
    instance::remove(&kernel.settings, &kernel.routing, SCRATCH)
}

fn listen(kernel: &Kernel) -> Result<TcpListener, String> {
    let path =
        instance::ensure(&kernel.settings, &kernel.routing, (SCRATCH, SCRATCH_ADDRESS), (kernel.source(), MTU_DEFAULT))
            .map_err(|error| format!("the test instance's network cannot be made: {error}"))?;
    let bound = namespace::open(&path).and_then(|namespace| {
        namespace::inside(&namespace, || {
            TcpListener::bind((SCRATCH_ADDRESS, 0))
                .map_err(|error| Error::refused("listen in the test instance", error))
        })
    });
    let listener = bound.map_err(|error| error.to_string())?;
    // `accept` gives up too, should the connection have gone elsewhere.
    setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::new(1, 0)).map_err(|errno| errno.to_string())?;
    Ok(listener)
}

fn endpoint(listener: &TcpListener) -> Result<SocketAddrV4, String> {
    match listener.local_addr() {
        Ok(SocketAddr::V4(address)) => Ok(address),
        Ok(SocketAddr::V6(_)) => Err("the test listener has an IPv6 address".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn try_both(kernel: &Kernel, listener: &TcpListener, service: SocketAddrV4) -> Result<(), String> {
    exchange(listener, TcpStream::connect_timeout(&service.into(), PATIENCE))
        .map_err(|error| format!("a connection from the node to the test service {service} failed: {error}"))?;
    let path = instance::netns_path(&kernel.settings, SCRATCH);
    let namespace = namespace::open(&path).map_err(|error| error.to_string())?;
    let connected = namespace::inside(&namespace, || Ok(TcpStream::connect_timeout(&service.into(), PATIENCE)))
        .map_err(|error| error.to_string())?;
    exchange(listener, connected)
        .map_err(|error| format!("a connection from an instance to the test service {service} failed: {error}"))
}

/// A word in each direction.
fn exchange(listener: &TcpListener, connected: io::Result<TcpStream>) -> io::Result<()> {
    let mut client = connected?;
    let (mut server, _) = listener.accept()?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    pass(&mut client, &mut server)?;
    pass(&mut server, &mut client)
}

fn pass(from: &mut TcpStream, to: &mut TcpStream) -> io::Result<()> {
    let mut word = [0; WORD.len()];
    from.write_all(&WORD)?;
    to.read_exact(&mut word)?;
    if word == WORD { Ok(()) } else { Err(io::Error::other("something else answered")) }
}
