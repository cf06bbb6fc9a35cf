//! Value to bytes to value is the identity; what cannot be read names its field; changes lead where they say.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{
    access::Access,
    assignment::{Assignment, AssignmentSet},
    balance::{BalancePolicy, Bind, Preference, WhenNoneReady},
    companion::{CompanionRole, CompanionSpec},
    container::{ContainerSpec, Mount, NetworkMode, PortSpec, Protocol},
    content::{ContentSpec, FileContent, FileSpec, OnChange, Owner},
    counter::{Epoch, Generation, RequestId, Revision, SessionId},
    dependency::{Awaited, Dependency},
    device::{Device, DeviceGrant, WHOLE_DEVICE_MILLIS},
    id::{InstanceId, Name, NodeId, SecretId},
    instance::{Desired, Exit, Findings, Health, InstanceState, InstanceStatus, InstanceUsage},
    node::{Condition, NodeFacts, NodeUsage, TakenPort},
    probe::{ProbeCheck, ProbeFinding, ProbeKind, ProbeSpec},
    relay::VolumeSlot,
    resources::{ResourceSpec, Resources},
    restart::RestartSpec,
    secret::{SECRET_BYTES_MAX, Secret, SecretValue},
    service::{Endpoint, Peer, Service, ServicePort, ServiceTable, WatchKey},
    site::{Across, Reach},
    time::Timestamp,
    view::{CheckKind, Datagram, LogLine, NetworkCheck, TraceStep},
};
use prost::Message;
use proto::{
    error::ConvertError,
    limits::{LOG_LINE_BYTES_MAX, TEXT_BYTES_MAX},
    network::{InspectNetwork, NetworkInspected, TraceQuestion, table_sum},
    session::{
        CurrentMarkers, FromAgent, FromScheduler, Hello, ImageLoaded, LoadImage, LogChunk, Marker, NodeReport,
        OpenLogs, Report, Welcome,
    },
    update::{
        GapError, ServicesUpdate, apply_assignments, apply_services, assignments_marker, diff_assignments,
        diff_services, services_marker, whole_assignments, whole_services,
    },
    v1,
};

#[test]
fn what_an_agent_says_survives_the_wire() {
    let statuses = [Exit::Code(-1), Exit::OutOfMemory, Exit::Probe(ProbeKind::Liveness), Exit::Unknown]
        .map(|exit| status("web-1", exit))
        .to_vec();
    let workload = "shop/db".parse().expect("an id");
    let slot = VolumeSlot { workload, volume: Name::new("data").expect("a name"), slot: 2 };
    let report = Report { statuses, gone: vec![instance("web-0")], complete: true };
    let node_report = NodeReport {
        conditions: Some(vec![Condition {
            name: "runtime".to_owned(),
            ok: false,
            reason: "away".to_owned(),
            taken: vec![TakenPort { port: 8080, protocol: Protocol::Udp, owner: "named (pid 812)".to_owned() }],
        }]),
        facts: Some(facts()),
        usage: NodeUsage { cpu_millis: 1, memory_bytes: 2, disk_free_bytes: 3 },
        instances: BTreeMap::from([(
            instance("web-1"),
            InstanceUsage { cpu_millis: 4, memory_bytes: 5, pids: 6, new_connections_millis: Some(7) },
        )]),
        requests: BTreeMap::from([(instance("web-2"), 1_500)]),
    };
    let messages = [
        FromAgent::Hello(Box::new(hello())),
        FromAgent::Heartbeat,
        FromAgent::RenewLease(u64::MAX),
        FromAgent::Report(report),
        FromAgent::NodeReport(Box::new(node_report)),
        FromAgent::NodeReport(Box::default()),
        FromAgent::ImageLoaded(ImageLoaded {
            request: RequestId(9),
            images: vec!["a:1".to_owned()],
            error: "full".to_owned(),
        }),
        FromAgent::Programmed(Marker { epoch: Epoch(1), generation: Generation(2) }),
        FromAgent::NetworkInspected(inspected()),
        FromAgent::VolumesMeasured(BTreeMap::from([(slot, 9)])),
    ];

    for message in messages {
        let bytes = v1::FromAgent::from(message.clone()).encode_to_vec();
        let wire = v1::FromAgent::decode(bytes.as_slice()).expect("bytes of our own");
        assert_eq!(FromAgent::try_from(wire), Ok(message));
    }
}

