//! What people ask for: accepted whole or refused whole, then answered.

mod rollouts;

use std::collections::BTreeMap;

use api_types::{
    counter::{RequestId, Revision},
    id::{NodeId, WorkloadId},
    node::{Availability, NodeSpec},
    service::WatchKey,
    site::{Across, Reach, SiteSpec},
    view::WorkloadChange,
    workload::{Workload, WorkloadKind, WorkloadSpec},
};

use crate::{
    admission,
    cluster::{addresses, workloads::has_address},
    effect::{Accepted, Effect, Record, RecordKey, Refusal},
    history::Subject,
    input::Change,
    machine::Scheduler,
};

pub(crate) use rollouts::{Origin, keep_count};

impl Scheduler {
    /// Does what a person asks for and answers.
    pub(crate) fn request(&mut self, request: RequestId, by: String, change: Change) {
        self.asked_by = by;
        let outcome = match change {
            Change::Apply { specs, expect } => self.apply(specs, expect).map(Accepted::Workloads),
            Change::Scale { workload, replicas } => self.scale(&workload, replicas).map(Accepted::Workloads),
            Change::RunJob { workload } => self.run_job(&workload).map(Accepted::Done),
            Change::Delete { workload } => self.delete(&workload).map(Accepted::Workloads),
            Change::Rollout { workload, action } => self.act_on_rollout(&workload, action).map(Accepted::Done),
            Change::AdmitNode { node, site, labels } => self.admit_node(node, site, labels).map(Accepted::Node),
            Change::SetAvailability { node, availability } => {
                self.set_availability(&node, availability).map(Accepted::Node)
            }
            Change::RemoveNode { node, force, watch_key } => {
                self.remove_node(&node, force, watch_key).map(Accepted::Node)
            }
            Change::Rebalance => self.begin_rebalance().map(Accepted::Done),
            Change::ForgetVolume { workload, volume, slot } => {
                self.forget_volume(&workload, &volume, slot).map(Accepted::Done)
            }
            Change::SetSecret { secret, version, bytes, set_by, sealed } => {
                self.set_secret(secret, version, bytes, (set_by, sealed)).map(Accepted::Done)
            }
            Change::DeleteSecret { secret } => self.delete_secret(&secret).map(Accepted::Done),
            Change::SetSite { site, reach, across } => self.set_site(&site, reach, across).map(Accepted::Done),
            Change::ResumeSite { site } => self.resume_site(&site).map(Accepted::Done),
        };
        self.outbox.push(Effect::Reply { request, outcome });
    }

    /// Creates or updates workloads, all or none.
    pub(crate) fn apply(
        &mut self,
        specs: Vec<WorkloadSpec>,
        expect: Option<Revision>,
    ) -> Result<Vec<WorkloadChange>, Refusal> {
        admission::admit(&self.cluster, &self.settings, &specs, expect)?;
        let origin = Origin { by: self.asked_by.clone(), reason: "applied".to_owned(), is_good: false };
        Ok(specs.into_iter().map(|spec| self.take_over(spec, &origin)).collect())
    }

    /// Gives every service its virtual address, and takes back what is not needed.
    pub(crate) fn provide_addresses(&mut self) {
        let cluster = &self.cluster;
        let needs = |id: &WorkloadId| cluster.workloads.get(id).is_some_and(|entry| has_address(entry.spec()));
        let surplus: Vec<_> = cluster.addresses.keys().filter(|id| !needs(id)).cloned().collect();
        let missing: Vec<_> =
            cluster.workloads.keys().filter(|id| needs(id) && !cluster.addresses.contains_key(*id)).cloned().collect();
        for id in surplus {
            self.take_back_address(&id);
        }
        for id in missing {
            self.give_address(&id);
        }
    }

