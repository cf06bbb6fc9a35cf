//! How fast replicas are placed: a million of a thousand services, a million alike, and one at a time.

use std::{collections::BTreeSet, time::Duration};

use scheduler::replay::synthetic::{Mix, Order};
use scheduler_placement::{Demand, Run};
use tests_support::figures::{Figures, Stopwatch};

use crate::{
    Result,
    fleet::{Books, Fleet, even},
    timing::{note_time, percentile},
};

/// How often each is measured.
const ROUNDS: usize = 5;
/// How many shapes that found no place are looked for by the plain check.
const SAMPLE: usize = 50;

/// A thousand services of a thousand replicas each on 100,000 nodes in 500 zones, even over zones.
pub(crate) fn million_services(figures: &mut Figures) -> Result<()> {
    let mix = Mix {
        nodes: 100_000,
        zones: 500,
        replicas: 1_000_000,
        shapes: 1_000,
        load_pct: 70,
        order: Order::ByService,
        seed: 1,
    };
    let empty = Fleet::new(&mix)?;
    let mut seconds = Vec::new();
    for round in 0..ROUNDS {
        let mut fleet = empty.clone();
        let begin = Stopwatch::start();
        let groups = fleet.add_groups(&even(None));
        let requests = fleet.trace.requests.iter();
        let runs: Vec<Vec<Run>> =
            requests.map(|request| fleet.engine.place(groups[request.shape], request.count)).collect();
        seconds.push(begin.elapsed().as_secs_f64());
        if round == 0 {
            check_million(&fleet, &runs)?;
        }
    }
    note_time(figures, "place_1m_services_s", &seconds)
}

/// Nothing is given twice, nothing is left out that has room, and right after a service was placed no zone is more than
/// one ahead of any that has room for more of it.
fn check_million(fleet: &Fleet, runs: &[Vec<Run>]) -> Result<()> {
    let mut books = Books::new(fleet);
    for (index, (request, runs)) in fleet.trace.requests.iter().zip(runs).enumerate() {
        books.enter(request.shape, runs)?;
        let placed: u32 = runs.iter().map(|run| run.count).sum();
        if placed < request.count && books.has_room(request.shape) {
            return Err(format!("only {placed} of shape {} were placed, but there is room", request.shape).into());
        }
        let skew = if index % 20 == 0 { books.skew(request.shape) } else { 0 };
        if skew > 1 {
            return Err(format!("shape {} has a skew of {skew} over the zones", request.shape).into());
        }
    }
    let wanted: u64 = fleet.trace.requests.iter().map(|request| u64::from(request.count)).sum();
    if books.placed < wanted {
        return Err(format!("only {} of {wanted} found a place at a load of 70 %", books.placed).into());
    }
    Ok(())
}

/// A million replicas alike on the same nodes.
pub(crate) fn million_alike(figures: &mut Figures) -> Result<()> {
    let mix = Mix {
        nodes: 100_000,
        zones: 500,
        replicas: 1_000_000,
        shapes: 1,
        load_pct: 50,
        order: Order::ByService,
        seed: 1,
    };
    let mut fleet = Fleet::new(&mix)?;
    // One that may be anywhere.
    fleet.trace.shapes[0].require.clear();
    fleet.trace.shapes[0].memory_mib = fleet.trace.shapes[0].cpu_millis * 2;
    let empty = fleet;
    let mut millis = Vec::new();
    for round in 0..ROUNDS {
        let mut fleet = empty.clone();
        let group = fleet.add_groups(&even(None))[0];
        let begin = Stopwatch::start();
        let runs = fleet.engine.place(group, mix.replicas);
        millis.push(begin.elapsed().as_secs_f64() * 1_000.0);
        if round == 0 {
            let mut books = Books::new(&fleet);
            books.enter(0, &runs)?;
            if books.placed != u64::from(mix.replicas) || books.skew(0) > 1 {
                return Err(format!("{} placed with a skew of {}", books.placed, books.skew(0)).into());
            }
        }
    }
    note_time(figures, "place_1m_identical_ms", &millis)
}

