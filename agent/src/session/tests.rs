//! The session against a small scheduler in this process, over real TLS.

use std::{
    collections::BTreeMap, net::SocketAddr, path::Path, sync::atomic::AtomicBool, sync::atomic::Ordering::Relaxed,
};

use api_daemon::identity::{
    SERVER_NAME,
    tls::{Credentials, certificates, install_provider, session_server},
};
use api_types::{
    counter::{Generation, RequestId, SessionId},
    id::NodeId,
    join::JoinReply,
    time::Timestamp,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use proto::{
    session::{CurrentMarkers, FromAgent},
    update::whole_assignments,
    v1::dispatcher_server,
};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response};

use super::*;

const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_session_brings_sets_down_and_reports_up() {
    let mut bed = Bed::new("sets", None).await;
    let (hello, mut scheduler) = bed.accept().await;
    scheduler.welcome(3).await;
    assert_eq!(bed.input().await, Input::SessionOpened { epoch: Epoch(3) });
    scheduler.send(FromScheduler::Assignments(whole_assignments(&set(3, 1)))).await;
    assert_eq!(bed.input().await, Input::Assigned(set(3, 1)));

    bed.outbox.begin();
    bed.outbox.report(agent_core::effect::Report { statuses: Vec::new(), gone: Vec::new(), complete: true });

    assert_eq!((hello.assignments, hello.highest_epoch), (None, Epoch(0)));
    let mut seen = [false; 3];
    while seen != [true; 3] {
        match scheduler.receive().await {
            FromAgent::Heartbeat => seen[0] = true,
            FromAgent::Report(report) => seen[1] = report.complete,
            FromAgent::NodeReport(report) => seen[2] |= report.conditions.is_some(),
            FromAgent::Hello(_)
            | FromAgent::RanAlone(_)
            | FromAgent::RenewLease(_)
            | FromAgent::VolumesMeasured(_)
            | FromAgent::ImageLoaded(_)
            | FromAgent::Programmed(_)
            | FromAgent::NetworkInspected(_) => panic!("not asked for"),
        }
    }
}

#[tokio::test]
async fn while_something_runs_by_a_lease_signs_of_life_are_answered_and_the_core_hears_when_they_were_given() {
    let mut bed = Bed::new("lease", None).await;
    let (_, mut scheduler) = bed.accept().await;
    scheduler.welcome(3).await;
    assert!(matches!(bed.message().await, Message::Heard(_)), "the hello was heard");
    bed.outbox.renew_lease(true);

    let token = loop {
        if let FromAgent::RenewLease(token) = scheduler.receive().await {
            break token;
        }
    };
    scheduler.send(FromScheduler::LeaseRenewed(token)).await;

    assert_eq!(bed.input().await, Input::SessionOpened { epoch: Epoch(3) });
    let Message::Heard(moment) = bed.message().await else { panic!("the answer") };
    assert_eq!(moment, token);
}

#[tokio::test]
async fn a_change_of_something_else_begins_a_new_session() {
    let mut bed = Bed::new("gap", None).await;
    let (_, mut scheduler) = bed.accept().await;
    scheduler.welcome(3).await;
    scheduler.send(FromScheduler::Assignments(whole_assignments(&set(3, 1)))).await;
    let update = proto::update::diff_assignments(&set(3, 7), &set(3, 8));
    scheduler.send(FromScheduler::Assignments(update)).await;

    let (hello, mut again) = bed.accept().await;

    assert_eq!(hello.assignments, Some(assignments_marker(&set(3, 1))), "what was whole is held");
    assert_eq!(bed.input().await, Input::SessionOpened { epoch: Epoch(3) });
    assert_eq!(bed.input().await, Input::Assigned(set(3, 1)));
    assert_eq!(bed.input().await, Input::SessionClosed);
    again.welcome(3).await;
    assert_eq!(bed.input().await, Input::SessionOpened { epoch: Epoch(3) });
}

