//! `wherry-scheduler run`: the parts, in the order in which they begin.
//!
//! | part | waits for | ends when |
//! | --- | --- | --- |
//! | control loop (own thread) | its queue, the core's deadlines | the store fails: the process ends |
//! | api | connections | never before the end |
//! | sessions | connections | never before the end |
//! | certificate | a day | never before the end |

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use api_daemon::{
    identity::tls::{self, Credentials, DenyCheck, NodeIdentity, TlsError},
    notify,
    sealing::SealingError,
    supervisor::{PartFailed, Supervisor},
};
use api_types::{counter::Epoch, id::NodeId, net::Ipv6Prefix, service::WatchKey, time::Timestamp};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use scheduler_core::{Scheduler, Settings, effect::Record};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{Mutex, oneshot, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{self, Clock},
    config::Config,
    control_loop::{ControlLoop, LoopHandle},
    control_plane::{Parts, Port},
    dispatcher::{
        Dispatcher, images::Images, logs::LogRequests, network::Inspections, registry::Registry, relays::Relays,
    },
    identity::{
        authority::{self, Authority, AuthorityError},
        node_keys::NodeKeys,
        records::{
            API_TOKEN_PREFIX, AUTHORITY_KEY, CLUSTER_KEY, CertificateRecord, ClusterRecord, IMAGE_PREFIX,
            JOIN_TOKEN_PREFIX, NODE_KEYS_PREFIX, SERVER_KEY,
        },
        tokens::Tokens,
    },
    listener,
    store::{CORE_PREFIX, Loaded, Store, StoreError, Write},
    vault::Vault,
    zones,
};

/// How often the age of the scheduler's own certificate is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(24 * 60 * 60);

/// Why the scheduler could not start, or had to end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The store is of no use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A certificate is of no use.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A TLS set-up cannot be made.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address ranges are not those that the cluster was made with.
    #[error("{key} is {configured}, but this cluster was made with {made}: a cluster keeps its ranges")]
    Range {
        /// Which key.
        key: &'static str,
        /// What the configuration says.
        configured: String,
        /// What the cluster has.
        made: String,
    },
    /// It cannot listen.
    #[error("cannot listen on {address}: another program does, or the address is not of this machine")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state directory or the system refused something.
    #[error("cannot prepare {what}")]
    Prepare {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key of the secrets is of no use.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// A part failed.
    #[error(transparent)]
    Part(#[from] PartFailed),
}

/// The TLS set-ups of both doors, replaced when the scheduler's certificate is renewed.
struct Doors {
    api: watch::Sender<Arc<ServerConfig>>,
    session: watch::Sender<Arc<ServerConfig>>,
    authority: Arc<Authority>,
    denied: DenyCheck,
}

/// Where the scheduler listens.
#[derive(Debug)]
pub struct Listeners {
    /// For people and programs.
    pub api: TcpListener,
    /// For agents.
    pub session: TcpListener,
}

impl Listeners {
    /// Listens where the configuration says.
    ///
    /// # Errors
    /// When an address is taken or not of this machine.
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        Ok(Self { api: listen(config.api.listen).await?, session: listen(config.session.listen).await? })
    }
}

