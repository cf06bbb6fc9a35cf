//! How many TCP connections were opened to an instance: the kernel counts them for each network, so one small file says it,
//! whichever way they came.

use std::{fs, path::Path};

/// Reads the counter of the network that a process is in; `None` when the process is not there (any more).
pub(crate) fn opened(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net/snmp")).ok()?;
    passive_opens(&text)
}

/// `PassiveOpens` of RFC 1213: two lines begin with `Tcp:`, the first with the names, the second with the numbers.
fn passive_opens(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let place = lines.next()?.split_whitespace().position(|name| name == "PassiveOpens")?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_number_stands_below_its_name() {
        let text = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: RtoMin ActiveOpens PassiveOpens\nTcp: 200 7 42\nUdp: In\nUdp: 9\n";

        assert_eq!(passive_opens(text), Some(42));
        assert_eq!(passive_opens("Tcp: RtoMin\nTcp: 200\n"), None);
        assert_eq!(passive_opens(""), None);
    }

    #[test]
    fn a_connection_that_is_opened_is_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let before = opened(std::process::id()).expect("this process is there");

        let _client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let _server = listener.accept().expect("accepted");

        assert!(opened(std::process::id()).is_some_and(|after| after > before));
    }
}
