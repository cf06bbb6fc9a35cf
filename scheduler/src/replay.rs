//! `wherry-scheduler replay`: how well a list of requests would be placed on a list of nodes, by the scheduler's own engine
//! and by the formulas of others, without a cluster.

mod ledger;
mod nodes;
pub mod policy;
mod report;
mod requests;
pub mod seeded;
pub mod story;
pub mod synthetic;
mod table;
pub mod trace;
pub mod unusable;

use std::path::Path;

use thiserror::Error;

use crate::{
    args::{Output, Replay},
    replay::{
        policy::Policy,
        report::Report,
        synthetic::{Mix, Order},
        table::{Column, Faults, Table},
        trace::Trace,
    },
};

/// The largest fleet that is made up.
const SYNTHETIC_MAX: u32 = 1_000_000;

/// Why a replay has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// The lists are wrong; each line says where, and what to write.
    #[error("the lists cannot be replayed:\n{0}")]
    Lists(String),
    /// No such fleet can be made up.
    #[error("a made-up fleet has 1 to {most} nodes: write --synthetic 2000", most = SYNTHETIC_MAX)]
    Synthetic,
    /// A policy gave away what was not there.
    #[error("the policy {} gave away more of node `{node}` than it has: this is a defect, please report it", policy.name())]
    Overcommitted {
        /// Which policy.
        policy: Policy,
        /// Of which node.
        node: String,
    },
    /// A policy found no node where there was one.
    #[error("the policy {} found no node, but `{node}` has room: this is a defect, please report it", policy.name())]
    Overlooked {
        /// Which policy.
        policy: Policy,
        /// The node that has room.
        node: String,
    },
    /// A policy placed more replicas than it was asked to.
    #[error("the policy {} placed more than it was asked to: this is a defect, please report it", .0.name())]
    Surplus(Policy),
    /// The report cannot be written as JSON.
    #[error("cannot write the report as JSON: {0}")]
    Json(String),
}

/// Does what the command line says, and gives what to print.
///
/// # Errors
/// If the lists are wrong, or a policy proves to be.
pub fn replay(arguments: &Replay) -> Result<String, ReplayError> {
    let trace = match (&arguments.nodes, &arguments.requests, arguments.synthetic) {
        (Some(nodes), Some(requests), None) => read(nodes, requests, &arguments.ignore_column)?,
        (_, _, nodes) => {
            let nodes = nodes.unwrap_or_default();
            if !(1..=SYNTHETIC_MAX).contains(&nodes) {
                return Err(ReplayError::Synthetic);
            }
            synthetic::trace(&Mix {
                nodes,
                zones: nodes.div_ceil(40),
                replicas: nodes * 10,
                shapes: nodes.div_ceil(2),
                load_pct: arguments.load,
                order: Order::Mixed,
                seed: arguments.seed,
            })
        }
    };
    let outcomes: Vec<_> =
        arguments.policy.iter().map(|policy| story::tell(&trace, *policy, arguments.seed)).collect::<Result<_, _>>()?;
    let report = Report::new(&trace, &outcomes);
    match arguments.output {
        Output::Text => Ok(report.text()),
        Output::Json => serde_json::to_string_pretty(&report)
            .map(|text| text + "\n")
            .map_err(|error| ReplayError::Json(error.to_string())),
    }
}

/// Reads both lists; faults of both are shown together.
fn read(nodes: &Path, requests: &Path, passed_over: &[String]) -> Result<Trace, ReplayError> {
    let mut faults = Faults::default();
    let mut trace = Trace::default();
    if let Some(mut table) = open(nodes, nodes::COLUMNS, passed_over, &mut faults) {
        trace.nodes = nodes::read(&mut table, &mut faults);
        if trace.nodes.is_empty() && faults.text().is_none() {
            faults.add(format!("{}: there is no node; write one row for each", nodes.display()));
        }
    }
    if let Some(mut table) = open(requests, requests::COLUMNS, passed_over, &mut faults) {
        (trace.shapes, trace.requests) = requests::read(&mut table, &mut faults);
        if trace.requests.is_empty() && faults.text().is_none() {
            faults.add(format!("{}: there is no request; write one row for each", requests.display()));
        }
    }
    faults.text().map_or(Ok(trace), |text| Err(ReplayError::Lists(text)))
}

fn open(
    path: &Path,
    columns: &'static [Column],
    passed_over: &[String],
    faults: &mut Faults,
) -> Option<Table<std::io::BufReader<std::fs::File>>> {
    Table::open(path, columns, passed_over).map_err(|fault| faults.add(fault)).ok()
}
