//! What is assigned against what is there: every instance is brought one move nearer, in a fixed order.

use std::collections::BTreeSet;

use api_types::{
    assignment::{Assignment, AssignmentSet},
    instance::Desired,
    time::Timestamp,
};

use crate::{
    addresses::is_for_instances,
    dependencies::Outlook,
    effect::{Effect, Effects},
    instances::{Claim, Instance, Network},
    lifecycle::Surroundings,
    machine::{Agent, Runtime, SetHeader},
};

/// Whether an instance is shown something else from now on.
fn is_shown_else(held: &Assignment, now: &Assignment) -> bool {
    held.secrets != now.secrets || held.container.content != now.container.content
}

impl Agent {
    /// Takes over an assignment set: whom it names shall run or end, whom it leaves out shall end.
    pub(crate) fn accept(&mut self, set: &AssignmentSet, now: Timestamp) {
        let version = (set.epoch, set.generation);
        self.set = Some(SetHeader { version, subnet: set.subnet, met: set.met.clone() });
        let assignments = self.alone.follow(set);
        self.listed = assignments.iter().map(|assignment| assignment.instance.clone()).collect();
        for assignment in &assignments {
            let id = &assignment.instance;
            if self.gone.contains(id) {
                continue;
            }
            let stop = assignment.desired == Desired::Stop || self.alone.has_ended(assignment);
            let tries = &self.tries;
            let instance = self.instances.entry(id.clone()).or_insert_with(|| {
                let mut instance = Instance::new(id.clone(), Claim::Unclaimed, now);
                instance.remember(tries.of(id));
                instance
            });
            match &instance.claim {
                Claim::Unclaimed if stop => instance.claim = Claim::Leave(Some(assignment.clone().into())),
                Claim::Unclaimed => instance.claim = Claim::Run(assignment.clone().into()),
                Claim::Run(held) if stop => instance.claim = Claim::Leave(Some(held.clone())),
                // Nothing else but what it is shown ever differs under one id, and an end is for good.
                Claim::Run(held) if is_shown_else(held, assignment) => {
                    instance.claim = Claim::Run(assignment.clone().into());
                    instance.shown_in_doubt = true;
                }
                Claim::Run(_) | Claim::Leave(_) => {}
            }
        }
        for (id, instance) in &mut self.instances {
            if self.listed.contains(id) {
                continue;
            }
            instance.leave();
        }
        self.gone.retain(&self.listed);
        self.forget_images();
    }

    /// Emits all that is to be done now.
    pub(crate) fn reconcile(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.look_again_at.is_some_and(|at| at <= now) && self.runtime == Runtime::Present {
            self.look_again_at = None;
            effects.push(Effect::Observe);
        }
        for (id, instance) in &mut self.instances {
            instance.advance_probes(id, &self.settings, effects);
        }
        if self.runtime != Runtime::Present {
            return;
        }
        loop {
            self.release_addresses(now);
            self.allocate_addresses(now);
            self.keep_addresses(effects);
            self.keep_tries(effects);
            let here = self.awaited_here();
            let (settings, balancing) = (&self.settings, self.balancing.progress());
            let outlook = Outlook {
                balancing: self.balancing.wanted.as_deref(),
                told: self.set.as_ref().map_or(&[], |set| &set.met),
                here: &here,
                cut_off_since: self.cut_off_since,
            };
            let mut surroundings =
                Surroundings { now, settings, images: &mut self.images, balancing, outlook, effects };
            for (id, instance) in &mut self.instances {
                instance.advance(id, &mut surroundings);
            }
            // Who left gives an address back that another may wait for.
            if !self.bury(now) {
                break;
            }
        }
        self.count_connections(now, effects);
    }

    /// When `reconcile` wants to be called again, and why.
    pub(crate) fn reconcile_deadline(&self) -> Option<(Timestamp, &'static str)> {
        if self.runtime != Runtime::Present {
            return None;
        }
        let again = self.look_again_at.map(|at| (at, "another look at what is there"));
        let instances = self.instances.values().filter_map(|instance| instance.deadline(&self.settings, &self.images));
        let counting = self.counting_due().map(|at| (at, "open connections are counted"));
        instances.chain(again).chain(counting).min()
    }

    /// Gives an address to every instance that needs one.
    fn allocate_addresses(&mut self, now: Timestamp) {
        let Some(subnet) = self.set.as_ref().map(|set| set.subnet) else { return };
        // The range may have changed; what is in use stays, what was only planned does not.
        for instance in self.instances.values_mut() {
            if let Some(address) = instance.address
                && instance.shall_run()
                && !instance.has_remains()
                && matches!(instance.network, Network::Absent | Network::Failed { .. })
                && !is_for_instances(subnet, address)
            {
                instance.address = None;
            }
        }
        if !self.instances.values().any(Self::lacks_address) {
            return;
        }
        let mut used: BTreeSet<_> = self.instances.values().filter_map(|instance| instance.address).collect();
        for (id, instance) in self.instances.iter_mut().filter(|(_, instance)| Self::lacks_address(instance)) {
            if let Some(home) = self.addresses.home(id, subnet).filter(|home| used.insert(*home)) {
                instance.address = Some(home);
                instance.address_trouble.clear();
            }
        }
        for instance in self.instances.values_mut().filter(|instance| Self::lacks_address(instance)) {
            instance.address = self.addresses.allocate(now, subnet, &used);
            match instance.address {
                Some(address) => {
                    used.insert(address);
                    instance.address_trouble.clear();
                }
                None => instance.address_trouble = format!("no address is free in {subnet}"),
            }
        }
    }

    fn lacks_address(instance: &Instance) -> bool {
        instance.shall_run() && instance.address.is_none() && instance.outcome().is_none()
    }

    /// Takes back the addresses of instances that ended for good and have no network any more.
    fn release_addresses(&mut self, now: Timestamp) {
        let until = now + self.settings.address_quarantine_ms;
        for instance in self.instances.values_mut().filter(|instance| instance.outcome().is_some()) {
            if instance.attempts.held.is_empty()
                && matches!(instance.network, Network::Absent)
                && let Some(address) = instance.address.take()
            {
                self.addresses.release(address, until);
            }
        }
    }

    /// Takes instances that left nothing off the books; false when there are none.
    fn bury(&mut self, now: Timestamp) -> bool {
        let is_over = |instance: &Instance| {
            let is_empty = !instance.has_remains() && matches!(instance.network, Network::Absent);
            instance.shall_leave() && is_empty && !instance.left_output
        };
        let over: Vec<_> =
            self.instances.iter().filter(|(_, instance)| is_over(instance)).map(|(id, _)| id.clone()).collect();
        if over.is_empty() {
            return false;
        }
        for id in over {
            if let Some(address) = self.instances.remove(&id).and_then(|instance| instance.address) {
                self.addresses.release(address, now + self.settings.address_quarantine_ms);
            }
            self.gone.add(id);
        }
        self.forget_images();
        true
    }

    fn forget_images(&mut self) {
        let needed: BTreeSet<&str> = self
            .instances
            .values()
            .filter_map(|instance| instance.assignment())
            .flat_map(|assignment| assignment.images())
            .collect();
        self.images.retain(|reference| needed.contains(reference));
    }
}
