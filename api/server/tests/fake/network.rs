//! The network of the fake: one way between two nodes is too narrow.

use api_types::view::{
    CheckKind, Datagram, NetworkCheck, NetworkReport, NetworkTrace, NetworkVerdict, Problem, TraceRequest, TraceStep,
    VerifyRequest,
};

use super::{node_id, problem};

pub(super) fn verdict(request: &VerifyRequest) -> Result<NetworkVerdict, Problem> {
    match request.services.first().map(ToString::to_string).as_deref() {
        None => Ok(everything()),
        Some("prod/dns") => Ok(datagrams()),
        Some(other) => {
            let title = format!("`{other}` is no workload with ports that is known here");
            Err(problem(404, "not_found", &title, "`wherry get services` and `wherry get daemons` show them"))
        }
    }
}

/// A service that answers, is silent and refuses; the first node has more ways to it than it tries.
fn datagrams() -> NetworkVerdict {
    let check = |kind, subject| NetworkCheck::passed(kind, subject, 70);
    let service = || check(CheckKind::Service, "prod/dns udp/53");
    let endpoint = || check(CheckKind::Endpoint, "dns-1 prod/dns udp/53");
    let refusal = |kind, subject| {
        NetworkCheck::failed(kind, subject, "refused", "see that it listens on port 53").by_datagram(Datagram::Refused)
    };
    let report = |node: &str, checks, untried| NetworkReport { node: node_id(node), checks, untried };
    let nodes = vec![
        report("n1", vec![service().by_datagram(Datagram::Answers), endpoint().by_datagram(Datagram::Answers)], 1400),
        report("n2", vec![service().by_datagram(Datagram::Silent), endpoint().by_datagram(Datagram::Silent)], 0),
        report(
            "n3",
            vec![service().by_datagram(Datagram::Silent), refusal(CheckKind::Endpoint, "dns-1 prod/dns udp/53")],
            0,
        ),
    ];
    NetworkVerdict { generation: 7, nodes }
}

fn everything() -> NetworkVerdict {
    let report = |node: &str, other: &str, range: NetworkCheck| NetworkReport {
        node: node_id(node),
        checks: vec![
            NetworkCheck::passed(CheckKind::Table, node, 0),
            NetworkCheck::passed(CheckKind::Kernel, node, 0),
            NetworkCheck::passed(CheckKind::Node, other, 180),
            range,
            NetworkCheck::passed(CheckKind::Service, "prod/web tcp/80", 90),
            NetworkCheck::passed(CheckKind::Endpoint, "web-1 prod/web tcp/80", 40),
            NetworkCheck::passed(CheckKind::Names, "web.prod.wherry.internal", 30),
        ],
        untried: 0,
    };
    let narrow = NetworkCheck::failed(
        CheckKind::Range,
        "n1",
        "small packets arrive, packets of 1500 bytes do not (no answer within a second)",
        "let 10.42.1.0/24 pass between the nodes",
    );
    let nodes = vec![
        report("n1", "n2", NetworkCheck::passed(CheckKind::Range, "n2", 210)),
        report("n2", "n1", narrow),
        NetworkReport {
            node: node_id("n3"),
            checks: vec![NetworkCheck::failed(CheckKind::Table, "n3", "is not connected", "see `wherry get nodes`")],
            untried: 0,
        },
    ];
    NetworkVerdict { generation: 7, nodes }
}

pub(super) fn trace(request: &TraceRequest) -> Result<NetworkTrace, Problem> {
    if request.to == "nobody" {
        let title = "`nobody` is no service, instance, node or address that is known here";
        return Err(problem(404, "not_found", title, "`wherry get instances` and `wherry get nodes` show them"));
    }
    let step = |at: &str, what: &str, stops| TraceStep { at: at.into(), what: what.into(), stops };
    Ok(NetworkTrace {
        node: node_id("n1"),
        source: [10, 42, 1, 2].into(),
        destination: [10, 43, 0, 9].into(),
        steps: vec![
            step("rule", "10.43.0.9 tcp/5432 is the virtual address of prod/db: chain r1 draws one of 1", false),
            step("route", "to db-1 (10.42.2.2:5432) on n2: by 192.0.2.2 on link eth0", false),
            step("access", "prod/db does not admit prod/web: dropped (allow_from: prod/api)", true),
            step("connection", "to 10.43.0.9:5432: no answer within a second", true),
        ],
    })
}
