//! `wherry why`: what every node says to one more instance.

use api_types::{id::WorkloadId, view::Explanation};
use clap::Args;

use crate::{
    commands::{Session, counted, name},
    failure::Failure,
    output::table::table,
};

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Which workload
    #[arg(value_parser = name::<WorkloadId>)]
    workload: WorkloadId,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Why) -> Result<(), Failure> {
    let explanation = session.client()?.why(&arguments.workload).await?;
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(explanation)));
    } else {
        session.screen.data(&text(&explanation));
    }
    Ok(())
}

fn text(explanation: &Explanation) -> String {
    let mut text = format!("{}: {}\n", explanation.workload, explanation.summary);
    let mut counts: Vec<(&String, &u32)> = explanation.counts.iter().collect();
    counts.sort_by_key(|(filter, count)| (std::cmp::Reverse(**count), *filter));
    for (filter, count) in counts {
        let nodes = counted(usize::try_from(*count).unwrap_or(usize::MAX), "node");
        text += &format!("  {nodes} turned away by {}\n", filter.replace('_', " "));
    }
    if !explanation.nodes.is_empty() {
        let row = |verdict: &api_types::view::NodeVerdict| {
            let fits = if verdict.filter.is_empty() { "yes".to_owned() } else { "no".to_owned() };
            vec![verdict.node.to_string(), fits, verdict.instances.to_string(), verdict.reason.clone()]
        };
        let rows: Vec<Vec<String>> = explanation.nodes.iter().map(row).collect();
        text += &format!("\n{}", table(&["NODE", "FITS", "INSTANCES", "REASON"], &rows));
    }
    if !explanation.hint.is_empty() {
        text += &format!("\nhint: {}\n", explanation.hint);
    }
    text
}
