//! An instance that is reached into: `web-0a` echoes what it gets, and ends as its command says.

use api_server::control_plane::BoxStream;
use api_types::{
    relay::{NOT_FOUND, RelayEnd, RelayInput, RelayOutput, RelayPurpose, RelayRequest},
    view::Problem,
};
use futures_util::{StreamExt, stream};

use super::problem;

pub(super) fn answer(request: RelayRequest, input: BoxStream<RelayInput>) -> Result<BoxStream<RelayOutput>, Problem> {
    if request.instance.as_str() != "web-0a" {
        let title = format!("there is no instance `{}`", request.instance);
        return Err(problem(404, "not_found", &title, "`wherry get instances` shows what there is"));
    }
    let RelayPurpose::Exec { command, .. } = request.purpose else { return Ok(echo(input, 0)) };
    match command.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["cat"] => Ok(echo(input, 0)),
        ["exit", code] => Ok(ended(code.parse().unwrap_or(1), "")),
        ["talk"] => {
            let said = [RelayOutput::Stdout(b"out\n".to_vec()), RelayOutput::Stderr(b"err\n".to_vec())];
            Ok(Box::pin(stream::iter(said).map(Ok).chain(ended(0, ""))))
        }
        ["break"] => Ok(Box::pin(stream::once(async { Err(problem(503, "unavailable", "the connection broke", "")) }))),
        _ => Ok(ended(NOT_FOUND, "command `nope` was not found in the image (looked in PATH)")),
    }
}

/// Everything that was sent, then the end.
fn echo(input: BoxStream<RelayInput>, code: i32) -> BoxStream<RelayOutput> {
    let data = input.filter_map(async |input| match input {
        Ok(RelayInput::Data(bytes)) => Some(Ok(RelayOutput::Stdout(bytes))),
        Ok(RelayInput::Resize(size)) => {
            Some(Ok(RelayOutput::Stderr(format!("{}x{}\n", size.columns, size.rows).into_bytes())))
        }
        Ok(RelayInput::End) => None,
        Err(problem) => Some(Err(problem)),
    });
    Box::pin(data.chain(ended(code, "")))
}

fn ended(code: i32, reason: &str) -> BoxStream<RelayOutput> {
    let end = RelayEnd { code, reason: reason.to_owned() };
    Box::pin(stream::once(async { Ok(RelayOutput::Ended(end)) }))
}
