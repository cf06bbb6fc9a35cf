//! What one more connected agent costs the scheduler: two hundred that join and then only send heartbeats, over TLS.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use api_daemon::identity::{clock::ClockFloor, tls};
use hyper_util::rt::TokioIo;
use proto::v1::{
    FromAgent, Heartbeat, Hello, NodeFacts, Resources, dispatcher_client::DispatcherClient, from_agent::Message,
};
use tests_support::{
    cluster::Bed,
    figures::{Figures, number},
    netns::inside,
    program,
    wait::pace,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::transport::{Endpoint, Uri};

use crate::{Result, process};

/// How many agents.
const AGENTS: u32 = 200;
/// How long each sends heartbeats before the scheduler is looked at.
const SETTLE: Duration = Duration::from_secs(20);

/// Measures the scheduler without them and with them, and forgets them again.
pub(crate) fn sessions(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let scheduler = bed.scheduler_pid().ok_or("the scheduler does not run")?;
    let members: Vec<PathBuf> = (0..AGENTS).map(|index| join(bed, index)).collect::<Result<_>>()?;
    pace(Duration::from_secs(5));
    let before = process::rss_kib(scheduler)?;
    let (ready, wait) = mpsc::channel();
    let netns = bed.netns("visitor");
    std::thread::scope(|scope| -> Result<()> {
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let swarm = scope.spawn(|| {
            inside(&netns, || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime
                    .block_on(run(&members, ready, stopped))
                    .map_err(|error| std::io::Error::other(error.to_string()))
            })
        });
        let opened = wait.recv_timeout(Duration::from_secs(60));
        if opened.is_ok() {
            pace(SETTLE);
            let after = process::rss_kib(scheduler)?;
            figures.note("scheduler_rss_per_agent_kib", number(after.saturating_sub(before)) / f64::from(AGENTS))?;
        }
        drop(stop);
        swarm.join().map_err(|_| "the swarm panicked")???;
        Ok(opened?)
    })?;
    for index in 0..AGENTS {
        bed.wherry(&["node", "rm", &name(index), "--force", "--yes"])?;
    }
    Ok(())
}

/// Joins one agent and gives the folder with its identity.
fn join(bed: &Bed, index: u32) -> Result<PathBuf> {
    let folder = bed.folder().join("swarm").join(name(index));
    fs::create_dir_all(&folder)?;
    let (config, token) = (folder.join("agent.toml"), folder.join("token"));
    fs::write(&config, format!("[agent]\nstate_dir = \"{}\"\n", folder.join("state").display()))?;
    fs::write(&token, bed.join_token(&name(index))?)?;
    let program = program::folder()?.join("wherry-agent");
    let output = program::within(Some(&bed.netns("visitor")), &[&program.to_string_lossy(), "join"])
        .args(["--name", &name(index), "--scheduler", &format!("{}:7443", tests_support::cluster::SCHEDULER)])
        .arg("--config")
        .arg(&config)
        .arg("--token-file")
        .arg(&token)
        .output()?;
    if !output.status.success() {
        return Err(format!("join: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(folder.join("state/identity"))
}

/// Opens all sessions, says when they are open, and goes on until `stopped`.
async fn run(members: &[PathBuf], ready: mpsc::Sender<()>, stopped: tokio::sync::oneshot::Receiver<()>) -> Result<()> {
    let mut sessions = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let facts = NodeFacts {
            arch: "amd64".to_owned(),
            os: "linux".to_owned(),
            capacity: Some(Resources { cpu_millis: 1000, memory_bytes: 1 << 30 }),
            cgroup_version: 2,
            ..NodeFacts::default()
        };
        let hello = Hello { agent_version: "bench".to_owned(), facts: Some(facts), ..Hello::default() };
        sender.send(FromAgent { message: Some(Message::Hello(hello)) }).await?;
        let channel = connect(member).await.map_err(|error| format!("agent {index}: {error}"))?;
        let mut answers = DispatcherClient::new(channel).session(ReceiverStream::new(receiver)).await?.into_inner();
        sessions.push(tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs(1));
            loop {
                tokio::select! {
                    // Cancel-safe: a tick that is not taken is taken later.
                    _ = beat.tick() => {
                        let message = Some(Message::Heartbeat(Heartbeat {}));
                        if sender.send(FromAgent { message }).await.is_err() {
                            return;
                        }
                    }
                    // Cancel-safe: an answer is read whole or not at all.
                    answer = answers.next() => {
                        if !matches!(answer, Some(Ok(_))) {
                            return;
                        }
                    }
                }
            }
        }));
    }
    ready.send(())?;
    let _closed = stopped.await;
    for session in &sessions {
        if session.is_finished() {
            return Err("a session ended early".into());
        }
        session.abort();
    }
    Ok(())
}

/// Dials as the agent whose identity lies in `member`.
async fn connect(member: &Path) -> Result<tonic::transport::Channel> {
    let read = |name: &str| fs::read_to_string(member.join(name));
    let membership: serde_json::Value = serde_json::from_str(&read("membership.json")?)?;
    let address = membership["session_address"].as_str().ok_or("no session address")?.to_owned();
    let credentials = tls::Credentials::from_pem(&read("node.crt")?, &read("node.key")?)?;
    let config =
        tls::session_client(credentials, tls::certificates(&read("ca.crt")?)?, Arc::new(ClockFloor::default()))?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let dial = tower::service_fn(move |_: Uri| {
        let (connector, address) = (connector.clone(), address.clone());
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(tls::server_name(), stream).await?))
        }
    });
    Ok(Endpoint::from_static("http://scheduler").connect_with_connector(dial).await?)
}

fn name(index: u32) -> String {
    format!("swarm-{index}")
}
