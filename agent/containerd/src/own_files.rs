//! The files that every instance gets from us: `hosts`, `hostname` and `resolv.conf`.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use api_types::id::InstanceId;

use crate::{error::Error, mounts::OwnFile};

/// Where the node's own name servers stand; the second where the first names only a local stub.
const RESOLVER_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Writes the files of an instance and says where each goes.
pub(crate) fn write(run_dir: &Path, instance: &InstanceId, address: Ipv4Addr) -> Result<Vec<OwnFile>, Error> {
    let directory = run_dir.join(instance.as_str());
    let resolver = RESOLVER_FILES.iter().map(|path| resolver(&fs::read_to_string(path).unwrap_or_default()));
    let resolver = resolver.reduce(|first, second| if first.contains("nameserver") { first } else { second });
    let files = [
        ("/etc/hosts", "hosts", hosts(instance.as_str(), address)),
        ("/etc/hostname", "hostname", format!("{instance}\n")),
        ("/etc/resolv.conf", "resolv.conf", resolver.unwrap_or_default()),
    ];
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Error::File { path, source }
    };
    fs::create_dir_all(&directory).map_err(failed(&directory))?;
    let mut own = Vec::with_capacity(files.len());
    for (inside, name, text) in files {
        let source = directory.join(name);
        // Written in place: the last attempt may still have it mounted, and then sees the same text.
        fs::write(&source, text).map_err(failed(&source))?;
        own.push(OwnFile { inside, source });
    }
    Ok(own)
}

fn hosts(hostname: &str, address: Ipv4Addr) -> String {
    format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{hostname}\n")
}

/// Leaves out name servers on the node's loopback: an instance has a loopback of its own.
fn resolver(text: &str) -> String {
    let reaches = |line: &&str| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().map(str::parse::<IpAddr>)) {
            (Some("nameserver"), Some(Ok(address))) => !address.is_loopback(),
            (Some("nameserver"), _) => false,
            (Some("search" | "domain" | "options"), _) => true,
            (Some(_) | None, _) => false,
        }
    };
    text.lines().filter(reaches).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_never_gets_the_nodes_loopback_as_name_server() {
        let text = "# local\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver ::1\nsearch lan\nnameserver x\n";

        assert_eq!(resolver(text), "nameserver 10.0.0.2\nsearch lan\n");
        assert!(hosts("web-1", Ipv4Addr::new(10, 42, 0, 7)).ends_with("10.42.0.7\tweb-1\n"));
    }
}
