//! `GET` by hand: nothing but the status matters, and of a failure the first words.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use super::{one_line, plain};

/// Bytes of a status line that are read: `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;
/// Bytes of an answer that are read for the sake of its first words.
const ANSWER_BYTES_MAX: u64 = 4096;
/// How long those first words may take once the status is there.
const BODY_LIMIT: Duration = Duration::from_millis(500);

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The first words of the body, if the status is neither 2xx nor 3xx; its end is not waited for.
    pub(super) failure: Option<String>,
}

/// Asks for a path; `None` = no status came in time.
pub(super) async fn get(target: SocketAddr, path: &str, until: Instant) -> Option<Result<Answer, String>> {
    // A line break in the path would be a second request.
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(Err("the path is not one: it begins with `/` and holds no spaces".to_owned()));
    }
    let (mut stream, status) = match timeout_at(until, ask(target, path)).await.ok()? {
        Ok(answer) => answer,
        Err(reason) => return Some(Err(reason)),
    };
    if (200..400).contains(&status) {
        return Some(Ok(Answer { status, failure: None }));
    }
    let mut rest = Vec::new();
    let mut limited = (&mut stream).take(ANSWER_BYTES_MAX);
    // What came until then is told.
    timeout(BODY_LIMIT, limited.read_to_end(&mut rest)).await.ok();
    let head_end = rest.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
    let words = head_end.map(|at| one_line(&rest[at..])).unwrap_or_default();
    Some(Ok(Answer { status, failure: Some(words) }))
}

async fn ask(target: SocketAddr, path: &str) -> Result<(TcpStream, u16), String> {
    let mut stream = TcpStream::connect(target).await.map_err(|error| plain(&error))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: wherry-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| plain(&error))?;
    let mut line = [0; STATUS_BYTES];
    stream.read_exact(&mut line).await.map_err(|error| plain(&error))?;
    let text = std::str::from_utf8(&line).unwrap_or_default();
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)).and_then(|code| code.parse().ok());
    Ok((stream, status.ok_or_else(|| "the answer is not HTTP".to_owned())?))
}
