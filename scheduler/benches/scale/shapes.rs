//! The shapes that placement engines are slow at: few zones, no zones, very many, rules between services, hardly any room.
//!
//! Each is measured twice: a thousand services one after the other, and 20,000 replicas one by one in random order on
//! what is nearly full then. The slowest of all is the figure.

use std::time::Duration;

use scheduler::replay::synthetic::{Mix, Order};
use scheduler_placement::{Affinity, Demand, GroupIndex, Over, Relation, Run};
use tests_support::figures::{Figures, Stopwatch, best, median, number};

use crate::{
    Result,
    fleet::{Books, Fleet, port},
    place::{fill, one_by_one_watching, usual},
};

/// How often each is measured.
const ROUNDS: usize = 3;
/// One service in so many has a host port and keeps apart from the one before of its kind.
const RULED: usize = 20;

struct Case {
    name: &'static str,
    nodes: u32,
    zones: u32,
    load_pct: u32,
    ruled: bool,
}

const fn case(name: &'static str, nodes: u32, zones: u32, load_pct: u32, ruled: bool) -> Case {
    Case { name, nodes, zones, load_pct, ruled }
}

const CASES: &[Case] = &[
    case("3_zones_10k", 10_000, 3, 90, false),
    case("3_zones_100k", 100_000, 3, 90, false),
    case("no_zones_10k", 10_000, 1, 90, false),
    case("no_zones_100k", 100_000, 1, 90, false),
    case("1000_zones_10k", 10_000, 1_000, 90, false),
    case("rules_10k", 10_000, 50, 90, true),
    case("rules_100k", 100_000, 500, 90, true),
    case("full_10k", 10_000, 50, 99, false),
    case("full_100k", 100_000, 500, 99, false),
];

/// Measures all, and notes the rate of each way and the lowest.
pub(crate) fn weak(figures: &mut Figures) -> Result<()> {
    let mut worst = f64::INFINITY;
    for case in CASES {
        let services = by_service(case).map_err(|error| format!("{}: {error}", case.name))?;
        let singles = by_replica(case).map_err(|error| format!("{}: {error}", case.name))?;
        for (way, rates) in [("services", services), ("singles", singles)] {
            // The best round of the slowest way: what the machine can do when nobody else needs it.
            let fastest = -best(&rates.iter().map(|rate| -rate).collect::<Vec<_>>());
            figures.note(&format!("place_{}_{way}_per_s", case.name), fastest)?;
            figures.note(&format!("place_{}_{way}_per_s_median", case.name), median(rates))?;
            worst = worst.min(fastest);
        }
    }
    Ok(figures.note("place_worst_shape_per_s", worst)?)
}

fn mix(case: &Case, order: Order) -> Mix {
    Mix {
        nodes: case.nodes,
        zones: case.zones,
        replicas: case.nodes * 10,
        shapes: 1_000,
        load_pct: case.load_pct,
        order,
        seed: 1,
    }
}

/// Groups of which one in [`RULED`] has a port of its own and shares no node with the one before of its kind.
fn groups(fleet: &mut Fleet, ruled: bool) -> Result<(Vec<GroupIndex>, Vec<usize>)> {
    let (mut groups, mut with_rules): (Vec<GroupIndex>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut wanted = vec![0; fleet.trace.shapes.len()];
    fleet.trace.requests.iter().for_each(|request| wanted[request.shape] += request.count);
    for (shape, wanted) in wanted.into_iter().enumerate() {
        let mut demand: Demand = usual(fleet, shape);
        if ruled && shape % RULED == 0 {
            demand.ports.push(port(10_000 + shape)?);
            let before = with_rules.last().map(|shape| groups[*shape]);
            demand.affinities.extend(before.map(|group| Affinity {
                group,
                within: Over::Node,
                relation: Relation::Without,
            }));
            with_rules.push(shape);
        }
        groups.push(fleet.engine.add_group(demand, wanted));
    }
    Ok((groups, with_rules))
}

fn by_service(case: &Case) -> Result<Vec<f64>> {
    let mut fleet = Fleet::new(&mix(case, Order::ByService))?;
    let (groups, ruled) = groups(&mut fleet, case.ruled)?;
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let mut engine = fleet.engine.clone();
        let begin = Stopwatch::start();
        let requests = fleet.trace.requests.iter();
        let runs: Vec<Vec<Run>> = requests.map(|request| engine.place(groups[request.shape], request.count)).collect();
        let spent = begin.elapsed();
        rates.push(rate(u64::from(case.nodes) * 10, spent));
        if round == 0 {
            let mut books = Books::new(&fleet);
            ruled.iter().for_each(|shape| books.watch(*shape));
            for (request, runs) in fleet.trace.requests.iter().zip(&runs) {
                books.enter(request.shape, runs)?;
                let placed: u32 = runs.iter().map(|run| run.count).sum();
                let room_counts = !ruled.contains(&request.shape);
                if placed < request.count && room_counts && books.has_room(request.shape) {
                    return Err(format!("{placed} of shape {} were placed, but there is room", request.shape).into());
                }
            }
            check_rules(&books, &ruled)?;
        }
    }
    Ok(rates)
}

fn by_replica(case: &Case) -> Result<Vec<f64>> {
    let mut fleet = Fleet::new(&mix(case, Order::Mixed))?;
    let (groups, ruled) = groups(&mut fleet, case.ruled)?;
    let (rest, begun) = fill(fleet, groups);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let (times, books) = one_by_one_watching(&begun, &rest, &ruled)?;
        rates.push(rate(times.len() as u64, times.iter().sum()));
        check_rules(&books, &ruled)?;
    }
    Ok(rates)
}

/// Those with a port are once on a node, and those that keep apart do.
fn check_rules(books: &Books<'_>, ruled: &[usize]) -> Result<()> {
    for (shape, before) in ruled.iter().zip(std::iter::once(None).chain(ruled.iter().map(Some))) {
        books.check_one_per_node(*shape)?;
        before.map_or(Ok(()), |before| books.check_apart(*shape, *before))?;
    }
    Ok(())
}

fn rate(decisions: u64, spent: Duration) -> f64 {
    number(decisions) / spent.as_secs_f64()
}
