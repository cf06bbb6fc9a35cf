//! Connections to what listens inside an instance's network, also on its loopback address alone.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use crate::{Error, namespace};

/// How long one address may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Connects to a port on the loopback address of a network namespace, IPv4 first. Blocks: to be called where nobody waits.
///
/// # Errors
/// When the namespace is gone, or nothing listens there.
pub fn connect_inside(namespace: &Path, port: u16) -> Result<TcpStream, Error> {
    let inside = namespace::open(namespace)?;
    namespace::inside(&inside, || {
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let mut first_error = None;
        for address in addresses {
            match TcpStream::connect_timeout(&SocketAddr::new(address, port), LIMIT) {
                Ok(connection) => return Ok(connection),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        let source = first_error.unwrap_or_else(|| io::ErrorKind::ConnectionRefused.into());
        Err(Error::refused(format!("connect to port {port}"), source))
    })
}
