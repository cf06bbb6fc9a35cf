//! Lines of output on their way from an agent to a person: who asked, for what, and where the lines go.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_server::control_plane::BoxStream;
use api_types::{
    counter::RequestId,
    id::{InstanceId, Name, NodeId},
    view::{LogLine, Problem},
};
use futures_util::{StreamExt, stream};
use proto::{
    limits::LOGS_PER_NODE_MAX,
    session::{FromScheduler, LogChunk, OpenLogs},
    v1,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::registry::Registry;
use crate::problem;

/// Lines that wait for a slow reader; then the agent waits too.
const LINES_WAITING_MAX: usize = 256;
/// How long an agent may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);

type Lines = mpsc::Sender<Result<LogLine, Problem>>;

/// Which lines of each instance.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Of which companion; `None` = of the main container.
    pub(crate) container: Option<Name>,
    /// How many of the last.
    pub(crate) tail: u32,
    /// Whether to go on with what comes.
    pub(crate) follow: bool,
}

/// All requests for logs that are open.
#[derive(Debug)]
pub(crate) struct LogRequests {
    registry: Arc<Registry>,
    open: Mutex<BTreeMap<RequestId, LogRequest>>,
    last_request: AtomicU64,
}

#[derive(Debug)]
struct LogRequest {
    node: NodeId,
    instance: InstanceId,
    lines: Lines,
    begun: bool,
}

/// Closes a request when its agent is done, or gone.
struct Receiving<'a> {
    requests: &'a LogRequests,
    id: RequestId,
    broken: bool,
}

/// Closes a request when its reader is gone.
struct Guard {
    requests: Arc<LogRequests>,
    ids: Vec<RequestId>,
}

impl LogRequests {
    /// Makes the list, empty.
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, open: Mutex::default(), last_request: AtomicU64::new(0) }
    }

    /// Asks the nodes for lines of these instances; lines come as the nodes send them.
    pub(crate) fn open(
        self: &Arc<Self>,
        instances: &[(InstanceId, NodeId)],
        wanted: &Wanted,
    ) -> Result<BoxStream<LogLine>, Problem> {
        let (lines, receiver) = mpsc::channel(LINES_WAITING_MAX);
        let mut guard = Guard { requests: Arc::clone(self), ids: Vec::new() };
        let mut away = None;
        for (instance, node) in instances {
            match self.ask(instance, node, wanted, &lines) {
                Ok(id) => guard.ids.push(id),
                Err(problem) => away = Some(problem),
            }
        }
        if let Some(problem) = away.take_if(|_| guard.ids.is_empty()) {
            return Err(problem);
        }
        tokio::spawn(Arc::clone(self).expire(guard.ids.clone()));
        let lines = ReceiverStream::new(receiver).map(move |line| {
            // The guard lives as long as the stream.
            let _ = &guard;
            line
        });
        // Lines that cannot be had are missed at the end, after all that can.
        Ok(Box::pin(lines.chain(stream::iter(away.map(Err)))))
    }

    /// Takes the lines that an agent sends for one request.
    pub(crate) async fn receive(&self, node: &NodeId, mut incoming: Streaming<v1::LogChunk>) -> Result<(), Status> {
        let Some(first) = incoming.message().await? else { return Ok(()) };
        let first = read(first)?;
        let lines = self.begin(node, &first)?;
        // The rpc may be dropped at any await: its connection broke.
        let mut receiving = Receiving { requests: self, id: first.request, broken: true };
        let mut chunk = first;
        while forward(chunk, &lines).await {
            // Both arms are cancel-safe: a message that was not taken stays in the stream.
            let message = tokio::select! {
                message = incoming.message() => message?,
                () = lines.closed() => None,
            };
            let Some(message) = message else { break };
            chunk = read(message)?;
        }
        receiving.broken = false;
        Ok(())
    }

    fn ask(&self, instance: &InstanceId, node: &NodeId, wanted: &Wanted, lines: &Lines) -> Result<RequestId, Problem> {
        let id = RequestId(self.last_request.fetch_add(1, Ordering::Relaxed) + 1);
        {
            let mut open = self.lock();
            if open.values().filter(|request| request.node == *node).count() >= LOGS_PER_NODE_MAX {
                let title = format!("{LOGS_PER_NODE_MAX} logs of node `{node}` are being read already");
                return Err(problem::unavailable(&title, "end some of them and try again"));
            }
            let request =
                LogRequest { node: node.clone(), instance: instance.clone(), lines: lines.clone(), begun: false };
            open.insert(id, request);
        }
        let Wanted { container, tail, follow } = wanted.clone();
        let wish = OpenLogs { request: id, instance: instance.clone(), container, tail, follow };
        if self.registry.wish(node, FromScheduler::OpenLogs(wish)) {
            return Ok(id);
        }
        self.lock().remove(&id);
        Err(not_connected(instance, node))
    }

    /// Finds where the lines of a request go; only the node that was asked may answer, only for what it was asked.
    fn begin(&self, node: &NodeId, chunk: &LogChunk) -> Result<Lines, Status> {
        let mut open = self.lock();
        let asked = open.get_mut(&chunk.request).filter(|request| request.node == *node);
        let asked = asked.filter(|request| request.instance == chunk.instance && !request.begun);
        let request = asked.ok_or_else(|| Status::not_found("nobody asked for these lines, or not any more"))?;
        request.begun = true;
        Ok(request.lines.clone())
    }

    /// Gives up on agents that do not begin.
    async fn expire(self: Arc<Self>, ids: Vec<RequestId>) {
        tokio::time::sleep(BEGIN_LIMIT).await;
        let silent: Vec<LogRequest> = {
            let mut open = self.lock();
            ids.iter()
                .filter_map(|id| open.get(id).is_some_and(|request| !request.begun).then(|| open.remove(id)).flatten())
                .collect()
        };
        for request in silent {
            let title = format!("node `{}` did not send the log of `{}` in time", request.node, request.instance);
            // The reader may be gone.
            request.lines.send(Err(problem::unavailable(&title, "try again"))).await.ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RequestId, LogRequest>> {
        self.open.lock().expect("nobody panics while holding it")
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        let Some(request) = self.requests.lock().remove(&self.id) else { return };
        if self.broken {
            // A reader that is behind finds the end of the stream instead.
            request.lines.try_send(Err(not_connected(&request.instance, &request.node))).ok();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for id in &self.ids {
            let Some(request) = self.requests.lock().remove(id) else { continue };
            // An agent that is gone needs no telling; one that takes no wish finds its rpc ended.
            self.requests.registry.wish(&request.node, FromScheduler::CloseLogs(*id));
        }
    }
}

/// Passes lines on; `false` = there is no more, or no reader.
async fn forward(chunk: LogChunk, lines: &Lines) -> bool {
    for line in chunk.lines {
        if lines.send(Ok(line)).await.is_err() {
            return false;
        }
    }
    if chunk.error.is_empty() {
        return true;
    }
    let problem = problem::unavailable(&format!("the log of `{}` ended: {}", chunk.instance, chunk.error), "");
    lines.send(Err(problem)).await.ok();
    false
}

fn read(chunk: v1::LogChunk) -> Result<LogChunk, Status> {
    LogChunk::try_from(chunk).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn not_connected(instance: &InstanceId, node: &NodeId) -> Problem {
    let title = format!("node `{node}`, where `{instance}` is, is not connected");
    problem::unavailable(&title, "its output is kept there and can be read when the node is back")
}
