//! The instances: each is placed once, and kept until nothing of it is left. Its number is its handle everywhere inside.

use api_types::{
    id::{InstanceId, NodeId, WorkloadId},
    instance::{Desired, Instance, InstanceUsage},
    resources::Resources,
    time::Timestamp,
};

use scheduler_placement::Displaceable;

use crate::{
    cluster::{
        Cluster,
        held::Held,
        nodes::NodeEntry,
        rows::{COUNTED, ENDED, LEAVING, Observation, Observed, Row, STOPPING},
        workloads::{Run, WorkloadEntry},
    },
    effect::{InstancePage, PAGE_NUMBERS, PageEntry},
    placement::{Seat, holdings::named},
};

impl Cluster {
    /// All instances, the oldest first.
    pub(crate) fn instances(&self) -> impl Iterator<Item = Held<'_>> {
        self.held_of(self.rows.numbers())
    }

    /// The instances of a workload, the oldest first.
    pub(crate) fn instances_of(&self, workload: &WorkloadId) -> impl Iterator<Item = Held<'_>> {
        self.held_of(self.numbers_of(workload).iter().copied())
    }

    /// The instances on a node, the oldest first.
    pub(crate) fn instances_on<'c>(&'c self, node: &'c NodeEntry) -> impl Iterator<Item = Held<'c>> {
        node.instances.iter().filter_map(|number| self.held(*number))
    }

    /// The numbers of a workload's instances, in order.
    pub(crate) fn numbers_of(&self, workload: &WorkloadId) -> &[u64] {
        self.by_workload.get(workload).map_or(&[], Vec::as_slice)
    }

    /// A number that no instance ever had.
    pub(crate) fn next_number(&mut self) -> u64 {
        let number = self.counters.next_instance;
        self.counters.next_instance += 1;
        self.counted = true;
        number
    }

    /// Places a new instance where a place was taken for it, and gives its number: the one that was promised to it, if any.
    pub(crate) fn place(
        &mut self,
        workload: &WorkloadId,
        slot: u32,
        seat: &Seat,
        (promised, now): (Option<u64>, Timestamp),
    ) -> u64 {
        let entry = self.workloads.get(workload).expect("only instances of known workloads are placed");
        let (revision, run) = (entry.workload.revision, entry.run.clone());
        let node = seat.node;
        let devices = named(self.nodes.at(node).expect("only known nodes are picked"), &seat.devices);
        let number = promised.unwrap_or_else(|| self.next_number());
        let edition = self.editions.take(workload, revision, &run);
        self.insert(number, Row { placed_at: now, edition, node, slot, flags: COUNTED });
        if !devices.is_empty() {
            self.rows.change_rare(number, |rare| rare.devices = devices);
        }
        self.settle_volumes(&run.spec, slot, node);
        self.touch_followers(workload);
        self.pages.insert(number / PAGE_NUMBERS);
        self.touch_set(node);
        self.touched.seen = true;
        number
    }

    /// Takes over an instance that its node began by itself, in slot 0, whether there is room for it or not.
    pub(crate) fn take_over(&mut self, workload: &WorkloadId, number: u64, node: u32, now: Timestamp) {
        let entry = self.workloads.get(workload).expect("only instances of known workloads are taken over");
        let (revision, run) = (entry.workload.revision, entry.run.clone());
        let edition = self.editions.take(workload, revision, &run);
        self.insert(number, Row { placed_at: now, edition, node, slot: 0, flags: COUNTED });
        if let Some(entry) = self.nodes.at_mut(node) {
            // It is there: what was given away may be more than there is.
            let given = entry.allocatable_when_placed.unwrap_or_default();
            entry.allocatable_when_placed = Some(Resources {
                cpu_millis: given.cpu_millis.max(entry.allocated.cpu_millis),
                memory_bytes: given.memory_bytes.max(entry.allocated.memory_bytes),
            });
            entry.drained = false;
        }
        self.enter_instance(number);
        self.settle_volumes(&run.spec, 0, node);
        self.touch_followers(workload);
        self.touch_instance(number);
        self.pages.insert(number / PAGE_NUMBERS);
        self.touch_set(node);
    }

    /// Puts an instance back that is durable.
    pub(crate) fn restore(&mut self, entry: &PageEntry<'_>, node: u32, run: &Run) {
        let edition = self.editions.take(entry.workload, entry.revision, run);
        let flags = if entry.desired == Desired::Stop { STOPPING } else { COUNTED };
        self.insert(entry.number, Row { placed_at: entry.placed_at, edition, node, slot: entry.slot, flags });
        if !entry.devices.is_empty() {
            self.rows.change_rare(entry.number, |rare| rare.devices = entry.devices.to_vec());
        }
        self.enter_instance(entry.number);
    }

    /// Puts an instance into the table and its indexes.
    fn insert(&mut self, number: u64, row: Row) {
        let edition = self.editions.at(row.edition);
        let spec = &edition.run.spec;
        let node = self.nodes.at_mut(row.node).expect("only known nodes are picked");
        insert_sorted(&mut node.instances, number);
        node.allocated = node.allocated.checked_add(spec.reserve()).expect("admission bounds what is reserved");
        for port in &spec.ports {
            if let Some(host) = port.host {
                node.host_ports.insert((host, port.protocol), number);
            }
        }
        match self.by_workload.get_mut(&edition.workload) {
            Some(siblings) => insert_sorted(siblings, number),
            None => {
                self.by_workload.insert(edition.workload.clone(), vec![number]);
            }
        }
        self.rows.insert(number, row);
        self.change_displaceable(number, Displaceable::add);
    }

    /// Takes an instance out of the service table, to be told to stop at `at`.
    pub(crate) fn leave(&mut self, number: u64, at: Timestamp) {
        self.set_counted(number, false);
        self.lets_go(number);
        let Some(row) = self.rows.get_mut(number) else { return };
        row.flags |= LEAVING;
        self.rows.change_rare(number, |rare| rare.leaves_at = Some(at));
        self.touch_instance(number);
    }

    /// Tells an instance to stop.
    pub(crate) fn stop(&mut self, number: u64) {
        self.set_counted(number, false);
        self.lets_go(number);
        let Some(row) = self.rows.get_mut(number).filter(|row| row.flags & STOPPING == 0) else { return };
        let was_leaving = row.flags & LEAVING != 0;
        row.flags = (row.flags | STOPPING) & !LEAVING;
        let node = row.node;
        if was_leaving {
            self.rows.change_rare(number, |rare| rare.leaves_at = None);
        }
        self.pages.insert(number / PAGE_NUMBERS);
        self.touch_instance(number);
        self.touch_set(node);
    }

    /// Tells who looks for room that an instance is about to go, if it was not yet.
    fn lets_go(&mut self, number: u64) {
        if self.held(number).is_some_and(|held| held.is_wanted()) {
            self.change_displaceable(number, Displaceable::leave);
        }
    }

    /// Forgets an instance of which nothing is left; gives what it was.
    pub(crate) fn forget(&mut self, number: u64) -> Option<Instance> {
        let held = self.held(number)?;
        let (instance, reserve, since) = (held.instance(), held.reserve(), held.runs_since());
        let workload = &instance.workload;
        self.touch_instance(number);
        self.lets_go(number);
        self.change_displaceable(number, |sums, node, priority, amount| sums.remove(node, priority, amount, true));
        self.leave_instance(number);
        let row = self.rows.remove(number)?;
        if let Some(node) = self.nodes.at_mut(row.node) {
            remove_sorted(&mut node.instances, number);
            node.allocated = node.allocated.saturating_sub(reserve);
            node.host_ports.retain(|_, holder| *holder != number);
        }
        if let Some(siblings) = self.by_workload.get_mut(workload) {
            remove_sorted(siblings, number);
            if siblings.is_empty() {
                self.by_workload.remove(workload);
            }
        }
        if let Some(entry) = self.rollouts.get_mut(workload) {
            entry.trials.remove(&number);
        }
        self.editions.release(row.edition);
        self.release_run(workload, since);
        self.pages.insert(number / PAGE_NUMBERS);
        self.touch_set(row.node);
        self.touched.room.insert(row.node);
        Some(instance)
    }

    /// Takes over what a node said of an instance; gives what was known before.
    pub(crate) fn observe(
        &mut self,
        number: u64,
        observation: Option<Observation>,
        now: Timestamp,
    ) -> Option<Observation> {
        let before = self.held(number)?;
        let earlier = before.observation();
        let seen = |held: &Held<'_>| (held.is_well(), held.has_ended(), held.observed().and_then(Observed::address));
        let (was, failed, ended_at) = (seen(&before), before.fails_its_probe(), before.ended_at());
        let (used_up, ran) = (before.is_used_up(), before.runs());
        self.touched.seen |= earlier != observation;
        let ends = observation.as_ref().is_some_and(|observation| observation.state.is_final());
        if ends != was.1 {
            let row = self.rows.get_mut(number)?;
            row.flags ^= ENDED;
            self.rows.change_rare(number, |rare| rare.ended_at = ends.then_some(ended_at.unwrap_or(now)));
        }
        self.rows.observe(number, observation);
        let after = self.held(number)?;
        let is = seen(&after);
        if used_up != after.is_used_up() {
            let workload = after.workload().clone();
            self.touched.workloads.insert(workload);
        }
        let after = self.held(number)?;
        if ran != after.runs() {
            let workload = after.workload().clone();
            self.touch_awaited(&workload);
        }
        let after = self.held(number)?;
        if after.is_on_trial() {
            let workload = after.workload().clone();
            self.touched.workloads.insert(workload.clone());
            self.touch_endpoint(workload, number);
        } else if is != was {
            let workload = after.workload().clone();
            let steady = self.workloads.get(&workload).is_some_and(|entry| entry.is_steady);
            if !steady || was.1 != is.1 {
                self.touched.workloads.insert(workload.clone());
            }
            self.touch_endpoint(workload, number);
        } else if failed != after.fails_its_probe() {
            // It may be used while nobody of its service is ready.
            let workload = after.workload().clone();
            self.touch_endpoint(workload, number);
        }
        earlier
    }

    /// Takes over a sample of what an instance on `node` uses; whether it is there.
    pub(crate) fn sample(&mut self, id: &InstanceId, node: &NodeId, usage: &InstanceUsage) -> bool {
        let held = self.held_by_id(id).filter(|held| held.node_id() == node);
        let Some(number) = held.map(|held| held.number) else { return false };
        self.rows.sample(number, usage);
        true
    }

    /// A page of instances as it is to be durable; `None` if none of its numbers is there.
    pub(crate) fn instance_page(&self, page: u64) -> Option<InstancePage> {
        let mut held = self.held_of(self.rows.numbers_in(page)).peekable();
        held.peek()?;
        let entries = held.map(|held| PageEntry {
            number: held.number,
            workload: held.workload(),
            revision: held.revision(),
            slot: held.slot(),
            node: held.node_id(),
            placed_at: held.placed_at(),
            desired: held.desired(),
            devices: held.devices(),
        });
        Some(InstancePage::new(page, entries))
    }

    /// Notes that workloads whose instances must be beside those of another may find room.
    fn touch_followers(&mut self, workload: &WorkloadId) {
        let group = self.ledger.group(workload).and_then(|group| self.ledger.engine.group(group));
        let followers = group.into_iter().flat_map(|group| group.followers());
        self.touched.workloads.extend(followers.filter_map(|group| self.ledger.name(group).cloned()));
    }

    /// Notes that an instance is not what it was.
    fn touch_instance(&mut self, number: u64) {
        let Some(workload) = self.held(number).map(|held| held.workload().clone()) else { return };
        self.touched.workloads.insert(workload.clone());
        self.touch_endpoint(workload, number);
        self.touched.seen = true;
    }

    /// Notes that an endpoint may differ, if its workload is balanced to at all, and what others wait for.
    pub(crate) fn touch_endpoint(&mut self, workload: WorkloadId, number: u64) {
        self.touch_awaited(&workload);
        let is_balanced = |entry: &WorkloadEntry| entry.spec().is_balanced();
        if self.follows_all || self.workloads.get(&workload).is_some_and(is_balanced) {
            self.touched.endpoints.insert((workload, number));
        }
    }

    /// Notes that what a node is to do differs.
    pub(crate) fn touch_set(&mut self, node: u32) {
        if let Some(entry) = self.nodes.at_mut(node) {
            entry.set_differs = true;
            self.touched.sets.insert(node);
        }
    }
}

fn insert_sorted(numbers: &mut Vec<u64>, number: u64) {
    // Nearly always the newest of all.
    match numbers.last() {
        Some(last) if *last >= number => {
            if let Err(place) = numbers.binary_search(&number) {
                numbers.insert(place, number);
            }
        }
        Some(_) | None => {
            if numbers.len() == numbers.capacity() {
                // An eighth at a time: each instance is in two such lists, and room for twice as many is seldom used.
                numbers.reserve_exact(numbers.len() / 8 + 1);
            }
            numbers.push(number);
        }
    }
}

fn remove_sorted(numbers: &mut Vec<u64>, number: u64) {
    if let Ok(place) = numbers.binary_search(&number) {
        numbers.remove(place);
        if numbers.len() * 4 < numbers.capacity() {
            numbers.shrink_to(numbers.len() * 2);
        }
    }
}
