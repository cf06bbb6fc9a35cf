//! What a person asks of a node's network, and what the node found.

use api_types::{
    counter::RequestId,
    view::{CheckKind, Datagram, NetworkCheck, NetworkFailure, TraceStep},
};

use super::{
    bounded, ipv6_address, known, list, optional, parsed, parsed_list, port, shortened, unknown, wire_ipv6_address,
    workload::{protocol, wire_protocol},
};
use crate::{
    error::ConvertError,
    network::{InspectNetwork, NetworkInspected, TraceQuestion},
    v1,
};

impl From<InspectNetwork> for v1::InspectNetwork {
    fn from(wish: InspectNetwork) -> Self {
        Self {
            request: wish.request.0,
            trace: wish.trace.map(Into::into),
            services: wish.services.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<v1::InspectNetwork> for InspectNetwork {
    type Error = ConvertError;

    fn try_from(wire: v1::InspectNetwork) -> Result<Self, Self::Error> {
        Ok(Self {
            request: RequestId(wire.request),
            trace: optional("trace", wire.trace)?,
            services: parsed_list("services", &wire.services)?,
        })
    }
}

impl From<TraceQuestion> for v1::TraceQuestion {
    fn from(question: TraceQuestion) -> Self {
        Self {
            instance: question.instance.map(|id| id.to_string()).unwrap_or_default(),
            source: question.source.into(),
            destination: question.destination.into(),
            ipv6: wire_ipv6_address(question.ipv6),
            port: question.port.into(),
            protocol: wire_protocol(question.protocol),
        }
    }
}

impl TryFrom<v1::TraceQuestion> for TraceQuestion {
    type Error = ConvertError;

    fn try_from(wire: v1::TraceQuestion) -> Result<Self, Self::Error> {
        let instance = Some(wire.instance).filter(|id| !id.is_empty());
        Ok(Self {
            instance: instance.map(|id| parsed("instance", &id)).transpose()?,
            source: wire.source.into(),
            destination: wire.destination.into(),
            ipv6: ipv6_address("ipv6", &wire.ipv6)?,
            port: port("port", wire.port)?,
            protocol: protocol("protocol", wire.protocol)?,
        })
    }
}

impl From<NetworkInspected> for v1::NetworkInspected {
    fn from(found: NetworkInspected) -> Self {
        Self {
            request: found.request.0,
            table: found.table.map(Into::into),
            table_sum: found.table_sum,
            checks: found.checks.into_iter().map(Into::into).collect(),
            steps: found.steps.into_iter().map(Into::into).collect(),
            untried: found.untried,
        }
    }
}

impl TryFrom<v1::NetworkInspected> for NetworkInspected {
    type Error = ConvertError;

    fn try_from(wire: v1::NetworkInspected) -> Result<Self, Self::Error> {
        Ok(Self {
            request: RequestId(wire.request),
            table: wire.table.map(Into::into),
            table_sum: wire.table_sum,
            checks: list("checks", wire.checks)?,
            steps: list("steps", wire.steps)?,
            untried: wire.untried,
        })
    }
}

impl From<NetworkCheck> for v1::NetworkCheck {
    fn from(check: NetworkCheck) -> Self {
        let kind = match check.kind {
            CheckKind::Table => v1::CheckKind::Table,
            CheckKind::Kernel => v1::CheckKind::Kernel,
            CheckKind::Node => v1::CheckKind::Node,
            CheckKind::Range => v1::CheckKind::Range,
            CheckKind::Service => v1::CheckKind::Service,
            CheckKind::Endpoint => v1::CheckKind::Endpoint,
            CheckKind::Names => v1::CheckKind::Names,
            CheckKind::Tunnel => v1::CheckKind::Tunnel,
        };
        let datagram = match check.datagram {
            None => v1::Datagram::Unspecified,
            Some(Datagram::Answers) => v1::Datagram::Answers,
            Some(Datagram::Silent) => v1::Datagram::Silent,
            Some(Datagram::Refused) => v1::Datagram::Refused,
            Some(Datagram::Stopped) => v1::Datagram::Stopped,
        };
        let (reason, remedy) = check.failure.map(|failure| (failure.reason, failure.remedy)).unwrap_or_default();
        Self {
            kind: kind.into(),
            subject: shortened(check.subject),
            took_us: check.took_us,
            reason: shortened(reason),
            remedy: shortened(remedy),
            datagram: datagram.into(),
        }
    }
}

impl TryFrom<v1::NetworkCheck> for NetworkCheck {
    type Error = ConvertError;

    fn try_from(wire: v1::NetworkCheck) -> Result<Self, Self::Error> {
        let kind = match known("kind", wire.kind)? {
            v1::CheckKind::Unspecified => return Err(unknown("kind", wire.kind)),
            v1::CheckKind::Table => CheckKind::Table,
            v1::CheckKind::Kernel => CheckKind::Kernel,
            v1::CheckKind::Node => CheckKind::Node,
            v1::CheckKind::Range => CheckKind::Range,
            v1::CheckKind::Service => CheckKind::Service,
            v1::CheckKind::Endpoint => CheckKind::Endpoint,
            v1::CheckKind::Names => CheckKind::Names,
            v1::CheckKind::Tunnel => CheckKind::Tunnel,
        };
        let datagram = match known("datagram", wire.datagram)? {
            v1::Datagram::Unspecified => None,
            v1::Datagram::Answers => Some(Datagram::Answers),
            v1::Datagram::Silent => Some(Datagram::Silent),
            v1::Datagram::Refused => Some(Datagram::Refused),
            v1::Datagram::Stopped => Some(Datagram::Stopped),
        };
        let reason = bounded("reason", wire.reason)?;
        let remedy = bounded("remedy", wire.remedy)?;
        let failure = (!reason.is_empty()).then_some(NetworkFailure { reason, remedy });
        Ok(Self { kind, subject: bounded("subject", wire.subject)?, took_us: wire.took_us, failure, datagram })
    }
}

impl From<TraceStep> for v1::TraceStep {
    fn from(step: TraceStep) -> Self {
        Self { at: shortened(step.at), what: shortened(step.what), stops: step.stops }
    }
}

impl TryFrom<v1::TraceStep> for TraceStep {
    type Error = ConvertError;

    fn try_from(wire: v1::TraceStep) -> Result<Self, Self::Error> {
        Ok(Self { at: bounded("at", wire.at)?, what: bounded("what", wire.what)?, stops: wire.stops })
    }
}
