//! Pages of instances: what is read is what was written, and hostile bytes are refused.

use super::*;

fn name(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Instances of a page, some in a row and alike, some not, some left out.
fn instances(random: &mut Random) -> Vec<Instance> {
    let first = random.below(5) * PAGE_NUMBERS;
    let mut instances = Vec::new();
    let mut slot = 0;
    for number in (first..first + PAGE_NUMBERS).filter(|number| number % 7 != 3) {
        if random.below(6) == 0 {
            slot = u32::try_from(random.below(1_000)).unwrap();
        }
        let workload: WorkloadId = if random.below(20) == 0 { "prod/api" } else { "web" }.parse().unwrap();
        let device = DeviceGrant { device: "cam-1".to_owned(), kind: "camera".to_owned(), millis: 500 };
        instances.push(Instance {
            id: instance_id(&workload, number),
            workload,
            slot,
            revision: Revision(random.below(2)),
            node: name(&format!("n{}", random.below(9))),
            devices: if random.below(9) == 0 { vec![device] } else { Vec::new() },
            desired: if random.below(9) == 0 { Desired::Stop } else { Desired::Run },
            placed_at: Timestamp(random.below(2)),
        });
        slot += 1;
    }
    instances
}

fn page_of(instances: &[Instance]) -> InstancePage {
    let entries = instances.iter().map(|instance| PageEntry {
        number: number_in(&instance.id).unwrap(),
        workload: &instance.workload,
        revision: instance.revision,
        slot: instance.slot,
        node: &instance.node,
        placed_at: instance.placed_at,
        desired: instance.desired,
        devices: &instance.devices,
    });
    InstancePage::new(InstancePage::of(&instances[0].id).unwrap(), entries)
}

fn layout(page: &InstancePage) -> Layout {
    Layout { v: page.v, page: page.page, nodes: page.nodes.clone(), runs: page.runs.clone() }
}

#[test]
fn what_goes_into_a_page_comes_out_of_it() {
    for seed in 0..200 {
        let instances = instances(&mut Random(seed));

        let page = page_of(&instances);

        assert!(page.instances().eq(instances.iter().cloned()), "seed {seed}");
        assert_eq!(InstancePage::try_from(layout(&page)).as_ref(), Ok(&page));
        for instance in &instances {
            assert_eq!(page.find(&instance.id).as_ref(), Some(instance));
        }
        assert_eq!(page.find(&InstanceId::new("other-1s0").unwrap()), None);
    }
}

#[test]
fn replicas_that_were_placed_together_are_one_run() {
    let mut instances = Vec::new();
    for (number, slot) in (128..192).zip(10..) {
        let workload: WorkloadId = "web".parse().unwrap();
        instances.push(Instance {
            id: instance_id(&workload, number),
            workload,
            slot,
            revision: Revision(3),
            node: name(&format!("n{}", number % 5)),
            devices: Vec::new(),
            desired: Desired::Run,
            placed_at: Timestamp(9),
        });
    }

    let page = page_of(&instances);

    assert_eq!((page.number(), page.runs.len(), page.nodes.len()), (2, 1, 5));
}

#[test]
fn what_differs_between_two_pages_leads_from_one_to_the_other() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let before = instances(&mut random);
        let mut after = before.clone();
        after.remove(usize::try_from(random.below(after.len() as u64)).unwrap());
        let ended = usize::try_from(random.below(after.len() as u64)).unwrap();
        after[ended].desired = Desired::Stop;
        let (was, is) = (page_of(&before), page_of(&after));

        let mut led = before.clone();
        for (gone, come) in InstancePage::differences(Some(&was), Some(&is)) {
            assert_ne!(gone, come, "seed {seed}");
            led.retain(|held| Some(held) != gone.as_ref());
            led.extend(come);
        }
        led.sort_by_key(|held| number_in(&held.id));

        assert_eq!(led, after, "seed {seed}");
        assert!(InstancePage::differences(Some(&was), Some(&was)).is_empty());
        assert_eq!(InstancePage::differences(None, Some(&was)).len(), before.len());
        assert_eq!(InstancePage::differences(Some(&was), None).len(), before.len());
    }
}

#[test]
fn a_page_whose_parts_contradict_each_other_is_refused() {
    let mut random = Random(1);
    let refused = |change: &dyn Fn(&mut Layout)| {
        let mut layout = layout(&page_of(&instances(&mut Random(5))));
        change(&mut layout);
        InstancePage::try_from(layout)
    };

    assert_eq!(refused(&|layout| layout.v = 9), Err(PageError::Version(9)));
    assert!(refused(&|layout| layout.page = u64::MAX).is_err());
    assert!(refused(&|layout| layout.nodes.clear()).is_err());
    assert!(refused(&|layout| layout.nodes.push(layout.nodes[0].clone())).is_err());
    assert!(refused(&|layout| layout.runs[0].at = 63).is_err());
    let long = |layout: &mut Layout| layout.runs.iter_mut().for_each(|run| run.slot = u32::MAX);
    assert!(refused(&long).is_err(), "a run of more than one leaves the slots");
    assert!(refused(&|layout| layout.runs[0].nodes.clear()).is_err());
    assert!(refused(&|layout| layout.runs.reverse()).is_err());
    assert!(refused(&|layout| drop(layout.runs[0].devices.insert(63, Vec::new()))).is_err());
    assert!(refused(&|_| {}).is_ok());
    // Whatever the numbers are, nothing panics, and what is accepted can be read to its end.
    for _ in 0..20_000 {
        let mut layout = layout(&page_of(&instances(&mut random)));
        let run = usize::try_from(random.below(layout.runs.len() as u64)).unwrap();
        let byte = u8::try_from(random.below(256)).unwrap();
        match random.below(4) {
            0 => layout.runs[run].at = byte,
            1 => layout.runs[run].nodes[0] = byte,
            2 => layout.runs[run].slot = u32::MAX - u32::from(byte),
            _ => layout.page = u64::MAX / (1 + random.below(100)),
        }
        if let Ok(page) = InstancePage::try_from(layout) {
            assert!(page.instances().count() as u64 <= PAGE_NUMBERS);
        }
    }
}
