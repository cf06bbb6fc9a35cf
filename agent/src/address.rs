//! The address at which other nodes reach this one: set, or the one from which the scheduler is reached.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use api_daemon::durable_file;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::{sleep, timeout},
};

/// How many times to look before the last known address is taken: after a boot the network may be late.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);

/// Finds the address. Without a way to the scheduler the last known one is taken, and at last the loopback address.
pub(crate) async fn find(set: Option<Ipv4Addr>, scheduler: &str, state_dir: &Path) -> Ipv4Addr {
    if let Some(address) = set {
        return address;
    }
    let kept = state_dir.join("address");
    let known: Option<Ipv4Addr> = fs::read_to_string(&kept).ok().and_then(|text| text.trim().parse().ok());
    let looks = if known.is_some() { 1 } else { LOOKS };
    for look in 0..looks {
        if look > 0 {
            sleep(PAUSE).await;
        }
        let Some(found) = towards(scheduler).await else { continue };
        if known != Some(found)
            && let Err(error) = durable_file::write(&kept, format!("{found}\n").as_bytes())
        {
            tracing::warn!(%error, "the node's address cannot be kept");
        }
        return found;
    }
    let address = known.unwrap_or(Ipv4Addr::LOCALHOST);
    tracing::warn!(%address, scheduler, "no way to the scheduler: the last known address is taken");
    address
}

/// The source address of what would be sent there; nothing is sent.
async fn towards(scheduler: &str) -> Option<Ipv4Addr> {
    let targets = timeout(LOOKUP_LIMIT, lookup_host(scheduler)).await.ok()?.ok()?;
    let target = targets.into_iter().find(std::net::SocketAddr::is_ipv4)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect(target).await.ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_address_is_the_one_towards_the_scheduler() {
        let state = std::env::temp_dir().join(format!("wherry-address-{}", std::process::id()));
        fs::create_dir_all(&state).expect("a writable directory");

        let set = Ipv4Addr::new(10, 0, 0, 9);
        assert_eq!(find(Some(set), "127.0.0.1:1", &state).await, set);
        assert_eq!(find(None, "127.0.0.1:1", &state).await, Ipv4Addr::LOCALHOST);
        fs::write(state.join("address"), "10.0.0.7\n").expect("writable");
        assert_eq!(find(None, "not-an-address", &state).await, Ipv4Addr::new(10, 0, 0, 7), "the last known one");
        fs::remove_dir_all(state).expect("ours");
    }
}
