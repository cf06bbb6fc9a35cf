//! The rules of placement that look beyond CPU and memory, judged slowly and obviously: devices, company, evenness, data.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use api_types::{
    device::{Device, DeviceAmount, DeviceGrant, WHOLE_DEVICE_MILLIS},
    id::{NodeId, WorkloadId},
    instance::{Desired, Instance},
    node::Availability,
    placement::{Affinity, Domain, Relation},
    workload::WorkloadSpec,
};
use scheduler_core::effect::{Record, RecordKey};

use crate::{
    checkers::oracle::{More, meets_constraints},
    equipment::{devices_of, labels_of},
    node::SimNode,
    shape::volume,
    world::World,
};

/// Milliseconds of silence up to which a node surely counts as one that takes instances.
const SURELY_HEARD_MS: u64 = 2000;

/// What a place is called; a node without the label is in the place without a name.
type Place = Option<String>;

/// The place of a node.
fn place_of(node: &SimNode, over: &Domain) -> Place {
    match over {
        Domain::Node => Some(node.id.to_string()),
        Domain::Site => Some(format!("site-{}", node.site)),
        Domain::Label(name) => labels_of(node.index).remove(name),
    }
}

impl World {
    /// Whether a node's devices are given to no more than may use them, and an instance has what it asked for.
    pub(super) fn check_grants(&self, node: &SimNode, instance: &Instance, spec: &WorkloadSpec) -> Result<(), String> {
        let devices = devices_of(node.index);
        let used = self.shares_used(node, &devices, More::None)?;
        if let Some(device) = devices.iter().find(|device| used.get(&device.name) > Some(&device.shares)) {
            return Err(format!("device {} is given away {:?} times", device.name, used.get(&device.name)));
        }
        let kind_of = |grant: &DeviceGrant| devices.iter().find(|device| device.name == grant.device);
        if spec.devices.len() != instance.devices.len() {
            return Err(format!("it has the devices {:?}, and asked for {:?}", instance.devices, spec.devices));
        }
        for (asked, grant) in spec.devices.iter().zip(&instance.devices) {
            let device = kind_of(grant).ok_or(format!("there is no device {}", grant.device))?;
            let enough = match asked.amount {
                DeviceAmount::Whole(_) => grant.millis == WHOLE_DEVICE_MILLIS,
                DeviceAmount::Millis(millis) => shares_of(device, grant.millis) >= shares_of(device, millis),
                DeviceAmount::Share => shares_of(device, grant.millis) >= 1,
            };
            if device.kind != asked.kind || !enough {
                return Err(format!("it has {grant:?}, and asked for {asked}"));
            }
        }
        Ok(())
    }

    /// How many shares of each device the instances of a node hold.
    fn shares_used(&self, node: &SimNode, devices: &[Device], more: More<'_>) -> Result<BTreeMap<String, u32>, String> {
        let mut used = BTreeMap::new();
        let here = self.scheduler.decided.on(&node.id).filter(|held| !more.replaces(&held.id));
        for grant in here.flat_map(|held| &held.devices) {
            let device = devices.iter().find(|device| device.name == grant.device);
            let device = device.ok_or(format!("there is no device {}", grant.device))?;
            *used.entry(grant.device.clone()).or_default() += shares_of(device, grant.millis);
        }
        Ok(used)
    }

    /// Whether one more instance would get the devices that it asks for, by what the node last said is there.
    pub(super) fn check_devices(&self, node: &SimNode, spec: &WorkloadSpec, more: More<'_>) -> Result<(), String> {
        let there = node.told.as_ref().map(|facts| facts.devices.as_slice()).unwrap_or_default();
        let used = self.shares_used(node, &devices_of(node.index), more)?;
        // Stories ask for one device at most, so any that fits will do.
        let fits = |device: &&Device, amount: DeviceAmount| {
            let used = used.get(&device.name).copied().unwrap_or_default();
            match amount {
                DeviceAmount::Whole(_) => used == 0,
                DeviceAmount::Millis(millis) => used + shares_of(device, millis) <= device.shares,
                DeviceAmount::Share => used < device.shares,
            }
        };
        let lacks = spec.devices.iter().find(|asked| {
            !there.iter().filter(|device| device.kind == asked.kind).any(|device| fits(&device, asked.amount))
        });
        lacks.map_or(Ok(()), |asked| Err(format!("it has not {asked}")))
    }

