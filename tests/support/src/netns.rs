//! Network namespaces: the local network of a bed, and work done inside of one.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use nix::sched::{CloneFlags, setns};

/// Where `ip netns` keeps the names.
pub const FOLDER: &str = "/run/netns";
/// The name of the bridge in the local network's own namespace.
const BRIDGE: &str = "br0";
/// The way out of the local network.
const ROUTER: &str = "10.77.0.1";
/// The same of the network behind it.
const HIDDEN_ROUTER: &str = "10.78.0.1";

/// Where the namespace `name` is.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// The IPv6 address that a member of a bed's network has beside its IPv4 address.
#[must_use]
pub fn ipv6_address(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(address.to_bits()))
}

/// Runs `work` on a thread of its own inside the namespace at `netns`.
///
/// # Errors
/// If the namespace cannot be entered.
///
/// # Panics
/// If `work` does.
pub fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let file = File::open(netns)
        .map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", netns.display())))?;
    let entered = thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        thread.join()
    });
    entered.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// One link of network for all members of a bed: a bridge in a namespace of its own, so that the machine's network has
/// no part in it.
#[derive(Debug)]
pub struct Lan {
    bed: String,
}

impl Lan {
    /// Makes the network of the bed `bed`; its members are named `BED.MEMBER`.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn new(bed: &str) -> io::Result<Self> {
        let lan = Self { bed: bed.to_owned() };
        let own = lan.namespace("lan");
        ip(&["netns", "add", &own])?;
        ip(&["-n", &own, "link", "set", "lo", "up"])?;
        ip(&["-n", &own, "link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["-n", &own, "addr", "add", &format!("{ROUTER}/24"), "dev", BRIDGE])?;
        ip(&["-n", &own, "link", "set", BRIDGE, "up"])?;
        Ok(lan)
    }

    /// The name of `member`'s namespace.
    #[must_use]
    pub fn namespace(&self, member: &str) -> String {
        format!("{}.{member}", self.bed)
    }

    /// Makes a namespace for `member` and plugs it in.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn attach(&self, member: &str, address: Ipv4Addr) -> io::Result<()> {
        let (own, port, lan) = (self.namespace(member), port(member), self.namespace("lan"));
        ip(&["netns", "add", &own])?;
        // A machine that was off comes back with the hardware address that the others know.
        let [a, b, c, d] = address.octets();
        let hardware = format!("02:57:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        let peer = ["peer", "name", "eth0", "address", &hardware, "netns", &own];
        ip(&[&["-n", &lan, "link", "add", &port, "type", "veth"], peer.as_slice()].concat())?;
        ip(&["-n", &lan, "link", "set", &port, "master", BRIDGE, "up"])?;
        ip(&["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        // Most of what is told on a bed needs no IPv6; what does says so itself.
        if Path::new("/proc/sys/net/ipv6").exists() {
            let ipv6 = format!("{}/64", ipv6_address(address));
            ip(&["-n", &own, "addr", "add", &ipv6, "dev", "eth0", "nodad"])?;
        }
        ip(&["-n", &own, "link", "set", "lo", "up"])?;
        ip(&["-n", &own, "link", "set", "eth0", "up"])?;
        ip(&["-n", &own, "route", "add", "default", "via", ROUTER])
    }

    /// Makes a namespace for `member` on a network of its own behind the router, which puts its own address in place of the
    /// member's and lets nobody in who was not asked from inside.
    ///
    /// # Errors
    /// If `ip` or `nft` fails, or the router cannot be told to forward.
    pub fn attach_behind_nat(&self, member: &str, address: Ipv4Addr) -> io::Result<()> {
        let (own, port, lan) = (self.namespace(member), port(member), self.namespace("lan"));
        inside(&path(&lan), || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        ip(&["netns", "add", &own])?;
        ip(&["-n", &lan, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &own])?;
        ip(&["-n", &lan, "addr", "add", &format!("{HIDDEN_ROUTER}/24"), "dev", &port])?;
        ip(&["-n", &lan, "link", "set", &port, "up"])?;
        ip(&["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &own, "link", "set", "lo", "up"])?;
        ip(&["-n", &own, "link", "set", "eth0", "up"])?;
        ip(&["-n", &own, "route", "add", "default", "via", HIDDEN_ROUTER])?;
        let rules = format!(
            "add table ip hide\ndelete table ip hide\ntable ip hide {{\n\
             chain out {{ type nat hook postrouting priority 100; iifname \"{port}\" masquerade; }}\n\
             chain pass {{ type filter hook forward priority 0; oifname \"{port}\" ct state new drop; }}\n}}\n"
        );
        let nft = inside(&path(&lan), || Command::new("nft").arg(&rules).output())??;
        let said = String::from_utf8_lossy(&nft.stderr).into_owned();
        if nft.status.success() { Ok(()) } else { Err(io::Error::other(format!("nft: {}", said.trim()))) }
    }

    /// Pulls `member`'s plug: nothing comes or goes, not even the end of a connection.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn unplug(&self, member: &str) -> io::Result<()> {
        ip(&["-n", &self.namespace("lan"), "link", "set", &port(member), "down"])
    }

    /// Puts `member`'s plug back in.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn plug(&self, member: &str) -> io::Result<()> {
        ip(&["-n", &self.namespace("lan"), "link", "set", &port(member), "up"])
    }

    /// Takes `member` with its address off the link that all share and puts it behind a router; `others` know the way. The
    /// router knows the members' addresses and no others.
    ///
    /// # Errors
    /// If `ip` fails, or the router cannot be told to forward.
    pub fn put_behind_router(&self, member: &str, address: Ipv4Addr, others: &[&str]) -> io::Result<()> {
        let (own, port, lan) = (self.namespace(member), port(member), self.namespace("lan"));
        inside(&path(&lan), || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        ip(&["-n", &lan, "link", "set", &port, "nomaster"])?;
        ip(&["-n", &lan, "addr", "add", &format!("{ROUTER}/32"), "dev", &port])?;
        ip(&["-n", &lan, "route", "add", &format!("{address}/32"), "dev", &port])?;
        ip(&["-n", &own, "addr", "add", &format!("{address}/32"), "dev", "eth0"])?;
        ip(&["-n", &own, "addr", "del", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &own, "route", "replace", ROUTER, "dev", "eth0"])?;
        ip(&["-n", &own, "route", "replace", "default", "via", ROUTER])?;
        let to = format!("{address}/32");
        others.iter().try_for_each(|other| ip(&["-n", &self.namespace(other), "route", "add", &to, "via", ROUTER]))
    }

    /// Puts `member` back on the link that all share.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn put_on_link(&self, member: &str, address: Ipv4Addr, others: &[&str]) -> io::Result<()> {
        let (own, port, lan) = (self.namespace(member), port(member), self.namespace("lan"));
        let to = format!("{address}/32");
        others.iter().try_for_each(|other| ip(&["-n", &self.namespace(other), "route", "del", &to]))?;
        ip(&["-n", &lan, "addr", "del", &format!("{ROUTER}/32"), "dev", &port])?;
        ip(&["-n", &lan, "link", "set", &port, "master", BRIDGE])?;
        ip(&["-n", &own, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
        ip(&["-n", &own, "addr", "del", &format!("{address}/32"), "dev", "eth0"])?;
        ip(&["-n", &own, "route", "del", ROUTER, "dev", "eth0", "scope", "link"])?;
        ip(&["-n", &own, "route", "replace", "default", "via", ROUTER])
    }

    /// Removes `member`'s namespace with everything in it.
    ///
    /// # Errors
    /// If `ip` fails.
    pub fn detach(&self, member: &str) -> io::Result<()> {
        ip(&["-n", &self.namespace("lan"), "link", "del", &port(member)])?;
        ip(&["netns", "del", &self.namespace(member)])
    }
}

/// Runs the program `ip`.
///
/// # Errors
/// If it fails, with what it says.
pub fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}

/// The bridge's end of a member's link; the kernel takes 15 letters.
fn port(member: &str) -> String {
    format!("to-{}", member.chars().take(11).collect::<String>())
}
