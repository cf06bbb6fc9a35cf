//! `wherry what-if`: what would come of a loss, a drain, more nodes or a change.

use std::path::PathBuf;

use api_types::{
    id::NodeId,
    view::{Forecast, InstanceMove, NodeForecast, Question, RebalanceMove, WorkloadForecast},
};
use clap::{Args, Subcommand};

use crate::{
    commands::{Session, counted, manifests::checked_file, name},
    failure::{Failure, code},
    output::{
        amounts::{bytes, cpus, percent, span},
        table::{indented, parts, table_within},
    },
};

/// How many lines of moves and of nodes are shown unless all are asked for.
const LINES_MAX: usize = 20;

/// Show what would come of a loss, a drain, more nodes or a change
///
/// The scheduler plays it on a copy of its state, in virtual time, by the code that acts otherwise; nothing is changed.
/// What is placed counts as healthy at once, so times are those of waiting and of order, without pulling images and
/// starting processes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  wherry what-if node-loss n1 n2             both lose their power\n  \
                        wherry what-if site-loss berlin            a whole site does\n  \
                        wherry what-if drain n1                    where its instances would go\n  \
                        wherry what-if join --like n1 --count 3    what three more such nodes would take\n  \
                        wherry what-if apply -f shop.toml          how an update would go, step by step\n\n\
                        With --exit-code it ends with 4 if an instance finds no node, for scripts.")]
pub(crate) struct WhatIf {
    #[command(subcommand)]
    question: Asked,
}

#[derive(Debug, Subcommand)]
enum Asked {
    /// Nodes lose their power, all at once
    NodeLoss(Nodes),
    /// Every node of a site loses its power
    SiteLoss(Site),
    /// Nodes are drained, all at once
    Drain(Nodes),
    /// New nodes join that are like one that is there
    Join(Join),
    /// A manifest is applied
    Apply(Apply),
}

#[derive(Debug, Args)]
struct Nodes {
    /// Which nodes
    #[arg(value_parser = name::<NodeId>, required = true, value_name = "NODE")]
    nodes: Vec<NodeId>,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Args)]
struct Site {
    /// Which site
    site: String,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Args)]
struct Join {
    /// The node they are like: its site, labels, size and devices
    #[arg(long, value_name = "NODE", value_parser = name::<NodeId>)]
    like: NodeId,
    /// How many
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    count: u32,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Args)]
struct Apply {
    /// A manifest, or - for standard input
    #[arg(short, long)]
    file: PathBuf,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Args)]
struct Shown {
    /// Every move and every node, not the first few
    #[arg(long)]
    all: bool,
    /// End with 4 if an instance would find no node
    #[arg(long)]
    exit_code: bool,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &WhatIf) -> Result<(), Failure> {
    let ask = async |question: Question| Ok::<_, Failure>(session.client()?.what_if(&question).await?);
    let (forecast, shown) = match &arguments.question {
        Asked::NodeLoss(asked) => (ask(Question::NodeLoss { nodes: asked.nodes.clone() }).await?, &asked.shown),
        Asked::SiteLoss(asked) => (ask(Question::SiteLoss { site: asked.site.clone() }).await?, &asked.shown),
        Asked::Drain(asked) => (ask(Question::Drain { nodes: asked.nodes.clone() }).await?, &asked.shown),
        Asked::Join(asked) => {
            (ask(Question::Join { like: asked.like.clone(), count: asked.count }).await?, &asked.shown)
        }
        Asked::Apply(asked) => {
            let manifest = checked_file(&asked.file)?;
            (session.client()?.what_if_applied(&manifest.text).await?, &asked.shown)
        }
    };
    if shown.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(forecast)));
    } else {
        session.screen.data(&text(&forecast, session.screen.width, shown.all));
    }
    let unplaced = forecast.workloads.iter().any(|workload| workload.unplaced > 0);
    if shown.exit_code && unplaced { Err(Failure::Said(code::NOT_PLACED)) } else { Ok(()) }
}