#[test]
fn what_the_scheduler_says_survives_the_wire() {
    let marker = Marker { epoch: Epoch(1), generation: Generation(2) };
    let old = set(1, &["web-1", "web-2"]);
    let messages = [
        FromScheduler::Welcome(Welcome {
            epoch: Epoch(3),
            session: SessionId(4),
            heartbeat_interval_ms: 1000,
            scheduler_time: Timestamp(5),
        }),
        FromScheduler::Assignments(whole_assignments(&old)),
        FromScheduler::Assignments(diff_assignments(&old, &set(2, &["web-2", "web-3"]))),
        FromScheduler::Services(whole_services(&table(1, &["web"], 1))),
        FromScheduler::Services(diff_services(&table(1, &["web"], 1), &table(2, &["api"], 1))),
        FromScheduler::Current(CurrentMarkers { assignments: Some(marker), services: None }),
        FromScheduler::OpenLogs(OpenLogs {
            request: RequestId(6),
            instance: instance("web-1"),
            container: Some(Name::new("proxy").expect("a name")),
            tail: 7,
            follow: true,
        }),
        FromScheduler::CloseLogs(RequestId(8)),
        FromScheduler::LeaseRenewed(u64::MAX),
        FromScheduler::LoadImage(LoadImage { request: RequestId(9), digest: "sha256:00".to_owned() }),
        FromScheduler::InspectNetwork(InspectNetwork {
            request: RequestId(10),
            trace: None,
            services: vec!["shop/web".parse().expect("an id")],
        }),
        FromScheduler::InspectNetwork(InspectNetwork {
            request: RequestId(11),
            trace: Some(TraceQuestion {
                instance: Some(instance("web-1")),
                source: [10, 42, 1, 2].into(),
                destination: [10, 43, 0, 1].into(),
                ipv6: "fd01:203:405::a2b:9".parse().ok(),
                port: 80,
                protocol: Protocol::Udp,
            }),
            services: Vec::new(),
        }),
    ];

    for message in messages {
        let bytes = v1::FromScheduler::from(message.clone()).encode_to_vec();
        let wire = v1::FromScheduler::decode(bytes.as_slice()).expect("bytes of our own");
        assert_eq!(FromScheduler::try_from(wire), Ok(message));
    }
}

#[test]
fn a_key_of_another_length_is_refused() {
    let mut update = v1::ServicesUpdate::from(whole_services(&table(1, &["web"], 1)));
    update.watch_key = Some(vec![7; 31]);

    let error = ServicesUpdate::try_from(update).expect_err("31 bytes are no key");

    assert_eq!(error.path, "watch_key");
}

#[test]
fn log_lines_survive_the_wire() {
    let line = |stream: &str| LogLine {
        instance: instance("web-1"),
        at: Timestamp(1),
        stream: stream.to_owned(),
        text: "hello".to_owned(),
    };
    let chunk = LogChunk {
        request: RequestId(1),
        instance: instance("web-1"),
        lines: vec![line("stdout"), line("stderr")],
        error: String::new(),
    };

    let mut hostile = v1::LogChunk::from(chunk.clone());
    assert_eq!(LogChunk::try_from(hostile.clone()), Ok(chunk));
    hostile.lines[0].text = "x".repeat(LOG_LINE_BYTES_MAX + 1);
    let cut = LogChunk::try_from(hostile).expect("a chunk");
    assert_eq!(cut.lines[0].text.len(), LOG_LINE_BYTES_MAX, "whoever sends it");
}

#[test]
fn a_message_that_cannot_be_read_names_its_field() {
    let mut report = v1::Report::from(Report {
        statuses: vec![status("web-1", Exit::Code(0)), status("web-2", Exit::Code(0))],
        ..Report::default()
    });
    report.statuses[1].state = 77;
    assert_eq!(path_of(v1::from_agent::Message::Report(report)), "report.statuses[1].state");

    let mut unset = v1::Hello::from(hello());
    unset.facts = None;
    assert_eq!(path_of(v1::from_agent::Message::Hello(unset)), "hello.facts");

    let mut climbing = v1::Report::default();
    climbing.gone.push("../../etc".to_owned());
    assert_eq!(path_of(v1::from_agent::Message::Report(climbing)), "report.gone[0]");

    let mut long = v1::Hello::from(hello());
    long.boot_id = "x".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(path_of(v1::from_agent::Message::Hello(long)), "hello.boot_id");

    assert_eq!(FromAgent::try_from(v1::FromAgent { message: None }), Err(ConvertError::missing("message")));
}

