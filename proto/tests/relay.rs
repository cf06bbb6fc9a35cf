//! Relays survive the wire, and what cannot be one is refused.

use api_types::{
    counter::RequestId,
    id::{InstanceId, Name},
    relay::{RelayEnd, RelayInput, RelayOutput, RelayPurpose, RelayRequest, RelayTarget, TerminalSize, VolumeSlot},
};
use prost::Message;
use proto::{
    limits::RELAY_CHUNK_BYTES,
    relay::{OpenRelay, RelayFromAgent},
    session::FromScheduler,
    v1,
};

const SIZE: TerminalSize = TerminalSize { columns: 120, rows: 40 };

#[test]
fn every_purpose_survives_the_wire() {
    let command = vec!["sh".to_owned(), "-c".to_owned(), String::new()];
    let proxy = Name::new("proxy").expect("a name");
    let purposes = [
        RelayPurpose::Exec { container: Some(proxy), command: command.clone(), stdin: true, terminal: Some(SIZE) },
        RelayPurpose::Exec { container: None, command, stdin: false, terminal: None },
        RelayPurpose::Attach { stdin: false, terminal: None },
        RelayPurpose::Attach { stdin: true, terminal: Some(SIZE) },
        RelayPurpose::PortForward { port: 8080 },
        RelayPurpose::CopyFrom { path: "/etc".to_owned() },
        RelayPurpose::CopyTo { path: "/tmp/x".to_owned() },
    ];
    let of_volume = [RelayPurpose::Backup {}, RelayPurpose::Restore {}].map(|purpose| open(volume(), purpose));
    let messages = purposes.map(|purpose| open(instance(), purpose)).into_iter().chain(of_volume);

    for message in messages.map(FromScheduler::OpenRelay).chain([FromScheduler::CloseRelay(RequestId(7))]) {
        let bytes = v1::FromScheduler::from(message.clone()).encode_to_vec();
        let wire = v1::FromScheduler::decode(bytes.as_slice()).expect("bytes of our own");
        assert_eq!(FromScheduler::try_from(wire), Ok(message));
    }
}

#[test]
fn both_directions_survive_the_wire() {
    let end = RelayEnd { code: 127, reason: "command `x` was not found".to_owned() };
    let from_agent = [
        RelayFromAgent::Begun { request: RequestId(7), target: instance() },
        RelayFromAgent::Begun { request: RequestId(8), target: volume() },
        RelayFromAgent::Output(RelayOutput::Stdout(vec![0, 255])),
        RelayFromAgent::Output(RelayOutput::Stderr(vec![1; RELAY_CHUNK_BYTES])),
        RelayFromAgent::Output(RelayOutput::Ended(end)),
    ];
    let to_agent = [RelayInput::Data(vec![0, 255]), RelayInput::End, RelayInput::Resize(SIZE)];

    for message in from_agent {
        let bytes = v1::RelayFromAgent::from(message.clone()).encode_to_vec();
        let wire = v1::RelayFromAgent::decode(bytes.as_slice()).expect("bytes of our own");
        assert_eq!(RelayFromAgent::try_from(wire), Ok(message));
    }
    for message in to_agent {
        let bytes = v1::RelayToAgent::from(message.clone()).encode_to_vec();
        let wire = v1::RelayToAgent::decode(bytes.as_slice()).expect("bytes of our own");
        assert_eq!(RelayInput::try_from(wire), Ok(message));
    }
}

#[test]
fn what_cannot_be_a_relay_is_refused() {
    let nothing = v1::OpenRelay::from(open(instance(), RelayPurpose::CopyTo { path: "relative".to_owned() }));
    let error = OpenRelay::try_from(nothing).expect_err("a relative path leads nowhere");
    assert_eq!(error.path, "purpose");
    let of_none = v1::OpenRelay {
        target: None,
        ..open(instance(), RelayPurpose::Attach { stdin: false, terminal: None }).into()
    };
    assert_eq!(OpenRelay::try_from(of_none).expect_err("nobody is meant").path, "target");

    let large = RelayFromAgent::Output(RelayOutput::Stdout(vec![0; RELAY_CHUNK_BYTES + 1]));
    let error = RelayFromAgent::try_from(v1::RelayFromAgent::from(large)).expect_err("more than one message may hold");
    assert_eq!(error.path, "stdout");
}

fn open(target: RelayTarget, purpose: RelayPurpose) -> OpenRelay {
    OpenRelay { request: RequestId(7), wanted: RelayRequest { target, purpose } }
}

fn instance() -> RelayTarget {
    RelayTarget::Instance(InstanceId::new("web-1").expect("a name"))
}

fn volume() -> RelayTarget {
    let (workload, volume) = ("shop/db".parse().expect("a name"), Name::new("data").expect("a name"));
    RelayTarget::Volume(VolumeSlot { workload, volume, slot: 3 })
}