fn text(forecast: &Forecast, width: Option<usize>, all: bool) -> String {
    let room = width.unwrap_or(usize::MAX);
    let mut text = String::new();
    for line in parts(&format!("If {}: {}.", forecast.question, forecast.summary), room) {
        text += &format!("{line}\n");
    }
    let inner = width.map(|width| width.saturating_sub(2));
    let mut section = |title: &str, headers: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text += &format!("\n{title}\n{}", indented(&table_within(inner, headers, &rows)));
        }
    };
    let headers = ["WORKLOAD", "READY", "LEAST", "AFTER", "SHORT", "DOWN", "UNPLACED", "REASON"];
    section("Workloads", &headers, forecast.workloads.iter().map(workload).collect());
    let most = if all { usize::MAX } else { LINES_MAX };
    section("Moves", &["AT", "INSTANCE", "FROM", "TO"], forecast.moves.iter().take(most).map(moved).collect());
    section("Nodes", &["NODE", "INSTANCES", "CPU", "MEMORY"], forecast.nodes.iter().take(most).map(node).collect());
    if let Some(plan) = &forecast.rebalance {
        let rows = plan.moves.iter().take(most).map(rebalanced).collect();
        section("Moved if you ask: wherry rebalance --start", &["INSTANCE", "FROM", "TO", "GAIN"], rows);
    }
    let hidden = |count: usize| count.saturating_sub(most);
    let asked = forecast.rebalance.as_ref().map_or(0, |plan| plan.moves.len());
    let moves = hidden(forecast.moves.len()) + hidden(asked);
    for (count, noun) in [(moves, "more move"), (hidden(forecast.nodes.len()), "more node")] {
        if count > 0 {
            text += &format!("\n{}: --all shows them\n", counted(count, noun));
        }
    }
    if !forecast.warnings.is_empty() || !forecast.cut.is_empty() {
        text += "\n";
    }
    let warnings = forecast.warnings.iter().map(String::as_str);
    for warning in warnings.chain([forecast.cut.as_str()].into_iter().filter(|cut| !cut.is_empty())) {
        for line in parts(&format!("warning: {warning}"), room) {
            text += &format!("{line}\n");
        }
    }
    text
}

fn workload(workload: &WorkloadForecast) -> Vec<String> {
    let time = |time: Option<u64>| match time {
        None => "for good".to_owned(),
        Some(0) => String::new(),
        Some(milliseconds) => span(milliseconds),
    };
    let number = |number: u32| if number == 0 { String::new() } else { number.to_string() };
    vec![
        workload.workload.to_string(),
        workload.ready_before.to_string(),
        workload.ready_least.to_string(),
        format!("{}/{}", workload.ready_after, workload.wanted),
        time(workload.short_ms),
        time(workload.down_ms),
        number(workload.unplaced),
        workload.reason.clone(),
    ]
}

fn moved(moved: &InstanceMove) -> Vec<String> {
    let node = |node: &Option<NodeId>, none: &str| node.as_ref().map_or_else(|| none.to_owned(), ToString::to_string);
    vec![
        span(moved.at_ms),
        format!("{}/{}", moved.workload, moved.slot),
        node(&moved.from, ""),
        node(&moved.to, "no node"),
    ]
}

fn rebalanced(moved: &RebalanceMove) -> Vec<String> {
    vec![moved.instance.to_string(), moved.from.to_string(), moved.to.to_string(), moved.gain.clone()]
}

fn node(node: &NodeForecast) -> Vec<String> {
    let share = |before: u64, after: u64, whole: u64, amount: fn(u64) -> String| {
        format!("{} -> {} ({})", percent(before, whole), percent(after, whole), amount(after))
    };
    let (before, after, whole) = (node.allocated_before, node.allocated, node.allocatable);
    vec![
        node.node.to_string(),
        format!("{} -> {}", node.instances_before, node.instances),
        share(before.cpu_millis, after.cpu_millis, whole.cpu_millis, cpus),
        share(before.memory_bytes, after.memory_bytes, whole.memory_bytes, bytes),
    ]
}