#[test]
fn devices_that_no_node_can_have_are_refused() {
    let refused = |change: &dyn Fn(&mut Vec<v1::Device>)| {
        let mut wire = v1::Hello::from(hello());
        change(&mut wire.facts.as_mut().expect("facts").devices);
        path_of(v1::from_agent::Message::Hello(wire))
    };

    assert_eq!(refused(&|devices| devices[0].shares = 0), "hello.facts.devices[0].shares");
    assert_eq!(refused(&|devices| devices[1].shares = u32::MAX), "hello.facts.devices[1].shares");
    assert_eq!(refused(&|devices| devices[0].kind.clear()), "hello.facts.devices[0].kind");
    assert_eq!(refused(&|devices| devices[1].name = "a b".to_owned()), "hello.facts.devices[1].name");
    assert_eq!(refused(&|devices| devices[0].model = "x".repeat(64)), "hello.facts.devices[0].model");
    assert_eq!(refused(&|devices| devices.swap(0, 1)), "hello.facts.devices");
    assert_eq!(refused(&|devices| devices.push(devices[1].clone())), "hello.facts.devices");
    assert_eq!(refused(&|devices| *devices = vec![devices[0].clone(); 1001]), "hello.facts.devices");
}

#[test]
fn a_long_reason_is_cut_before_it_is_sent() {
    let mut long = status("web-1", Exit::Unknown);
    long.reason = "ä".repeat(TEXT_BYTES_MAX);

    let wire = v1::InstanceStatus::from(long);

    assert!(InstanceStatus::try_from(wire).is_ok_and(|status| status.reason.len() == TEXT_BYTES_MAX));
}

#[test]
fn a_change_leads_from_the_old_set_to_the_new_one() {
    let sets = [set(1, &[]), set(2, &["web-1"]), set(3, &["web-1", "web-2"]), set(4, &["web-2", "web-9"]), set(5, &[])];
    for old in &sets {
        for new in &sets {
            let update = diff_assignments(old, new);
            assert!(update.upserts.len() <= new.assignments.len());
            assert_eq!(apply_assignments(Some(old), update).as_ref(), Ok(new));
        }
        assert_eq!(apply_assignments(None, whole_assignments(old)).as_ref(), Ok(old));
    }

    let unchanged = diff_assignments(&sets[2], &AssignmentSet { generation: Generation(9), ..sets[2].clone() });
    assert!(unchanged.upserts.is_empty() && unchanged.removals.is_empty());
}

#[test]
fn a_secret_leaves_with_the_last_assignment_that_uses_it() {
    let (with, without) = (set(1, &["web-1", "web-2"]), set(3, &[]));
    let one_less = AssignmentSet { assignments: vec![assignment("web-1")], ..with.clone() };

    let kept = apply_assignments(Some(&with), diff_assignments(&with, &one_less)).expect("no gap");
    let gone = apply_assignments(Some(&with), diff_assignments(&with, &without)).expect("no gap");

    assert_eq!(kept.secrets, with.secrets);
    assert!(diff_assignments(&with, &one_less).secrets.is_empty(), "what is held does not travel again");
    assert_eq!(gone.secrets, BTreeMap::new());
}

#[test]
fn what_is_printed_of_a_message_does_not_hold_its_secrets() {
    let message = v1::FromScheduler::from(FromScheduler::Assignments(whole_assignments(&set(1, &["web-1"]))));

    let printed = format!("{message:?} {:?}", whole_assignments(&set(1, &["web-1"])));

    // As text, and as the list of numbers that bytes are printed as.
    assert!(printed.contains("shop/db") && !printed.contains("hidden") && !printed.contains("104, 105, 100"));
}

#[test]
fn a_secret_that_is_too_long_is_refused() {
    let long = v1::SecretValue { secret: "db".to_owned(), version: 1, value: vec![0; SECRET_BYTES_MAX + 1] };

    let refused = <(SecretId, SecretValue)>::try_from(long).expect_err("it is too long");

    assert_eq!(refused.path, "value");
}

