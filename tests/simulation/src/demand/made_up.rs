//! What people want in a story that its seed makes up.

use crate::{
    demand::Demand,
    fault::SITES,
    random::Random,
    shape::{Bad, Company, Even, Place, Scaled, Shape, Stays, Urgency, Wanted, Work},
    story::Deed,
};

/// How many workloads people want at most.
const WORKLOADS_MAX: usize = 40;

/// The workloads of the first minute.
pub(super) fn first(random: &mut Random, demand: &mut Demand, nodes: usize) -> Vec<Shape> {
    let mut first = vec![daemon(random, "collector"), daemon(random, "watcher")];
    for _ in 0..(nodes / 10).clamp(3, 30) {
        demand.made_up += 1;
        first.push(service(random, demand.made_up, nodes));
    }
    demand.made_up += 1;
    first.push(job(random, demand.made_up));
    first
}

/// What a person wants next.
pub(super) fn next(random: &mut Random, demand: &mut Demand, nodes: usize, growing: bool) -> Option<Deed> {
    let known: Vec<&Shape> = demand.wanted.values().collect();
    if known.is_empty() {
        return None;
    }
    let shape = known[random.index(known.len())].clone();
    let is_service = shape.replicas.is_some();
    let (workload, count) = (shape.name.clone(), known.len());
    let node = random.index(nodes);
    Some(match random.between(0, 11) {
        0 | 1 if is_service && shape.scaled.is_none() => {
            let most = if growing { 60 } else { 12 };
            Deed::Scale { workload, replicas: number(random, 0, most) }
        }
        2 | 3 => Deed::Apply(Box::new(release(random, shape))),
        4 if (is_service || shape.work.is_some()) && count > if growing { 20 } else { 5 } => Deed::Delete { workload },
        5 => Deed::Apply(Box::new(shape)),
        6 => Deed::Drain { node, for_ms: random.between(5000, 60_000) },
        7 => Deed::Cordon { node, for_ms: random.between(5000, 60_000) },
        10 if random.per_mille(300) => Deed::Rebalance,
        11 if random.per_mille(300) => Deed::Resume { site: random.index(SITES) },
        11 if shape.volume => {
            Deed::ForgetVolume { workload, slot: random.per_mille(700).then(|| number(random, 0, 9)) }
        }
        8 if random.per_mille(300) => Deed::Forget { node, for_ms: random.between(1000, 60_000) },
        _ if count < if growing { WORKLOADS_MAX } else { 8 } => {
            demand.made_up += 1;
            let is_job = random.per_mille(250);
            let number_of = demand.made_up;
            Deed::Apply(Box::new(if is_job { job(random, number_of) } else { service(random, number_of, nodes) }))
        }
        _ => return None,
    })
}

fn service(random: &mut Random, number_of: u64, nodes: usize) -> Shape {
    let mut shape = Shape::new(&format!("service-{number_of}"), Some(number(random, 1, 25)));
    shape.probe = random.per_mille(400);
    shape.arch = random.per_mille(300).then(|| "amd64".to_owned());
    shape.tier = random.per_mille(100).then(|| number(random, 1, 2));
    shape.racks = random.per_mille(200);
    shape.volume = random.per_mille(80);
    shape.never_replaced = random.per_mille(100);
    shape.flaps = random.per_mille(30);
    shape.judged = number_of % 3 == 2;
    shape.exclusive = number_of % 4 == 3;
    shape.stays = match number_of % 7 {
        // What is exclusive has ended before anybody could choose.
        _ if shape.exclusive => None,
        2 => Some(Stays::Original),
        4 => Some(Stays::Replacement),
        _ => None,
    };
    if random.per_mille(150) {
        shape.host_port = Some(20_000 + u16::try_from(number_of % 40_000).expect("below the highest port"));
    }
    if random.per_mille(150) {
        shape.per_node = Some(number(random, 1, 3));
    }
    if number_of % 5 == 1 {
        // The fewest may be the most.
        let min = number(random, 1, 4);
        let max = min + number(random, 0, 8);
        shape.scaled = Some(Scaled { min, max, noise_percent: number(random, 0, 40) });
        shape.cpu_millis = 100;
    }
    add_companions(random, &mut shape);
    add_rules(random, &mut shape, number_of);
    if random.per_mille(150) {
        // Some are so large that not all of them have room.
        shape.cpu_millis = random.between(200, 1500);
        shape.memory_mib = random.between(64, 1024);
        shape.replicas = Some(number(random, 1, u64::try_from(nodes).unwrap_or(1).min(40)));
    }
    shape
}

