//! Asks instances whether they are well, straight from the node to their addresses: one loop for each probed instance.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use agent_core::input::Input;
use api_types::{
    id::InstanceId,
    probe::{ProbeCheck, ProbeSpec},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use crate::control_loop::Message;

/// The pause between probes in the grace, until the first answer.
const GRACE_PAUSE: Duration = Duration::from_millis(250);
/// Bytes of a status line that are read: `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;

/// The loops that run.
#[derive(Debug)]
pub(crate) struct ProbeRunner {
    loops: BTreeMap<InstanceId, AbortHandle>,
    messages: mpsc::Sender<Message>,
}

impl ProbeRunner {
    pub(crate) fn new(messages: mpsc::Sender<Message>) -> Self {
        Self { loops: BTreeMap::new(), messages }
    }

    /// Probes from now on, instead of before.
    pub(crate) fn start(&mut self, instance: InstanceId, attempt: u32, address: Ipv4Addr, probe: ProbeSpec) {
        self.stop(&instance);
        let run = run(instance.clone(), attempt, address, probe, self.messages.clone());
        self.loops.insert(instance, tokio::spawn(run).abort_handle());
    }

    /// Probes no more.
    pub(crate) fn stop(&mut self, instance: &InstanceId) {
        if let Some(running) = self.loops.remove(instance) {
            running.abort();
        }
    }
}

async fn run(id: InstanceId, attempt: u32, address: Ipv4Addr, probe: ProbeSpec, messages: mpsc::Sender<Message>) {
    let (interval, limit) = (Duration::from_millis(probe.interval_ms), Duration::from_millis(probe.timeout_ms));
    let grace_end = Instant::now() + Duration::from_millis(probe.grace_ms);
    let (mut ever_well, mut was_well) = (false, false);
    loop {
        let outcome = once(address, &probe.check, limit).await;
        let is_well = outcome.is_ok();
        // A second answer in a row changes nothing for anybody; a second failure counts.
        if !(is_well && was_well) {
            let input = Input::Probed { instance: id.clone(), attempt, outcome };
            if messages.send(Message::Input(input)).await.is_err() {
                return;
            }
        }
        was_well = is_well;
        ever_well |= is_well;
        let in_grace = !ever_well && Instant::now() < grace_end;
        sleep(if in_grace { GRACE_PAUSE.min(interval) } else { jittered(interval) }).await;
    }
}

/// Asks once; the error is one line for people.
async fn once(address: Ipv4Addr, check: &ProbeCheck, limit: Duration) -> Result<(), String> {
    let late = |what: &str| format!("{what} gave no answer within {} ms", limit.as_millis());
    match check {
        ProbeCheck::Tcp { port } => {
            let target = SocketAddr::from((address, *port));
            let connected = timeout(limit, TcpStream::connect(target)).await;
            connected
                .map_err(|_| late(&format!("port {port}")))?
                .map(drop)
                .map_err(|error| format!("port {port}: {}", plain(&error)))
        }
        ProbeCheck::Http { port, path } => {
            let target = SocketAddr::from((address, *port));
            let what = format!("GET {path} on port {port}");
            let asked = timeout(limit, get(target, path)).await.map_err(|_| late(&what))?;
            let status = asked.map_err(|reason| format!("{what}: {reason}"))?;
            if (200..400).contains(&status) { Ok(()) } else { Err(format!("{what}: status {status}")) }
        }
        ProbeCheck::Grpc { .. } => Err("gRPC probes are not run by this version".to_owned()),
        ProbeCheck::Exec { .. } => Err("exec probes are not run by this version".to_owned()),
    }
}

/// Gives the status of an answer; its body is not waited for.
async fn get(target: SocketAddr, path: &str) -> Result<u16, String> {
    // A line break in the path would be a second request.
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the path is not one: it begins with `/` and holds no spaces".to_owned());
    }
    let mut stream = TcpStream::connect(target).await.map_err(|error| plain(&error))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: wherry-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| plain(&error))?;
    let mut line = [0; STATUS_BYTES];
    stream.read_exact(&mut line).await.map_err(|error| plain(&error))?;
    let text = std::str::from_utf8(&line).unwrap_or_default();
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..)).and_then(|code| code.parse().ok());
    status.ok_or_else(|| "the answer is not HTTP".to_owned())
}