/// Runs the scheduler until `stop`.
///
/// # Errors
/// When it cannot start, or a part that it cannot do without failed.
pub async fn serve(config: Config, listeners: Listeners, stop: CancellationToken) -> Result<(), ServeError> {
    let (mut store, loaded) = Store::open(&config.state.dir)?;
    let cluster = cluster_of(&config, &loaded)?;
    let authority = Arc::new(Authority::load(&cluster.id, &loaded.required(AUTHORITY_KEY)?)?);
    let server = server_certificate(&authority, &loaded, &mut store)?;
    let keys = Arc::new(node_keys(&loaded)?);
    let tokens =
        Arc::new(Tokens::new(authority.pin(), loaded.below(API_TOKEN_PREFIX)?, loaded.below(JOIN_TOKEN_PREFIX)?));

    let vault = Arc::new(Vault::open(&config.state.dir, &cluster.id)?);

    let clock = Clock::start();
    let epoch = store.next_epoch(&loaded)?;
    let core = recover(settings(&config, &cluster, authority.watch_key()), epoch, &loaded, clock.now())?;
    let registry = Arc::new(Registry::new());
    let images = Images::new(
        &config.state.dir,
        config.images.archive_bytes_max,
        loaded.below(IMAGE_PREFIX)?,
        Arc::clone(&registry),
    );
    let images = images.map_err(|source| ServeError::Prepare { what: "the images' directory", source })?;
    drop(loaded);
    let (control_loop, control) = ControlLoop::new(core, store, clock, Arc::clone(&registry), Arc::clone(&keys));

    let (doors, api_tls, session_tls) = doors(&cluster.id, &authority, &keys, &server)?;
    let logs = Arc::new(LogRequests::new(Arc::clone(&registry)));
    let relays = Arc::new(Relays::new(Arc::clone(&registry)));
    let images = Arc::new(images);
    let inspections = Arc::new(Inspections::new(Arc::clone(&registry)));
    let dispatcher = Arc::new(Dispatcher {
        epoch,
        heartbeat_interval_ms: config.heartbeat.interval_ms,
        control: control.clone(),
        registry,
        logs: Arc::clone(&logs),
        relays: Arc::clone(&relays),
        images: Arc::clone(&images),
        inspections: Arc::clone(&inspections),
        authority: Arc::clone(&authority),
        keys: Arc::clone(&keys),
        vault: Arc::clone(&vault),
        stop: stop.clone(),
    });
    let port = Port::new(Parts {
        cluster: cluster.id.clone(),
        started_at: clock.now(),
        api_address: config.api_address(),
        session_address: config.session_address(),
        control: control.clone(),
        tokens,
        keys,
        vault,
        authority,
        logs,
        relays,
        images,
        inspections,
        joining: Mutex::new(()),
        thinking: Mutex::new(()),
    });

    let mut supervisor = Supervisor::new(stop.clone());
    spawn_control_loop(&mut supervisor, control_loop, stop.clone())?;
    supervisor.spawn_once("api", listener::serve_api(listeners.api, api_tls, port, stop.clone()));
    let sessions = listener::serve_sessions(listeners.session, session_tls, dispatcher, stop.clone());
    supervisor.spawn_once("sessions", sessions);
    supervisor.spawn_once("certificate", doors.renew(server, control, stop.clone()));
    announce(&config, &cluster, epoch);
    let ended = supervisor.run().await;
    notify::stopping();
    Ok(ended?)
}

/// The core as it was, with the clocks that its schedules go by.
fn recover(settings: Settings, epoch: Epoch, loaded: &Loaded, now: Timestamp) -> Result<Scheduler, ServeError> {
    let records = loaded.below::<Record>(CORE_PREFIX)?.into_values().collect();
    let mut core = Scheduler::recover(settings, epoch, records, now);
    let clocks = zones::read(zones::named(core.specs()));
    core.learn_zones(clocks);
    Ok(core)
}

fn settings(config: &Config, cluster: &ClusterRecord, watch_key: WatchKey) -> Settings {
    Settings {
        watch_key: Some(watch_key),
        ipv6_prefix: Some(ipv6_prefix(&cluster.id)),
        heartbeat_interval_ms: config.heartbeat.interval_ms,
        give_up_at_once: config.mass_loss.at_once,
        give_up_interval_ms: config.mass_loss.interval_ms,
        give_up_slow_interval_ms: config.mass_loss.slow_interval_ms,
        rebalance_automatic: config.rebalance.automatic,
        rebalance_pause_ms: config.rebalance.pause_s * 1_000,
        rebalance_moves_max: usize::try_from(config.rebalance.moves_max).unwrap_or(usize::MAX),
        rebalance_use_max_per_mille: u32::try_from(config.rebalance.use_max_percent * 10).unwrap_or(1_000),
        cluster_range: config.network.cluster_range,
        service_range: config.network.service_range,
        isolate_namespaces: config.network.isolate_namespaces,
        ..Settings::default()
    }
}

/// A prefix of its own for each cluster, the same for ever: RFC 4193 §3.2.2 asks for a global id by a hash of something unique.
fn ipv6_prefix(cluster: &str) -> Ipv6Prefix {
    let hash = digest(&SHA256, cluster.as_bytes());
    Ipv6Prefix::local(*hash.as_ref().first_chunk().expect("a SHA-256 hash has 32 bytes"))
}

fn cluster_of(config: &Config, loaded: &Loaded) -> Result<ClusterRecord, ServeError> {
    let cluster: ClusterRecord = loaded.required(CLUSTER_KEY)?;
    let ranges = [
        ("network.cluster_range", config.network.cluster_range, cluster.cluster_range),
        ("network.service_range", config.network.service_range, cluster.service_range),
    ];
    for (key, configured, made) in ranges {
        if configured != made {
            return Err(ServeError::Range { key, configured: configured.to_string(), made: made.to_string() });
        }
    }
    Ok(cluster)
}

