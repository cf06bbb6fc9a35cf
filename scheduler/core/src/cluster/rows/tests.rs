//! The table beside a plain map, under the same random changes.

use super::*;

/// All that the table says of one number, kept the obvious way.
#[derive(Clone, Debug)]
struct Model {
    row: Row,
    observation: Option<Observation>,
    usage: InstanceUsage,
    leaves_at: Option<Timestamp>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn small(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(limit.into())).unwrap()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[test]
fn the_table_says_what_a_plain_map_says() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let (mut rows, mut model) = (Rows::default(), BTreeMap::<u64, Model>::new());
        for _ in 0..2_000 {
            change(&mut random, &mut rows, &mut model);
        }

        is_the_same(&rows, &model);
        for number in model.keys() {
            assert!(rows.remove(*number).is_some());
        }
        assert!(rows.pages.is_empty() && rows.rare.is_empty(), "seed {seed}: what is gone leaves nothing");
    }
}

#[test]
fn a_row_and_what_was_observed_of_it_stay_small() {
    assert_eq!(size_of::<Row>(), 24);
    assert_eq!(size_of::<Option<Observed>>(), 24);
    assert_eq!(size_of::<Sample>(), 16);
}

fn change(random: &mut Random, rows: &mut Rows, model: &mut BTreeMap<u64, Model>) {
    let number = random.below(400);
    match random.below(8) {
        0..=2 if !model.contains_key(&number) => {
            let row = Row {
                placed_at: Timestamp(random.below(1 << 40)),
                edition: random.small(9),
                node: random.small(9),
                slot: random.small(9),
                flags: 0,
            };
            rows.insert(number, row);
            let usage = InstanceUsage::default();
            model.insert(number, Model { row, observation: None, usage, leaves_at: None });
        }
        3 => assert_eq!(rows.remove(number), model.remove(&number).map(|known| known.row)),
        4 | 5 => {
            let observation = (!random.one_in(5)).then(|| observation(random));
            rows.observe(number, observation.clone());
            model.entry(number).and_modify(|known| known.observation = observation);
        }
        6 => {
            let usage = InstanceUsage {
                cpu_millis: random.below(1 << 31),
                memory_bytes: random.below(1 << 60),
                pids: random.below(9),
                new_connections_millis: None,
            };
            rows.sample(number, &usage);
            model.entry(number).and_modify(|known| known.usage = usage);
        }
        _ => {
            let leaves_at = random.one_in(2).then_some(Timestamp(7));
            if let Some(known) = model.get_mut(&number) {
                known.row.flags ^= LEAVING;
                known.leaves_at = leaves_at;
                rows.get_mut(number).expect("the model has it").flags ^= LEAVING;
                rows.change_rare(number, |rare| rare.leaves_at = leaves_at);
            }
        }
    }
}

fn observation(random: &mut Random) -> Observation {
    let states = [InstanceState::Preparing, InstanceState::Running, InstanceState::Failed];
    Observation {
        state: states[usize::try_from(random.below(3)).unwrap()],
        health: if random.one_in(2) { Health::Healthy } else { Health::Unknown },
        address: random.one_in(2).then(|| Ipv4Addr::from(random.small(3))),
        pid: random.one_in(2).then(|| random.small(3)),
        restarts: random.small(3),
        last_exit: random.one_in(4).then_some(Exit::OutOfMemory),
        reason: if random.one_in(4) { "why".to_owned() } else { String::new() },
        since: Timestamp(random.below(1 << 40)),
        findings: Findings::default(),
    }
}

fn is_the_same(rows: &Rows, model: &BTreeMap<u64, Model>) {
    assert!(rows.numbers().eq(model.keys().copied()));
    assert_eq!(rows.len(), model.len());
    for (number, known) in model {
        assert_eq!(rows.get(*number).map(|(row, _)| *row), Some(known.row));
        assert_eq!(rows.observation(*number), known.observation, "{number}");
        assert_eq!(rows.usage(*number), known.usage);
        assert_eq!(rows.rare(*number).and_then(|rare| rare.leaves_at), known.leaves_at);
    }
    for page in 0..8 {
        let range = page * PAGE_NUMBERS..(page + 1) * PAGE_NUMBERS;
        assert!(rows.numbers_in(page).eq(model.range(range).map(|(number, _)| *number)));
    }
}
