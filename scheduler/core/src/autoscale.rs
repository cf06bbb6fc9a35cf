//! Autoscaling: how many replicas a service has, by what they use and serve.
//!
//! Agents say what their instances use, and their listeners of HTTP ports how many requests they shared out. Each word makes
//! somebody look, so nothing is decided while nobody speaks. Growing is decided at once; shrinking only by the highest wish of
//! a whole window, by numbers that are complete, and not while a change is rolled out.

mod load;
mod window;
mod wish;

use std::collections::BTreeMap;

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    instance::InstanceUsage,
    scale::{Metric, ScaleSpec},
    time::Timestamp,
    workload::WorkloadKind,
};

use crate::{
    autoscale::{
        load::{Sample, Shared},
        window::Window,
        wish::Reading,
    },
    history::Subject,
    machine::Scheduler,
};

/// A service is looked at no more often than this, in milliseconds: many nodes may speak of it.
const LOOK_EVERY_MS: u64 = 5_000;

/// What is known of the load of a service that is scaled. Memory only: after a restart it is learnt anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scaling {
    /// What each instance used last, by number.
    samples: BTreeMap<u64, Sample>,
    /// The requests that each node's listeners shared out.
    shared: BTreeMap<NodeId, Shared>,
    window: Window,
    looked_at: Option<Timestamp>,
    /// When the number of replicas was last changed.
    pub(crate) changed_at: Option<Timestamp>,
    /// What the last look found.
    pub(crate) found: Found,
}

/// What a look at a service's load found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// How many replicas the numbers ask for, within the bounds.
    pub(crate) wish: Option<u32>,
    /// What each metric says.
    pub(crate) loads: Vec<Load>,
    /// Why the number of replicas is what it is.
    pub(crate) reason: String,
}

/// What one metric says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) metric: Metric,
    pub(crate) target: u32,
    /// The mean of a replica that was measured, in the metric's own unit.
    pub(crate) mean: Option<u64>,
    /// How many replicas it asks for.
    pub(crate) wish: Option<u32>,
}

impl Load {
    /// `cpu 143%, target 70%`.
    fn words(&self) -> String {
        let mean = self.mean.map_or_else(|| "not known".to_owned(), |mean| self.metric.show(mean));
        format!("{} {mean}, target {}", self.metric.as_str(), self.metric.show(self.target.into()))
    }
}

impl Scheduler {
    /// Takes what a node's instances use, and what its listeners shared out, where a service is scaled by that.
    pub(crate) fn note_load(
        &mut self,
        node: &NodeId,
        usage: &BTreeMap<InstanceId, InstanceUsage>,
        requests: BTreeMap<InstanceId, u64>,
    ) {
        self.scaling.retain(|id, _| self.cluster.scaled.contains(id));
        if self.cluster.scaled.is_empty() {
            return;
        }
        for (id, usage) in usage {
            self.note_usage(id, usage);
        }
        self.note_shared(node, requests);
        let due: Vec<(WorkloadId, ScaleSpec)> = self.scaled_services().filter(|(id, _)| self.may_look(id)).collect();
        for (id, scale) in due {
            self.look_at_load(&id, &scale);
        }
    }

