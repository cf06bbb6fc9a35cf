//! Asks instances whether they are well, straight from the node to their addresses: one loop for each probe of an instance.

mod exec;
mod grpc;
mod http;

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use agent_containerd::Containerd;
use agent_core::input::Input;
use api_types::{
    id::InstanceId,
    probe::{ProbeCheck, ProbeKind, ProbeSpec},
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use crate::control_loop::Message;

/// The pause between probes of something that is expected to be well soon, until its first answer.
const GRACE_PAUSE: Duration = Duration::from_millis(250);
/// The same for commands, each of which is a process of its own.
const EXEC_GRACE_PAUSE: Duration = Duration::from_secs(1);
/// The most characters of an answer that are told.
const TOLD_CHARS_MAX: usize = 120;

/// What is probed: a loop for each.
type Key = (InstanceId, ProbeKind);

/// The loops that run.
#[derive(Debug)]
pub(crate) struct ProbeRunner {
    loops: BTreeMap<Key, AbortHandle>,
    /// Where commands are run; `None` = nowhere.
    containerd: Option<Containerd>,
    messages: mpsc::Sender<Message>,
}

/// Who is asked.
#[derive(Debug)]
struct Target {
    address: Ipv4Addr,
    instance: InstanceId,
    containerd: Option<Containerd>,
}

impl ProbeRunner {
    pub(crate) fn new(containerd: Option<Containerd>, messages: mpsc::Sender<Message>) -> Self {
        Self { loops: BTreeMap::new(), containerd, messages }
    }

    /// Probes from now on, instead of before.
    pub(crate) fn start(&mut self, key: Key, attempt: u32, address: Ipv4Addr, probe: ProbeSpec) {
        self.stop(&key);
        let target = Target { address, instance: key.0.clone(), containerd: self.containerd.clone() };
        let run = run((target, key.1), attempt, probe, self.messages.clone());
        self.loops.insert(key, tokio::spawn(run).abort_handle());
    }

    /// Probes no more.
    pub(crate) fn stop(&mut self, key: &Key) {
        if let Some(running) = self.loops.remove(key) {
            running.abort();
        }
    }
}

/// One after the other: the next question is not asked before the last one was answered or given up.
async fn run((target, kind): (Target, ProbeKind), attempt: u32, probe: ProbeSpec, messages: mpsc::Sender<Message>) {
    let (interval, limit) = (Duration::from_millis(probe.interval_ms), Duration::from_millis(probe.timeout_ms));
    let grace_end = Instant::now() + Duration::from_millis(probe.grace_ms);
    let pause = if matches!(probe.check, ProbeCheck::Exec { .. }) { EXEC_GRACE_PAUSE } else { GRACE_PAUSE };
    let (mut ever_well, mut was_well) = (false, false);
    loop {
        if let Some(outcome) = target.ask(&probe.check, limit).await {
            let is_well = outcome.is_ok();
            // A second answer in a row changes nothing for anybody; a second failure counts.
            if !(is_well && was_well) {
                let input = Input::Probed { instance: target.instance.clone(), attempt, kind, outcome };
                if messages.send(Message::Input(input)).await.is_err() {
                    return;
                }
            }
            was_well = is_well;
            ever_well |= is_well;
        }
        let awaited = kind != ProbeKind::Liveness && !ever_well && Instant::now() < grace_end;
        sleep(if awaited { pause.min(interval) } else { jittered(interval) }).await;
    }
}

impl Target {
    /// Asks once, and gives what was heard; the error is one line for people. `None` = nobody could be asked.
    async fn ask(&self, check: &ProbeCheck, limit: Duration) -> Option<Result<String, String>> {
        match check {
            ProbeCheck::Tcp { port } => Some(self.connect(*port, limit).await),
            ProbeCheck::Http { port, path } => Some(self.get(*port, path, limit).await),
            ProbeCheck::Grpc { port, service } => Some(self.check(*port, service, limit).await),
            ProbeCheck::Exec { command } => exec::run(self.containerd.as_ref()?, &self.instance, command, limit).await,
        }
    }

    async fn connect(&self, port: u16, limit: Duration) -> Result<String, String> {
        let what = format!("port {port}");
        let connected = timeout(limit, TcpStream::connect((self.address, port))).await;
        let connected = connected.map_err(|_| late(&what, limit))?;
        connected.map(|_| format!("{what} is open")).map_err(|error| format!("{what}: {}", plain(&error)))
    }

    async fn get(&self, port: u16, path: &str, limit: Duration) -> Result<String, String> {
        let what = format!("GET {path} on port {port}");
        let answer = http::get(SocketAddr::from((self.address, port)), path, Instant::now() + limit).await;
        let answer = answer.ok_or_else(|| late(&what, limit))?.map_err(|reason| format!("{what}: {reason}"))?;
        let said = format!("{what}: status {}", answer.status);
        match answer.failure {
            None => Ok(said),
            Some(words) if words.is_empty() => Err(said),
            Some(words) => Err(format!("{said}: {words}")),
        }
    }

    async fn check(&self, port: u16, service: &str, limit: Duration) -> Result<String, String> {
        let of = if service.is_empty() { String::new() } else { format!(" of {service}") };
        let what = format!("gRPC health{of} on port {port}");
        let asked = timeout(limit, grpc::check(SocketAddr::from((self.address, port)), service)).await;
        let said = asked.map_err(|_| late(&what, limit))?;
        said.map(|said| format!("{what}: {said}")).map_err(|reason| format!("{what}: {reason}"))
    }
}

fn late(what: &str, limit: Duration) -> String {
    format!("{what} gave no answer within {} ms", limit.as_millis())
}

/// The system's word without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The beginning of what somebody else wrote, in one line without control characters.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words: Vec<&str> = text.split(|letter: char| letter.is_whitespace() || letter.is_control()).collect();
    let line = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(TOLD_CHARS_MAX) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

/// Ten percent more or less, so that probes of many instances spread.
fn jittered(interval: Duration) -> Duration {
    let bits = RandomState::new().build_hasher().finish() % 201;
    interval.mul_f64(0.9 + f64::from(u8::try_from(bits).unwrap_or(100)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

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
                .map(|said| said.replace(&port.to_string(), "PORT"))
                .map_err(|reason| reason.replace(&port.to_string(), "PORT"))
        };
        let said = |text: &str| format!("GET /health?x=1 on port PORT: {text}");

        assert_eq!(ask("HTTP/1.1 200 OK\r\n\r\nfine").await, Ok(said("status 200")));
        assert_eq!(ask("HTTP/1.0 302 Found\r\n\r\n").await, Ok(said("status 302")));
        assert_eq!(ask("HTTP/1.1 503 No\r\n\r\n").await, Err(said("status 503")));
        assert_eq!(
            ask("HTTP/1.1 500 No\r\nServer: x\r\n\r\nno database:\r\n\trefused\n").await,
            Err(said("status 500: no database: refused"))
        );
        assert_eq!(ask("SSH-2.0-whatever").await, Err(said("the answer is not HTTP")));
        assert!(ask("HTTP/1").await.expect_err("cut short").contains("eof"));
    }

    #[tokio::test]
    async fn a_silent_or_closed_port_is_not_well() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let http = ProbeCheck::Http { port, path: "/".to_owned() };

        assert_eq!(
            once(Ipv4Addr::LOCALHOST, &ProbeCheck::Tcp { port }, LIMIT).await,
            Ok(format!("port {port} is open"))
        );
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
        let probe = ProbeSpec { check, interval_ms: 10, timeout_ms: 120_000, failures: 3, successes: 1, grace_ms: 0 };
        let instance = InstanceId::new("web-1").expect("a name");
        let mut runner = ProbeRunner::new(None, messages);

        runner.start((instance.clone(), ProbeKind::Health), 4, Ipv4Addr::LOCALHOST, probe);

        let Some(Message::Input(first)) = told.recv().await else { panic!("an outcome") };
        let (kind, outcome) = (ProbeKind::Health, Ok(format!("GET / on port {port}: status 200")));
        assert_eq!(first, Input::Probed { instance: instance.clone(), attempt: 4, kind, outcome });
        assert!(timeout(Duration::from_millis(100), told.recv()).await.is_err(), "well again is no news");
        runner.stop(&(instance, ProbeKind::Health));
    }

    /// Asks somebody on this machine.
    async fn once(address: Ipv4Addr, check: &ProbeCheck, limit: Duration) -> Result<String, String> {
        let instance = InstanceId::new("web-1").expect("a name");
        let target = Target { address, instance, containerd: None };
        target.ask(check, limit).await.expect("somebody is asked")
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

    #[test]
    fn what_others_wrote_is_one_short_line_without_control_characters() {
        assert_eq!(one_line(b"\x1b[31mno\r\n database\0\n"), "[31mno database");
        let long = one_line("\u{e4} ".repeat(500).as_bytes());
        assert!(long.chars().count() <= TOLD_CHARS_MAX + 4 && long.ends_with(" ..."), "{long}");
    }
}
