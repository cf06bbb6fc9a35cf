//! The commands of stories that change nothing: `why`, `plan`, `what-if`.

use api_types::view::{Explanation, Forecast, Plan, Question, StepKind};
use scheduler_core::{Scheduler, effect::Refusal};

use super::{changes, line, name, spec};

/// What a plan says: the changes, then a line for each step.
pub(super) fn plan(outcome: Result<Plan, Refusal>) -> String {
    let plan = match outcome {
        Err(refusal) => return changes(Err(refusal)),
        Ok(plan) => plan,
    };
    let mut text = changes(Ok(plan.changes));
    for step in plan.steps {
        let does = match step.does {
            StepKind::Start => "start",
            StepKind::End => "end",
        };
        let what = step.instance.map_or_else(|| format!("{}/{}", step.workload, step.slot), |id| id.to_string());
        line(&mut text, &[&format!("round {}:", step.round), does, &what, "on", step.node.as_str()]);
    }
    for one in plan.displaced {
        let to = one.to.map_or_else(|| "nowhere".to_owned(), |to| to.to_string());
        let (by, victim, node) = (one.by.to_string(), one.instance.to_string(), one.node.as_str());
        line(&mut text, &[&by, "displaces", &victim, "on", node, "to", &to]);
    }
    line(&mut text, &[&plan.cut]);
    text.trim_end().to_owned()
}

/// What an explanation says.
pub(super) fn why(outcome: Result<Explanation, Refusal>) -> String {
    let mut text = String::new();
    match outcome {
        Err(refusal) => line(&mut text, &[&refusal.to_string()]),
        Ok(why) => {
            line(&mut text, &[&why.summary]);
            for placed in why.instances {
                let rank = format!("{} of {}", placed.rank, placed.fits);
                line(&mut text, &[placed.instance.as_str(), "on", placed.node.as_str(), &rank, &placed.reason]);
            }
            for group in why.groups {
                let examples = group.examples.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                line(&mut text, &[&group.count.to_string(), &group.filter, &group.reason, &examples]);
            }
            for verdict in why.nodes {
                let words = verdict.score.iter().map(|part| part.words.clone());
                let also = verdict.also.iter().map(|rejection| rejection.reason.clone());
                let said = words.chain([verdict.reason]).chain(also).filter(|text| !text.is_empty());
                let said = said.collect::<Vec<_>>().join("; ");
                let there = verdict.instances.to_string();
                line(&mut text, &[verdict.node.as_str(), &there, &verdict.filter, &said]);
            }
            for remedy in why.remedies {
                let nodes = format!("{} nodes", remedy.nodes);
                line(&mut text, &["would fit on", remedy.node.as_str(), &nodes, &remedy.action]);
            }
            line(&mut text, &["hint:", &why.hint]);
        }
    }
    text
}

/// `what-if node-loss a b`, `site-loss x`, `drain a`, `join a 3`, `apply SPEC`.
pub(super) fn what_if(scheduler: &Scheduler, words: &[&str]) -> String {
    match scheduler.what_if(&question(words)) {
        Err(refusal) => format!("refused: {refusal}"),
        Ok(forecast) => told(&forecast),
    }
}

pub(super) fn question(words: &[&str]) -> Question {
    let (kind, rest) = words.split_first().expect("a question");
    match *kind {
        "node-loss" => Question::NodeLoss { nodes: rest.iter().map(|node| name(node)).collect() },
        "site-loss" => Question::SiteLoss { site: rest[0].to_owned() },
        "drain" => Question::Drain { nodes: rest.iter().map(|node| name(node)).collect() },
        "join" => Question::Join { like: name(rest[0]), count: rest[1].parse().expect("a number") },
        "apply" => Question::Apply { specs: rest.split(|word| *word == "+").map(spec).collect() },
        other => panic!("no such question: {other}"),
    }
}

fn told(forecast: &Forecast) -> String {
    let mut text = String::new();
    let time = |time: Option<u64>| time.map_or_else(|| "for good".to_owned(), |ms| format!("{ms} ms"));
    let settled = format!("(settled after {})", time(forecast.settled_after_ms).replace("for good", "?"));
    line(&mut text, &[&format!("if {}: {}", forecast.question, forecast.summary), &settled]);
    for seen in &forecast.workloads {
        let ready =
            format!("ready {} > {} > {}/{}", seen.ready_before, seen.ready_least, seen.ready_after, seen.wanted);
        let times = format!("short {}, down {}", time(seen.short_ms), time(seen.down_ms));
        let counts = format!("{} go, {} unplaced", seen.ended, seen.unplaced);
        line(&mut text, &[" ", &seen.workload.to_string(), &ready, &counts, &times, &seen.reason]);
    }
    for moved in &forecast.moves {
        let node = |node: &Option<_>| {
            node.as_ref().map_or_else(|| "-".to_owned(), |id: &api_types::id::NodeId| id.to_string())
        };
        let what = format!("{}/{}", moved.workload, moved.slot);
        line(&mut text, &[" ", &format!("{} ms:", moved.at_ms), &what, &node(&moved.from), "->", &node(&moved.to)]);
    }
    for node in &forecast.nodes {
        let instances = format!("{} > {} instances", node.instances_before, node.instances);
        let memory =
            format!("{} > {} MiB", node.allocated_before.memory_bytes >> 20, node.allocated.memory_bytes >> 20);
        line(&mut text, &[" ", node.node.as_str(), &instances, &memory]);
    }
    for moved in forecast.rebalance.iter().flat_map(|plan| &plan.moves) {
        let (from, to) = (moved.from.as_str(), moved.to.as_str());
        line(&mut text, &["  if asked:", moved.instance.as_str(), from, "->", to, &moved.gain]);
    }
    forecast.warnings.iter().for_each(|warning| line(&mut text, &["  warning:", warning]));
    if !forecast.cut.is_empty() {
        line(&mut text, &["  cut:", &forecast.cut]);
    }
    text
}
