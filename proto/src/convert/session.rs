//! The messages of a session and of the rpcs beside it.

use api_types::{
    counter::{Epoch, RequestId, SessionId},
    id::InstanceId,
    time::Timestamp,
    view::LogLine,
};
use v1::{from_agent::Message as AgentMessage, from_scheduler::Message as SchedulerMessage};

use super::{ahead, bounded, name_or_none, parsed, required, shortened, volumes};
use crate::{
    error::ConvertError,
    limits::{LOG_LINE_BYTES_MAX, cut},
    session::{CurrentMarkers, FromAgent, FromScheduler, Hello, ImageLoaded, LoadImage, LogChunk, OpenLogs, Welcome},
    v1,
};

impl From<FromAgent> for v1::FromAgent {
    fn from(message: FromAgent) -> Self {
        let message = match message {
            FromAgent::Hello(hello) => AgentMessage::Hello((*hello).into()),
            FromAgent::Heartbeat => AgentMessage::Heartbeat(v1::Heartbeat {}),
            FromAgent::RenewLease(token) => AgentMessage::RenewLease(v1::Lease { token }),
            FromAgent::RanAlone(jobs) => AgentMessage::RanAlone(ahead::wire(jobs)),
            FromAgent::Report(report) => AgentMessage::Report(report.into()),
            FromAgent::NodeReport(report) => AgentMessage::NodeReport((*report).into()),
            FromAgent::ImageLoaded(loaded) => AgentMessage::ImageLoaded(loaded.into()),
            FromAgent::Programmed(services) => {
                AgentMessage::Programmed(v1::Programmed { services: Some(services.into()) })
            }
            FromAgent::NetworkInspected(found) => AgentMessage::NetworkInspected(found.into()),
            FromAgent::VolumesMeasured(volumes) => AgentMessage::VolumesMeasured(volumes::wire(volumes)),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::FromAgent> for FromAgent {
    type Error = ConvertError;

    fn try_from(wire: v1::FromAgent) -> Result<Self, Self::Error> {
        let within = |path: &'static str| move |error: ConvertError| error.within(path);
        Ok(match wire.message.ok_or_else(|| ConvertError::missing("message"))? {
            AgentMessage::Hello(hello) => Self::Hello(Box::new(hello.try_into().map_err(within("hello"))?)),
            AgentMessage::Heartbeat(_) => Self::Heartbeat,
            AgentMessage::RenewLease(lease) => Self::RenewLease(lease.token),
            AgentMessage::RanAlone(alone) => Self::RanAlone(ahead::read(alone).map_err(within("ran_alone"))?),
            AgentMessage::Report(report) => Self::Report(report.try_into().map_err(within("report"))?),
            AgentMessage::NodeReport(report) => {
                Self::NodeReport(Box::new(report.try_into().map_err(within("node_report"))?))
            }
            AgentMessage::ImageLoaded(loaded) => Self::ImageLoaded(loaded.try_into().map_err(within("image_loaded"))?),
            AgentMessage::Programmed(programmed) => {
                let services = programmed.services.ok_or_else(|| ConvertError::missing("services"));
                Self::Programmed(services.map_err(within("programmed"))?.into())
            }
            AgentMessage::NetworkInspected(found) => {
                Self::NetworkInspected(found.try_into().map_err(within("network_inspected"))?)
            }
            AgentMessage::VolumesMeasured(measured) => {
                Self::VolumesMeasured(volumes::read(measured).map_err(within("volumes_measured"))?)
            }
        })
    }
}

impl From<FromScheduler> for v1::FromScheduler {
    fn from(message: FromScheduler) -> Self {
        let message = match message {
            FromScheduler::Welcome(welcome) => SchedulerMessage::Welcome(welcome.into()),
            FromScheduler::Assignments(update) => SchedulerMessage::Assignments(update.into()),
            FromScheduler::Services(update) => SchedulerMessage::Services(update.into()),
            FromScheduler::Current(current) => SchedulerMessage::Current(current.into()),
            FromScheduler::OpenLogs(open) => SchedulerMessage::OpenLogs(open.into()),
            FromScheduler::CloseLogs(request) => SchedulerMessage::CloseLogs(v1::CloseLogs { request: request.0 }),
            FromScheduler::LoadImage(load) => {
                SchedulerMessage::LoadImage(v1::LoadImage { request: load.request.0, digest: load.digest })
            }
            FromScheduler::InspectNetwork(wish) => SchedulerMessage::InspectNetwork(wish.into()),
            FromScheduler::OpenRelay(open) => SchedulerMessage::OpenRelay(open.into()),
            FromScheduler::CloseRelay(request) => SchedulerMessage::CloseRelay(v1::CloseRelay { request: request.0 }),
            FromScheduler::LeaseRenewed(token) => SchedulerMessage::LeaseRenewed(v1::Lease { token }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::FromScheduler> for FromScheduler {
    type Error = ConvertError;

    fn try_from(wire: v1::FromScheduler) -> Result<Self, Self::Error> {
        let within = |path: &'static str| move |error: ConvertError| error.within(path);
        Ok(match wire.message.ok_or_else(|| ConvertError::missing("message"))? {
            SchedulerMessage::Welcome(welcome) => Self::Welcome(welcome.into()),
            SchedulerMessage::Assignments(update) => {
                Self::Assignments(update.try_into().map_err(within("assignments"))?)
            }
            SchedulerMessage::Services(update) => Self::Services(update.try_into().map_err(within("services"))?),
            SchedulerMessage::Current(current) => Self::Current(current.into()),
            SchedulerMessage::OpenLogs(open) => Self::OpenLogs(open.try_into().map_err(within("open_logs"))?),
            SchedulerMessage::CloseLogs(close) => Self::CloseLogs(RequestId(close.request)),
            SchedulerMessage::LoadImage(load) => {
                Self::LoadImage(LoadImage { request: RequestId(load.request), digest: load.digest })
            }
            SchedulerMessage::InspectNetwork(wish) => {
                Self::InspectNetwork(wish.try_into().map_err(within("inspect_network"))?)
            }
            SchedulerMessage::OpenRelay(open) => Self::OpenRelay(open.try_into().map_err(within("open_relay"))?),
            SchedulerMessage::CloseRelay(close) => Self::CloseRelay(RequestId(close.request)),
            SchedulerMessage::LeaseRenewed(lease) => Self::LeaseRenewed(lease.token),
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(hello: Hello) -> Self {
        Self {
            agent_version: shortened(hello.agent_version),
            boot_id: shortened(hello.boot_id),
            assignments: hello.assignments.map(Into::into),
            services: hello.services.map(Into::into),
            highest_epoch: hello.highest_epoch.0,
            facts: Some(hello.facts.into()),
        }
    }
}

impl TryFrom<v1::Hello> for Hello {
    type Error = ConvertError;

    fn try_from(wire: v1::Hello) -> Result<Self, Self::Error> {
        Ok(Self {
            agent_version: bounded("agent_version", wire.agent_version)?,
            boot_id: bounded("boot_id", wire.boot_id)?,
            assignments: wire.assignments.map(Into::into),
            services: wire.services.map(Into::into),
            highest_epoch: Epoch(wire.highest_epoch),
            facts: required("facts", wire.facts)?,
        })
    }
}

impl From<ImageLoaded> for v1::ImageLoaded {
    fn from(loaded: ImageLoaded) -> Self {
        Self { request: loaded.request.0, images: loaded.images, error: shortened(loaded.error) }
    }
}

impl TryFrom<v1::ImageLoaded> for ImageLoaded {
    type Error = ConvertError;

    fn try_from(wire: v1::ImageLoaded) -> Result<Self, Self::Error> {
        let image = |(index, image)| bounded(&format!("images[{index}]"), image);
        Ok(Self {
            request: RequestId(wire.request),
            images: wire.images.into_iter().enumerate().map(image).collect::<Result<_, _>>()?,
            error: bounded("error", wire.error)?,
        })
    }
}

impl From<Welcome> for v1::Welcome {
    fn from(welcome: Welcome) -> Self {
        Self {
            epoch: welcome.epoch.0,
            session: welcome.session.0,
            heartbeat_interval_ms: welcome.heartbeat_interval_ms,
            scheduler_time_ms: welcome.scheduler_time.0,
        }
    }
}

impl From<v1::Welcome> for Welcome {
    fn from(wire: v1::Welcome) -> Self {
        Self {
            epoch: Epoch(wire.epoch),
            session: SessionId(wire.session),
            heartbeat_interval_ms: wire.heartbeat_interval_ms,
            scheduler_time: Timestamp(wire.scheduler_time_ms),
        }
    }
}

impl From<CurrentMarkers> for v1::CurrentMarkers {
    fn from(current: CurrentMarkers) -> Self {
        Self { assignments: current.assignments.map(Into::into), services: current.services.map(Into::into) }
    }
}

impl From<v1::CurrentMarkers> for CurrentMarkers {
    fn from(wire: v1::CurrentMarkers) -> Self {
        Self { assignments: wire.assignments.map(Into::into), services: wire.services.map(Into::into) }
    }
}

impl From<OpenLogs> for v1::OpenLogs {
    fn from(open: OpenLogs) -> Self {
        Self {
            request: open.request.0,
            instance: open.instance.to_string(),
            container: open.container.map(Into::into).unwrap_or_default(),
            tail: open.tail,
            follow: open.follow,
        }
    }
}

impl TryFrom<v1::OpenLogs> for OpenLogs {
    type Error = ConvertError;

    fn try_from(wire: v1::OpenLogs) -> Result<Self, Self::Error> {
        Ok(Self {
            request: RequestId(wire.request),
            instance: parsed("instance", &wire.instance)?,
            container: name_or_none("container", &wire.container)?,
            tail: wire.tail,
            follow: wire.follow,
        })
    }
}

impl From<LogChunk> for v1::LogChunk {
    fn from(chunk: LogChunk) -> Self {
        let line = |line: LogLine| v1::LogLine {
            at_ms: line.at.0,
            is_stderr: line.stream == "stderr",
            text: cut(line.text, LOG_LINE_BYTES_MAX),
        };
        Self {
            request: chunk.request.0,
            instance: chunk.instance.to_string(),
            lines: chunk.lines.into_iter().map(line).collect(),
            error: shortened(chunk.error),
        }
    }
}

impl TryFrom<v1::LogChunk> for LogChunk {
    type Error = ConvertError;

    fn try_from(wire: v1::LogChunk) -> Result<Self, Self::Error> {
        let instance: InstanceId = parsed("instance", &wire.instance)?;
        let line = |line: v1::LogLine| LogLine {
            instance: instance.clone(),
            at: Timestamp(line.at_ms),
            stream: if line.is_stderr { "stderr" } else { "stdout" }.to_owned(),
            text: cut(line.text, LOG_LINE_BYTES_MAX),
        };
        let lines = wire.lines.into_iter().map(line).collect();
        Ok(Self { request: RequestId(wire.request), instance, lines, error: bounded("error", wire.error)? })
    }
}
