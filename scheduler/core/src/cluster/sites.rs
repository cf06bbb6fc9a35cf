//! What operators said of sites.

use std::collections::BTreeSet;

use api_types::site::SiteSpec;

use crate::{
    cluster::Cluster,
    effect::{Record, RecordKey},
};

impl Cluster {
    /// A site as operators want it, whether or not anybody spoke of it.
    pub(crate) fn site(&self, name: &str) -> SiteSpec {
        self.sites.get(name).cloned().unwrap_or_else(|| SiteSpec::of(name))
    }

    /// The names of all sites that have nodes, or of which somebody said something.
    pub(crate) fn site_names(&self) -> BTreeSet<&str> {
        let of_nodes = self.nodes.values().map(|entry| entry.spec.site.as_str());
        of_nodes.chain(self.sites.keys().map(String::as_str)).collect()
    }

    /// Takes over what an operator says of a site. What is as if nobody had spoken is not kept.
    pub(crate) fn put_site(&mut self, site: SiteSpec) {
        if site == SiteSpec::of(&site.name) {
            self.sites.remove(&site.name);
            self.unpersist(RecordKey::Site(site.name));
        } else {
            self.persist(Record::Site(site.clone()));
            self.sites.insert(site.name.clone(), site);
        }
        self.touched.peers = true;
        self.touched.seen = true;
    }
}
