//! What came of a replay, for people and for programs.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::replay::{
    story::Outcome,
    trace::{Totals, Trace},
};

/// Everything about one replay.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    nodes: usize,
    requests: usize,
    replicas: u64,
    /// Demand as a share of capacity, in percent; `null` where there is no capacity.
    load_pct: Shares,
    policies: Vec<Line>,
}

/// Percentages; `None` where there is nothing to take a share of.
#[derive(Clone, Copy, Debug, Serialize)]
struct Shares {
    cpu: Option<f64>,
    memory: Option<f64>,
    gpu: Option<f64>,
}

/// What one policy did.
#[derive(Clone, Debug, Serialize)]
struct Line {
    policy: String,
    placed: u64,
    placed_late: u64,
    placed_pct: Shares,
    /// In use after the last arrival, of what there is.
    in_use_pct: Shares,
    /// Of what is left then.
    unusable_pct: Shares,
    decisions: u64,
    decisions_per_s: f64,
    request_p50_us: f64,
    request_p99_us: f64,
}

impl Report {
    pub(crate) fn new(trace: &Trace, outcomes: &[Outcome]) -> Self {
        let (demand, capacity) = (trace.demand(), trace.capacity());
        Self {
            nodes: trace.nodes.len(),
            requests: trace.requests.len(),
            replicas: outcomes.first().map_or(0, |outcome| outcome.replicas),
            load_pct: Shares::of(demand, capacity),
            policies: outcomes.iter().map(|outcome| Line::new(outcome, demand, capacity)).collect(),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{} nodes, {} requests for {} replicas; asked for of what there is: {}\n\n",
            self.nodes,
            self.requests,
            self.replicas,
            self.load_pct.text()
        );
        let head =
            ["policy", "placed", "late", "placed %", "in use %", "unusable %", "decisions/s", "p50 us", "p99 us"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.push(["", "", "", "cpu/memory/gpu", "cpu/memory/gpu", "cpu/memory/gpu", "", "", ""].map(str::to_owned));
        rows.extend(self.policies.iter().map(Line::cells));
        let widths: Vec<usize> =
            (0..head.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
        for row in rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let padding = " ".repeat(width - cell.len());
                // Words begin at the left, numbers end at the right.
                let (before, after) = if column == 0 { ("", padding.as_str()) } else { (padding.as_str(), "") };
                write!(line, "{before}{cell}{after}  ").expect("a String takes everything");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

impl Line {
    fn new(outcome: &Outcome, demand: Totals, capacity: Totals) -> Self {
        let unusable = outcome.unusable;
        let percent = |share: Option<f64>| share.map(|share| rounded(share * 100.0, 10.0));
        let seconds = outcome.spent.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of decisions is far below 2^52")]
        let decisions = outcome.decisions as f64;
        Self {
            policy: outcome.policy.name(),
            placed: outcome.placed,
            placed_late: outcome.placed_late,
            placed_pct: Shares::of(outcome.placed_amount, demand),
            in_use_pct: Shares::of(outcome.in_use, capacity),
            unusable_pct: Shares {
                cpu: percent(unusable.cpu),
                memory: percent(unusable.memory),
                gpu: percent(unusable.gpu),
            },
            decisions: outcome.decisions,
            decisions_per_s: if seconds > 0.0 { (decisions / seconds).round() } else { 0.0 },
            request_p50_us: micros(outcome.percentile(50)),
            request_p99_us: micros(outcome.percentile(99)),
        }
    }

    fn cells(&self) -> [String; 9] {
        [
            self.policy.clone(),
            self.placed.to_string(),
            self.placed_late.to_string(),
            self.placed_pct.cell(),
            self.in_use_pct.cell(),
            self.unusable_pct.cell(),
            self.decisions_per_s.to_string(),
            self.request_p50_us.to_string(),
            self.request_p99_us.to_string(),
        ]
    }
}

impl Outcome {
    /// The time that so many percent of the requests did not exceed.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let index = (self.times.len() * percent).div_ceil(100).saturating_sub(1);
        self.times.get(index).copied().unwrap_or_default()
    }
}

impl Shares {
    fn of(part: Totals, whole: Totals) -> Self {
        let share = |part: u128, whole: u128| (whole > 0).then(|| rounded(ratio(part, whole) * 100.0, 100.0));
        Self {
            cpu: share(part.cpu_millis, whole.cpu_millis),
            memory: share(part.memory_mib, whole.memory_mib),
            gpu: share(part.gpu_millis, whole.gpu_millis),
        }
    }

    fn text(&self) -> String {
        let all = [("CPU", self.cpu), ("memory", self.memory), ("GPU", self.gpu)];
        let known: Vec<String> =
            all.iter().filter_map(|(name, share)| share.map(|share| format!("{name} {share:.1} %"))).collect();
        known.join(", ")
    }

    fn cell(&self) -> String {
        [self.cpu, self.memory, self.gpu]
            .map(|share| share.map_or_else(|| "-".to_owned(), |share| format!("{share:.1}")))
            .join("/")
    }
}

/// A part of a whole that is not zero.
pub(crate) fn ratio(part: u128, whole: u128) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let share = part as f64 / whole as f64;
    share
}

fn micros(time: Duration) -> f64 {
    rounded(time.as_secs_f64() * 1e6, 100.0)
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
