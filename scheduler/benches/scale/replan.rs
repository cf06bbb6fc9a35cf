//! What happens at once when a tenth of a large fleet is lost.

use std::collections::BTreeMap;

use scheduler::replay::synthetic::{Mix, Order};
use scheduler_placement::{GroupIndex, Holding, Intake, NodeShape, Run, Spread};
use tests_support::figures::{Figures, Stopwatch, number};

use crate::{
    Result,
    fleet::{Books, Fleet, even},
    timing::note_time,
};

/// How often it is measured.
const ROUNDS: usize = 5;
/// Zones that are lost, of [`ZONES`].
const LOST: usize = 50;
/// All zones.
const ZONES: u32 = 500;

/// A fleet, its groups, and what was placed of each.
pub(crate) type Settled = (Fleet, Vec<GroupIndex>, Vec<Vec<Run>>);

/// A fleet of 100,000 nodes with a million replicas of a thousand services, as even by `spread` as there is room. Zones of
/// which `closed` says so take nothing.
pub(crate) fn settled(load_pct: u32, spread: &[Spread], closed: impl Fn(usize) -> bool) -> Result<Settled> {
    let mut fleet = Fleet::new(&Mix {
        nodes: 100_000,
        zones: ZONES,
        replicas: 1_000_000,
        shapes: 1_000,
        load_pct,
        order: Order::ByService,
        seed: 1,
    })?;
    let groups = fleet.add_groups(spread);
    for index in (0..fleet.nodes.len()).filter(|index| closed(fleet.zones[*index])) {
        fleet.engine.set_shape(fleet.nodes[index], NodeShape { intake: Intake::Shut, ..fleet.shapes[index] });
    }
    let mut runs = vec![Vec::new(); groups.len()];
    for request in fleet.trace.requests.clone() {
        runs[request.shape] = fleet.engine.place(groups[request.shape], request.count);
    }
    Ok((fleet, groups, runs))
}

/// Whether a zone is of the tenth that goes or comes.
pub(crate) fn is_tenth(zone: usize) -> bool {
    zone.is_multiple_of(10)
}

/// Fifty zones of five hundred go: their nodes are closed, what was on them is given back and placed elsewhere.
pub(crate) fn tenth_lost(figures: &mut Figures) -> Result<()> {
    let (fleet, groups, runs) = settled(70, &even(None), |_| false)?;
    let lost: Vec<usize> = (0..fleet.nodes.len()).filter(|index| is_tenth(fleet.zones[*index])).collect();
    let zones_lost = (0..fleet.zone_count).filter(|zone| is_tenth(*zone)).count();
    if zones_lost != LOST {
        return Err(format!("{zones_lost} zones are lost, {LOST} should be").into());
    }
    let mut books = Books::new(&fleet);
    let mut held: BTreeMap<usize, Vec<(usize, u32)>> = BTreeMap::new();
    for (shape, runs) in runs.iter().enumerate() {
        books.enter(shape, runs)?;
        for run in runs {
            held.entry(books.place_of(run.node)?).or_default().push((shape, run.count));
        }
    }
    let before = books.placed;
    let mut seconds = Vec::new();
    for round in 0..ROUNDS {
        let mut engine = fleet.engine.clone();
        let begin = Stopwatch::start();
        let mut missing = vec![0; groups.len()];
        for index in &lost {
            let node = fleet.nodes[*index];
            engine.set_shape(node, NodeShape { intake: Intake::Shut, ..fleet.shapes[*index] });
            for (shape, count) in held.get(index).into_iter().flatten() {
                let amount = engine.group(groups[*shape]).ok_or("a group is gone")?.demand().amount;
                for _ in 0..*count {
                    engine.give_back(node, groups[*shape], Holding { amount, counted: true, ..Holding::default() });
                }
                missing[*shape] += count;
            }
        }
        let answers: Vec<Vec<Run>> =
            missing.iter().zip(&groups).map(|(missing, group)| engine.place(*group, *missing)).collect();
        seconds.push(begin.elapsed().as_secs_f64());
        if round > 0 {
            continue;
        }
        for index in &lost {
            books.take_away(*index, held.get(index).map_or(&[][..], Vec::as_slice));
        }
        let away = before - books.placed;
        for (shape, runs) in answers.iter().enumerate() {
            books.enter(shape, runs)?;
            let placed: u32 = runs.iter().map(|run| run.count).sum();
            if placed < missing[shape] && books.has_room(shape) {
                return Err(format!("{placed} of shape {shape} were placed again, but there is room").into());
            }
            if shape % 20 == 0 && books.skew(shape) > 1 {
                return Err(format!("shape {shape} has a skew of {}", books.skew(shape)).into());
            }
        }
        figures.note("replan_10pct_replicas", number(away))?;
        if before - books.placed > away / 20 {
            return Err(format!("{} of {away} found no other place", before - books.placed).into());
        }
    }
    note_time(figures, "replan_10pct_s", &seconds)
}
