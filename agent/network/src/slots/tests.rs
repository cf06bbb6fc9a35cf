//! The model of the kernel's maps, in which no packet is lost whatever changes.

use super::*;
use crate::table::SLOTS_MAX;

/// What a packet meets: the kernel's maps after each transaction.
#[derive(Clone, Default, PartialEq, Debug)]
struct Maps {
    verdicts: BTreeMap<Front, Choice>,
    slots: BTreeMap<(Front, usize), SocketAddrV4>,
    known: BTreeSet<Front>,
    remembered: BTreeMap<Front, Memory>,
    guarded: BTreeSet<Front>,
    allowed: BTreeSet<(Front, IpRange)>,
    hairpins: BTreeSet<Ipv4Addr>,
    passes: BTreeSet<Pass>,
}

#[test]
fn every_packet_meets_an_endpoint_in_every_state_and_on_either_side_of_each() {
    let mut random = Random(7);
    let mut balance = Balance::default();
    let mut maps = Maps::default();
    for _ in 0..2000 {
        let wanted = random.wanted();
        let changes = balance.changes_to(&wanted, random.next());
        let mut states = vec![maps.clone()];
        for step in balance.steps(&changes) {
            maps.apply(&step).expect("the kernel accepts every step");
            states.push(maps.clone());
        }
        let mut next = balance.clone();
        next.apply(changes);

        check_states(&states, &balance, &next).expect("no packet is lost");
        assert_eq!(maps, Maps::of(&next));
        for (front, behind) in &wanted.fronts {
            let slots = &next.fronts[front].slots;
            assert!((1..=SLOTS_MAX).contains(&slots.len()) && (behind.memory.is_none() || slots.len() == SLOTS_MAX));
            let reached: BTreeSet<_> = slots.iter().collect();
            assert_eq!(reached.len(), behind.endpoints.len().min(SLOTS_MAX));
            assert!(reached.iter().all(|found| behind.endpoints.iter().any(|(endpoint, _)| endpoint == *found)));
        }
        balance = next;
    }
}

#[test]
fn the_model_catches_careless_orders() {
    let [a, b] = [1, 2].map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80));
    let front = Front::Port(Protocol::Tcp, 80);
    let [two, one] = [vec![a, b], vec![a]].map(|slots| {
        let slots = Slots { slots, memory: None };
        Balance { fronts: BTreeMap::from([(front, slots)]), ..Balance::default() }
    });
    let fronts = vec![(front, Some(Slots { slots: vec![a], memory: None }))];
    let changes = Changes {
        fronts,
        followed: Vec::new(),
        guards: BTreeMap::new(),
        hairpins: BTreeSet::new(),
        passes: BTreeSet::new(),
    };
    let [make, switch, after] = two.steps(&changes);
    let at_once = Step { delete: [make.delete, switch.delete, after.delete].concat(), add: switch.add };
    let mut maps = Maps::of(&two);
    let before = maps.clone();
    maps.apply(&at_once).expect("the kernel would accept it");

    let outcome = check_states(&[before, maps], &two, &one);

    assert_eq!(outcome, Err("a packet meets no slot 1".to_owned()));
}

#[test]
fn a_guard_is_there_before_its_port_opens_and_the_model_would_notice() {
    let front = Front::Port(Protocol::Tcp, 80);
    let endpoint = SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, 1), 80);
    let mut wanted = Wanted { fronts: BTreeMap::from([(front, Arc::new(endpoint.into()))]), ..Wanted::default() };
    wanted.guards.insert(front, vec!["10.0.0.0/8".parse().expect("a range")]);
    let (nothing, mut all) = (Balance::default(), Balance::default());
    let changes = nothing.changes_to(&wanted, 0);
    let [make, switch, _] = nothing.steps(&changes);
    all.apply(changes);
    let [mut careful, mut careless] = [Maps::default(), Maps::default()];
    careful.apply(&make).expect("accepted");
    let unguarded = make.add.iter().copied().filter(|element| !matches!(element, Element::Guarded(_))).collect();
    careless.apply(&Step { delete: Vec::new(), add: unguarded }).expect("accepted");
    for maps in [&mut careful, &mut careless] {
        maps.apply(&switch).expect("accepted");
    }

    assert_eq!(check_states(&[Maps::default(), careful], &nothing, &all), Ok(()));
    assert_eq!(check_states(&[Maps::default(), careless], &nothing, &all), Err("a port is open to all".to_owned()));
}

