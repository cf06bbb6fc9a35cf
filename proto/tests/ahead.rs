//! Coming times of jobs, and what a node did by them, survive the wire and lead from set to set.

use std::collections::BTreeMap;

use api_types::{
    assignment::{Assignment, AssignmentSet},
    container::ContainerSpec,
    counter::{Epoch, Generation, Revision},
    id::{InstanceId, Name, NodeId},
    instance::Desired,
    resources::ResourceSpec,
    restart::RestartSpec,
    schedule::{BegunAlone, FollowedAlone, JobAhead, Overlap},
    secret::{Secret, SecretValue},
    time::Timestamp,
};
use prost::Message;
use proto::{
    session::{FromAgent, FromScheduler},
    update::{apply_assignments, diff_assignments, whole_assignments},
    v1,
};

#[test]
fn coming_times_and_what_was_done_by_them_survive_the_wire() {
    let begun = BegunAlone { at: Timestamp(60_001), revision: Revision(2) };
    let followed = FollowedAlone {
        until: Timestamp(60_000),
        begun: BTreeMap::from([(instance("backup-1"), begun)]),
        ended: [instance("backup-0")].into(),
    };
    let told = FromAgent::RanAlone(BTreeMap::from([("shop/backup".parse().expect("an id"), followed)]));
    let updates = Overlap::ALL.map(|overlap| FromScheduler::Assignments(whole_assignments(&set(1, &[job(overlap)]))));

    let bytes = v1::FromAgent::from(told.clone()).encode_to_vec();
    assert_eq!(FromAgent::try_from(v1::FromAgent::decode(bytes.as_slice()).expect("bytes of our own")), Ok(told));
    for update in updates {
        let bytes = v1::FromScheduler::from(update.clone()).encode_to_vec();
        let wire = v1::FromScheduler::decode(bytes.as_slice()).expect("bytes of our own");
        assert_eq!(FromScheduler::try_from(wire), Ok(update));
    }
}

#[test]
fn a_change_tells_coming_times_whole_or_not_at_all() {
    let before = set(1, &[job(Overlap::Forbid)]);
    let same = set(2, &[job(Overlap::Forbid)]);
    let other = set(3, &[job(Overlap::Allow)]);
    let none = set(4, &[]);

    let unchanged = diff_assignments(&before, &same);

    assert_eq!(unchanged.ahead, None);
    let mut held = apply_assignments(Some(&before), unchanged).expect("it follows");
    assert_eq!(held, same);
    for next in [other, none] {
        held = apply_assignments(Some(&held), diff_assignments(&held, &next)).expect("it follows");
        assert_eq!(held, next);
    }
}

#[test]
fn secrets_of_what_may_begin_are_kept() {
    let mut before = set(1, &[job(Overlap::Forbid)]);
    let id = "shop/token".parse().expect("a name");
    let secret = SecretValue { version: 3, value: Secret::new(b"hidden".to_vec()) };
    let name = Name::new("token").expect("a name");
    before.ahead[0].template.secrets.insert(name, 3);
    assert_eq!(before.missing_secrets().count(), 1);
    before.secrets.insert(id, secret);
    let same = AssignmentSet { generation: Generation(2), ..before.clone() };

    let held = apply_assignments(Some(&before), diff_assignments(&before, &same)).expect("it follows");

    assert_eq!((held.secrets.len(), held.missing_secrets().count()), (1, 0));
}

fn instance(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a name")
}

fn set(generation: u64, ahead: &[JobAhead]) -> AssignmentSet {
    AssignmentSet {
        epoch: Epoch(1),
        generation: Generation(generation),
        node: NodeId::new("edge-1").expect("a name"),
        subnet: "10.42.1.0/24".parse().expect("a range"),
        assignments: Vec::new(),
        met: Vec::new(),
        ahead: ahead.to_vec(),
        secrets: BTreeMap::new(),
    }
}

fn job(overlap: Overlap) -> JobAhead {
    JobAhead {
        template: Assignment {
            instance: instance("backup-0"),
            workload: "shop/backup".parse().expect("an id"),
            slot: 0,
            revision: Revision(2),
            desired: Desired::Run,
            container: ContainerSpec::of_image("registry.lan/backup:1"),
            resources: ResourceSpec::default(),
            companions: Vec::new(),
            after: Vec::new(),
            devices: Vec::new(),
            ports: Vec::new(),
            probe: None,
            restart: RestartSpec::default(),
            is_judged: false,
            ipv6: false,
            retries: Some(1),
            stop_after_ms: None,
            secrets: BTreeMap::new(),
        },
        late_ms: 60_000,
        overlap,
        coming: BTreeMap::from([(Timestamp(60_000), instance("backup-1"))]),
        withdrawn: [instance("backup-9")].into(),
    }
}