/// The system's word without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Ten percent more or less, so that probes of many instances spread.
fn jittered(interval: Duration) -> Duration {
    let bits = RandomState::new().build_hasher().finish() % 201;
    interval.mul_f64(0.9 + f64::from(u8::try_from(bits).unwrap_or(100)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Far longer than an answer takes on a slow and busy machine.
    const LIMIT: Duration = Duration::from_secs(120);
    /// For who never answers.
    const BRIEF: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn an_http_answer_is_judged_by_its_status() {
        let ask = async |answer: &'static str| {
            let port = serve(answer).await;
            once(Ipv4Addr::LOCALHOST, &ProbeCheck::Http { port, path: "/health?x=1".to_owned() }, LIMIT)
                .await
                .map_err(|reason| reason.replace(&port.to_string(), "PORT"))
        };

        assert_eq!(ask("HTTP/1.1 200 OK\r\n\r\n").await, Ok(()));
        assert_eq!(ask("HTTP/1.0 302 Found\r\n\r\n").await, Ok(()));
        assert_eq!(ask("HTTP/1.1 503 No\r\n\r\n").await, Err("GET /health?x=1 on port PORT: status 503".to_owned()));
        assert_eq!(
            ask("SSH-2.0-whatever").await,
            Err("GET /health?x=1 on port PORT: the answer is not HTTP".to_owned())
        );
        assert!(ask("HTTP/1").await.expect_err("cut short").contains("eof"));
    }

    #[tokio::test]
    async fn a_silent_or_closed_port_is_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let http = ProbeCheck::Http { port, path: "/".to_owned() };

        assert_eq!(once(Ipv4Addr::LOCALHOST, &ProbeCheck::Tcp { port }, LIMIT).await, Ok(()));
        let silent = once(Ipv4Addr::LOCALHOST, &http, BRIEF).await;
        assert!(silent.expect_err("nobody answers").ends_with("gave no answer within 400 ms"));
        drop(listener);
        let closed = once(Ipv4Addr::LOCALHOST, &ProbeCheck::Tcp { port }, LIMIT).await;
        assert_eq!(closed, Err(format!("port {port}: connection refused")));
    }

    #[tokio::test]
    async fn a_path_cannot_carry_a_second_request() {
        let port = serve("HTTP/1.1 200 OK\r\n\r\n").await;
        let check = ProbeCheck::Http { port, path: "/ HTTP/1.1\r\nX: y".to_owned() };

        assert!(once(Ipv4Addr::LOCALHOST, &check, LIMIT).await.is_err());
    }

    #[tokio::test]
    async fn only_changes_and_failures_are_told() {
        let (messages, mut told) = mpsc::channel(8);
        let port = serve("HTTP/1.1 200 OK\r\n\r\n").await;
        let check = ProbeCheck::Http { port, path: "/".to_owned() };
        let probe = ProbeSpec { check, interval_ms: 10, timeout_ms: 120_000, failures: 3, grace_ms: 0 };
        let instance = InstanceId::new("web-1").expect("a name");
        let mut runner = ProbeRunner::new(messages);

        runner.start(instance.clone(), 4, Ipv4Addr::LOCALHOST, probe);

        let Some(Message::Input(first)) = told.recv().await else { panic!("an outcome") };
        assert_eq!(first, Input::Probed { instance: instance.clone(), attempt: 4, outcome: Ok(()) });
        assert!(timeout(Duration::from_millis(100), told.recv()).await.is_err(), "well again is no news");
        runner.stop(&instance);
    }

    /// Answers every connection with this text.
    async fn serve(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // A check of the port alone sends nothing.
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    request.push(byte);
                }
                stream.write_all(answer.as_bytes()).await.ok();
            }
        });
        port
    }
}
