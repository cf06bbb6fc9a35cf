//! What waits is told once for each session, together and the latest.

use agent_core::effect::Report as CoreReport;
use api_types::{
    instance::{Findings, Health, InstanceState},
    schedule::FollowedAlone,
    time::Timestamp,
};

use super::*;

#[tokio::test]
async fn reports_that_come_together_are_told_together_and_the_latest_counts() {
    let outbox = Outbox::new(NodeFacts::default());
    let partial = |statuses, gone| CoreReport { statuses, gone, complete: false };
    outbox.report(CoreReport { statuses: vec![status("a", 0), status("b", 0)], gone: Vec::new(), complete: true });
    outbox.report(partial(vec![status("a", 1)], vec![id("b")]));
    outbox.report(partial(vec![status("c", 2)], Vec::new()));

    let FromAgent::Report(report) = outbox.next().await else { panic!("a report comes first") };

    assert!(report.complete);
    let restarts: Vec<_> = report.statuses.iter().map(|status| (status.instance.as_str(), status.restarts)).collect();
    assert_eq!(restarts, [("a", 1), ("c", 2)]);
    assert_eq!(report.gone, [id("b")]);
}

#[tokio::test]
async fn what_was_done_alone_is_told_before_the_complete_report_and_in_its_session_only() {
    let outbox = Outbox::new(NodeFacts::default());
    let alone: Arc<Followed> = Arc::new([("backup".parse().expect("an id"), FollowedAlone::default())].into());
    outbox.alone(alone.clone());
    outbox.begin();
    outbox.alone(alone.clone());
    outbox.report(CoreReport { statuses: vec![status("a", 0)], gone: Vec::new(), complete: true });

    let (first, second) = (outbox.next().await, outbox.next().await);

    assert!(matches!(first, FromAgent::RanAlone(told) if told == *alone));
    assert!(matches!(second, FromAgent::Report(report) if report.complete));
    assert!(matches!(outbox.next().await, FromAgent::NodeReport(_)), "it is told once");
}

#[tokio::test]
async fn a_session_tells_conditions_once_and_usage_each_time() {
    let outbox = Outbox::new(NodeFacts::default());
    outbox.condition("runtime", Ok("containerd 2".to_owned()));
    outbox.report(CoreReport { statuses: vec![status("a", 0)], gone: Vec::new(), complete: false });
    outbox.begin();

    let FromAgent::NodeReport(first) = outbox.next().await else { panic!("the old report is void") };
    outbox.condition("runtime", Ok("containerd 2".to_owned()));
    outbox.usage(NodeUsage { cpu_millis: 7, ..NodeUsage::default() }, BTreeMap::new());
    let FromAgent::NodeReport(second) = outbox.next().await else { panic!("usage follows") };

    assert_eq!(first.conditions.map(|conditions| conditions.len()), Some(1));
    assert_eq!((second.conditions, second.facts, second.usage.cpu_millis), (None, None, 7));
}

#[tokio::test]
async fn a_device_that_appears_is_told_once_within_the_session() {
    let outbox = Outbox::new(NodeFacts::default());
    let camera = Device { name: "front".to_owned(), kind: "camera".to_owned(), model: String::new(), shares: 4 };
    outbox.devices(Vec::new());
    outbox.devices(vec![camera.clone()]);

    let FromAgent::NodeReport(first) = outbox.next().await else { panic!("the device is news") };
    outbox.devices(vec![camera.clone()]);
    outbox.usage(NodeUsage::default(), BTreeMap::new());
    let FromAgent::NodeReport(second) = outbox.next().await else { panic!("usage follows") };

    assert_eq!(first.facts.map(|facts| facts.devices), Some(vec![camera]));
    assert_eq!(second.facts, None);
}

#[tokio::test]
async fn each_session_is_told_once_what_volumes_hold() {
    let outbox = Outbox::new(NodeFacts::default());
    let workload = "shop/db".parse().expect("an id");
    let slot = VolumeSlot { workload, volume: "data".parse().expect("a name"), slot: 0 };
    let measured = BTreeMap::from([(slot, 7)]);
    let told = |message: FromAgent| matches!(message, FromAgent::VolumesMeasured(told) if told == measured);
    outbox.volumes(measured.clone());
    let first = outbox.next().await;
    outbox.volumes(measured.clone());
    outbox.usage(NodeUsage::default(), BTreeMap::new());
    let second = outbox.next().await;

    outbox.begin();

    assert!(told(first) && matches!(second, FromAgent::NodeReport(_)));
    assert!(told(outbox.next().await));
}

fn id(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a name")
}

fn status(name: &str, restarts: u32) -> InstanceStatus {
    InstanceStatus {
        instance: id(name),
        state: InstanceState::Running,
        health: Health::Healthy,
        address: None,
        pid: None,
        restarts,
        last_exit: None,
        reason: String::new(),
        since: Timestamp(0),
        findings: Findings::default(),
    }
}
