//! The messages of relays.

use api_types::{
    counter::RequestId,
    relay::{RelayEnd, RelayInput, RelayOutput, RelayPurpose, RelayRequest, RelayTarget, TerminalSize, VolumeSlot},
};
use v1::{
    open_relay::Purpose, relay_from_agent::Message as AgentMessage, relay_target::Target,
    relay_to_agent::Message as SchedulerMessage,
};

use super::{bounded, name_or_none, optional, parsed, port, shortened};
use crate::{
    error::ConvertError,
    limits::RELAY_CHUNK_BYTES,
    relay::{OpenRelay, RelayFromAgent},
    v1,
};

impl From<OpenRelay> for v1::OpenRelay {
    fn from(open: OpenRelay) -> Self {
        let RelayRequest { target, purpose } = open.wanted;
        let purpose = match purpose {
            RelayPurpose::Exec { container, command, stdin, terminal } => Purpose::Exec(v1::RelayExec {
                container: container.map(Into::into).unwrap_or_default(),
                command,
                stdin,
                terminal: terminal.map(Into::into),
            }),
            RelayPurpose::Attach { stdin, terminal } => {
                Purpose::Attach(v1::RelayAttach { stdin, terminal: terminal.map(Into::into) })
            }
            RelayPurpose::PortForward { port } => Purpose::PortForward(port.into()),
            RelayPurpose::CopyFrom { path } => Purpose::CopyFrom(path),
            RelayPurpose::CopyTo { path } => Purpose::CopyTo(path),
            RelayPurpose::Backup {} => Purpose::Backup(v1::RelayBackup {}),
            RelayPurpose::Restore {} => Purpose::Restore(v1::RelayRestore {}),
        };
        Self { request: open.request.0, target: Some(target.into()), purpose: Some(purpose) }
    }
}

impl TryFrom<v1::OpenRelay> for OpenRelay {
    type Error = ConvertError;

    fn try_from(wire: v1::OpenRelay) -> Result<Self, Self::Error> {
        let purpose = match wire.purpose.ok_or_else(|| ConvertError::missing("purpose"))? {
            Purpose::Exec(exec) => {
                let terminal = optional("exec.terminal", exec.terminal)?;
                let container = name_or_none("exec.container", &exec.container)?;
                RelayPurpose::Exec { container, command: exec.command, stdin: exec.stdin, terminal }
            }
            Purpose::Attach(v1::RelayAttach { stdin, terminal }) => {
                RelayPurpose::Attach { stdin, terminal: optional("attach.terminal", terminal)? }
            }
            Purpose::PortForward(number) => RelayPurpose::PortForward { port: port("port_forward", number)? },
            Purpose::CopyFrom(path) => RelayPurpose::CopyFrom { path },
            Purpose::CopyTo(path) => RelayPurpose::CopyTo { path },
            Purpose::Backup(_) => RelayPurpose::Backup {},
            Purpose::Restore(_) => RelayPurpose::Restore {},
        };
        let wanted = RelayRequest { target: target(wire.target)?, purpose };
        wanted.check().map_err(|error| ConvertError::new("purpose", error))?;
        Ok(Self { request: RequestId(wire.request), wanted })
    }
}

impl From<RelayTarget> for v1::RelayTarget {
    fn from(target: RelayTarget) -> Self {
        let target = match target {
            RelayTarget::Instance(instance) => Target::Instance(instance.to_string()),
            RelayTarget::Volume(VolumeSlot { workload, volume, slot }) => {
                Target::Volume(v1::RelayVolume { workload: workload.to_string(), volume: volume.to_string(), slot })
            }
        };
        Self { target: Some(target) }
    }
}

