//! Choosing a node: filter, score, pick; or say why none fits.
//!
//! [`filters::check`] decides whether a node takes one more instance, for the pick, for the commit and for people alike.
//! Rows are built once per workload and pass; a pick then is one scan over them.

pub(crate) mod explain;
pub(crate) mod filters;
pub(crate) mod rank;
pub(crate) mod score;

use std::collections::BTreeMap;

use api_types::{id::NodeId, workload::WorkloadSpec};

use crate::{
    cluster::{Cluster, held::Held, nodes::NodeEntry},
    placement::{
        filters::{Miss, Offer},
        score::Score,
    },
};

/// The nodes on which a workload may be, with what is left of each while instances are being given out.
#[derive(Clone, Debug)]
pub(crate) struct Candidates<'c> {
    spec: &'c WorkloadSpec,
    /// Sorted by node name, so that the first of equals is the one every time.
    rows: Vec<Row<'c>>,
    /// How many counted instances each site has.
    site_counts: Vec<u32>,
}

#[derive(Clone, Debug)]
struct Row<'c> {
    offer: Offer<'c>,
    site: usize,
    /// How many instances on it count for the spread.
    counted: u32,
}

impl<'c> Candidates<'c> {
    /// Collects the nodes that could ever take an instance of `spec`. `counts` tells which instances of the workload
    /// count for its spread: those that go away anyway do not.
    pub(crate) fn new(cluster: &'c Cluster, spec: &'c WorkloadSpec, counts: &dyn Fn(Held<'_>) -> bool) -> Self {
        let mut there: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
        for held in cluster.instances_of(&spec.id) {
            let (all, counted) = there.entry(held.node_index()).or_default();
            *all += 1;
            *counted += u32::from(counts(held));
        }
        let mut sites: BTreeMap<&str, usize> = BTreeMap::new();
        let mut site_counts = Vec::new();
        let mut rows = Vec::new();
        for (index, node) in cluster.nodes.indexed() {
            let (all, counted) = there.get(&index).copied().unwrap_or_default();
            let site = *sites.entry(&node.spec.site).or_insert_with(|| {
                site_counts.push(0);
                site_counts.len() - 1
            });
            site_counts[site] += counted;
            let offer = Offer::new(node, all);
            if filters::check_fixed(&offer, spec).is_ok() {
                rows.push(Row { offer, site, counted });
            }
        }
        Self { spec, rows, site_counts }
    }

    /// Picks the best node for one more instance and counts it there; `None` when none fits.
    pub(crate) fn pick(&mut self) -> Option<NodeId> {
        let mut best: Option<(Score, usize)> = None;
        for (index, row) in self.rows.iter().enumerate() {
            if filters::check_room(&row.offer, self.spec).is_err() {
                continue;
            }
            let score = Score::new(self.spec, &row.offer, self.site_counts[row.site], row.counted);
            if best.as_ref().is_none_or(|(lowest, _)| score < *lowest) {
                best = Some((score, index));
            }
        }
        let (_, index) = best?;
        let row = &mut self.rows[index];
        row.offer.take(self.spec);
        row.counted += 1;
        self.site_counts[row.site] += 1;
        Some(row.offer.node.spec.id.clone())
    }
}

/// Whether `node` takes one more instance of `spec`.
pub(crate) fn check<'s>(cluster: &Cluster, node: &NodeEntry, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    filters::check(&Offer::new(node, instances_there(cluster, node, spec)), spec)
}

/// Whether the node of `held` would take one more instance of `spec` if `held` were not there.
pub(crate) fn check_instead_of<'s>(cluster: &Cluster, held: Held<'_>, spec: &'s WorkloadSpec) -> Result<(), Miss<'s>> {
    let node = held.node();
    filters::check(&Offer::new(node, instances_there(cluster, node, spec)).without(held), spec)
}

/// How many instances of the workload a node holds.
pub(crate) fn instances_there(cluster: &Cluster, node: &NodeEntry, spec: &WorkloadSpec) -> u32 {
    let (few, many) = (cluster.numbers_of(&spec.id), node.instances.as_slice());
    let (few, many) = if few.len() < many.len() { (few, many) } else { (many, few) };
    let count = few.iter().filter(|number| many.binary_search(number).is_ok()).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}
