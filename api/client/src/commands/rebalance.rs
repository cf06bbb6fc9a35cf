//! `wherry rebalance`: what would be better elsewhere, and moving it there.

use api_types::view::RebalancePlan;
use clap::Args;

use crate::{
    commands::{Session, counted},
    failure::Failure,
    output::table::table,
};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["plan", "start"]))]
pub(crate) struct Rebalance {
    /// Show what would move, and change nothing
    #[arg(long)]
    plan: bool,
    /// Move it, a few instances at a time, each only when its successor is healthy
    #[arg(long)]
    start: bool,
    /// How to show the plan
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Rebalance) -> Result<(), Failure> {
    let client = session.client()?;
    if arguments.start {
        session.screen.data(&client.rebalance().await?.message);
        session.screen.say("watch it go: wherry get events -w");
        return Ok(());
    }
    let plan = client.rebalance_plan().await?;
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(plan)));
        return Ok(());
    }
    show(session, &plan);
    Ok(())
}

fn show(session: &Session<'_>, plan: &RebalancePlan) {
    let rows: Vec<Vec<String>> = plan
        .moves
        .iter()
        .map(|moved| {
            let (from, to) = (moved.from.to_string(), moved.to.to_string());
            vec![moved.instance.to_string(), moved.workload.to_string(), from, to, moved.gain.clone()]
        })
        .collect();
    if rows.is_empty() {
        session.screen.say("nothing would be better elsewhere");
    } else {
        session.screen.data(&table(&["INSTANCE", "WORKLOAD", "FROM", "TO", "GAIN"], &rows));
        let moves = counted(plan.moves.len(), "move");
        session.screen.say(&format!("{moves}; evenness alone needs {}", plan.moves_min));
    }
    for residual in &plan.residuals {
        session.screen.say(&format!("stays uneven: {residual}"));
    }
    if plan.left > 0 {
        let left = usize::try_from(plan.left).unwrap_or(usize::MAX);
        session.screen.say(&format!("a rebalancing goes on: {} to go", counted(left, "move")));
    }
}
