//! Relays: who wants to reach into which instance or volume, and the two streams between that person and the agent.
//!
//! Nothing is held here but a few pieces of each direction. Who does not read makes the other end wait: a full channel stops
//! the reading of the agent's stream, whose window then fills, and so on down to the command.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_server::control_plane::BoxStream;
use api_types::{
    counter::RequestId,
    id::NodeId,
    relay::{RelayInput, RelayOutput, RelayRequest, RelayTarget},
    view::Problem,
};
use futures_util::{Stream, StreamExt};
use proto::{
    limits::RELAYS_PER_NODE_MAX,
    relay::{OpenRelay, RelayFromAgent},
    session::FromScheduler,
    v1,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::registry::Registry;
use crate::problem;

/// Pieces that wait for a slow reader; then the agent waits too.
const OUTPUTS_WAITING_MAX: usize = 2;
/// How long an agent may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);

/// What an agent gets of one relay.
pub(crate) type ToAgent = Pin<Box<dyn Stream<Item = Result<v1::RelayToAgent, Status>> + Send>>;

type Outputs = mpsc::Sender<Result<RelayOutput, Problem>>;

/// All relays that are open.
pub(crate) struct Relays {
    registry: Arc<Registry>,
    open: Mutex<BTreeMap<RequestId, Relay>>,
    last_request: AtomicU64,
}

struct Relay {
    node: NodeId,
    target: RelayTarget,
    /// The person's ends, until the agent begins.
    waiting: Option<Ends>,
}

struct Ends {
    input: BoxStream<RelayInput>,
    outputs: Outputs,
}

/// Closes a relay when its person is gone.
struct Guard {
    relays: Arc<Relays>,
    id: RequestId,
}

impl Relays {
    /// Makes the list, empty.
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, open: Mutex::default(), last_request: AtomicU64::new(0) }
    }

    /// Asks a node to serve a person; what comes back ends when either side is gone.
    pub(crate) fn open(
        self: &Arc<Self>,
        node: &NodeId,
        wanted: RelayRequest,
        input: BoxStream<RelayInput>,
    ) -> Result<BoxStream<RelayOutput>, Problem> {
        let target = wanted.target.clone();
        let id = RequestId(self.last_request.fetch_add(1, Ordering::Relaxed) + 1);
        let (outputs, receiver) = mpsc::channel(OUTPUTS_WAITING_MAX);
        {
            let mut open = self.lock();
            if open.values().filter(|relay| relay.node == *node).count() >= RELAYS_PER_NODE_MAX {
                let title =
                    format!("node `{node}` serves {RELAYS_PER_NODE_MAX} commands, connections and copies already");
                return Err(problem::unavailable(&title, "end some of them and try again"));
            }
            let waiting = Some(Ends { input, outputs });
            open.insert(id, Relay { node: node.clone(), target: target.clone(), waiting });
        }
        let guard = Guard { relays: Arc::clone(self), id };
        if !self.registry.wish(node, FromScheduler::OpenRelay(OpenRelay { request: id, wanted })) {
            return Err(not_connected(&target, node));
        }
        tokio::spawn(Arc::clone(self).expire(id));
        Ok(Box::pin(ReceiverStream::new(receiver).map(move |output| {
            // The guard lives as long as the stream.
            let _ = &guard;
            output
        })))
    }

    /// Connects an agent that begins with the person who asked.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        node: &NodeId,
        mut incoming: Streaming<v1::RelayFromAgent>,
    ) -> Result<ToAgent, Status> {
        let first = incoming.message().await?.ok_or_else(|| Status::invalid_argument("nothing came"))?;
        let RelayFromAgent::Begun { request, target } = read(first)? else {
            return Err(Status::invalid_argument("the first message must say which relay begins"));
        };
        let Ends { input, outputs } = self.begin(node, request, &target)?;
        let ended = CancellationToken::new();
        let to_agent = input.map(|input| match input {
            Ok(input) => Ok(input.into()),
            Err(problem) => Err(Status::cancelled(problem.title)),
        });
        let over = ended.clone();
        let relays = Arc::clone(self);
        tokio::spawn(async move {
            let _drop = over.drop_guard();
            forward(incoming, &outputs, (&target, relays.node_of(request))).await;
            relays.lock().remove(&request);
        });
        // A person may have no more to send while the command still writes: the call ends when that does.
        let open = futures_util::stream::once(ended.clone().cancelled_owned()).filter_map(async |()| None);
        Ok(Box::pin(to_agent.chain(open).take_until(ended.cancelled_owned())))
    }

    /// Finds the person's ends; only the node that was asked may answer, only for what it was asked, once.
    fn begin(&self, node: &NodeId, request: RequestId, target: &RelayTarget) -> Result<Ends, Status> {
        let mut open = self.lock();
        let asked = open.get_mut(&request).filter(|relay| relay.node == *node && relay.target == *target);
        let waiting = asked.and_then(|relay| relay.waiting.take());
        waiting.ok_or_else(|| Status::not_found("nobody asked for this relay, or not any more"))
    }

    fn node_of(&self, request: RequestId) -> Option<NodeId> {
        self.lock().get(&request).map(|relay| relay.node.clone())
    }

    /// Gives up on an agent that does not begin.
    async fn expire(self: Arc<Self>, id: RequestId) {
        tokio::time::sleep(BEGIN_LIMIT).await;
        let silent = {
            let mut open = self.lock();
            open.get(&id).is_some_and(|relay| relay.waiting.is_some()).then(|| open.remove(&id)).flatten()
        };
        if let Some(Relay { node, target, waiting: Some(ends) }) = silent {
            let title = format!("node `{node}` did not answer for {target} in time");
            // The person may be gone.
            ends.outputs.send(Err(problem::unavailable(&title, "try again"))).await.ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RequestId, Relay>> {
        self.open.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(relay) = self.relays.lock().remove(&self.id) else { return };
        // An agent that is gone needs no telling; one that takes no wish finds its call ended.
        self.relays.registry.wish(&relay.node, FromScheduler::CloseRelay(self.id));
    }
}

/// Passes on what an agent sends, until it says how it ended, it breaks off, or the person is gone.
async fn forward(
    mut incoming: Streaming<v1::RelayFromAgent>,
    outputs: &Outputs,
    (target, node): (&RelayTarget, Option<NodeId>),
) {
    loop {
        // Both arms are cancel-safe: a message that was not taken stays in the stream.
        let message = tokio::select! {
            message = incoming.message() => message,
            () = outputs.closed() => return,
        };
        let output = match message.and_then(|message| message.map(read).transpose()) {
            Ok(Some(RelayFromAgent::Output(output))) => output,
            Ok(Some(RelayFromAgent::Begun { .. })) => {
                outputs.send(Err(problem::internal("the agent began twice"))).await.ok();
                return;
            }
            Ok(None) | Err(_) => {
                let node = node.map_or_else(String::new, |node| format!(" `{node}`"));
                let title = format!("the connection to {target} on node{node} broke");
                let hint = "what ran there for you is ended; `wherry get nodes` shows whether the node is there";
                outputs.send(Err(problem::unavailable(&title, hint))).await.ok();
                return;
            }
        };
        let is_last = matches!(output, RelayOutput::Ended(_));
        if outputs.send(Ok(output)).await.is_err() || is_last {
            return;
        }
    }
}

fn read(message: v1::RelayFromAgent) -> Result<RelayFromAgent, Status> {
    RelayFromAgent::try_from(message).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn not_connected(target: &RelayTarget, node: &NodeId) -> Problem {
    let title = format!("node `{node}`, where {target} is, is not connected");
    problem::unavailable(&title, "`wherry get nodes` shows since when; what runs there may run on")
}