fn target(wire: Option<v1::RelayTarget>) -> Result<RelayTarget, ConvertError> {
    Ok(match wire.and_then(|wire| wire.target).ok_or_else(|| ConvertError::missing("target"))? {
        Target::Instance(instance) => RelayTarget::Instance(parsed("target.instance", &instance)?),
        Target::Volume(v1::RelayVolume { workload, volume, slot }) => RelayTarget::Volume(VolumeSlot {
            workload: parsed("target.volume.workload", &workload)?,
            volume: parsed("target.volume.volume", &volume)?,
            slot,
        }),
    })
}

impl From<TerminalSize> for v1::TerminalSize {
    fn from(size: TerminalSize) -> Self {
        Self { columns: size.columns.into(), rows: size.rows.into() }
    }
}

impl TryFrom<v1::TerminalSize> for TerminalSize {
    type Error = ConvertError;

    fn try_from(wire: v1::TerminalSize) -> Result<Self, Self::Error> {
        let number = |path: &str, number: u32| {
            u16::try_from(number).map_err(|_| ConvertError::new(path, format_args!("{number} is too many")))
        };
        Ok(Self { columns: number("columns", wire.columns)?, rows: number("rows", wire.rows)? })
    }
}

impl From<RelayFromAgent> for v1::RelayFromAgent {
    fn from(message: RelayFromAgent) -> Self {
        let message = match message {
            RelayFromAgent::Begun { request, target } => {
                AgentMessage::Begun(v1::RelayBegun { request: request.0, target: Some(target.into()) })
            }
            RelayFromAgent::Output(RelayOutput::Stdout(bytes)) => AgentMessage::Stdout(bytes),
            RelayFromAgent::Output(RelayOutput::Stderr(bytes)) => AgentMessage::Stderr(bytes),
            RelayFromAgent::Output(RelayOutput::Ended(end)) => {
                AgentMessage::Ended(v1::RelayEnded { code: end.code, reason: shortened(end.reason) })
            }
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::RelayFromAgent> for RelayFromAgent {
    type Error = ConvertError;

    fn try_from(wire: v1::RelayFromAgent) -> Result<Self, Self::Error> {
        let output = match wire.message.ok_or_else(|| ConvertError::missing("message"))? {
            AgentMessage::Begun(begun) => {
                let target = target(begun.target).map_err(|error| error.within("begun"))?;
                return Ok(Self::Begun { request: RequestId(begun.request), target });
            }
            AgentMessage::Stdout(bytes) => RelayOutput::Stdout(chunk("stdout", bytes)?),
            AgentMessage::Stderr(bytes) => RelayOutput::Stderr(chunk("stderr", bytes)?),
            AgentMessage::Ended(ended) => {
                RelayOutput::Ended(RelayEnd { code: ended.code, reason: bounded("ended.reason", ended.reason)? })
            }
        };
        Ok(Self::Output(output))
    }
}

impl From<RelayInput> for v1::RelayToAgent {
    fn from(input: RelayInput) -> Self {
        let message = match input {
            RelayInput::Data(bytes) => SchedulerMessage::Data(bytes),
            RelayInput::End => SchedulerMessage::End(v1::RelayEndOfData {}),
            RelayInput::Resize(size) => SchedulerMessage::Resize(size.into()),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::RelayToAgent> for RelayInput {
    type Error = ConvertError;

    fn try_from(wire: v1::RelayToAgent) -> Result<Self, Self::Error> {
        Ok(match wire.message.ok_or_else(|| ConvertError::missing("message"))? {
            SchedulerMessage::Data(bytes) => Self::Data(bytes),
            SchedulerMessage::End(_) => Self::End,
            SchedulerMessage::Resize(size) => {
                Self::Resize(size.try_into().map_err(|error: ConvertError| error.within("resize"))?)
            }
        })
    }
}

/// Reads a piece of an agent's stream, which is bounded.
fn chunk(path: &str, bytes: Vec<u8>) -> Result<Vec<u8>, ConvertError> {
    if bytes.len() > RELAY_CHUNK_BYTES {
        return Err(ConvertError::new(path, format_args!("{} bytes are more than {RELAY_CHUNK_BYTES}", bytes.len())));
    }
    Ok(bytes)
}
