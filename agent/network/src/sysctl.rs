//! The few kernel switches that balancing needs. `/proc/sys/net` shows those of the calling thread's namespace.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, table::Forwarding};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARD_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const LINKS_V6: &str = "/proc/sys/net/ipv6/conf";
/// Packets outside the TCP window would bypass the translation and kill their connection; accept them as most
/// distributions' balancers do.
const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
/// Beside the namespaces, so that it goes with the boot, as the switch does.
const MARKER: &str = ".forwarding";
const MARKER_V6: &str = ".forwarding-v6";

/// Switches on what is off. If the node forwarded nothing before, that is remembered until it boots.
pub(crate) fn ensure(directory: &Path) -> Result<Forwarding, Error> {
    if read(LIBERAL).is_ok_and(|value| value == "0") {
        write(Path::new(LIBERAL), "1")?;
    }
    let marker = directory.join(MARKER);
    let forward = read(FORWARD).map_err(|source| failed("read", Path::new(FORWARD), source))?;
    if forward == "0" {
        fs::create_dir_all(directory).map_err(|source| failed("make the directory", directory, source))?;
        write(&marker, "switched on by us\n")?;
        write(Path::new(FORWARD), "1")?;
    }
    Ok(if marker.exists() { Forwarding::OnlyOurs } else { Forwarding::AsBefore })
}

/// The same for IPv6. A node that forwards takes no router's word for its own addresses and routes unless told to.
pub(crate) fn ensure_v6(directory: &Path) -> Result<Forwarding, Error> {
    let marker = directory.join(MARKER_V6);
    let forward = read(FORWARD_V6).map_err(|source| failed("read", Path::new(FORWARD_V6), source))?;
    if forward == "0" {
        fs::create_dir_all(directory).map_err(|source| failed("make the directory", directory, source))?;
        for link in fs::read_dir(LINKS_V6).map_err(|source| failed("list", Path::new(LINKS_V6), source))?.flatten() {
            let accept = link.path().join("accept_ra");
            if fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
                write(&accept, "2")?;
            }
        }
        write(&marker, "switched on by us\n")?;
        write(Path::new(FORWARD_V6), "1")?;
    }
    Ok(if marker.exists() { Forwarding::OnlyOurs } else { Forwarding::AsBefore })
}

/// Keeps a link free of IPv6: by the address that the node gives itself on every link, an instance would reach whatever of
/// the node listens on all addresses, and no table of ours guards it.
pub(crate) fn without_ipv6(link: &str) -> Result<(), Error> {
    let path = link_switch(link, "disable_ipv6");
    match fs::write(&path, "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("write", &path, error)),
        // A kernel without it has nothing to switch off.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Lets IPv6 pass on a link, on which the node still gives itself no address.
pub(crate) fn with_ipv6(link: &str) -> Result<(), Error> {
    const NO_ADDRESS: &str = "1";
    write(&link_switch(link, "addr_gen_mode"), NO_ADDRESS)?;
    let switch = link_switch(link, "disable_ipv6");
    if fs::read_to_string(&switch).is_ok_and(|value| value.trim() == "0") {
        return Ok(());
    }
    write(&switch, "0")
}

fn link_switch(link: &str, name: &str) -> PathBuf {
    Path::new(LINKS_V6).join(link).join(name)
}

/// Puts forwarding back as it was before [`ensure`].
pub(crate) fn restore(directory: &Path) -> Result<(), Error> {
    for (marker, switch) in [(MARKER, FORWARD), (MARKER_V6, FORWARD_V6)] {
        let marker = directory.join(marker);
        if marker.exists() {
            write(Path::new(switch), "0")?;
            fs::remove_file(&marker).map_err(|source| failed("remove", &marker, source))?;
        }
    }
    Ok(())
}

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path).map(|value| value.trim().to_owned())
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| failed("write", path, source))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { what, path: path.to_owned(), source }
}
