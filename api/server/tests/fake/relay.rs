//! An instance that is reached into: `web-0a` echoes what it gets, and ends as its command says.

use api_server::control_plane::BoxStream;
use api_types::{
    relay::{NOT_FOUND, RelayEnd, RelayInput, RelayOutput, RelayPurpose, RelayRequest, RelayTarget},
    view::Problem,
};
use futures_util::{StreamExt, stream};

use super::problem;

pub(super) fn answer(request: RelayRequest, input: BoxStream<RelayInput>) -> Result<BoxStream<RelayOutput>, Problem> {
    let absent = match &request.target {
        RelayTarget::Instance(instance) if instance.as_str() == "web-0a" => None,
        RelayTarget::Instance(instance) => Some(format!("there is no instance `{instance}`")),
        RelayTarget::Volume(volume) => (volume.slot > 0).then(|| format!("{volume} is not known")),
    };
    if let Some(title) = absent {
        return Err(problem(404, "not_found", &title, "`wherry get` shows what there is"));
    }
    let command = match request.purpose {
        RelayPurpose::Exec { command, .. } => command,
        RelayPurpose::Attach { .. } => vec!["talk".to_owned()],
        RelayPurpose::PortForward { .. } => vec!["cat".to_owned()],
        RelayPurpose::CopyFrom { path } if path == "/etc/motd" => {
            return Ok(said(vec![archive("motd", b"hello\n")], 0));
        }
        RelayPurpose::CopyFrom { path } | RelayPurpose::CopyTo { path } if path == "/no" => {
            return Ok(ended(1, "/no: No such file or directory (os error 2)"));
        }
        RelayPurpose::CopyFrom { .. } => return Ok(ended(0, "")),
        RelayPurpose::Backup {} => return Ok(said(vec![archive("data", b"rows\n")], 0)),
        RelayPurpose::Restore {} => return Ok(drained(input)),
        RelayPurpose::CopyTo { .. } => vec!["cat".to_owned()],
    };
    match command.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cat"] => Ok(echo(input)),
        ["exit", code] => Ok(ended(code.parse().unwrap_or(1), "")),
        ["talk"] => {
            let err = stream::once(async { Ok(RelayOutput::Stderr(b"to stderr\n".to_vec())) });
            Ok(Box::pin(err.chain(said(vec![b"to \x1b[1mstdout\n".to_vec()], 0))))
        }
        ["break"] => Ok(Box::pin(stream::once(async { Err(problem(503, "unavailable", "the connection broke", "")) }))),
        _ => Ok(ended(NOT_FOUND, "command `nope` was not found in the image (looked in PATH)")),
    }
}

/// Everything that was sent, then the end.
fn echo(input: BoxStream<RelayInput>) -> BoxStream<RelayOutput> {
    let data = input.filter_map(async |input| match input {
        Ok(RelayInput::Data(bytes)) => Some(Ok(RelayOutput::Stdout(bytes))),
        Ok(RelayInput::Resize(_) | RelayInput::End) => None,
        Err(problem) => Some(Err(problem)),
    });
    Box::pin(data.chain(ended(0, "")))
}

/// The end, when everything was sent.
fn drained(input: BoxStream<RelayInput>) -> BoxStream<RelayOutput> {
    let data = input.filter_map(async |input| input.err().map(Err));
    Box::pin(data.chain(ended(0, "")))
}

fn said(pieces: Vec<Vec<u8>>, code: i32) -> BoxStream<RelayOutput> {
    let pieces = stream::iter(pieces).map(|piece| Ok(RelayOutput::Stdout(piece)));
    Box::pin(pieces.chain(ended(code, "")))
}

fn ended(code: i32, reason: &str) -> BoxStream<RelayOutput> {
    let end = RelayEnd { code, reason: reason.to_owned() };
    Box::pin(stream::once(async { Ok(RelayOutput::Ended(end)) }))
}

/// A tar archive of one small file (POSIX.1-1988): a head of 512 bytes, the content, two empty blocks.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = vec![0; 2048];
    let fields = [(0, name), (100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000"), (156, "0")];
    for (at, field) in fields {
        archive[at..at + field.len()].copy_from_slice(field.as_bytes());
    }
    archive[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().copied().map(u32::from).sum();
    archive[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    archive[154] = 0;
    archive[512..512 + content.len()].copy_from_slice(content);
    archive
}