#[test]
fn only_fronts_that_change_are_shared_out_anew() {
    let [a, b, c] = [1, 2, 3].map(|last| (SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80), 1));
    let behind = |endpoints: &[(SocketAddrV4, u16)]| Arc::new(Behind { endpoints: endpoints.to_vec(), memory: None });
    let [web, shop] = [80, 81].map(|port| Front::Port(Protocol::Tcp, port));
    let wanted =
        |shops| Wanted { fronts: BTreeMap::from([(web, behind(&[a, b])), (shop, shops)]), ..Wanted::default() };
    let mut balance = Balance::default();
    balance.apply(balance.changes_to(&wanted(behind(&[a])), 0));

    let again = balance.changes_to(&wanted(behind(&[a])), 0);
    let changes = balance.changes_to(&wanted(behind(&[a, c])), 0);

    assert!(again.fronts.is_empty() && again.followed.is_empty(), "{again:?}");
    assert_eq!(changes.followed, [(shop, behind(&[a, c]))]);
    let elements: usize = balance.steps(&changes).iter().map(|step| step.add.len() + step.delete.len()).sum();
    assert_eq!(elements, 3, "a slot, and one verdict for another");
    balance.apply(changes);
    balance.apply(balance.changes_to(&Wanted::default(), 0));
    assert_eq!(balance, Balance::default(), "nothing is remembered of what is gone");
}

#[test]
fn exchanges_are_upset_by_who_leaves_and_by_a_new_port_of_datagrams() {
    let [a, b] = [1, 2].map(|last| (SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80), 1));
    let upset = |protocol, old: &[(SocketAddrV4, u16)], new: &[(SocketAddrV4, u16)]| {
        let wanted = |endpoints: &[(SocketAddrV4, u16)]| {
            let behind = Arc::new(Behind { endpoints: endpoints.to_vec(), memory: None });
            let fronts = (!endpoints.is_empty()).then_some((Front::Port(protocol, 80), behind));
            Wanted { fronts: fronts.into_iter().collect(), ..Wanted::default() }
        };
        let mut balance = Balance::default();
        balance.apply(balance.changes_to(&wanted(old), 0));
        let upset = balance.upset(&balance.changes_to(&wanted(new), 0));
        (upset.left, upset.datagrams)
    };

    assert_eq!(upset(Protocol::Tcp, &[a, b], &[a]), (true, false));
    assert_eq!(upset(Protocol::Tcp, &[a], &[a, b]), (false, false));
    assert_eq!(upset(Protocol::Tcp, &[], &[a]), (false, false));
    assert_eq!(upset(Protocol::Udp, &[a, b], &[b]), (true, true));
    assert_eq!(upset(Protocol::Udp, &[a], &[a, b]), (false, false));
    assert_eq!(upset(Protocol::Udp, &[], &[a]), (false, true), "it was asked before anybody served there");
    assert_eq!(upset(Protocol::Udp, &[a], &[]), (true, true));
}

impl Maps {
    fn of(balance: &Balance) -> Self {
        let mut maps = Self::default();
        maps.apply(&Step { delete: Vec::new(), add: balance.elements() }).expect("from nothing");
        maps
    }

    /// As the kernel does: what is deleted must be there, what is added must not.
    fn apply(&mut self, step: &Step) -> Result<(), String> {
        for element in &step.delete {
            let found = match *element {
                Element::Slot(front, slot, _) => self.slots.remove(&(front, slot)).is_some(),
                Element::Verdict(front, _) => self.verdicts.remove(&front).is_some(),
                Element::Known(front) => self.known.remove(&front),
                Element::Remembered(front, _) => self.remembered.remove(&front).is_some(),
                Element::Guarded(front) => self.guarded.remove(&front),
                Element::Allowed(front, range) => self.allowed.remove(&(front, range)),
                Element::Hairpin(address) => self.hairpins.remove(&address),
                Element::Pass(pass) => self.passes.remove(&pass),
            };
            found.then_some(()).ok_or_else(|| format!("{element:?} is not there"))?;
        }
        for element in &step.add {
            let absent = match *element {
                Element::Slot(front, slot, endpoint) => self.slots.insert((front, slot), endpoint).is_none(),
                Element::Verdict(front, choice) => self.verdicts.insert(front, choice).is_none(),
                Element::Known(front) => self.known.insert(front),
                Element::Remembered(front, memory) => self.remembered.insert(front, memory).is_none(),
                Element::Guarded(front) => self.guarded.insert(front),
                Element::Allowed(front, range) => self.allowed.insert((front, range)),
                Element::Hairpin(address) => self.hairpins.insert(address),
                Element::Pass(pass) => self.passes.insert(pass),
            };
            absent.then_some(()).ok_or_else(|| format!("{element:?} is there already"))?;
        }
        Ok(())
    }
}