    /// Makes an admitted spec what is wanted.
    pub(crate) fn take_over(&mut self, spec: WorkloadSpec, origin: &Origin) -> WorkloadChange {
        let id = spec.id.clone();
        let existing = self.cluster.workloads.get(&id).map(|entry| &entry.workload);
        let change = admission::change(existing, &spec);
        if change.action == "none" {
            return change;
        }
        let revision = existing.map_or_else(|| self.cluster.first_revision(&id), |existing| existing.revision.next());
        let runs_since = existing.filter(|existing| existing.spec.runs_the_same_as(&spec));
        let runs_since = runs_since.map_or(revision, |existing| existing.runs_since);
        let with_address = has_address(&spec);
        let kind = if change.action == "scale" { "scaled" } else { "applied" };
        let count = match spec.kind {
            WorkloadKind::Service { replicas } => match &spec.scale {
                Some(scale) => format!("{} to {} replicas of {}", scale.min, scale.max, spec.container.image),
                None => format!("{replicas} replicas of {}", spec.container.image),
            },
            WorkloadKind::Daemon => format!("on every node that fits, {}", spec.container.image),
            WorkloadKind::Job(job) if job.completions == 1 => format!("one completion of {}", spec.container.image),
            WorkloadKind::Job(job) => format!("{} completions of {}", job.completions, spec.container.image),
        };
        self.note_revision(&spec, (revision, runs_since), &change.action, origin);
        self.cluster.put_workload(Workload { spec, revision, runs_since, applied_at: self.now });
        self.history.add(self.now, Subject::Workload(&id), kind, format!("revision {revision}: {count}"));
        if !with_address {
            self.take_back_address(&id);
        } else if !self.cluster.addresses.contains_key(&id) {
            self.give_address(&id);
        }
        change
    }

    fn scale(&mut self, id: &WorkloadId, replicas: u32) -> Result<Vec<WorkloadChange>, Refusal> {
        let entry = self.cluster.workloads.get(id).ok_or_else(|| Refusal::UnknownWorkload(id.clone()))?;
        let mut spec = entry.spec().clone();
        if let Some(scale) = &spec.scale {
            return Err(Refusal::Conflict(format!(
                "`{id}` is scaled by its load, between {} and {}: change or remove `scale` in its manifest, and apply that",
                scale.min, scale.max
            )));
        }
        match &mut spec.kind {
            WorkloadKind::Service { replicas: wanted } => *wanted = replicas,
            WorkloadKind::Daemon => {
                return Err(Refusal::Invalid(format!("`{id}` is a daemon: it runs once on every node that fits")));
            }
            WorkloadKind::Job(_) => {
                let hint = "say in its manifest how many `completions` it has";
                return Err(Refusal::Invalid(format!("`{id}` is a job, which has no replicas: {hint}")));
            }
        }
        self.apply(vec![spec], None)
    }

    fn delete(&mut self, id: &WorkloadId) -> Result<Vec<WorkloadChange>, Refusal> {
        if !self.cluster.workloads.contains_key(id) {
            return Err(Refusal::UnknownWorkload(id.clone()));
        }
        self.cluster.delete_workload(id);
        self.take_back_address(id);
        self.parked.remove(id);
        self.history.add(self.now, Subject::Workload(id), "deleted", "its instances are stopped");
        let nothing = (Vec::new(), Vec::new(), Vec::new());
        Ok(vec![WorkloadChange {
            workload: id.clone(),
            action: "delete".to_owned(),
            fields: nothing.0,
            placements: nothing.1,
            warnings: nothing.2,
        }])
    }

    pub(crate) fn admit_node(
        &mut self,
        id: NodeId,
        site: String,
        labels: BTreeMap<String, String>,
    ) -> Result<NodeSpec, Refusal> {
        admission::check_node(&site, &labels)?;
        let existing = self.cluster.nodes.get(&id).map(|entry| entry.spec.clone());
        let (message, spec) = match existing {
            Some(known) => ("returned with a new key", NodeSpec { site, labels, ..known }),
            None => {
                let (range, prefix) = (self.settings.cluster_range, self.settings.node_prefix);
                let Some(subnet) = addresses::next_subnet(range, prefix, self.cluster.nodes.subnets()) else {
                    return Err(Refusal::Conflict(format!(
                        "{range} has no /{prefix} left for node `{id}`: remove a node or configure a wider cluster range"
                    )));
                };
                let availability = Availability::Active;
                ("joined", NodeSpec { id, site, labels, availability, subnet, joined_at: self.now })
            }
        };
        self.cluster.put_node(spec.clone());
        let message = format!("{message}, site {}, subnet {}", spec.site, spec.subnet);
        self.history.add(self.now, Subject::Node(&spec.id), "node-joined", message);
        Ok(spec)
    }

