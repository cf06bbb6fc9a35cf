//! Ports of the node: kept by a bound socket that does not listen, or somebody else's, who is then named.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use api_types::{container::Protocol, net::IpVersion};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt};

use crate::{
    node_port::Half,
    wanted::{Door, Opening},
};

const STATE_LISTENING: &str = "0A";
const STATE_UNCONNECTED: &str = "07";
const COLUMN_LOCAL: usize = 1;
const COLUMN_STATE: usize = 3;
const COLUMN_INODE: usize = 9;
/// How many hexadecimal digits stand for four bytes.
const WORD_DIGITS: usize = 8;

/// What came of asking for a port.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Ours as long as this socket is open: `bind` of others fails, and tools show it.
    Reserved(OwnedFd),
    /// Nobody serves on it, but ends of old connections keep it from being reserved.
    Free,
    /// Somebody serves on it, with the socket of this number; [`owner`] finds out who.
    Taken(u64),
}

/// Asks for a port at an address, or on all addresses of the node of one version but its own, which nothing is published on.
pub(crate) fn claim((protocol, port, opening): Door, (version, own): Half) -> Claim {
    let reserve = || reserve(protocol, port, place(opening, version));
    if let Ok(reserved) = reserve() {
        return Claim::Reserved(reserved);
    }
    // A program on 127.0.0.1 or the node's own address alone keeps it: what is published never matches there.
    let apart = |listener: &Listener| match opening {
        Opening::Everywhere => listener.address.is_loopback() || own == Some(listener.address),
        Opening::At(address) => listener.address.is_loopback() || listener.is_at_another(address),
    };
    let sockets = listeners(protocol, port);
    match sockets.iter().find(|listener| listener.hears(version) && !apart(listener)) {
        // Who kept it may have gone between the two looks.
        None => reserve().map_or(Claim::Free, Claim::Reserved),
        Some(listener) => Claim::Taken(listener.inode),
    }
}

/// Finds the process that has the socket open: `name (pid 812)`. It looks at every process, so the answer is worth keeping.
pub(crate) fn owner(inode: u64) -> String {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)) {
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        if links.any(|link| link.as_os_str() == wanted.as_str()) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return format!("{} (pid {})", name.trim(), process.file_name().display());
        }
    }
    "a process that cannot be seen".to_owned()
}

/// Who listens on a port of this node, for people: `nginx (pid 812)`.
#[must_use]
pub fn listener_of(protocol: Protocol, port: u16) -> String {
    let sockets = listeners(protocol, port);
    let listener = sockets.iter().find(|listener| !listener.address.is_loopback()).or_else(|| sockets.first());
    listener.map_or_else(|| "another program".to_owned(), |listener| owner(listener.inode))
}

/// Where a port is bound that is opened so.
fn place(opening: Opening, version: IpVersion) -> IpAddr {
    match (opening, version) {
        (Opening::At(address), _) => address,
        (Opening::Everywhere, IpVersion::Four) => Ipv4Addr::UNSPECIFIED.into(),
        (Opening::Everywhere, IpVersion::Six) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn reserve(protocol: Protocol, port: u16, address: IpAddr) -> nix::Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        // The same port by IPv4 is a reservation of its own.
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    // While a service has no endpoint its datagrams arrive here; none shall take memory.
    setsockopt(&fd, sockopt::RcvBuf, &0)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port)))?;
    Ok(fd)
}

/// A socket on which somebody serves.
struct Listener {
    /// Where; an address of IPv4 that is written as one of IPv6 counts as what it is.
    address: IpAddr,
    inode: u64,
}

impl Listener {
    /// Whether clients of this version of the protocol may get to it: `::` is most often for both.
    fn hears(&self, version: IpVersion) -> bool {
        IpVersion::of(self.address) == version || self.address == Ipv6Addr::UNSPECIFIED
    }

    fn is_at_another(&self, address: IpAddr) -> bool {
        self.address != address && !self.address.is_unspecified()
    }
}

fn listeners(protocol: Protocol, port: u16) -> Vec<Listener> {
    let state = match protocol {
        Protocol::Tcp => STATE_LISTENING,
        Protocol::Udp => STATE_UNCONNECTED,
    };
    let tables = ["", "6"].map(|suffix| format!("/proc/thread-self/net/{}{suffix}", protocol.as_str()));
    let texts = tables.iter().filter_map(|path| fs::read_to_string(path).ok());
    texts
        .flat_map(|text| text.lines().skip(1).filter_map(|line| listener(line, port, state)).collect::<Vec<_>>())
        .collect()
}

/// Reads one line of `/proc/net/tcp` (proc(5)): the address is in hexadecimal, four bytes at a time in the machine's order.
fn listener(line: &str, port: u16, state: &str) -> Option<Listener> {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    let (address, hex_port) = columns.get(COLUMN_LOCAL)?.split_once(':')?;
    if u16::from_str_radix(hex_port, 16).ok()? != port || *columns.get(COLUMN_STATE)? != state {
        return None;
    }
    let words =
        address.as_bytes().chunks(WORD_DIGITS).map(|word| u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok());
    let octets: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let address = match octets.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?).to_canonical(),
    };
    Some(Listener { address, inode: columns.get(COLUMN_INODE)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_socket_table_is_read_as_the_kernel_writes_it() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1";
        let everywhere = "   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 42 1";
        let version_six = format!("   2: {}01000000:1F90 {}:0000 0A 0:0 0:0 0 0 0 7 1", "0".repeat(24), "0".repeat(32));

        let mapped =
            format!("   3: {}FFFF00000700A8C0:1F90 {}:0000 0A 0:0 0:0 0 0 0 8 1", "0".repeat(16), "0".repeat(32));
        let read =
            |line: &str| listener(line, 8080, STATE_LISTENING).map(|found| (found.address.to_string(), found.inode));

        assert_eq!(read(line), Some(("127.0.0.1".to_owned(), 4711)));
        assert_eq!(read(everywhere), Some(("0.0.0.0".to_owned(), 42)));
        assert_eq!(read(&version_six), Some(("::1".to_owned(), 7)));
        assert_eq!(read(&mapped), Some(("192.168.0.7".to_owned(), 8)));
        assert!(listener(line, 8081, STATE_LISTENING).is_none());
        assert!(listener("nonsense", 8080, STATE_LISTENING).is_none());
    }
}
