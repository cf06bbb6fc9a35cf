//! An agent that says exactly what a test wants.

use std::{
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::Duration,
};

use api_daemon::identity::tls::{Credentials, certificates, session_client};
use api_types::{
    assignment::AssignmentSet,
    counter::Epoch,
    instance::{Findings, Health, InstanceState, InstanceStatus},
    node::NodeFacts,
    resources::Resources,
    service::ServiceTable,
    time::Timestamp,
};
use hyper_util::rt::TokioIo;
use proto::{
    session::{FromAgent, FromScheduler, Hello, Marker, NodeReport, Report, Welcome},
    update::{apply_assignments, apply_services},
    v1::{self, dispatcher_client::DispatcherClient},
};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::cluster::{Cluster, LIMIT};

/// The time between two heartbeats.
const BEAT: Duration = Duration::from_millis(500);

/// A node that joined: its key and what it was given.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) certificate: String,
}

/// An agent with a session.
pub(crate) struct Agent {
    pub(crate) dispatcher: DispatcherClient<Channel>,
    pub(crate) set: Option<AssignmentSet>,
    pub(crate) table: Option<ServiceTable>,
    wire: TcpStream,
    to_scheduler: mpsc::Sender<v1::FromAgent>,
    from_scheduler: Streaming<v1::FromScheduler>,
}

/// A key and a signing request that asks for a name it will not get.
pub(crate) fn key_and_csr() -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).expect("a name");
    params.distinguished_name.push(DnType::CommonName, "evil");
    (key.serialize_pem(), params.serialize_request(&key).expect("a request").pem().expect("PEM"))
}

impl Member {
    /// Joins a cluster.
    pub(crate) async fn join(cluster: &Cluster, name: &str) -> Self {
        let token = cluster.token(json!({ "name": name })).await;
        let (key, csr) = key_and_csr();
        let answer = cluster.join(&token, name, &csr).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let certificate = answer.body["certificate"].as_str().expect("PEM").to_owned();
        Self { name: name.to_owned(), key, certificate }
    }

    /// Dials the scheduler and shows the certificate.
    pub(crate) async fn dial(&self, cluster: &Cluster) -> Result<(DispatcherClient<Channel>, TcpStream), String> {
        let credentials = Credentials::from_pem(&self.certificate, &self.key).expect("a pair");
        let trusted = certificates(&cluster.authority).expect("PEM");
        let tls = session_client(credentials, trusted, Arc::default()).expect("a client");
        let dialled = cluster.dial_wire(cluster.config.session.listen, tls).await;
        let (stream, wire) = dialled.map_err(|error| error.to_string())?;
        let mut once = Some(TokioIo::new(stream));
        // A scheduler that goes is not dialled again: the test shall see it go.
        let connector = service_fn(move |_| {
            let stream = once.take();
            async move { stream.ok_or_else(|| std::io::Error::other("the connection was used")) }
        });
        let channel = Endpoint::from_static("http://scheduler").connect_with_connector(connector).await;
        channel.map(|channel| (DispatcherClient::new(channel), wire)).map_err(|error| error.to_string())
    }

    /// Opens a session with a first message.
    pub(crate) async fn open(&self, cluster: &Cluster, first: v1::FromAgent) -> Result<Agent, Status> {
        let (mut dispatcher, wire) = self.dial(cluster).await.map_err(Status::unavailable)?;
        let (to_scheduler, messages) = mpsc::channel(8);
        to_scheduler.send(first).await.expect("the stream is there");
        tokio::spawn(beat(to_scheduler.downgrade()));
        let opened = timeout(LIMIT, dispatcher.session(ReceiverStream::new(messages))).await.expect("in time")?;
        Ok(Agent { dispatcher, set: None, table: None, wire, to_scheduler, from_scheduler: opened.into_inner() })
    }

    /// Opens a session, reports that nothing runs, and waits for the set and the table.
    pub(crate) async fn connect(&self, cluster: &Cluster) -> Agent {
        let mut agent = self.open(cluster, hello(None, None)).await.expect("a session");
        agent.welcome().await;
        agent.say(FromAgent::Report(Report { complete: true, ..Report::default() })).await;
        agent.say(FromAgent::NodeReport(Box::new(NodeReport { facts: Some(facts()), ..NodeReport::default() }))).await;
        agent.until(|agent| agent.set.is_some() && agent.table.is_some()).await;
        agent
    }
}