/// A job: most are small, some fail again and again, some have a deadline that passes.
fn job(random: &mut Random, number_of: u64) -> Shape {
    let mut shape = Shape::new(&format!("job-{number_of}"), None);
    shape.work = Some(Work {
        completions: number(random, 1, 12),
        parallelism: number(random, 1, 5),
        retries: number(random, 0, 3),
        keep: number(random, 0, 3),
        deadline_ms: random.per_mille(250).then(|| random.between(20_000, 240_000)),
    });
    shape.arch = random.per_mille(300).then(|| "amd64".to_owned());
    shape.never_replaced = random.per_mille(150);
    shape.flaps = random.per_mille(100);
    if random.per_mille(150) {
        shape.per_node = Some(number(random, 1, 2));
    }
    if random.per_mille(200) {
        shape.cpu_millis = random.between(200, 1500);
        shape.memory_mib = random.between(64, 1024);
    }
    add_companions(random, &mut shape);
    shape.device = random.per_mille(60).then_some(Wanted::Camera);
    shape.priority = match random.between(0, 9) {
        0 => Some(Urgency::Low),
        1 => Some(Urgency::High),
        _ => None,
    };
    shape
}

/// Another version. Some do not work, and that only where the one before comes back by itself.
fn release(random: &mut Random, shape: Shape) -> Shape {
    let version = random.between(2, 9);
    let bad = (shape.judged && random.per_mille(300)).then_some(if shape.probe { Bad::Mute } else { Bad::Crashes });
    Shape { version, bad, ..shape }
}

/// What some have beside their main container.
fn add_companions(random: &mut Random, shape: &mut Shape) {
    let mut count = |chance| if random.per_mille(chance) { u8::from(random.per_mille(300)) + 1 } else { 0 };
    (shape.steps, shape.sidecars) = (count(120), count(120));
}

/// What some ask for beyond room: devices, company, distance, evenness, to be first or last.
fn add_rules(random: &mut Random, shape: &mut Shape, number_of: u64) {
    shape.device = match random.between(0, 29) {
        0 | 1 => Some(Wanted::Camera),
        2 => Some(Wanted::GpuShare),
        3 => Some(Wanted::GpuMillis(number(random, 1, 3) * 250)),
        _ => None,
    };
    // It may have been deleted, and it may come later.
    let other = random.between(1, number_of + 2);
    let company = |random: &mut Random| {
        let within = place(random);
        (other != number_of).then(|| Company { workload: format!("service-{other}"), within })
    };
    match random.between(0, 11) {
        0 => shape.with = company(random),
        1 => shape.without = company(random),
        _ => {}
    }
    if random.per_mille(120) {
        shape.even = Some(Even { over: place(random), skew: number(random, 1, 3) });
    }
    shape.priority = match random.between(0, 15) {
        0 | 1 => Some(Urgency::Low),
        2 => Some(Urgency::High),
        3 => Some(Urgency::Critical),
        _ => None,
    };
}

fn place(random: &mut Random) -> Place {
    match random.between(0, 2) {
        0 => Place::Node,
        1 => Place::Site,
        _ => Place::Rack,
    }
}

fn daemon(random: &mut Random, name: &str) -> Shape {
    let mut shape = Shape::new(name, None);
    shape.probe = random.per_mille(400);
    shape.disk = (name == "watcher").then(|| "ssd".to_owned());
    shape
}

fn number(random: &mut Random, low: u64, high: u64) -> u32 {
    u32::try_from(random.between(low, high)).expect("small")
}
