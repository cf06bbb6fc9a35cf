//! What of a spec depends on the network that its instances are in.

use api_types::{
    container::{NetworkMode, Protocol},
    error::ValidationError,
    workload::{WorkloadKind, WorkloadSpec},
};

use super::rules::fault;

/// Checks the network that instances are in, and what is to reach them there.
pub(super) fn check(spec: &WorkloadSpec) -> Result<(), ValidationError> {
    check_in_node(spec)?;
    check_published(spec)?;
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
}
