//! The few kernel switches that balancing needs. `/proc/sys/net` shows those of the calling thread's namespace.

use std::{fs, io, path::Path};

use crate::{Error, table::Forwarding};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
/// Packets outside the TCP window would bypass the translation and kill their connection; accept them as most
/// distributions' balancers do.
const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
/// Beside the namespaces, so that it goes with the boot, as the switch does.
const MARKER: &str = ".forwarding";

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

/// Puts forwarding back as it was before [`ensure`].
pub(crate) fn restore(directory: &Path) -> Result<(), Error> {
    let marker = directory.join(MARKER);
    if marker.exists() {
        write(Path::new(FORWARD), "0")?;
        fs::remove_file(&marker).map_err(|source| failed("remove", &marker, source))?;
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
