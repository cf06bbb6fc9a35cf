//! A plain HTTP/1.1 client, small enough to run inside any network namespace: one connection per request.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Header fields, names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text, without blanks around it.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

/// Asks `server` for `path`, waiting at most `limit` for the connection and for each part of the answer.
///
/// # Errors
/// If there is no connection or no whole answer in time.
pub fn get(server: SocketAddr, path: &str, limit: Duration) -> io::Result<Reply> {
    request(server, "GET", path, &[], &[], limit)
}

/// Sends one request with `headers` and `body`.
///
/// # Errors
/// If there is no connection or no whole answer in time.
pub fn request(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    limit: Duration,
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    if !body.is_empty() || method != "GET" {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer)
        .ok_or_else(|| io::Error::other(format!("{server}: an answer that is not HTTP, {} bytes", answer.len())))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = answer[end + 4..].to_vec();
    let length = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
    let whole = length.is_none_or(|length| body.len() >= length);
    whole.then_some(Reply { status, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart_and_a_cut_one_refused() {
        let reply = parse(b"HTTP/1.1 202 Accepted\r\nLocation: /x\r\nContent-Length: 3\r\n\r\nabc").unwrap();

        assert_eq!((reply.status, reply.text().as_str(), reply.headers["location"].as_str()), (202, "abc", "/x"));
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").is_none());
    }
}
