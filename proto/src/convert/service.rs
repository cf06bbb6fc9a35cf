//! Services and changes of their table.

use std::{net::SocketAddrV4, sync::Arc};

use api_types::{
    access::Access,
    balance::{BalancePolicy, Preference, WEIGHT_MAX, WhenNoneReady},
    service::{Endpoint, Peer, Service, ServicePort, WatchKey},
    site::{Across, Reach},
};

use super::{
    ipv6_address, known, list, optional, parsed, parsed_list, port, unknown, wire_ipv6_address,
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
            balance: (!service.balance.is_default()).then(|| service.balance.into()),
            ipv6: service.ipv6,
            across_sites: service.across_sites,
            counts_requests: service.counts_requests,
            access: service.access.map(Into::into),
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
            balance: optional("balance", wire.balance)?.unwrap_or_default(),
            ipv6: wire.ipv6,
            across_sites: wire.across_sites,
            counts_requests: wire.counts_requests,
            access: optional("access", wire.access)?,
        })
    }
}

impl From<Access> for v1::Access {
    fn from(access: Access) -> Self {
        Self {
            restricted: access.allow_from.is_some(),
            allow_from: access.allow_from.iter().flatten().map(ToString::to_string).collect(),
            instances: access.instances.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Access> for Access {
    type Error = ConvertError;

    fn try_from(wire: v1::Access) -> Result<Self, Self::Error> {
        let allow_from = parsed_list("allow_from", &wire.allow_from)?;
        Ok(Self {
            allow_from: wire.restricted.then_some(allow_from),
            instances: wire.instances.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<BalancePolicy> for v1::BalancePolicy {
    fn from(policy: BalancePolicy) -> Self {
        let prefer = match policy.prefer {
            Preference::Any => v1::Preference::Any,
            Preference::Local => v1::Preference::Local,
            Preference::Site => v1::Preference::Site,
        };
        let when_none_ready = match policy.when_none_ready {
            WhenNoneReady::Keep => v1::WhenNoneReady::Keep,
            WhenNoneReady::Refuse => v1::WhenNoneReady::Refuse,
        };
        Self {
            prefer: prefer.into(),
            affinity_ms: policy.affinity_ms,
            slow_start_ms: policy.slow_start_ms,
            when_none_ready: when_none_ready.into(),
        }
    }
}

impl TryFrom<v1::BalancePolicy> for BalancePolicy {
    type Error = ConvertError;

    fn try_from(wire: v1::BalancePolicy) -> Result<Self, Self::Error> {
        let prefer = match known("prefer", wire.prefer)? {
            v1::Preference::Unspecified => return Err(unknown("prefer", wire.prefer)),
            v1::Preference::Any => Preference::Any,
            v1::Preference::Local => Preference::Local,
            v1::Preference::Site => Preference::Site,
        };
        let when_none_ready = match known("when_none_ready", wire.when_none_ready)? {
            v1::WhenNoneReady::Unspecified => return Err(unknown("when_none_ready", wire.when_none_ready)),
            v1::WhenNoneReady::Keep => WhenNoneReady::Keep,
            v1::WhenNoneReady::Refuse => WhenNoneReady::Refuse,
        };
        Ok(Self { prefer, affinity_ms: wire.affinity_ms, slow_start_ms: wire.slow_start_ms, when_none_ready })
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
            http: spec.http,
            bind: spec.bind.map(Into::into),
            allow: spec.allow.into_iter().map(Into::into).collect(),
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
            http: wire.http,
            bind: wire.bind.map(|bind| parsed("bind", &bind)).transpose()?,
            allow: parsed_list("allow", &wire.allow)?,
        })
    }
}

impl From<Endpoint> for v1::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            instance: endpoint.instance.to_string(),
            node: endpoint.node.to_string(),
            address: endpoint.address.into(),
            weight: endpoint.weight.into(),
            last_resort: endpoint.last_resort,
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
            weight: weight(wire.weight)?,
            last_resort: wire.last_resort,
        })
    }
}

/// Reads a weight; an older scheduler says none.
fn weight(number: u32) -> Result<u16, ConvertError> {
    let known = u16::try_from(number.max(1)).ok().filter(|weight| *weight <= WEIGHT_MAX);
    known.ok_or_else(|| ConvertError::new("weight", format_args!("{number} is more than {WEIGHT_MAX}")))
}

/// Writes where a node's end of a tunnel is dialled.
pub(super) fn wire_tunnel(place: SocketAddrV4) -> v1::TunnelAddress {
    v1::TunnelAddress { address: (*place.ip()).into(), port: place.port().into() }
}

/// Reads where a node's end of a tunnel is dialled.
pub(super) fn tunnel(wire: v1::TunnelAddress) -> Result<SocketAddrV4, ConvertError> {
    match port("tunnel.port", wire.port)? {
        0 => Err(ConvertError::new("tunnel.port", "0 is not a port")),
        port => Ok(SocketAddrV4::new(wire.address.into(), port)),
    }
}

impl From<Peer> for v1::Peer {
    fn from(peer: Peer) -> Self {
        let reach = match peer.reach {
            Reach::Routes => v1::Reach::Routes,
            Reach::Vxlan => v1::Reach::Vxlan,
        };
        let across = match peer.across {
            Across::Routes => v1::Across::Routes,
            Across::Apart => v1::Across::Apart,
            Across::Tunnel => v1::Across::Tunnel,
        };
        Self {
            node: peer.node.to_string(),
            address: peer.address.into(),
            ipv6_address: wire_ipv6_address(peer.ipv6_address),
            subnet: peer.subnet.to_string(),
            site: peer.site,
            reach: reach.into(),
            across: across.into(),
            tunnel: peer.tunnel.map(wire_tunnel),
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
            site: wire.site,
            reach: match known("reach", wire.reach)? {
                v1::Reach::Unspecified | v1::Reach::Routes => Reach::Routes,
                v1::Reach::Vxlan => Reach::Vxlan,
            },
            across: match known("across", wire.across)? {
                v1::Across::Unspecified | v1::Across::Routes => Across::Routes,
                v1::Across::Apart => Across::Apart,
                v1::Across::Tunnel => Across::Tunnel,
            },
            tunnel: wire.tunnel.map(tunnel).transpose()?,
        })
    }
}

impl From<ServicesUpdate> for v1::ServicesUpdate {
    fn from(update: ServicesUpdate) -> Self {
        let peers = |peers: Arc<[Peer]>| v1::Peers { items: peers.iter().cloned().map(Into::into).collect() };
        Self {
            base: update.base.map(Into::into),
            marker: Some(update.marker.into()),
            cluster_range: update.cluster_range.to_string(),
            service_range: update.service_range.to_string(),
            ipv6_prefix: update.ipv6_prefix.map(|prefix| prefix.to_string()).unwrap_or_default(),
            upserts: update.upserts.into_iter().map(|service| Arc::unwrap_or_clone(service).into()).collect(),
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
            upserts: list("upserts", wire.upserts)?.into_iter().map(Arc::new).collect(),
            removals: parsed_list("removals", &wire.removals)?,
            peers: wire.peers.map(|peers| list("peers", peers.items).map(Into::into)).transpose()?,
            watch_key: wire.watch_key.map(watch_key).transpose()?,
        })
    }
}

fn watch_key(bytes: Vec<u8>) -> Result<WatchKey, ConvertError> {
    let length = bytes.len();
    let key = bytes.try_into().map_err(|_| ConvertError::new("watch_key", format!("{length} bytes, not 32")))?;
    Ok(WatchKey(key))
}