#[tokio::test]
async fn an_old_scheduler_is_refused() {
    let mut bed = Bed::new("old", Some(set(5, 2))).await;
    let (hello, mut scheduler) = bed.accept().await;
    assert_eq!((hello.highest_epoch, hello.assignments), (Epoch(5), Some(assignments_marker(&set(5, 2)))));

    scheduler.welcome(4).await;

    assert!(scheduler.incoming.recv().await.is_none(), "the agent leaves");
    bed.wait_condition("epoch 5 was seen").await;
    assert!(bed.inbox.try_recv().is_err(), "the core hears nothing of it");
}

#[tokio::test]
async fn a_removed_node_says_so() {
    let bed = Bed::new("removed", None).await;
    bed.removed.store(true, Relaxed);
    // The session that may have begun before ends with the scheduler.
    bed.wait_condition("was removed from the cluster").await;
}

/// One agent's session and what is around it.
struct Bed {
    outbox: Arc<Outbox>,
    inbox: mpsc::Receiver<Message>,
    sessions: mpsc::Receiver<(Hello, Scheduler)>,
    removed: Arc<AtomicBool>,
    token: CancellationToken,
    state: PathBuf,
}

/// The scheduler's end of one session.
struct Scheduler {
    outgoing: mpsc::Sender<Result<v1::FromScheduler, Status>>,
    incoming: mpsc::Receiver<FromAgent>,
}

