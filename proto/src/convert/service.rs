//! Services and changes of their table.

use api_types::service::{Endpoint, Peer, Service, ServicePort, WatchKey};

use super::{
    ipv6_address, list, parsed, parsed_list, port, wire_ipv6_address,
    workload::{protocol, wire_protocol},
};
use crate::{error::ConvertError, update::ServicesUpdate, v1};

impl From<Service> for v1::Service {
    fn from(service: Service) -> Self {
        Self {
            id: service.id.to_string(),
            address: service.address.into(),
            ports: service.ports.into_iter().map(Into::into).collect(),
            endpoints: service.endpoints.into_iter().map(Into::into).collect(),
            ipv6: service.ipv6,
        }
    }
}

impl TryFrom<v1::Service> for Service {
    type Error = ConvertError;

    fn try_from(wire: v1::Service) -> Result<Self, Self::Error> {
        Ok(Self {
            id: parsed("id", &wire.id)?,
            address: wire.address.into(),
            ports: list("ports", wire.ports)?,
            endpoints: list("endpoints", wire.endpoints)?,
            ipv6: wire.ipv6,
        })
    }
}

impl From<ServicePort> for v1::ServicePort {
    fn from(spec: ServicePort) -> Self {
        Self {
            name: spec.name,
            protocol: wire_protocol(spec.protocol),
            service: spec.service.into(),
            container: spec.container.into(),
            publish: spec.publish.map(Into::into),
        }
    }
}

impl TryFrom<v1::ServicePort> for ServicePort {
    type Error = ConvertError;

    fn try_from(wire: v1::ServicePort) -> Result<Self, Self::Error> {
        Ok(Self {
            name: wire.name,
            protocol: protocol("protocol", wire.protocol)?,
            service: port("service", wire.service)?,
            container: port("container", wire.container)?,
            publish: wire.publish.map(|number| port("publish", number)).transpose()?,
        })
    }
}

impl From<Endpoint> for v1::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            instance: endpoint.instance.to_string(),
            node: endpoint.node.to_string(),
            address: endpoint.address.into(),
        }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = ConvertError;

    fn try_from(wire: v1::Endpoint) -> Result<Self, Self::Error> {
        Ok(Self {
            instance: parsed("instance", &wire.instance)?,
            node: parsed("node", &wire.node)?,
            address: wire.address.into(),
        })
    }
}

impl From<Peer> for v1::Peer {
    fn from(peer: Peer) -> Self {
        Self {
            node: peer.node.to_string(),
            address: peer.address.into(),
            ipv6_address: wire_ipv6_address(peer.ipv6_address),
            subnet: peer.subnet.to_string(),
        }
    }
}

impl TryFrom<v1::Peer> for Peer {
    type Error = ConvertError;

    fn try_from(wire: v1::Peer) -> Result<Self, Self::Error> {
        Ok(Self {
            node: parsed("node", &wire.node)?,
            address: wire.address.into(),
            ipv6_address: ipv6_address("ipv6_address", &wire.ipv6_address)?,
            subnet: parsed("subnet", &wire.subnet)?,
        })
    }
}

impl From<ServicesUpdate> for v1::ServicesUpdate {
    fn from(update: ServicesUpdate) -> Self {
        let peers = |peers: Vec<Peer>| v1::Peers { items: peers.into_iter().map(Into::into).collect() };
        Self {
            base: update.base.map(Into::into),
            marker: Some(update.marker.into()),
            cluster_range: update.cluster_range.to_string(),
            service_range: update.service_range.to_string(),
            ipv6_prefix: update.ipv6_prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
            upserts: update.upserts.into_iter().map(Into::into).collect(),
            removals: update.removals.iter().map(ToString::to_string).collect(),
            peers: update.peers.map(peers),
            watch_key: update.watch_key.map(|key| key.0.to_vec()),
        }
    }
}

impl TryFrom<v1::ServicesUpdate> for ServicesUpdate {
    type Error = ConvertError;

    fn try_from(wire: v1::ServicesUpdate) -> Result<Self, Self::Error> {
        Ok(Self {
            base: wire.base.map(Into::into),
            marker: wire.marker.ok_or_else(|| ConvertError::missing("marker"))?.into(),
            cluster_range: parsed("cluster_range", &wire.cluster_range)?,
            service_range: parsed("service_range", &wire.service_range)?,
            ipv6_prefix: match wire.ipv6_prefix.as_str() {
                "" => None,
                prefix => Some(parsed("ipv6_prefix", prefix)?),
            },
            upserts: list("upserts", wire.upserts)?,
            removals: parsed_list("removals", &wire.removals)?,
            peers: wire.peers.map(|peers| list("peers", peers.items)).transpose()?,
            watch_key: wire.watch_key.map(watch_key).transpose()?,
        })
    }
}

fn watch_key(bytes: Vec<u8>) -> Result<WatchKey, ConvertError> {
    let length = bytes.len();
    let key = bytes.try_into().map_err(|_| ConvertError::new("watch_key", format!("{length} bytes, not 32")))?;
    Ok(WatchKey(key))
}
