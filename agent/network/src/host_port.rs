//! Ports of the node: kept by a bound socket that does not listen, or somebody else's, who is then named.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use api_types::container::Protocol;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

use crate::wanted::Opening;

const STATE_LISTENING: &str = "0A";
const STATE_UNCONNECTED: &str = "07";
const COLUMN_LOCAL: usize = 1;
const COLUMN_STATE: usize = 3;
const COLUMN_INODE: usize = 9;

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

/// Asks for a port at an address, or on all addresses of the node but `own`, the one that nothing is published on.
pub(crate) fn claim(protocol: Protocol, port: u16, opening: Opening, own: Option<Ipv4Addr>) -> Claim {
    let reserve = || reserve(protocol, port, opening);
    if let Ok(reserved) = reserve() {
        return Claim::Reserved(reserved);
    }
    // A program on 127.0.0.1 or the node's own address alone keeps it: what is published never matches there.
    let apart = |listener: &Listener| match opening {
        Opening::Everywhere => listener.on_loopback || (own.is_some() && listener.address == own),
        Opening::At(address) => listener.on_loopback || listener.is_at_another(address),
    };
    let sockets = listeners(protocol, port);
    match sockets.iter().find(|listener| !apart(listener)) {
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
    let listener = sockets.iter().find(|listener| !listener.on_loopback).or_else(|| sockets.first());
    listener.map_or_else(|| "another program".to_owned(), |listener| owner(listener.inode))
}

fn reserve(protocol: Protocol, port: u16, opening: Opening) -> nix::Result<OwnedFd> {
    let kind = match protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let fd = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None)?;
    // While a service has no endpoint its datagrams arrive here; none shall take memory.
    setsockopt(&fd, sockopt::RcvBuf, &0)?;
    let address = match opening {
        Opening::Everywhere => Ipv4Addr::UNSPECIFIED,
        Opening::At(address) => address,
    };
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, port)))?;
    Ok(fd)
}

struct Listener {
    on_loopback: bool,
    /// Where, if that is one address of version 4.
    address: Option<Ipv4Addr>,
    inode: u64,
}

impl Listener {
    fn is_at_another(&self, address: Ipv4Addr) -> bool {
        self.address.is_some_and(|other| other != address && !other.is_unspecified())
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
    let last_word = address.get(address.len().checked_sub(8)?..)?;
    let bytes = u32::from_str_radix(last_word, 16).ok()?.to_ne_bytes();
    let on_loopback = match address.len() {
        8 => bytes[0] == 127,
        // ::1, or 127.0.0.0/8 seen through an IPv6 socket.
        _ if bytes == [0, 0, 0, 1] => address.starts_with(&"0".repeat(24)),
        _ => bytes[0] == 127 && address.starts_with("0000000000000000FFFF0000"),
    };
    let address = (address.len() == 8).then(|| Ipv4Addr::from(bytes));
    Some(Listener { on_loopback, address, inode: columns.get(COLUMN_INODE)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_socket_table_is_read_as_the_kernel_writes_it() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1";
        let everywhere = "   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 42 1";
        let version_six = format!("   2: {}01000000:1F90 {}:0000 0A 0:0 0:0 0 0 0 7 1", "0".repeat(24), "0".repeat(32));

        assert!(listener(line, 8080, STATE_LISTENING).is_some_and(|found| found.on_loopback && found.inode == 4711));
        assert!(listener(everywhere, 8080, STATE_LISTENING).is_some_and(|found| !found.on_loopback));
        assert!(listener(&version_six, 8080, STATE_LISTENING).is_some_and(|found| found.on_loopback));
        assert!(listener(line, 8081, STATE_LISTENING).is_none());
        assert!(listener("nonsense", 8080, STATE_LISTENING).is_none());
    }
}