impl Bed {
    async fn new(name: &str, held: Option<AssignmentSet>) -> Self {
        install_provider();
        let state = std::env::temp_dir().join(format!("wherry-session-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&state).expect("a writable directory");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("a CA");
        let removed = Arc::new(AtomicBool::new(name == "removed"));
        let (accepted, sessions) = mpsc::channel(4);
        let address = serve(&authority, removed.clone(), accepted).await;
        let membership = join(&authority, &state, address);
        let (messages, inbox) = mpsc::channel(64);
        let outbox = Arc::new(Outbox::new(api_types::node::NodeFacts::default()));
        let session = Session {
            containerd: containerd(&state).await,
            archive_dir: state.clone(),
            held: Held::new(held, None),
            outbox: outbox.clone(),
            messages,
            link: Link::default(),
            boot_id: "boot".to_owned(),
            inspections: mpsc::channel(1).0,
            trust: Trust { floor: Arc::default(), renewed: watch::Sender::new(membership.clone()) },
            membership,
        };
        let token = CancellationToken::new();
        tokio::spawn(session.run(token.clone()));
        Self { outbox, inbox, sessions, removed, token, state }
    }

    async fn accept(&mut self) -> (Hello, Scheduler) {
        timeout(LIMIT, self.sessions.recv()).await.expect("in time").expect("the scheduler runs")
    }

    async fn input(&mut self) -> Input {
        loop {
            match self.message().await {
                Message::Input(input) => return input,
                Message::Heard(_) => {}
                Message::Running(_) => panic!("the session does not ask"),
            }
        }
    }

    async fn message(&mut self) -> Message {
        timeout(LIMIT, self.inbox.recv()).await.expect("in time").expect("the session runs")
    }

    /// Waits until the identity's condition says `text`.
    async fn wait_condition(&self, text: &str) {
        let look = async {
            loop {
                if let FromAgent::NodeReport(report) = self.outbox.next().await
                    && report.conditions.iter().flatten().any(|condition| condition.reason.contains(text))
                {
                    return;
                }
            }
        };
        timeout(LIMIT, look).await.expect("in time");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.token.cancel();
        // What the session still writes may be in the way: then a few files stay.
        std::fs::remove_dir_all(&self.state).ok();
    }
}

impl Scheduler {
    async fn welcome(&mut self, epoch: u64) {
        self.send(FromScheduler::Welcome(Welcome {
            epoch: Epoch(epoch),
            session: SessionId(1),
            heartbeat_interval_ms: 50,
            scheduler_time: Timestamp(1_000),
        }))
        .await;
        let nothing = CurrentMarkers { assignments: None, services: None };
        // An agent that does not like the welcome may be gone.
        self.outgoing.send(Ok(FromScheduler::Current(nothing).into())).await.ok();
    }

    async fn send(&mut self, message: FromScheduler) {
        self.outgoing.send(Ok(message.into())).await.expect("the session is open");
    }

    async fn receive(&mut self) -> FromAgent {
        timeout(LIMIT, self.incoming.recv()).await.expect("in time").expect("the session is open")
    }
}

struct FakeDispatcher(mpsc::Sender<(Hello, Scheduler)>);

#[tonic::async_trait]
impl dispatcher_server::Dispatcher for FakeDispatcher {
    type SessionStream = ReceiverStream<Result<v1::FromScheduler, Status>>;
    type ImageArchiveStream = ReceiverStream<Result<v1::Chunk, Status>>;
    type RelayStream = ReceiverStream<Result<v1::RelayToAgent, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut stream = request.into_inner();
        let first = stream.message().await?.ok_or_else(|| Status::cancelled("no hello"))?;
        let Ok(FromAgent::Hello(hello)) = first.try_into() else { return Err(Status::invalid_argument("no hello")) };
        let (outgoing, answers) = mpsc::channel(8);
        let (told, incoming) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                told.send(message.try_into().expect("readable")).await.ok();
            }
        });
        self.0.send((*hello, Scheduler { outgoing, incoming })).await.map_err(|_| Status::aborted("over"))?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn logs(&self, _: Request<Streaming<v1::LogChunk>>) -> Result<Response<v1::LogsDone>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn relay(&self, _: Request<Streaming<v1::RelayFromAgent>>) -> Result<Response<Self::RelayStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn image_archive(
        &self,
        _: Request<v1::ImageArchiveRequest>,
    ) -> Result<Response<Self::ImageArchiveStream>, Status> {
        Err(Status::not_found(format!("{:?}", RequestId(0))))
    }

    async fn renew(&self, _: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn serve(
    authority: &CertifiedIssuer<'static, KeyPair>,
    removed: Arc<AtomicBool>,
    accepted: mpsc::Sender<(Hello, Scheduler)>,
) -> SocketAddr {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([SERVER_NAME.to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = params.signed_by(&key, authority).expect("a certificate");
    let credentials = Credentials::from_pem(&leaf.pem(), &key.serialize_pem()).expect("a pair");
    let authorities = certificates(&authority.pem()).expect("a CA");
    let config = session_server(credentials, authorities, Arc::new(move |_| removed.load(Relaxed)));
    let acceptor = TlsAcceptor::from(config.expect("a server"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = dispatcher_server::DispatcherServer::new(FakeDispatcher(accepted));
                let service = TowerToHyperService::new(service);
                let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
                builder.serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    address
}

fn join(authority: &CertifiedIssuer<'static, KeyPair>, state: &Path, address: SocketAddr) -> Membership {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://c1/node/edge-1".try_into().expect("ASCII"))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let reply = JoinReply {
        node: node(),
        certificate: params.signed_by(&key, authority).expect("a certificate").pem(),
        ca: authority.pem(),
        session_address: address.to_string(),
    };
    Membership::create(state, &key, &reply).expect("writable");
    Membership::load(state).expect("readable").expect("joined")
}

async fn containerd(state: &Path) -> Containerd {
    let mut config = crate::config::Config::default();
    config.agent.run_dir = state.join("run");
    config.agent.log_dir = state.join("log");
    config.containerd.socket = state.join("nobody.sock");
    let settings = config.containerd_settings(node()).expect("settings");
    Containerd::connect(settings).await.expect("lazy")
}

fn node() -> NodeId {
    NodeId::new("edge-1").expect("a name")
}

fn set(epoch: u64, generation: u64) -> AssignmentSet {
    AssignmentSet {
        epoch: Epoch(epoch),
        generation: Generation(generation),
        node: node(),
        subnet: "10.42.1.0/24".parse().expect("a range"),
        assignments: Vec::new(),
        met: Vec::new(),
        ahead: Vec::new(),
        secrets: BTreeMap::new(),
    }
}