    /// Whether those are in a node's places that must be, and those are not that must not, both ways.
    pub(super) fn check_company(&self, node: &SimNode, spec: &WorkloadSpec) -> Result<(), String> {
        for rule in &spec.placement.affinities {
            let meets = self.is_there(&rule.workload, node, &rule.within);
            if meets != (rule.relation == Relation::With) {
                return Err(format!("against `{rule}`"));
            }
        }
        for other in self.workloads_decided().filter(|other| other.id != spec.id) {
            let shuns = |rule: &&Affinity| rule.workload == spec.id && rule.relation == Relation::Without;
            for rule in other.placement.affinities.iter().filter(shuns) {
                if self.is_there(&other.id, node, &rule.within) {
                    return Err(format!("{} is there and shuns it", other.id));
                }
            }
        }
        Ok(())
    }

    /// Whether a workload has an instance in a node's place.
    fn is_there(&self, workload: &WorkloadId, node: &SimNode, within: &Domain) -> bool {
        let place = place_of(node, within);
        let of_workload = self.scheduler.decided.of(workload);
        of_workload.filter_map(|held| self.node_of(&held.node)).any(|other| place_of(other, within) == place)
    }

    /// The workloads as they are wanted.
    pub(super) fn workloads_decided(&self) -> impl Iterator<Item = &WorkloadSpec> {
        self.scheduler.decided.workloads().map(|workload| &workload.spec)
    }

    pub(super) fn node_of(&self, id: &NodeId) -> Option<&SimNode> {
        self.index.get(id).map(|index| &self.nodes[*index])
    }

    /// Whether one more instance on a node would be as even as its rules ask. Only in a world that stands still: what is
    /// wanted counts, and nothing is on its way out.
    pub(super) fn check_evenness(&self, node: &SimNode, spec: &WorkloadSpec) -> Result<(), String> {
        for rule in &spec.placement.spread {
            let Some(skew) = rule.skew_max else { continue };
            let counts = self.counts(spec, &rule.over, |_| true);
            let there = counts.get(&place_of(node, &rule.over)).copied().unwrap_or_default();
            let floor = self.floor(spec, &rule.over, &counts).unwrap_or_default().min(there);
            if there >= floor + skew {
                return Err(format!("more uneven than `{rule}`: {there} there, {floor} at the least"));
            }
        }
        Ok(())
    }

    /// Whether an instance that was just placed surely broke a rule of evenness, whatever was on its way out then. Judged while
    /// nothing happened to the workload lately: its room may have been promised before that.
    pub(super) fn check_still_even(&self, node: &SimNode, spec: &WorkloadSpec) -> Result<(), String> {
        if self.causes.is_being_changed(self.now, &spec.id) {
            return Ok(());
        }
        for rule in &spec.placement.spread {
            let Some(skew) = rule.skew_max else { continue };
            let holders = self.holders(spec);
            let surely = |held: &Instance| {
                let sole = holders.get(&held.slot) == Some(&1);
                sole && !self.causes.has_ended(&held.id)
                    && self.node_of(&held.node).is_some_and(|node| self.surely_takes(node))
            };
            let sure = self.counts(spec, &rule.over, surely);
            let there = sure.get(&place_of(node, &rule.over)).copied().unwrap_or_default();
            // Who is on the way out is there until it is gone.
            let mut all = BTreeMap::new();
            for node in self.scheduler.decided.of(&spec.id).filter_map(|held| self.node_of(&held.node)) {
                *all.entry(place_of(node, &rule.over)).or_default() += 1;
            }
            if let Some(floor) = self.floor(spec, &rule.over, &all)
                && there > floor + skew
            {
                return Err(format!("more uneven than `{rule}`: {there} there now, {floor} at the least"));
            }
        }
        Ok(())
    }