/// The scheduler's certificate, renewed if it is old; durable before it is shown.
fn server_certificate(
    authority: &Authority,
    loaded: &Loaded,
    store: &mut Store,
) -> Result<CertificateRecord, ServeError> {
    let kept: CertificateRecord = loaded.required(SERVER_KEY)?;
    let now = clock::wall_now();
    if now < authority::renewal_due(&kept) {
        return Ok(kept);
    }
    let renewed = authority.issue_server(now)?;
    store.commit(&[Write::put(SERVER_KEY.to_owned(), &renewed)])?;
    tracing::info!("the scheduler's certificate was renewed");
    Ok(renewed)
}

fn node_keys(loaded: &Loaded) -> Result<NodeKeys, ServeError> {
    let records = loaded.below(NODE_KEYS_PREFIX)?;
    let named = records.into_iter().filter_map(|(name, record)| Some((NodeId::new(&name).ok()?, record)));
    Ok(NodeKeys::new(named.collect()))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

fn doors(
    cluster: &str,
    authority: &Arc<Authority>,
    keys: &Arc<NodeKeys>,
    server: &CertificateRecord,
) -> Result<(Doors, listener::Tls, listener::Tls), ServeError> {
    let (cluster, keys) = (cluster.to_owned(), Arc::clone(keys));
    let denied: DenyCheck = Arc::new(move |identity: &NodeIdentity| {
        let on_record = |node: NodeId| keys.allow(&node, identity.pin);
        !(identity.cluster == cluster && NodeId::new(&identity.node).is_ok_and(on_record))
    });
    let (api, session) = tls_configs(authority, &denied, server)?;
    let (api, api_tls) = watch::channel(api);
    let (session, session_tls) = watch::channel(session);
    Ok((Doors { api, session, authority: Arc::clone(authority), denied }, api_tls, session_tls))
}

fn tls_configs(
    authority: &Authority,
    denied: &DenyCheck,
    server: &CertificateRecord,
) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), TlsError> {
    // The CA goes along: a joining node finds the key that its token pins in the chain.
    let chain = format!("{}{}", server.certificate, authority.certificate());
    let credentials = || Credentials::from_pem(&chain, &server.key);
    let trusted = tls::certificates(authority.certificate())?;
    Ok((tls::api_server(credentials()?)?, tls::session_server(credentials()?, trusted, Arc::clone(denied))?))
}

impl Doors {
    /// Renews the scheduler's certificate when two thirds of its life are over.
    async fn renew(
        self,
        mut server: CertificateRecord,
        control: LoopHandle,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        loop {
            // Both arms are cancel-safe.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(CERTIFICATE_CHECK) => {}
            }
            let now = clock::wall_now();
            if now < authority::renewal_due(&server) {
                continue;
            }
            server = self.authority.issue_server(now)?;
            if control.keep(vec![Write::put(SERVER_KEY.to_owned(), &server)]).await.is_err() {
                return Ok(());
            }
            let (api, session) = tls_configs(&self.authority, &self.denied, &server)?;
            self.api.send_replace(api);
            self.session.send_replace(session);
            tracing::info!("the scheduler's certificate was renewed");
        }
    }
}

/// Starts the loop on a thread of its own with a small runtime: a slow disk then stalls no connection.
fn spawn_control_loop(
    supervisor: &mut Supervisor,
    control_loop: ControlLoop,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let refused = |source| ServeError::Prepare { what: "the control loop's thread", source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(refused)?;
    let (ended, end) = oneshot::channel();
    let body = move || {
        // Nobody waits for it any more once the end takes too long.
        ended.send(runtime.block_on(control_loop.run(stop))).ok();
    };
    thread::Builder::new().name("control-loop".to_owned()).spawn(body).map_err(refused)?;
    supervisor.spawn_once("control loop", async move {
        match end.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(described(&error)),
            Err(_) => Err("it panicked".to_owned()),
        }
    });
    Ok(())
}

fn described(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn announce(config: &Config, cluster: &ClusterRecord, epoch: Epoch) {
    let (api, session) = (config.api.listen, config.session.listen);
    tracing::info!(cluster = cluster.id, %epoch, %api, %session, "the scheduler is ready");
    if let Some(warning) = config.loopback_warning() {
        tracing::warn!("{warning}");
    }
    notify::ready(&format!("epoch {epoch}; people on {api}, agents on {session}"));
}
