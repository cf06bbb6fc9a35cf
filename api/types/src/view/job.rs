//! Jobs and their runs, seen from outside.

use serde::{Deserialize, Serialize};

use crate::{counter::Revision, id::InstanceId, job::RunState, time::Timestamp};

/// What a job did and does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its runs that are kept, the newest first; one that is active is the first.
    pub runs: Vec<JobRunView>,
    /// When its schedule begins the next run; `None` = it has none, or begins nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
}

/// A run of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRunView {
    /// Which, from 1.
    pub number: u64,
    /// The revision that it runs.
    pub revision: Revision,
    /// How far it is.
    pub state: RunState,
    /// Why it is not done; empty when nothing went wrong.
    #[serde(default)]
    pub cause: String,
    /// How many of its slots are done.
    pub done: u32,
    /// Of how many.
    pub completions: u32,
    /// The time of its schedule that it is for; `None` = it was applied, or a person asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_at: Option<Timestamp>,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended; `None` = it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Its instances that are there, sorted.
    #[serde(default)]
    pub instances: Vec<InstanceId>,
}