    /// How many instances that shall run hold each slot.
    fn holders(&self, spec: &WorkloadSpec) -> BTreeMap<u32, u32> {
        let mut holders = BTreeMap::new();
        for held in self.scheduler.decided.of(&spec.id).filter(|held| held.desired == Desired::Run) {
            *holders.entry(held.slot).or_default() += 1;
        }
        holders
    }

    /// How many instances that shall run, and run what is wanted now, are in each place.
    fn counts(&self, spec: &WorkloadSpec, over: &Domain, counts: impl Fn(&Instance) -> bool) -> BTreeMap<Place, u32> {
        let mut by_place = BTreeMap::new();
        let wanted = self.scheduler.decided.of(&spec.id).filter(|held| held.desired == Desired::Run);
        for held in wanted.filter(|held| self.scheduler.decided.is_current(held) && counts(held)) {
            if let Some(node) = self.node_of(&held.node) {
                *by_place.entry(place_of(node, over)).or_default() += 1;
            }
        }
        by_place
    }

    /// The lowest count of the places with a node that surely takes instances of the workload; `None` = there is none.
    fn floor(&self, spec: &WorkloadSpec, over: &Domain, counts: &BTreeMap<Place, u32>) -> Option<u32> {
        let is_meant =
            |node: &&SimNode| self.surely_takes(node) && meets_constraints(node, spec) && has_kinds(node, spec);
        let places: BTreeSet<Place> = self.nodes.iter().filter(is_meant).map(|node| place_of(node, over)).collect();
        places.iter().map(|place| counts.get(place).copied().unwrap_or_default()).min()
    }

    /// Whether the scheduler knows that a node takes instances.
    fn surely_takes(&self, node: &SimNode) -> bool {
        let active =
            self.scheduler.decided.node(&node.id).is_some_and(|spec| spec.availability == Availability::Active);
        let heard = self.now.since(node.last_heard) < SURELY_HEARD_MS;
        active && heard && node.told.is_some() && node.said_all && node.said_well
    }

    /// Where the data of a slot is, by the records.
    fn home_of(&self, workload: &WorkloadId, slot: u32) -> Option<&NodeId> {
        let key = RecordKey::VolumeHome(workload.clone(), slot, volume());
        let record = self.scheduler.decided.records.get(&key)?;
        if let Record::VolumeHome { node, .. } = record { Some(node) } else { None }
    }

    /// Whether an instance with data is where its data is.
    pub(super) fn check_home(&self, instance: &Instance, spec: &WorkloadSpec) -> Result<(), String> {
        if spec.container.mounts.is_empty() {
            return Ok(());
        }
        match self.home_of(&instance.workload, instance.slot) {
            Some(home) if *home == instance.node => Ok(()),
            home => Err(format!("the data of slot {} is on {home:?}", instance.slot)),
        }
    }

    /// A node that could take an instance of the lowest empty slots of a workload, so many of them: where the data of
    /// such a slot is, or any where it has none.
    pub(super) fn node_for_empty_slots(&self, spec: &WorkloadSpec, count: u64) -> Option<&NodeId> {
        let holders = self.holders(spec);
        let empty = (0..u32::MAX).filter(|slot| !holders.contains_key(slot));
        let anywhere = OnceCell::new();
        empty.take(usize::try_from(count).unwrap_or(usize::MAX)).find_map(|slot| {
            let home = if spec.container.mounts.is_empty() { None } else { self.home_of(&spec.id, slot) };
            match home {
                Some(home) => self
                    .node_of(home)
                    .filter(|node| self.check_room(node, spec, More::One).is_ok())
                    .map(|node| &node.id),
                None => *anywhere.get_or_init(|| self.node_with_room(spec)),
            }
        })
    }
}

/// Whether a node said that it has devices of the kinds that are asked for.
fn has_kinds(node: &SimNode, spec: &WorkloadSpec) -> bool {
    let there = node.told.as_ref().map(|facts| facts.devices.as_slice()).unwrap_or_default();
    spec.devices.iter().all(|asked| there.iter().any(|device| device.kind == asked.kind))
}

/// An amount of a device in shares of it, rounded up.
fn shares_of(device: &Device, millis: u32) -> u32 {
    (millis * device.shares).div_ceil(WHOLE_DEVICE_MILLIS)
}