#[test]
fn a_change_leads_from_the_old_table_to_the_new_one() {
    let tables = [table(1, &[], 0), table(2, &["web"], 1), table(3, &["api", "web"], 1), table(4, &["api"], 2)];
    for old in &tables {
        for new in &tables {
            assert_eq!(apply_services(Some(old), diff_services(old, new)).as_ref(), Ok(new));
        }
        assert_eq!(apply_services(None, whole_services(old)).as_ref(), Ok(old));
    }
    assert_eq!(diff_services(&tables[1], &tables[2]).peers, None, "unchanged peers do not travel");
}

#[test]
fn a_change_of_something_else_is_a_gap() {
    let (old, new, other) = (set(1, &["web-1"]), set(2, &["web-2"]), set(7, &[]));
    let base = assignments_marker(&old);

    let on_other = apply_assignments(Some(&other), diff_assignments(&old, &new));
    let on_nothing = apply_services(None, diff_services(&table(1, &[], 0), &table(2, &[], 0)));

    assert_eq!(on_other, Err(GapError { base, held: Some(assignments_marker(&other)) }));
    assert_eq!(on_nothing, Err(GapError { base: services_marker(&table(1, &[], 0)), held: None }));
}

fn path_of(message: v1::from_agent::Message) -> String {
    let error = FromAgent::try_from(v1::FromAgent { message: Some(message) }).expect_err("it cannot be read");
    error.path
}

fn instance(name: &str) -> InstanceId {
    InstanceId::new(name).expect("a name")
}

fn facts() -> NodeFacts {
    NodeFacts {
        devices: vec![
            Device { name: "front-door".to_owned(), kind: "camera".to_owned(), model: "c920".to_owned(), shares: 4 },
            Device { name: "licence-1".to_owned(), kind: "licence".to_owned(), model: String::new(), shares: 1 },
        ],
        arch: "arm64".to_owned(),
        os: "linux".to_owned(),
        kernel: "6.1".to_owned(),
        capacity: Resources { cpu_millis: 4000, memory_bytes: 1 << 30 },
        address: Some([192, 0, 2, 1].into()),
        ipv6_address: Some("2001:db8::1".parse().expect("an address")),
        tunnel: Some("203.0.113.7:7449".parse().expect("an address")),
        agent_version: "0.1.0".to_owned(),
        runtime_version: "1.6.20".to_owned(),
        boot_id: "b".to_owned(),
        cgroup_version: 2,
    }
}

fn hello() -> Hello {
    Hello {
        agent_version: "0.1.0".to_owned(),
        boot_id: "b".to_owned(),
        assignments: Some(Marker { epoch: Epoch(1), generation: Generation(2) }),
        services: None,
        highest_epoch: Epoch(3),
        facts: facts(),
    }
}

fn status(id: &str, exit: Exit) -> InstanceStatus {
    InstanceStatus {
        instance: instance(id),
        state: InstanceState::Starting,
        health: Health::Unhealthy,
        address: Some([10, 42, 0, 5].into()),
        pid: Some(77),
        restarts: 3,
        last_exit: Some(exit),
        reason: "waits 2 s before the next attempt".to_owned(),
        since: Timestamp(9),
        findings: Findings {
            probes: vec![
                ProbeFinding { kind: ProbeKind::Health, health: Health::Unhealthy, output: "status 500".to_owned() },
                ProbeFinding { kind: ProbeKind::Liveness, health: Health::Healthy, output: "SERVING".to_owned() },
            ],
            last_lines: "first\nsecond".to_owned(),
            crash_loop: true,
            used_up: true,
            no_image: true,
        },
    }
}

fn set(generation: u64, instances: &[&str]) -> AssignmentSet {
    AssignmentSet {
        epoch: Epoch(1),
        generation: Generation(generation),
        node: NodeId::new("edge-1").expect("a name"),
        subnet: "10.42.1.0/24".parse().expect("a range"),
        assignments: instances.iter().map(|name| assignment(name)).collect(),
        met: met(generation),
        ahead: Vec::new(),
        secrets: if instances.is_empty() { BTreeMap::new() } else { secret(generation, "hidden") },
    }
}

/// What is so of what others wait for.
fn met(generation: u64) -> Vec<Dependency> {
    let awaited = Awaited::ALL.into_iter().take(usize::try_from(generation).expect("small"));
    awaited.map(|awaited| Dependency { workload: "shop/db".parse().expect("an id"), awaited }).collect()
}

