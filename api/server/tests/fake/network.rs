//! The network of the fake: one way between two nodes is too narrow.

use api_types::view::{
    CheckKind, NetworkCheck, NetworkReport, NetworkTrace, NetworkVerdict, Problem, TraceRequest, TraceStep,
};

use super::{node_id, problem};

pub(super) fn verdict() -> NetworkVerdict {
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