    pub(crate) fn set_availability(&mut self, id: &NodeId, availability: Availability) -> Result<NodeSpec, Refusal> {
        let entry = self.cluster.nodes.get(id).ok_or_else(|| Refusal::UnknownNode(id.clone()))?;
        let mut spec = entry.spec.clone();
        if spec.availability != availability {
            spec.availability = availability;
            self.cluster.put_node(spec.clone());
            let (kind, message) = match availability {
                Availability::Active => ("node-active", "takes instances"),
                Availability::Cordoned => ("node-cordoned", "keeps what it has, takes nothing"),
                Availability::Draining => ("node-draining", "gives away what it has, takes nothing"),
            };
            self.history.add(self.now, Subject::Node(id), kind, message);
            self.touch_drain(id);
        }
        Ok(spec)
    }

    /// Says how instances of a site are reached.
    fn set_site(&mut self, name: &str, reach: Option<Reach>, across: Option<Across>) -> Result<String, Refusal> {
        if !self.cluster.site_names().contains(name) {
            return Err(Refusal::UnknownSite(name.to_owned()));
        }
        let before = self.cluster.site(name);
        let site = SiteSpec {
            name: name.to_owned(),
            reach: reach.unwrap_or(before.reach),
            across: across.unwrap_or(before.across),
        };
        let message = format!("reach {}, across {}", site.reach.as_str(), site.across.as_str());
        if site != before {
            self.cluster.put_site(site);
            self.history.add(self.now, Subject::Site(name), "site-set", message.clone());
        }
        Ok(format!("site {name}: {message}"))
    }

    fn remove_node(&mut self, id: &NodeId, force: bool, watch_key: Option<WatchKey>) -> Result<NodeSpec, Refusal> {
        let entry = self.cluster.nodes.get(id).ok_or_else(|| Refusal::UnknownNode(id.clone()))?;
        if entry.is_ready() && !force {
            return Err(Refusal::Conflict(format!(
                "node `{id}` is ready: drain it and stop its agent first, or force it"
            )));
        }
        let (spec, instances) = (entry.spec.clone(), entry.instances.clone());
        for number in &instances {
            self.cluster.forget(*number);
        }
        let given_up = self.cluster.forget_volumes(|_, _, _, home| home == id);
        self.cluster.remove_node(id);
        if let Some(key) = watch_key {
            self.cluster.watch_key = Some(key);
            self.cluster.persist(Record::WatchKey(key));
            self.cluster.touched.peers = true;
        }
        self.outbox.push(Effect::NodeRemoved(id.clone()));
        self.history.add(
            self.now,
            Subject::Node(id),
            "node-removed",
            match given_up {
                0 => format!("forgotten with {} instances", instances.len()),
                count => format!("forgotten with {} instances and the data of {count} volumes", instances.len()),
            },
        );
        self.check_warm_up();
        Ok(spec)
    }

    fn give_address(&mut self, id: &WorkloadId) {
        // Admission counted the addresses; a service recovered without one stays unbalanced until one is free.
        let range = self.settings.service_range;
        if let Some(address) = addresses::next_service_address(range, &self.cluster.addresses) {
            self.cluster.addresses.insert(id.clone(), address);
            self.cluster.persist(Record::ServiceAddress { workload: id.clone(), address });
            self.cluster.touched.services.insert(id.clone());
        }
    }

    fn take_back_address(&mut self, id: &WorkloadId) {
        if self.cluster.addresses.remove(id).is_some() {
            self.cluster.unpersist(RecordKey::ServiceAddress(id.clone()));
            self.cluster.touched.services.insert(id.clone());
        }
    }
}