fn companion(name: &str, role: CompanionRole) -> CompanionSpec {
    CompanionSpec {
        name: Name::new(name).expect("a name"),
        role,
        container: ContainerSpec::of_image("registry.lan/tool:1"),
        resources: ResourceSpec { pids_max: 7, ..ResourceSpec::default() },
    }
}

fn assignment(name: &str) -> Assignment {
    let mounts = BTreeMap::from([
        ("/a".to_owned(), Mount::Host { path: "/srv/a".to_owned(), read_only: true }),
        ("/b".to_owned(), Mount::Tmpfs { bytes_max: 1 << 20 }),
        ("/d".to_owned(), Mount::Image { image: "registry.lan/model:1".to_owned() }),
        ("/c".to_owned(), Mount::Volume { name: Name::new("data").expect("a name"), read_only: true }),
    ]);
    Assignment {
        devices: vec![
            DeviceGrant { device: "front-door".to_owned(), kind: "camera".to_owned(), millis: 250 },
            DeviceGrant { device: "gpu-0".to_owned(), kind: "gpu".to_owned(), millis: WHOLE_DEVICE_MILLIS },
        ],
        instance: instance(name),
        workload: "shop/web".parse().expect("an id"),
        slot: 1,
        revision: Revision(2),
        desired: if name.ends_with('1') { Desired::Run } else { Desired::Stop },
        container: ContainerSpec {
            image: "registry.lan/web:1".to_owned(),
            command: Some(Vec::new()),
            args: None,
            env: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
            user: Some("1000:1000".to_owned()),
            workdir: Some("/srv".to_owned()),
            mounts,
            read_only: true,
            capabilities_add: vec!["NET_RAW".to_owned()],
            capabilities_drop: vec!["ALL".to_owned()],
            stop_signal: Some("SIGINT".to_owned()),
            stop_grace_ms: 1500,
            drain_ms: 3500,
            stdin: true,
            tty: true,
            network: NetworkMode::Host,
            content: content(),
        },
        resources: ResourceSpec { cpu_millis_max: Some(500), ..ResourceSpec::default() },
        after: vec![Dependency { workload: "shop/db".parse().expect("an id"), awaited: Awaited::Healthy }],
        companions: vec![companion("migrate", CompanionRole::Init), companion("proxy", CompanionRole::Sidecar)],
        ports: vec![PortSpec {
            name: "http".to_owned(),
            container: 8080,
            protocol: Protocol::Udp,
            service: 80,
            publish: Some(30080),
            http: true,
            host: None,
            bind: Some(Bind::Link("eth1".to_owned())),
            allow: ["10.0.0.0/8", "2001:db8::/32"].map(|range| range.parse().expect("a range")).to_vec(),
        }],
        probe: Some(ProbeSpec {
            check: ProbeCheck::Http { port: 8080, path: "/healthz".to_owned() },
            interval_ms: 1,
            timeout_ms: 2,
            failures: 3,
            successes: 9,
            grace_ms: 4,
        }),
        restart: RestartSpec {
            startup: Some(probe(ProbeCheck::Exec { command: vec!["ready".to_owned(), String::new()] })),
            liveness: Some(probe(ProbeCheck::Grpc { port: 9090, service: "shop.Web".to_owned() })),
            max_restarts: Some(5),
        },
        is_judged: true,
        ipv6: true,
        retries: Some(2),
        stop_after_ms: Some(20_000),
        secrets: BTreeMap::from([(db(), 3)]),
    }
}

fn content() -> ContentSpec {
    ContentSpec {
        files: BTreeMap::from([
            ("/etc/app".to_owned(), FileSpec { content: FileContent::Text("a".to_owned()), mode: 0o444, owner: None }),
            (
                "/run/db".to_owned(),
                FileSpec {
                    content: FileContent::Secret(db()),
                    mode: 0o400,
                    owner: Some(Owner { user: 1000, group: 7 }),
                },
            ),
        ]),
        env: BTreeMap::from([("DB".to_owned(), db())]),
        on_change: OnChange::Signal("SIGHUP".to_owned()),
    }
}

fn db() -> Name {
    Name::new("db").expect("a name")
}

/// The secret that every assignment here uses.
fn secret(version: u64, value: &str) -> BTreeMap<SecretId, SecretValue> {
    let value = SecretValue { version, value: Secret::new(value.as_bytes().to_vec()) };
    BTreeMap::from([("shop/db".parse().expect("an id"), value)])
}

