//! The few kernel switches that balancing needs. `/proc/sys/net` shows those of the calling thread's namespace.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
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
/// The same place: a line for each switch, as `net.ipv4.ip_forward 0 1`.
const RECORD: &str = ".switches";
const ROOT: &str = "/proc/sys/";

/// A kernel switch that we set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Switched {
    /// Its name, as `sysctl` has it.
    pub name: String,
    /// What it was.
    pub from: String,
    /// What it was set to.
    pub to: String,
}

/// What was set since the machine booted, sorted by name.
pub(crate) fn switched(directory: &Path) -> Vec<Switched> {
    let text = fs::read_to_string(directory.join(RECORD)).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some(Switched { name: words.next()?, from: words.next()?, to: words.next()? })
    };
    let all: BTreeSet<Switched> = text.lines().filter_map(line).collect();
    all.into_iter().collect()
}

/// Sets a switch, and remembers before what it was.
fn switch(directory: &Path, path: &Path, (from, to): (&str, &str)) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|source| failed("make the directory", directory, source))?;
    let record = directory.join(RECORD);
    let name = path.strip_prefix(ROOT).unwrap_or(path).display().to_string().replace('.', "\u{0}");
    let line = format!("{} {from} {to}\n", name.replace('/', ".").replace('\u{0}', "/"));
    let opened = fs::File::options().create(true).append(true).open(&record);
    opened.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|source| failed("write", &record, source))?;
    write(path, to)
}

/// Switches on what is off. If the node forwarded nothing before, that is remembered until it boots.
pub(crate) fn ensure(directory: &Path) -> Result<Forwarding, Error> {
    if read(LIBERAL).is_ok_and(|value| value == "0") {
        switch(directory, Path::new(LIBERAL), ("0", "1"))?;
    }
    let marker = directory.join(MARKER);
    let forward = read(FORWARD).map_err(|source| failed("read", Path::new(FORWARD), source))?;
    if forward == "0" {
        fs::create_dir_all(directory).map_err(|source| failed("make the directory", directory, source))?;
        write(&marker, "switched on by us\n")?;
        switch(directory, Path::new(FORWARD), ("0", "1"))?;
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
                switch(directory, &accept, ("1", "2"))?;
            }
        }
        write(&marker, "switched on by us\n")?;
        switch(directory, Path::new(FORWARD_V6), ("0", "1"))?;
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

/// Puts every switch back to what it was, unless somebody set it to something else since.
pub(crate) fn restore(directory: &Path) -> Result<(), Error> {
    for switched in switched(directory) {
        let path = path_of(&switched.name);
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == switched.to) {
            write(&path, &switched.from)?;
        }
    }
    for file in [MARKER, MARKER_V6, RECORD].map(|name| directory.join(name)) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &file, error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// A switch's file. In its name a dot parts folders, and a slash stands for a dot: links have such names (sysctl(8)).
fn path_of(name: &str) -> PathBuf {
    Path::new(ROOT).join(name.replace('/', "\u{0}").replace('.', "/").replace('\u{0}', "."))
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
