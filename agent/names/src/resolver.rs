//! Where other names are asked for: the node's own name servers, read again when their file changes.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// The port of name servers.
const PORT: u16 = 53;

/// The most servers that are asked.
const SERVERS_MAX: usize = 3;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where names that are not ours are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The servers in the first of these files (`resolv.conf`) that names one beyond the node itself.
    Files(Vec<PathBuf>),
    /// These, in this order.
    Servers(Vec<SocketAddr>),
}

/// The node's name servers.
#[derive(Debug)]
pub(crate) struct Resolver {
    files: Vec<PathBuf>,
    servers: Vec<SocketAddr>,
    stamps: Vec<Option<SystemTime>>,
    next_look: Option<Instant>,
}

impl Resolver {
    /// Makes one that looks when it is asked.
    pub(crate) fn new(upstream: Upstream) -> Self {
        let (files, servers) = match upstream {
            Upstream::Files(files) => (files, Vec::new()),
            Upstream::Servers(servers) => (Vec::new(), servers),
        };
        Self { files, servers, stamps: Vec::new(), next_look: None }
    }

    /// The servers as they are now, without `own`, which would ask itself: the kernel leads port 53 of its address to it, too,
    /// where another program holds that.
    pub(crate) fn servers(&mut self, own: SocketAddr) -> Vec<SocketAddr> {
        let now = Instant::now();
        if self.next_look.is_none_or(|at| at <= now) {
            self.next_look = Some(now + LOOK_EVERY);
            self.look(own);
        }
        self.servers.iter().filter(|server| !is_own(server, own)).copied().collect()
    }

    fn look(&mut self, own: SocketAddr) {
        let stamps: Vec<_> = self.files.iter().map(|file| stamp(file)).collect();
        if stamps == self.stamps {
            return;
        }
        self.stamps = stamps;
        let read = |file: &PathBuf| {
            let mut servers = servers(&fs::read_to_string(file).unwrap_or_default());
            servers.retain(|server| !is_own(server, own));
            servers
        };
        self.servers = self.files.iter().map(read).find(|servers| !servers.is_empty()).unwrap_or_default();
        tracing::info!(servers = ?self.servers, "other names are asked of");
    }
}

/// Whether who is asked there is who listens at `own`.
fn is_own(server: &SocketAddr, own: SocketAddr) -> bool {
    server.ip() == own.ip() && [own.port(), PORT].contains(&server.port())
}

fn stamp(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// The servers of a `resolv.conf` that are not stubs on the node's loopback: those would ask us or hide who answers.
fn servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address: IpAddr = words.next().filter(|_| is_server)?.parse().ok()?;
        (!address.is_loopback() && !address.is_unspecified()).then(|| SocketAddr::new(address, PORT))
    };
    text.lines().filter_map(server).take(SERVERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_on_the_loopback_are_not_asked() {
        let text =
            "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.2\noptions edns0\nnameserver fe80::1%eth0\n";

        assert_eq!(servers(text), ["10.0.0.2:53".parse().unwrap()]);
    }

    #[test]
    fn nobody_asks_itself_not_even_by_the_port_that_the_kernel_leads_to_it() {
        let [own, led, other] = ["10.42.1.1:4053", "10.42.1.1:53", "10.0.0.2:53"].map(|text| text.parse().unwrap());
        let mut resolver = Resolver::new(Upstream::Servers(vec![led, own, other]));

        assert_eq!(resolver.servers(own), [other]);
    }

    #[test]
    fn a_file_that_names_nobody_else_gives_way_to_the_next() {
        let folder = std::env::temp_dir().join(format!("resolver-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let files = ["nameserver 10.42.1.1\n", "nameserver 127.0.0.1\n", "nameserver 10.0.0.2\n"];
        let paths: Vec<PathBuf> = (0..files.len()).map(|number| folder.join(number.to_string())).collect();
        for (path, content) in paths.iter().zip(files) {
            fs::write(path, content).unwrap();
        }
        let mut resolver = Resolver::new(Upstream::Files(paths));

        let servers = resolver.servers("10.42.1.1:53".parse().unwrap());

        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(servers, ["10.0.0.2:53".parse().unwrap()]);
    }
}
