//! All nodes that fit, the best first, with what decides between them: the scores by which [`super::Candidates`] picks.

use api_types::{id::NodeId, view::ScorePart, workload::WorkloadSpec};

use crate::{
    cluster::{Cluster, held::Held},
    placement::{Candidates, filters, score::Score},
};

/// A node that fits.
#[derive(Clone, Debug)]
pub(crate) struct Ranked {
    /// Which.
    pub(crate) node: NodeId,
    /// What is compared, the most important part first.
    pub(crate) score: Vec<ScorePart>,
}

/// The nodes that take one more instance, the best first. `counts` is as for picking; `without` is looked upon as gone.
pub(crate) fn rank(
    cluster: &Cluster,
    spec: &WorkloadSpec,
    counts: &dyn Fn(Held<'_>) -> bool,
    without: Option<Held<'_>>,
) -> Vec<Ranked> {
    let gone = |held: Held<'_>| without.is_some_and(|without| without.number == held.number);
    let mut candidates = Candidates::new(cluster, spec, &|held| counts(held) && !gone(held));
    if let Some(held) = without {
        let row = candidates.rows.iter_mut().find(|row| row.offer.node.spec.id == *held.node_id());
        if let Some(row) = row {
            row.offer = row.offer.clone().without(held);
        }
    }
    let fits = candidates.rows.iter().filter(|row| filters::check_room(&row.offer, spec).is_ok());
    let mut ranked: Vec<_> = fits
        .map(|row| (Score::new(spec, &row.offer, candidates.site_counts[row.site], row.counted), row.offer.node))
        .collect();
    ranked.sort_by(|(a, first), (b, second)| a.cmp(b).then_with(|| first.spec.id.cmp(&second.spec.id)));
    ranked
        .into_iter()
        .map(|(score, node)| Ranked { node: node.spec.id.clone(), score: score.parts(spec, node) })
        .collect()
}
