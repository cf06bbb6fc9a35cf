//! `wherry why`: what speaks for the nodes that instances have, and what every node says to one more.

use std::path::PathBuf;

use api_client::{Client, ClientError};
use api_types::{
    id::{InstanceId, WorkloadId},
    view::{Explanation, NodeVerdict, Remedy},
};
use clap::Args;

use crate::{
    commands::{Session, counted, manifests::checked_file, name},
    failure::Failure,
    output::table::{indented, table_within},
};

/// Explain why instances are where they are, or nowhere
///
/// Every node is asked by the check that places instances. With -f, workloads are explained that are not applied.
#[derive(Debug, Args)]
#[command(
    override_usage = "wherry why [OPTIONS] [instance] NAME\n       wherry why [OPTIONS] -f FILE [NAME]",
    after_help = "Examples:\n  wherry why web                    what each node says to one more instance of web\n  \
                  wherry why instance web-3f        why this instance is on its node\n  \
                  wherry why -f shop.toml web       the same before it is applied\n  \
                  wherry why web -o json            every part of every score"
)]
pub(crate) struct Why {
    /// A workload, or `instance` and an instance
    #[arg(num_args = 0..=2, value_name = "NAME")]
    what: Vec<String>,
    /// Workloads that need not be applied: a manifest, or - for standard input
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// Every node, not a few for each reason
    #[arg(long)]
    all: bool,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Why) -> Result<(), Failure> {
    let explanations = fetch(session, arguments).await?;
    if arguments.output == "json" {
        // One that was asked for is one object; a manifest gives a list.
        let json = match explanations.as_slice() {
            [one] if arguments.file.is_none() || !arguments.what.is_empty() => serde_json::json!(one),
            several => serde_json::json!(several),
        };
        session.screen.data(&format!("{json:#}\n"));
        return Ok(());
    }
    let texts: Vec<String> = explanations.iter().map(|explanation| text(explanation, session.screen.width)).collect();
    session.screen.data(&texts.join("\n"));
    let most = |count: fn(&Explanation) -> u32| explanations.iter().map(count).max().unwrap_or(0);
    let left_out = [
        (most(|explanation| explanation.nodes_left_out), "more node"),
        (most(|explanation| explanation.instances_left_out), "more instance"),
    ];
    for (count, noun) in left_out.into_iter().filter(|(count, _)| *count > 0 && !arguments.all) {
        let them = counted(usize::try_from(count).unwrap_or(usize::MAX), noun);
        session.screen.say(&format!("{them}: --all shows them"));
    }
    Ok(())
}

async fn fetch(session: &Session<'_>, arguments: &Why) -> Result<Vec<Explanation>, Failure> {
    let words: Vec<&str> = arguments.what.iter().map(String::as_str).collect();
    let all = arguments.all;
    let workload = |text: &str| name::<WorkloadId>(text).map_err(Failure::Usage);
    if let Some(file) = &arguments.file {
        let only = match words.as_slice() {
            [] => None,
            [only] => Some(workload(only)?),
            _ => return Err(Failure::Usage("with -f, name one workload of the manifest or none".to_owned())),
        };
        let manifest = checked_file(file)?;
        return Ok(session.client()?.why_manifest(&manifest.text, only.as_ref(), all).await?);
    }
    let client = session.client()?;
    Ok(vec![match words.as_slice() {
        [] => return Err(Failure::Usage("name a workload, or a manifest with -f: `wherry why web`".to_owned())),
        ["instance", instance] => {
            client.why_instance(&name::<InstanceId>(instance).map_err(Failure::Usage)?, all).await?
        }
        ["workload" | "service" | "daemon", text] => client.why_workload(&workload(text)?, all).await?,
        [text] => either(&client, &workload(text)?, text, all).await?,
        [kind, ..] => {
            return Err(Failure::Usage(format!("`{kind}` is not explained: ask for a workload or an `instance`")));
        }
    }])
}

/// A single word is a workload; where there is none of that name, an instance.
async fn either(client: &Client, workload: &WorkloadId, text: &str, all: bool) -> Result<Explanation, Failure> {
    let missing = match client.why_workload(workload, all).await {
        Err(ClientError::Refused(problem)) if problem.status == 404 => problem,
        answer => return Ok(answer?),
    };
    let Ok(instance) = name::<InstanceId>(text) else { return Err(ClientError::Refused(missing).into()) };
    let answer = client.why_instance(&instance, all).await;
    // Where both are missing, what was asked for first is said.
    if matches!(&answer, Err(ClientError::Refused(problem)) if problem.status == 404) {
        return Err(ClientError::Refused(missing).into());
    }
    Ok(answer?)
}

fn text(explanation: &Explanation, width: Option<usize>) -> String {
    let mut text = String::new();
    for line in crate::output::table::parts(
        &format!("{}: {}", explanation.workload, explanation.summary),
        width.unwrap_or(usize::MAX),
    ) {
        text += &format!("{line}\n");
    }
    let inner = width.map(|width| width.saturating_sub(2));
    let mut section = |title: &str, headers: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text += &format!("\n{title}\n{}", indented(&table_within(inner, headers, &rows)));
        }
    };
    let placed = |placed: &api_types::view::PlacedInstance| {
        vec![placed.instance.to_string(), placed.node.to_string(), placed.reason.clone()]
    };
    let groups = |group: &api_types::view::VerdictGroup| {
        let mut examples: Vec<String> = group.examples.iter().map(ToString::to_string).collect();
        if usize::try_from(group.count).is_ok_and(|count| count > examples.len()) {
            examples.push("...".to_owned());
        }
        vec![group.count.to_string(), group.filter.replace('_', " "), group.reason.clone(), examples.join(" ")]
    };
    section("Placed", &["INSTANCE", "NODE", "WHY"], explanation.instances.iter().map(placed).collect());
    section(
        "Turned away",
        &["NODES", "RULE", "REASON", "FOR EXAMPLE"],
        explanation.groups.iter().map(groups).collect(),
    );
    section("One more instance", &["NODE", "FITS", "HAS", "REASON"], explanation.nodes.iter().map(verdict).collect());
    section("It would fit", &["ON", "NODES", "IF YOU"], explanation.remedies.iter().map(remedy).collect());
    // The hint is the first remedy in words, where there is one.
    if !explanation.hint.is_empty() && explanation.remedies.is_empty() {
        text += &format!("\nhint: {}\n", explanation.hint);
    }
    text
}

fn verdict(verdict: &NodeVerdict) -> Vec<String> {
    let fits = if verdict.filter.is_empty() { "yes" } else { "no" };
    let mut reasons: Vec<&str> = verdict.score.iter().map(|part| part.words.as_str()).collect();
    reasons.extend([verdict.reason.as_str()].into_iter().filter(|reason| !reason.is_empty()));
    reasons.extend(verdict.also.iter().map(|rejection| rejection.reason.as_str()));
    vec![verdict.node.to_string(), fits.to_owned(), verdict.instances.to_string(), reasons.join("; ")]
}

fn remedy(remedy: &Remedy) -> Vec<String> {
    vec![remedy.node.to_string(), remedy.nodes.to_string(), remedy.action.clone()]
}
