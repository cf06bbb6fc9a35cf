//! Questions about the nodes' network: asked of their agents by their sessions, answered by them, compared here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_types::{
    counter::RequestId,
    id::{NodeId, WorkloadId},
    service::ServiceTable,
    view::{CheckKind, NetworkCheck, NetworkReport, NetworkVerdict, Problem, TraceStep},
};
use proto::{
    network::{InspectNetwork, NetworkInspected, TraceQuestion, table_sum},
    session::FromScheduler,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::registry::Registry;
use crate::problem;

/// How long an agent may take to try everything.
const LIMIT: Duration = Duration::from_secs(60);
/// The most checks and steps that are taken of one node.
const FINDINGS_MAX: usize = 4096;

/// The questions that wait for their answers.
#[derive(Debug)]
pub(crate) struct Inspections {
    registry: Arc<Registry>,
    waiting: Mutex<BTreeMap<(RequestId, NodeId), oneshot::Sender<NetworkInspected>>>,
    last_request: AtomicU64,
    /// Whoever verifies makes all nodes busy: one at a time.
    verifying: Semaphore,
}

impl Inspections {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, waiting: Mutex::default(), last_request: AtomicU64::new(0), verifying: Semaphore::new(1) }
    }

    /// Has every node try its network, and compares their tables with ours.
    pub(crate) async fn verify(&self, nodes: Vec<NodeId>, services: &[WorkloadId]) -> Result<NetworkVerdict, Problem> {
        let Ok(_turn) = self.verifying.try_acquire() else {
            return Err(problem::unavailable("the network is being verified already", "try again when that has ended"));
        };
        let request = self.next();
        let wish = InspectNetwork { request, trace: None, services: services.to_vec() };
        let asked: Vec<_> = nodes.into_iter().map(|node| (self.ask(&node, wish.clone()), node)).collect();
        let deadline = Instant::now() + LIMIT;
        let mut reports = Vec::new();
        for (answer, node) in asked {
            let found = self.wait(request, &node, answer, deadline).await;
            let untried = found.as_ref().map(|found| found.untried).unwrap_or_default();
            // The table may have changed since the first answered: what counts is what it is now.
            let checks = compare(&node, found, self.registry.services().as_deref());
            reports.push(NetworkReport { node, checks, untried });
        }
        let generation = self.registry.services().map(|table| table.generation.0).unwrap_or_default();
        Ok(NetworkVerdict { generation, nodes: reports })
    }

    /// Has one node follow a packet.
    pub(crate) async fn trace(&self, node: &NodeId, question: TraceQuestion) -> Result<Vec<TraceStep>, Problem> {
        let request = self.next();
        let answer = self.ask(node, InspectNetwork { request, trace: Some(question), services: Vec::new() });
        let found = self.wait(request, node, answer, Instant::now() + LIMIT).await;
        let silent = |reason: String| problem::unavailable(&format!("node `{node}` {reason}"), "`wherry get nodes`");
        found.map(|found| found.steps).map_err(silent)
    }

    /// Takes an answer; one that nobody waits for is dropped.
    pub(crate) fn inspected(&self, node: &NodeId, mut found: NetworkInspected) {
        found.checks.truncate(FINDINGS_MAX);
        found.steps.truncate(FINDINGS_MAX);
        if let Some(waiting) = self.lock().remove(&(found.request, node.clone())) {
            waiting.send(found).ok();
        }
    }

    fn ask(&self, node: &NodeId, wish: InspectNetwork) -> Option<oneshot::Receiver<NetworkInspected>> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert((wish.request, node.clone()), sender);
        self.registry.wish(node, FromScheduler::InspectNetwork(wish)).then_some(receiver)
    }

    async fn wait(
        &self,
        request: RequestId,
        node: &NodeId,
        answer: Option<oneshot::Receiver<NetworkInspected>>,
        deadline: Instant,
    ) -> Result<NetworkInspected, String> {
        let found = match answer {
            None => Err("is not connected".to_owned()),
            Some(answer) => match timeout_at(deadline, answer).await {
                Ok(Ok(found)) => Ok(found),
                Ok(Err(_)) | Err(_) => Err(format!("did not answer within {} s", LIMIT.as_secs())),
            },
        };
        self.lock().remove(&(request, node.clone()));
        found
    }

    fn next(&self) -> RequestId {
        RequestId(self.last_request.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(RequestId, NodeId), oneshot::Sender<NetworkInspected>>> {
        self.waiting.lock().expect("nobody panics while holding it")
    }
}

/// What a node found, led by whether it answered and has our table.
fn compare(node: &NodeId, found: Result<NetworkInspected, String>, table: Option<&ServiceTable>) -> Vec<NetworkCheck> {
    let failed = |reason: String, remedy: &str| NetworkCheck::failed(CheckKind::Table, node.as_str(), reason, remedy);
    let found = match found {
        Ok(found) => found,
        Err(reason) => return vec![failed(reason, "see `wherry get nodes`, and the agent's log on that node")],
    };
    let sum = table.map(table_sum).unwrap_or_default();
    let first = match (found.table, table) {
        (None, None) => NetworkCheck::passed(CheckKind::Table, node.as_str(), 0),
        (Some(_), Some(_)) if found.table_sum == sum => NetworkCheck::passed(CheckKind::Table, node.as_str(), 0),
        (held, ours) => {
            let version = |generation: Option<u64>| generation.map_or("none".to_owned(), |number| number.to_string());
            let held = version(held.map(|marker| marker.generation.0));
            let ours = version(ours.map(|table| table.generation.0));
            failed(
                format!(
                    "it has service table {held} (sum {:016x}), the scheduler has {ours} (sum {sum:016x})",
                    found.table_sum
                ),
                "try again in a moment; if it stays so, restart the agent: systemctl restart wherry-agent",
            )
        }
    };
    std::iter::once(first).chain(found.checks).collect()
}

#[cfg(test)]
mod tests {
    use api_types::counter::{Epoch, Generation};
    use proto::update::services_marker;

    use super::*;

    #[test]
    fn a_node_with_another_table_is_named_and_one_with_the_same_is_not() {
        let node = NodeId::new("n1").expect("a name");
        let ours = table(2, "10.42.0.0/16");
        let has = |table: &ServiceTable, sum| {
            let found = NetworkInspected { table: Some(services_marker(table)), table_sum: sum, ..Default::default() };
            compare(&node, Ok(found), Some(&ours))
        };

        let same = has(&ours, table_sum(&ours));
        let other = has(&table(1, "10.42.0.0/16"), 7);
        let silent = compare(&node, Err("is not connected".to_owned()), Some(&ours));

        assert!(same[0].failure.is_none());
        let reason = other[0].failure.as_ref().map(|failure| failure.reason.clone()).unwrap_or_default();
        assert!(reason.starts_with("it has service table 1 (sum 0000000000000007), the scheduler has 2"), "{reason}");
        assert!(silent[0].failure.is_some());
    }

    fn table(generation: u64, range: &str) -> ServiceTable {
        ServiceTable {
            epoch: Epoch(1),
            generation: Generation(generation),
            cluster_range: range.parse().expect("a range"),
            service_range: "10.43.0.0/16".parse().expect("a range"),
            ipv6_prefix: None,
            services: Vec::new(),
            peers: Arc::default(),
            watch_key: None,
        }
    }
}