    fn scaled_services(&self) -> impl Iterator<Item = (WorkloadId, ScaleSpec)> + '_ {
        let scaled = self.cluster.scaled.iter();
        scaled.filter_map(|id| Some((id.clone(), self.cluster.workloads.get(id)?.spec().scale.clone()?)))
    }

    /// Whether a service may be looked at again.
    fn may_look(&self, id: &WorkloadId) -> bool {
        let looked_at = self.scaling.get(id).and_then(|scaling| scaling.looked_at);
        !self.is_warming_up() && looked_at.is_none_or(|at| self.now.since(at) >= LOOK_EVERY_MS)
    }

    fn look_at_load(&mut self, id: &WorkloadId, scale: &ScaleSpec) {
        let kind = self.cluster.workloads.get(id).map(|entry| entry.kind());
        let Some(WorkloadKind::Service { replicas }) = kind else { return };
        self.forget_old_loads(id);
        let loads: Vec<Load> = scale.targets().map(|target| self.load(id, scale, target, replicas)).collect();
        let known = loads.iter().filter_map(|load| load.wish).max();
        let obstacle = self.keeps_from_shrinking(id, &loads);
        let now = self.now;
        let Some(scaling) = self.scaling.get_mut(id) else { return };
        scaling.looked_at = Some(now);
        let Some(asked) = known else {
            let reason = "nobody was measured yet: that takes until an instance has served for a while".to_owned();
            scaling.found = Found { wish: None, loads, reason };
            return;
        };
        let wish = asked.clamp(scale.min, scale.max);
        // Numbers that must not make it smaller must not do so later, either.
        let counted = if obstacle.is_some() { wish.max(replicas) } else { wish };
        scaling.window.add(now, counted, scale.window_ms);
        let step = Step { scale, replicas, asked, wish, loads: &loads };
        let (wanted, reason) = step.decide(scaling, obstacle.as_deref(), now);
        scaling.found = Found { wish: Some(wish), reason: reason.clone(), loads };
        if wanted != replicas {
            scaling.changed_at = Some(now);
            self.cluster.set_scale(id, wanted);
            let message = format!("from {replicas} to {wanted} replicas: {reason}");
            self.history.add(now, Subject::Workload(id), "autoscaled", message);
        }
    }

    /// What one metric says of a service; the busiest site says it where each is looked at for itself.
    fn load(&self, id: &WorkloadId, scale: &ScaleSpec, (metric, target): (Metric, u32), replicas: u32) -> Load {
        let readings = self.readings(id, scale, metric, target);
        let wish = if scale.per_site {
            wish_of_sites(&readings, replicas, scale.tolerance_percent)
        } else {
            readings.first().and_then(|(reading, _)| reading.wish(replicas, scale.tolerance_percent))
        };
        let mean = readings.iter().filter_map(|(reading, _)| reading.mean(target)).max();
        Load { metric, target, mean, wish }
    }
}

/// How many replicas are asked for where the busiest site says how many every site has; `None` = nobody was measured. Replicas are
/// spread evenly, so that as many for each site are enough for the busiest, too.
fn wish_of_sites(sites: &[(Reading, u32)], replicas: u32, tolerance_percent: u32) -> Option<u32> {
    let wishes: Vec<_> =
        sites.iter().map(|(reading, there)| (reading.wish(*there, tolerance_percent), *there)).collect();
    wishes.iter().find_map(|(wish, _)| *wish)?;
    // A site of which nothing is known keeps what it has.
    let busiest = wishes.iter().map(|(wish, there)| wish.unwrap_or(*there)).max()?;
    let everywhere = busiest.saturating_mul(u32::try_from(sites.len()).unwrap_or(u32::MAX));
    // Sites differ by one where the number cannot be divided: that alone is no reason for a change.
    let grows = wishes.iter().any(|(wish, there)| wish.is_some_and(|wish| wish > *there));
    Some(if grows { everywhere.max(replicas) } else { everywhere.min(replicas) })
}

/// A choice between numbers of replicas.
struct Step<'s> {
    scale: &'s ScaleSpec,
    replicas: u32,
    /// What the numbers ask for.
    asked: u32,
    /// The same within the bounds.
    wish: u32,
    loads: &'s [Load],
}

impl Step<'_> {
    /// How many replicas are wanted from now on, and why.
    fn decide(&self, scaling: &Scaling, obstacle: Option<&str>, now: Timestamp) -> (u32, String) {
        let Self { scale, replicas, asked, wish, loads: _ } = *self;
        let words = self.words();
        if wish > replicas {
            let most = replicas.saturating_add(self.part(scale.step_up));
            return (wish.min(most), words);
        }
        if asked > wish {
            return (replicas, format!("{words}; {asked} would be needed, {} is the most", scale.max));
        }
        if wish == replicas {
            return (replicas, words);
        }
        let stay = |why: &str| (replicas, format!("{words}; {wish} would do, but {why}"));
        if let Some(obstacle) = obstacle {
            return stay(obstacle);
        }
        let Some(highest) = scaling.window.highest(now, scale.window_ms) else {
            return stay(&format!("that is not known for {} s yet", scale.window_ms / 1_000));
        };
        if highest >= replicas {
            return stay(&format!("{highest} were needed within the last {} s", scale.window_ms / 1_000));
        }
        if scaling.changed_at.is_some_and(|at| now.since(at) < scale.cooldown_ms) {
            return stay(&format!("the last change is less than {} s ago", scale.cooldown_ms / 1_000));
        }
        (highest.max(replicas.saturating_sub(self.part(scale.step_down))), words)
    }

    fn part(&self, share: api_types::rollout::Share) -> u32 {
        u32::try_from(share.of(self.replicas as usize)).unwrap_or(u32::MAX)
    }

    /// What speaks for the wish: the metric that asks for the most.
    fn words(&self) -> String {
        let decisive = self.loads.iter().filter(|load| load.wish.is_some()).max_by_key(|load| load.wish);
        decisive.map(Load::words).unwrap_or_default()
    }
}
