//! What instances run: each workload's spec at each revision that some instance was placed with, once for all of them.

use std::collections::BTreeMap;

use api_types::{counter::Revision, id::WorkloadId};

use crate::cluster::workloads::Run;

/// A workload at a revision.
#[derive(Clone, Debug)]
pub(crate) struct Edition {
    /// Whose.
    pub(crate) workload: WorkloadId,
    /// The revision at which its instances were placed.
    pub(crate) revision: Revision,
    /// What they run.
    pub(crate) run: Run,
    /// How many there are; with the last one it goes.
    instances: usize,
}

/// All editions, by a dense index that is used again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Editions {
    by_key: BTreeMap<(WorkloadId, Revision), u32>,
    slots: Vec<Option<Edition>>,
    free: Vec<u32>,
    /// The one that was asked for last: instances come in runs.
    latest: Option<u32>,
}

impl Editions {
    /// The edition with this index, which some instance has.
    pub(crate) fn at(&self, index: u32) -> &Edition {
        self.slots[index as usize].as_ref().expect("an edition stays as long as an instance has it")
    }

    /// Counts one more instance of an edition; makes it, if it is the first.
    pub(crate) fn take(&mut self, workload: &WorkloadId, revision: Revision, run: &Run) -> u32 {
        let is_it = |edition: &Edition| edition.revision == revision && edition.workload == *workload;
        let latest = self.latest.filter(|index| self.slots[*index as usize].as_ref().is_some_and(is_it));
        let index = latest.unwrap_or_else(|| self.index_of(workload, revision, run));
        self.latest = Some(index);
        self.slots[index as usize].as_mut().expect("just found or made").instances += 1;
        index
    }

    /// Counts one instance less.
    pub(crate) fn release(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let edition = slot.as_mut().expect("an edition stays as long as an instance has it");
        edition.instances -= 1;
        if edition.instances == 0 {
            self.by_key.remove(&(edition.workload.clone(), edition.revision));
            *slot = None;
            self.free.push(index);
        }
    }

    /// How many instances run what a workload runs since a revision.
    pub(crate) fn running(&self, workload: &WorkloadId, since: Revision) -> usize {
        let all = (workload.clone(), Revision(0))..=(workload.clone(), Revision(u64::MAX));
        let editions = self.by_key.range(all).map(|(_, index)| self.at(*index));
        editions.filter(|edition| edition.run.since == since).map(|edition| edition.instances).sum()
    }

    /// Lets the instances that run what a workload runs since a revision run this from now on.
    pub(crate) fn renew(&mut self, workload: &WorkloadId, run: &Run) {
        let all = (workload.clone(), Revision(0))..=(workload.clone(), Revision(u64::MAX));
        for index in self.by_key.range(all).map(|(_, index)| *index) {
            if let Some(edition) = &mut self.slots[index as usize]
                && edition.run.since == run.since
            {
                edition.run = run.clone();
            }
        }
    }

    fn index_of(&mut self, workload: &WorkloadId, revision: Revision, run: &Run) -> u32 {
        let key = (workload.clone(), revision);
        if let Some(index) = self.by_key.get(&key) {
            return *index;
        }
        let edition = Edition { workload: workload.clone(), revision, run: run.clone(), instances: 0 };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(edition);
                index
            }
            None => {
                self.slots.push(Some(edition));
                u32::try_from(self.slots.len() - 1).expect("fewer editions than instances fit into memory")
            }
        };
        self.by_key.insert(key, index);
        index
    }
}
