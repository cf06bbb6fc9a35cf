//! The order in which things would start and end, a line for each round.

use std::{collections::BTreeMap, fmt::Write as _};

use api_types::view::{PlannedStep, StepKind};

use crate::commands::counted;

/// How many rounds have a line of their own.
const ROUNDS_MAX: usize = 10;
/// Up to so many steps of a kind in a round are named one by one.
const NAMED_MAX: usize = 4;

/// Nothing where all starts at once: the placements say it already.
pub(super) fn text(steps: &[PlannedStep]) -> String {
    let mut rounds: BTreeMap<u32, Vec<&PlannedStep>> = BTreeMap::new();
    for step in steps {
        rounds.entry(step.round).or_default().push(step);
    }
    if rounds.len() < 2 && steps.iter().all(|step| step.does == StepKind::Start) {
        return String::new();
    }
    let mut text = "\nOrder\n".to_owned();
    for (round, steps) in rounds.iter().take(ROUNDS_MAX) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "  {round:>2}  {}", line(steps));
    }
    let hidden = rounds.len().saturating_sub(ROUNDS_MAX);
    if hidden > 0 {
        let _ = writeln!(text, "      and {} alike; -o json has them all", counted(hidden, "more round"));
    }
    text
}

/// What happens in a round, in order.
fn line(steps: &[&PlannedStep]) -> String {
    let runs = steps.chunk_by(|a, b| a.does == b.does && a.workload == b.workload);
    runs.map(|run| if run.len() > NAMED_MAX { counts(run) } else { names(run) }).collect::<Vec<_>>().join(", ")
}

fn names(run: &[&PlannedStep]) -> String {
    let each = run.iter().map(|step| match (&step.instance, step.does) {
        (Some(instance), _) => format!("{} {instance} on {}", verb(step.does), step.node),
        (None, _) => format!("{} {}/{} on {}", verb(step.does), step.workload, step.slot, step.node),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn counts(run: &[&PlannedStep]) -> String {
    let mut nodes: BTreeMap<String, usize> = BTreeMap::new();
    for step in run {
        *nodes.entry(step.node.to_string()).or_default() += 1;
    }
    let (does, workload) = run.first().map_or(("", String::new()), |step| (verb(step.does), step.workload.to_string()));
    format!("{does} {} of {workload} on {}", run.len(), counted(nodes.len(), "node"))
}

fn verb(does: StepKind) -> &'static str {
    match does {
        StepKind::Start => "start",
        StepKind::End => "end",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(round: u32, does: StepKind, slot: u32) -> PlannedStep {
        let (workload, node) = ("web".parse().unwrap(), format!("n{slot}").parse().unwrap());
        PlannedStep { round, workload, slot, does, node, instance: None }
    }

    #[test]
    fn a_round_is_a_line_and_what_all_starts_at_once_is_none() {
        let starts: Vec<PlannedStep> = (0..5).map(|slot| step(1, StepKind::Start, slot)).collect();
        let rolled = [step(1, StepKind::End, 0), step(2, StepKind::Start, 0), step(2, StepKind::End, 1)];

        assert_eq!(text(&starts), "");
        assert_eq!(text(&rolled), "\nOrder\n   1  end web/0 on n0\n   2  start web/0 on n0, end web/1 on n1\n");
        assert_eq!(
            text(&[&starts[..], &rolled].concat()).lines().nth(2),
            Some("   1  start 5 of web on 5 nodes, end web/0 on n0")
        );
    }

    #[test]
    fn many_rounds_are_cut_and_counted() {
        let steps: Vec<PlannedStep> = (1..=12).map(|round| step(round, StepKind::Start, round)).collect();

        assert!(
            text(&steps).ends_with("  10  start web/10 on n10\n      and 2 more rounds alike; -o json has them all\n")
        );
    }
}