fn inspected() -> NetworkInspected {
    let kinds = [
        CheckKind::Table,
        CheckKind::Kernel,
        CheckKind::Node,
        CheckKind::Range,
        CheckKind::Service,
        CheckKind::Endpoint,
        CheckKind::Names,
        CheckKind::Tunnel,
    ];
    let mut checks = kinds.map(|kind| NetworkCheck::passed(kind, "edge-2", 7)).to_vec();
    checks.push(NetworkCheck::failed(CheckKind::Node, "edge-3", "silent", "look at its cable"));
    let outcomes = [Datagram::Answers, Datagram::Silent, Datagram::Refused, Datagram::Stopped];
    checks
        .extend(outcomes.map(|outcome| NetworkCheck::passed(CheckKind::Service, "dns udp/53", 7).by_datagram(outcome)));
    NetworkInspected {
        request: RequestId(10),
        table: Some(Marker { epoch: Epoch(1), generation: Generation(2) }),
        table_sum: u64::MAX,
        checks,
        steps: vec![TraceStep { at: "rule".to_owned(), what: "goto r1".to_owned(), stops: true }],
        untried: 12,
    }
}

#[test]
fn the_sum_of_a_table_tells_tables_apart_and_knows_no_version() {
    let sums = [table(1, &["web"], 1), table(2, &["web"], 1), table(1, &["api"], 1), table(1, &["web"], 2)]
        .map(|table| table_sum(&table));

    assert_eq!(sums[0], sums[1], "the same services and peers");
    assert_ne!(sums[0], sums[2]);
    assert_ne!(sums[0], sums[3]);
}

fn table(generation: u64, services: &[&str], peers: u8) -> ServiceTable {
    let node = |index: u8| NodeId::new(&format!("edge-{index}")).expect("a name");
    let service = |name: &&str| Service {
        id: name.parse().expect("an id"),
        address: [10, 43, 0, 1].into(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            service: 80,
            container: 8080,
            publish: Some(8080),
            http: true,
            bind: Some("2001:db8::7".parse().expect("an address")),
            allow: vec!["10.0.0.0/8".parse().expect("a range"), "192.0.2.0/24".parse().expect("a range")],
        }],
        balance: BalancePolicy {
            prefer: Preference::Local,
            affinity_ms: Some(600_000),
            slow_start_ms: Some(30_000),
            when_none_ready: WhenNoneReady::Refuse,
        },
        endpoints: vec![
            Endpoint::new(instance("web-1"), node(1), [10, 42, 1, 2].into()),
            Endpoint {
                weight: 7,
                last_resort: true,
                ..Endpoint::new(instance("web-2"), node(1), [10, 42, 1, 3].into())
            },
        ],
        ipv6: true,
        across_sites: true,
        counts_requests: true,
        access: Some(Access {
            allow_from: Some(vec!["*".parse().expect("a source"), "namespace:shop".parse().expect("a source")]),
            instances: vec![[10, 42, 1, 2].into(), [10, 42, 2, 2].into()],
        }),
    };
    let peer = |index: u8| Peer {
        node: node(index),
        address: [192, 0, 2, index].into(),
        ipv6_address: (index > 1).then(|| "2001:db8::2".parse().expect("an address")),
        subnet: format!("10.42.{index}.0/24").parse().expect("a range"),
        site: "berlin".to_owned(),
        reach: if index == 1 { Reach::Routes } else { Reach::Vxlan },
        across: [Across::Routes, Across::Apart, Across::Tunnel][usize::from(index) % 3],
        tunnel: (index > 1).then(|| "203.0.113.7:7449".parse().expect("an address")),
    };
    ServiceTable {
        epoch: Epoch(1),
        generation: Generation(generation),
        cluster_range: "10.42.0.0/16".parse().expect("a range"),
        service_range: "10.43.0.0/16".parse().expect("a range"),
        ipv6_prefix: Some("fd01:203:405::/96".parse().expect("a prefix")),
        services: services.iter().map(service).map(Arc::new).collect(),
        peers: (0..peers).map(peer).collect(),
        watch_key: Some(WatchKey([7; 32])),
    }
}

fn probe(check: ProbeCheck) -> ProbeSpec {
    ProbeSpec { check, interval_ms: 5, timeout_ms: 6, failures: 7, successes: 1, grace_ms: 8 }
}
