//! Autoscaling, seen from outside.

use api_types::view::{LoadView, ScaleView};

use crate::{cluster::workloads::WorkloadEntry, machine::Scheduler};

impl Scheduler {
    /// How a service is scaled by what its replicas use and serve; `None` = it is not.
    pub(super) fn scale_view(&self, entry: &WorkloadEntry) -> Option<ScaleView> {
        let scale = entry.spec().scale.as_ref()?;
        let scaling = self.scaling.get(&entry.spec().id);
        let found = scaling.map(|scaling| scaling.found.clone()).unwrap_or_default();
        let loads = scale.targets().map(|(metric, target)| {
            let known = found.loads.iter().find(|load| load.metric == metric);
            LoadView { metric, load: known.and_then(|load| load.mean), target, wish: known.and_then(|load| load.wish) }
        });
        Some(ScaleView {
            min: scale.min,
            max: scale.max,
            wish: found.wish,
            loads: loads.collect(),
            reason: if found.reason.is_empty() { "no node said yet what it uses".to_owned() } else { found.reason },
            changed_at: scaling.and_then(|scaling| scaling.changed_at),
        })
    }
}