/// A packet reads the verdict in one state and the slot in the same or in the next.
fn check_states(states: &[Maps], old: &Balance, new: &Balance) -> Result<(), String> {
    for (index, state) in states.iter().enumerate() {
        for front in old.fronts.keys().filter(|front| new.fronts.contains_key(front)) {
            state.verdicts.get(front).ok_or("a service is not there")?;
        }
        for (front, choice) in &state.verdicts {
            if matches!(front, Front::Service(..)) && !state.known.contains(front) {
                return Err("a service would be rejected".to_owned());
            }
            check_guard(state, *front, old, new)?;
            let is_live = |found: &SocketAddrV4| {
                [old, new].iter().any(|all| all.fronts.get(front).is_some_and(|all| all.slots.contains(found)))
            };
            for later in &states[index..states.len().min(index + 2)] {
                let count = match choice {
                    Choice::Draw(count) => *count,
                    Choice::Client => SLOTS_MAX,
                };
                for slot in 0..count {
                    let met = later.slots.get(&(*front, slot)).ok_or(format!("a packet meets no slot {slot}"))?;
                    is_live(met).then_some(()).ok_or("a packet meets a stranger")?;
                }
            }
        }
    }
    Ok(())
}

/// Whoever is kept out before and after is kept out meanwhile, and whoever is let in before and after is let in.
fn check_guard(state: &Maps, front: Front, old: &Balance, new: &Balance) -> Result<(), String> {
    let open = |balance: &Balance| balance.fronts.contains_key(&front) && !balance.guards.contains_key(&front);
    if !state.guarded.contains(&front) {
        return (open(old) || open(new)).then_some(()).ok_or_else(|| "a port is open to all".to_owned());
    }
    let lets_in = |balance: &Balance, range: &IpRange| {
        open(balance) || balance.guards.get(&front).is_some_and(|ranges| ranges.contains(range))
    };
    let ranges = [old, new].into_iter().flat_map(|balance| balance.guards.get(&front)).flatten();
    let is_served = |balance: &Balance| balance.fronts.contains_key(&front);
    let mut both =
        ranges.filter(|range| is_served(old) && is_served(new) && lets_in(old, range) && lets_in(new, range));
    let kept = both.all(|range| state.allowed.contains(&(front, *range)));
    kept.then_some(()).ok_or_else(|| "a client is shut out".to_owned())
}

/// Knuth's 64-bit generator: the same walk at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn wanted(&mut self) -> Wanted {
        let mut wanted = Wanted::default();
        for number in 0..4_u8 {
            // Mostly few endpoints, sometimes more than there are slots, often none.
            let most = if self.next().is_multiple_of(20) { 90 } else { 5 };
            let endpoints: BTreeMap<_, u16> = (0..self.next() % most)
                .map(|_| {
                    let last = u8::try_from(self.next() % most).expect("below 90");
                    let weight = if self.next().is_multiple_of(3) { self.next() % 20 + 1 } else { 1 };
                    let endpoint = SocketAddrV4::new(Ipv4Addr::new(10, 42, 1, last), 80);
                    (endpoint, u16::try_from(weight).expect("at most 20"))
                })
                .collect();
            let front = match number {
                0 | 1 => Front::Service(Ipv4Addr::new(10, 43, 0, number), Protocol::Tcp, 80),
                2 => Front::Bound([192, 0, 2, 1].into(), Protocol::Tcp, 80),
                _ => Front::Port(Protocol::Tcp, u16::from(number)),
            };
            wanted.hairpins.extend(endpoints.keys().map(|endpoint| *endpoint.ip()));
            if number >= 2 && self.next().is_multiple_of(2) {
                let ranges =
                    ["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24"].map(|text| text.parse().expect("a range"));
                let kept = ranges.into_iter().filter(|_| self.next().is_multiple_of(2)).collect();
                wanted.guards.insert(front, kept);
            }
            if !endpoints.is_empty() {
                let memory = self.next().is_multiple_of(3).then(|| Memory::of_ms(self.next() % 100_000));
                wanted.fronts.insert(front, Arc::new(Behind { endpoints: endpoints.into_iter().collect(), memory }));
            }
        }
        wanted
    }
}