/// One replica after the other, of any service, on a fleet that is 90 % full already.
pub(crate) fn singles(figures: &mut Figures) -> Result<()> {
    for (name, nodes, zones) in [("place_single_p99_us_10k", 10_000, 50), ("place_single_p99_us_100k", 100_000, 500)] {
        let mix = Mix { nodes, zones, replicas: nodes * 10, shapes: 1_000, load_pct: 95, order: Order::Mixed, seed: 1 };
        let (rest, begun) = nearly_filled(&mix)?;
        let mut p99 = Vec::new();
        for _ in 0..ROUNDS {
            let (times, _) = one_by_one(&begun, &rest)?;
            p99.push(percentile(times, 99).as_secs_f64() * 1e6);
        }
        note_time(figures, name, &p99)?;
    }
    Ok(())
}

/// A fleet with groups, most of them placed.
pub(crate) struct Begun {
    pub(crate) fleet: Fleet,
    pub(crate) groups: Vec<scheduler_placement::GroupIndex>,
    placed: Vec<(usize, Vec<Run>)>,
}

/// Places all but the last 20,000 replicas service by service; gives the shapes of those that are left, in their order.
pub(crate) fn nearly_filled(mix: &Mix) -> Result<(Vec<usize>, Begun)> {
    let mut fleet = Fleet::new(mix)?;
    let groups = fleet.add_groups(&even(None));
    Ok(fill(fleet, groups))
}

/// The same for a fleet whose groups are there.
pub(crate) fn fill(mut fleet: Fleet, groups: Vec<scheduler_placement::GroupIndex>) -> (Vec<usize>, Begun) {
    /// How many are placed one by one.
    const SINGLES: usize = 20_000;
    let split = fleet.trace.requests.len().saturating_sub(SINGLES);
    let mut counts = vec![0; fleet.trace.shapes.len()];
    fleet.trace.requests[..split].iter().for_each(|request| counts[request.shape] += request.count);
    let rest = fleet.trace.requests[split..].iter().map(|request| request.shape).collect();
    let shapes = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
    let placed = shapes.map(|(shape, count)| (shape, fleet.engine.place(groups[shape], count))).collect();
    (rest, Begun { fleet, groups, placed })
}

/// Places each of `rest` by itself, and checks what came of it; gives how long each took, and the books.
pub(crate) fn one_by_one<'b>(begun: &'b Begun, rest: &[usize]) -> Result<(Vec<Duration>, Books<'b>)> {
    one_by_one_watching(begun, rest, &[])
}

/// The same with shapes of which it is noted on which nodes they are.
pub(crate) fn one_by_one_watching<'b>(
    begun: &'b Begun,
    rest: &[usize],
    watched: &[usize],
) -> Result<(Vec<Duration>, Books<'b>)> {
    let mut engine = begun.fleet.engine.clone();
    let (mut times, mut answers) = (Vec::with_capacity(rest.len()), Vec::with_capacity(rest.len()));
    // A service that found no place waits until room becomes free, which never happens here: it is not asked for again.
    let mut waiting = BTreeSet::new();
    for shape in rest {
        if waiting.contains(shape) {
            continue;
        }
        let begin = Stopwatch::start();
        let runs = engine.place(begun.groups[*shape], 1);
        times.push(begin.elapsed());
        if runs.is_empty() {
            waiting.insert(*shape);
        }
        answers.push((*shape, runs));
    }
    let mut books = Books::new(&begun.fleet);
    watched.iter().for_each(|shape| books.watch(*shape));
    for (shape, runs) in begun.placed.iter().chain(&answers) {
        books.enter(*shape, runs)?;
    }
    // What found no place must have none in the end, where no other rule than room could be the reason.
    let missed: BTreeSet<usize> = answers.iter().filter(|(_, runs)| runs.is_empty()).map(|(shape, _)| *shape).collect();
    for shape in missed.into_iter().filter(|shape| !watched.contains(shape)).take(SAMPLE) {
        if books.has_room(shape) {
            return Err(format!("shape {shape} found no place, but there is room").into());
        }
    }
    Ok((times, books))
}

/// A demand as most services have it: as even as there is room.
pub(crate) fn usual(fleet: &mut Fleet, shape: usize) -> Demand {
    Demand { spread: even(None), ..fleet.demand(shape) }
}