impl Agent {
    /// Says something.
    pub(crate) async fn say(&self, message: FromAgent) {
        self.to_scheduler.send(message.into()).await.expect("the session is open");
    }

    /// Cuts the connection as a pulled cable does, without a word.
    pub(crate) fn cut(&self) {
        self.wire.shutdown(Shutdown::Both).expect("it is connected");
    }

    /// Says something as it is on the wire.
    pub(crate) async fn say_wire(&self, message: v1::FromAgent) {
        self.to_scheduler.send(message).await.expect("the session is open");
    }

    /// Reports that every assigned instance runs and is healthy.
    pub(crate) async fn report_running(&self) {
        let set = self.set.as_ref().expect("a set");
        let status = |(index, assignment): (u64, &api_types::assignment::Assignment)| InstanceStatus {
            instance: assignment.instance.clone(),
            state: InstanceState::Running,
            health: Health::Healthy,
            address: set.subnet.nth(2 + index),
            pid: Some(4242),
            restarts: 0,
            last_exit: None,
            reason: String::new(),
            since: Timestamp(1),
            findings: Findings::default(),
        };
        let statuses = (0..).zip(&set.assignments).map(status).collect();
        self.say(FromAgent::Report(Report { statuses, gone: Vec::new(), complete: true })).await;
    }

    /// Takes the next message, and with it the set or the table.
    pub(crate) async fn next(&mut self) -> Result<FromScheduler, Status> {
        let message = timeout(LIMIT, self.from_scheduler.message()).await.expect("in time")?;
        let message = message.ok_or_else(|| Status::cancelled("the session ended"))?;
        let message = FromScheduler::try_from(message).expect("the scheduler speaks the protocol");
        if let FromScheduler::Assignments(update) = message.clone() {
            self.set = Some(apply_assignments(self.set.as_ref(), update).expect("chained"));
        }
        if let FromScheduler::Services(update) = message.clone() {
            self.table = Some(apply_services(self.table.as_ref(), update).expect("chained"));
        }
        Ok(message)
    }

    /// Takes messages until something is so.
    pub(crate) async fn until(&mut self, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            self.next().await.expect("the session goes on");
        }
    }

    /// Takes messages until one is what is looked for.
    pub(crate) async fn find<T>(&mut self, wanted: impl Fn(FromScheduler) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the session goes on");
            if let Some(found) = wanted(message) {
                return found;
            }
        }
    }

    /// Takes the welcome, which comes first.
    pub(crate) async fn welcome(&mut self) -> Welcome {
        let first = self.next().await.expect("a welcome");
        let FromScheduler::Welcome(welcome) = first else { panic!("the welcome must come first, not {first:?}") };
        welcome
    }

    /// Waits until the scheduler ends the session; gives why.
    pub(crate) async fn ended(&mut self) -> Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

/// Says that the agent is there, for as long as it is: a node that is silent for three seconds is taken out, and on a slow
/// machine everything takes longer than that.
async fn beat(to_scheduler: mpsc::WeakSender<v1::FromAgent>) {
    let mut pace = interval(BEAT);
    loop {
        pace.tick().await;
        let Some(session) = to_scheduler.upgrade() else { return };
        if session.send(FromAgent::Heartbeat.into()).await.is_err() {
            return;
        }
    }
}

/// A hello that says what is held.
pub(crate) fn hello(assignments: Option<Marker>, services: Option<Marker>) -> v1::FromAgent {
    let hello = Hello {
        agent_version: "0.1.0".to_owned(),
        boot_id: "b".to_owned(),
        assignments,
        services,
        highest_epoch: Epoch(0),
        facts: facts(),
    };
    FromAgent::Hello(Box::new(hello)).into()
}

/// A node that everything fits on.
pub(crate) fn facts() -> NodeFacts {
    NodeFacts {
        devices: Vec::new(),
        arch: "amd64".to_owned(),
        os: "linux".to_owned(),
        kernel: "6.1".to_owned(),
        capacity: Resources { cpu_millis: 8000, memory_bytes: 16 << 30 },
        address: Some([192, 0, 2, 1].into()),
        ipv6_address: None,
        tunnel: None,
        agent_version: "0.1.0".to_owned(),
        runtime_version: "1.6.20".to_owned(),
        boot_id: "b".to_owned(),
        cgroup_version: 2,
    }
}
