//! All nodes that fit, the best first, with what decides between them: the scores by which the engine picks.

use api_types::{id::NodeId, placement::Domain, view::ScorePart, workload::WorkloadSpec};
use scheduler_placement::{Credit, Judgement, NodeIndex};

use crate::{
    cluster::{Cluster, held::Held, nodes::NodeEntry},
    placement::{check_with, credit},
};

/// A node that fits.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    /// Which.
    pub(crate) node: NodeId,
    /// What is compared, the most important part first.
    pub(crate) score: Vec<ScorePart>,
}

/// The nodes that take one more instance, the best first. `without` is looked upon as gone.
pub(crate) fn rank(cluster: &Cluster, spec: &WorkloadSpec, without: Option<Held<'_>>) -> Vec<Ranked> {
    let Some(group) = cluster.ledger.group(&spec.id) else { return Vec::new() };
    let mut ranked: Vec<(Judgement, &NodeEntry)> = Vec::new();
    for (index, node) in cluster.nodes.indexed() {
        let gone = credit(cluster, without.filter(|held| held.node_index() == index));
        if check_with(cluster, node, spec, &gone).is_ok() {
            let mut judged = cluster.ledger.engine.judge(NodeIndex(index), group, &gone);
            if let (Some(score), Some(held)) = (&mut judged, without.filter(|held| held.node_index() != index)) {
                discount(score, spec, node, held);
            }
            ranked.extend(judged.map(|score| (score, node)));
        }
    }
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    let ranked = ranked.into_iter();
    ranked.map(|(score, node)| Ranked { node: node.spec.id.clone(), score: parts(&score, spec, node) }).collect()
}

/// The best of these nodes that takes one more instance, by index.
pub(crate) fn best_of(cluster: &Cluster, spec: &WorkloadSpec, nodes: &[u32]) -> Option<u32> {
    let group = cluster.ledger.group(&spec.id)?;
    let nobody = Credit::default();
    let fits = nodes
        .iter()
        .filter(|index| cluster.nodes.at(**index).is_some_and(|node| check_with(cluster, node, spec, &nobody).is_ok()));
    let judged =
        fits.filter_map(|index| Some((cluster.ledger.engine.judge(NodeIndex(*index), group, &nobody)?, *index)));
    judged.min().map(|(_, index)| index)
}

/// Takes an instance on another node out of the counts of the places that both nodes are in.
fn discount(score: &mut Judgement, spec: &WorkloadSpec, node: &NodeEntry, held: Held<'_>) {
    let (here, there) = (&node.spec, &held.node().spec);
    for (count, rule) in score.counts.iter_mut().zip(&spec.placement.spread) {
        let is_same = match &rule.over {
            Domain::Site => here.site == there.site,
            Domain::Node => false,
            Domain::Label(name) => here.labels.get(name) == there.labels.get(name),
        };
        *count = count.saturating_sub(u32::from(is_same && held.is_counted()));
    }
}

/// What is compared, also in words.
fn parts(score: &Judgement, spec: &WorkloadSpec, node: &NodeEntry) -> Vec<ScorePart> {
    let part = |name: &str, value: u32, words: String| ScorePart { name: name.to_owned(), value: value.into(), words };
    let mut parts = Vec::new();
    for (count, rule) in score.counts.iter().zip(&spec.placement.spread) {
        let place = match &rule.over {
            Domain::Site => format!("at site {}", node.spec.site),
            Domain::Node => "on it".to_owned(),
            Domain::Label(name) => match node.spec.labels.get(name) {
                Some(value) => format!("where {name} is {value}"),
                None => format!("where there is no {name}"),
            },
        };
        parts.push(part("spread", *count, format!("{count} {place}")));
    }
    parts.push(part(
        "balance",
        score.uneven,
        format!("free CPU and memory {} % apart", u64::from(score.uneven) * 100 / 64),
    ));
    let percent = (u64::from(score.used) * 100) >> 20;
    parts.push(part("use", score.used, format!("{percent} % used")));
    parts
}
