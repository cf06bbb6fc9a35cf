//! What one batch makes durable: the last word on each record, made into bytes once, when the batch is committed.

use std::collections::BTreeMap;

use scheduler_core::effect::{Record, RecordKey};

use crate::store::Write;

/// Keys of the core's records begin with this.
pub const CORE_PREFIX: &str = "core/";

/// The changes of a batch; of several to one record the last one counts.
#[derive(Debug, Default)]
pub struct Pending {
    records: BTreeMap<RecordKey, Option<Box<Record>>>,
    writes: BTreeMap<String, Write>,
}

impl Pending {
    /// Sets a record of the core.
    pub fn persist(&mut self, record: Box<Record>) {
        self.records.insert(record.key(), Some(record));
    }

    /// Removes a record of the core.
    pub fn forget(&mut self, key: RecordKey) {
        self.records.insert(key, None);
    }

    /// Adds changes of records beside the core's.
    pub fn add(&mut self, writes: impl IntoIterator<Item = Write>) {
        self.writes.extend(writes.into_iter().map(|write| (write.key.clone(), write)));
    }

    /// Takes all changes, as the store wants them.
    pub fn take(&mut self) -> Vec<Write> {
        let records = std::mem::take(&mut self.records).into_iter().map(|(key, record)| {
            let key = serde_json::to_string(&key).expect("keys are plain data");
            let key = format!("{CORE_PREFIX}{key}");
            record.map_or_else(|| Write::remove(key.clone()), |record| Write::put(key.clone(), &record))
        });
        records.chain(std::mem::take(&mut self.writes).into_values()).collect()
    }
}
