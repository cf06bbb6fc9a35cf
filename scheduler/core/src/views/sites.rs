//! Sites, seen from outside.

use api_types::view::SiteView;

use crate::machine::Scheduler;

impl Scheduler {
    /// All sites that have nodes, or of which somebody said something; sorted by name.
    #[must_use]
    pub fn site_views(&self) -> Vec<SiteView> {
        let view = |name: &str| {
            let site = self.cluster.site(name);
            let here = self.cluster.nodes.values().filter(|entry| entry.spec.site == name);
            let (nodes, ready) =
                here.fold((0, 0), |(nodes, ready), entry| (nodes + 1, ready + u32::from(entry.is_ready())));
            SiteView { name: site.name, reach: site.reach, across: site.across, nodes, ready }
        };
        self.cluster.site_names().into_iter().map(view).collect()
    }
}
