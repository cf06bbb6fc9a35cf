//! Jobs and their runs, seen from outside.

use serde::{Deserialize, Serialize};

use crate::{
    counter::Revision,
    id::{InstanceId, NodeId},
    job::RunState,
    time::Timestamp,
};

/// What a job did and does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its runs that are active or kept, the newest first.
    pub runs: Vec<JobRunView>,
    /// When its schedule begins the next run; `None` = it has none, or begins nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The node that follows the schedule by its own clock while it hears no scheduler; `None` = nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follower: Option<NodeId>,
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
    /// Whether its node began it by its own clock, as it heard no scheduler.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended; `None` = it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Its instances that are there, sorted.
    #[serde(default)]
    pub instances: Vec<InstanceId>,
}
