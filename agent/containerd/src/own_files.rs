//! The files that every instance gets from us: `hosts`, `hostname` and `resolv.conf`.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use api_types::id::Name;

use crate::{StartRequest, error::Error, mounts::OwnFile};

/// Where the node's own name servers stand; the second where the first names only a local stub.
const RESOLVER_FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The domain of the cluster's names.
const NAMES_ORIGIN: &str = "wherry.internal";

/// The most domains that old resolvers look in.
const SEARCH_MAX: usize = 6;

/// Writes the files of an instance and says where each goes.
pub(crate) fn write(run_dir: &Path, request: &StartRequest<'_>) -> Result<Vec<OwnFile>, Error> {
    let (instance, address) = (&request.assignment.instance, request.address);
    let directory = run_dir.join(instance.as_str());
    let resolver = RESOLVER_FILES.iter().map(|path| resolver(&fs::read_to_string(path).unwrap_or_default()));
    let resolver = resolver.reduce(|first, second| if first.contains("nameserver") { first } else { second });
    let resolver =
        with_names(resolver.unwrap_or_default(), request.name_server, &request.assignment.workload.namespace);
    let files = [
        ("/etc/hosts", "hosts", hosts(instance.as_str(), address)),
        ("/etc/hostname", "hostname", format!("{instance}\n")),
        ("/etc/resolv.conf", "resolv.conf", resolver),
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

/// One name server, ours, which passes other names on: old resolvers ask all and take the first answer. Short names are
/// looked for in the own namespace, then in the cluster, then where the node looks.
fn with_names(node: String, server: Option<Ipv4Addr>, namespace: &Name) -> String {
    let Some(server) = server else { return node };
    let words = |key: &str| -> Vec<&str> {
        let line = node.lines().rev().filter_map(|line| line.split_once(' ')).find(|(word, _)| *word == key);
        line.map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default()
    };
    let domains = [format!("{namespace}.{NAMES_ORIGIN}"), NAMES_ORIGIN.to_owned()];
    let search: Vec<&str> = domains.iter().map(String::as_str).chain(words("search")).take(SEARCH_MAX).collect();
    format!("nameserver {server}\nsearch {}\noptions ndots:1 timeout:2 attempts:2\n", search.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_never_gets_the_nodes_loopback_as_name_server() {
        let text = "# local\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver ::1\nsearch lan\nnameserver x\n";

        assert_eq!(resolver(text), "nameserver 10.0.0.2\nsearch lan\n");
        assert_eq!(with_names(resolver(text), None, &Name::new("shop").unwrap()), resolver(text));
        assert_eq!(
            with_names(resolver(text), Some(Ipv4Addr::new(10, 42, 0, 1)), &Name::new("shop").unwrap()),
            "nameserver 10.42.0.1\nsearch shop.wherry.internal wherry.internal lan\noptions ndots:1 timeout:2 attempts:2\n"
        );
        assert!(hosts("web-1", Ipv4Addr::new(10, 42, 0, 7)).ends_with("10.42.0.7\tweb-1\n"));
    }
}
