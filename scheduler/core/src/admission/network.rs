//! What of a spec depends on the network that its instances are in.

use api_types::{
    balance::Bind,
    container::{NetworkMode, Protocol},
    error::ValidationError,
    net::IpVersion,
    workload::{WorkloadKind, WorkloadSpec},
};

use super::rules::fault;

/// Checks the network that instances are in, and what is to reach them there.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    check_in_node(spec)?;
    check_published(spec)?;
    check_versions(spec)?;
    check_across_sites(spec)
}

/// In the node's network each port is the node's.
fn check_in_node(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    if spec.container.network != NetworkMode::Host {
        return Ok(());
    }
    for port in &spec.ports {
        let (name, own) = (&port.name, port.container);
        if port.host != Some(own) {
            return fault(
                format!("ports.{name}.host"),
                format!("in the node's network it is {own}, the container's port"),
            );
        }
        if port.publish == Some(own) {
            return fault(format!("ports.{name}.publish"), format!("port {own} of the node is the process's own"));
        }
    }
    if spec.ipv6 {
        return fault("ipv6", "is not made in the node's network: the node's address is IPv4");
    }
    if spec.allow_from.is_some() {
        return fault("allow_from", "has no meaning in the node's network: its own firewall says who may ask");
    }
    Ok(())
}

/// Nobody asks the instances but by ports of the nodes.
fn check_published(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    if spec.container.network == NetworkMode::Published && spec.allow_from.is_some() {
        return fault(
            "allow_from",
            "has no meaning where only ports of the nodes lead in: `allow` of a port says who may",
        );
    }
    Ok(())
}

/// A port is bound and kept for clients only where it answers by their version of the protocol.
fn check_versions(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    for port in &spec.ports {
        let is_mute = |version| !port.answers_by(version, spec.ipv6);
        if let Some(Bind::Address(address)) = port.bind
            && is_mute(IpVersion::of(address))
        {
            let problem = format!("nothing answers at {address} unless the workload answers by IPv6: set `ipv6`");
            return fault(format!("ports.{}.bind", port.name), problem);
        }
        if let Some(range) = port.allow.iter().find(|range| is_mute(range.version())) {
            let problem = format!("nobody of {range} can connect: the port does not answer by {}", range.version());
            return fault(format!("ports.{}.allow", port.name), problem);
        }
    }
    Ok(())
}

/// A tunnel carries TCP to an instance's own address.
fn check_across_sites(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    if !spec.across_sites {
        return Ok(());
    }
    if spec.kind == WorkloadKind::Daemon {
        return fault("across_sites", "is for services: a daemon has no address of its own");
    }
    match spec.container.network {
        NetworkMode::Own => {}
        NetworkMode::Published => {
            return fault(
                "across_sites",
                "leads to the instances' own addresses, and only ports of the nodes lead in here",
            );
        }
        NetworkMode::Host => {
            return fault(
                "across_sites",
                "has no meaning in the node's network: the instances have no address of their own",
            );
        }
    }
    match spec.ports.iter().find(|port| port.protocol != Protocol::Tcp) {
        Some(port) => fault("across_sites", format!("port `{}` is UDP, and a tunnel carries TCP alone", port.name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use api_types::container::PortSpec;

    use super::*;

    #[test]
    fn what_a_tunnel_cannot_carry_is_refused() {
        let service = WorkloadSpec::service("prod/web".parse().expect("an id"), "registry.lan/web:1", 3);
        let refused = |change: &dyn Fn(&mut WorkloadSpec)| {
            let mut spec = WorkloadSpec { across_sites: true, ..service.clone() };
            change(&mut spec);
            check(&spec).err().map(|error| error.path)
        };
        let udp = PortSpec {
            name: "dns".to_owned(),
            container: 53,
            protocol: Protocol::Udp,
            service: 53,
            publish: None,
            http: false,
            host: None,
            bind: None,
            allow: Vec::new(),
        };

        assert_eq!(refused(&|_| {}), None);
        assert_eq!(refused(&|spec| spec.kind = WorkloadKind::Daemon).as_deref(), Some("across_sites"));
        assert_eq!(refused(&|spec| spec.container.network = NetworkMode::Host).as_deref(), Some("across_sites"));
        assert_eq!(refused(&|spec| spec.container.network = NetworkMode::Published).as_deref(), Some("across_sites"));
        assert_eq!(refused(&|spec| spec.ports = vec![udp.clone()]).as_deref(), Some("across_sites"));
    }

    #[test]
    fn a_port_is_bound_and_kept_only_where_it_answers() {
        let service = WorkloadSpec::service("prod/web".parse().expect("an id"), "registry.lan/web:1", 3);
        let refused = |ipv6: bool, http: bool, bind: Option<&str>, allow: &[&str]| {
            let port = PortSpec {
                name: "web".to_owned(),
                container: 80,
                protocol: Protocol::Tcp,
                service: 80,
                publish: Some(80),
                http,
                host: None,
                bind: bind.map(|bind| bind.parse().expect("an address or a link")),
                allow: allow.iter().map(|range| range.parse().expect("a range")).collect(),
            };
            let spec = WorkloadSpec { ipv6, ports: vec![port], ..service.clone() };
            check(&spec).err().map(|error| error.path)
        };
        let [four, six] = ["10.0.0.0/8", "2001:db8::/32"];

        assert_eq!(refused(false, false, Some("192.0.2.7"), &[four]), None);
        assert_eq!(refused(false, false, Some("2001:db8::7"), &[]).as_deref(), Some("ports.web.bind"));
        assert_eq!(refused(false, false, Some("eth0"), &[six]).as_deref(), Some("ports.web.allow"));
        for (ipv6, http) in [(true, false), (false, true)] {
            assert_eq!(refused(ipv6, http, Some("2001:db8::7"), &[six]), None);
            assert_eq!(refused(ipv6, http, Some("eth0"), &[four, six]), None);
            assert_eq!(refused(ipv6, http, Some("2001:db8::7"), &[four]).as_deref(), Some("ports.web.allow"));
            assert_eq!(refused(ipv6, http, Some("192.0.2.7"), &[six]).as_deref(), Some("ports.web.allow"));
        }
    }
}
