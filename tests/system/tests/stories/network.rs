//! Stories of the network as people see it: who admits whom, what is tried, and where a packet goes.

use std::net::SocketAddr;

use api_types::{
    node::Condition,
    view::{CheckKind, Datagram, NetworkCheck, NetworkTrace, NetworkVerdict},
};
use tests_support::program;
use tests_system::{
    cluster::{until_healthy, virtual_address},
    shop,
};

use crate::stage::{LIMIT, NODES, Outcome, Stage, ask_from_process};

/// What drops all that is forwarded, and what ends that.
const DROPPING: (&str, &str) = (
    "nft 'add table ip foreign; add chain ip foreign drops { type filter hook forward priority 0; policy drop; }'",
    "nft delete table ip foreign",
);
/// The same where nftables does not list it.
const DROPPING_UNSEEN: (&str, &str) = ("iptables-legacy -P FORWARD DROP", "iptables-legacy -P FORWARD ACCEPT");

pub(crate) fn a_workload_admits_whom_it_names(stage: &mut Stage) -> Outcome {
    let web = shop::manifest(&stage.image, 2).replace("= \"1s\"", "= \"20s\"");
    let client = |name: &str| format!("\n[service.{name}]\nimage = \"{}\"\n", stage.image);
    let clients = format!("{}{}", client("friend"), client("stranger"));
    stage.apply(&web.replacen("[service.web]", "[service.web]\nallow_from = [\"friend\"]", 1))?;
    stage.apply(&format!("name = \"clients\"\n{clients}"))?;
    until_healthy(&stage.bed, "web", 2, LIMIT)?;
    let pid_of = |name: &str| {
        let instances = until_healthy(&stage.bed, name, 1, LIMIT)?.0;
        instances[0].pid.ok_or_else(|| "a healthy instance has a process".into())
    };
    let (friend, stranger): (Result<u32, Box<dyn std::error::Error>>, _) = (pid_of("friend"), pid_of("stranger"));
    let (friend, stranger) = (friend?, stranger?);
    let address: SocketAddr = (virtual_address(&stage.bed, "web")?, shop::SERVICE).into();

    stage.until("the friend is admitted", || ask_from_process(friend, address).is_ok())?;
    let told = trace(stage, &["net", "trace", &first(stage, "stranger")?, "web:80"], 1)?;
    let stops = |at: &str| told.steps.iter().find(|step| step.at == at && step.stops);
    let said = stops("access").is_some_and(|step| step.what.contains("does not admit stranger"));
    stage.must(said && stops("connection").is_some(), || format!("{told:?}"))?;

    stage.apply(&web)?;
    stage.until("everybody is admitted", || ask_from_process(stranger, address).is_ok())
}

pub(crate) fn the_network_is_verified(stage: &mut Stage) -> Outcome {
    stage.run_web(3)?;
    // A table may be on its way to some node while another answers.
    let mut well = None;
    stage.until("all is well", || {
        well = verify(stage, 0).ok();
        well.is_some()
    })?;
    let well = well.ok_or("a verdict")?;
    let tried = |verdict: &NetworkVerdict, kind| {
        verdict.nodes.iter().flat_map(|node| &node.checks).filter(|check| check.kind == kind).count()
    };
    let counts = [CheckKind::Table, CheckKind::Kernel, CheckKind::Node, CheckKind::Range, CheckKind::Names]
        .map(|kind| tried(&well, kind));
    stage.must(counts == [3, 3, 6, 6, 3], || format!("{well:?}"))?;
    stage.must(tried(&well, CheckKind::Service) == 3 && tried(&well, CheckKind::Endpoint) == 9, || {
        format!("{well:?}")
    })?;
    let whole = trace(stage, &["net", "trace", NODES[0], "web:80"], 0)?;
    stage.must(whole.steps.iter().all(|step| !step.stops), || format!("{whole:?}"))?;

    for (drops, passes) in [DROPPING, DROPPING_UNSEEN] {
        foreign(stage, drops)?;
        let broken = verify(stage, 1)?;
        stage.until("the node says that something is dropped", || firewall(stage).is_some_and(|seen| !seen.ok))?;
        foreign(stage, passes)?;
        stage.until("the node says that nothing is dropped", || firewall(stage).is_some_and(|seen| seen.ok))?;
        let named = |node: &str, kind| {
            let report = broken.nodes.iter().find(|report| report.node.as_str() == node);
            report.is_some_and(|report| report.checks.iter().any(|check| check.kind == kind && check.failure.is_some()))
        };
        stage.must(named(NODES[1], CheckKind::Service), || {
            format!("{drops}: an instance there cannot ask: {broken:?}")
        })?;
        stage
            .must(named(NODES[0], CheckKind::Endpoint), || format!("{drops}: nobody reaches one there: {broken:?}"))?;
        stage.must(!named(NODES[0], CheckKind::Range), || format!("{drops}: the way is there: {broken:?}"))?;
    }
    stage.until("all is well again", || verify(stage, 0).is_ok())
}

pub(crate) fn services_by_datagrams_are_verified(stage: &mut Stage) -> Outcome {
    stage.apply(&format!(
        "name = \"shop\"\n[service.web]\nimage = \"{0}\"\nreplicas = 3\n\
         ports = {{ word = {{ container = {1}, protocol = \"udp\" }} }}\n\
         [service.deaf]\nimage = \"{0}\"\nports = {{ word = {{ container = 9, protocol = \"udp\" }} }}\n",
        stage.image,
        shop::CONTAINER
    ))?;
    until_healthy(&stage.bed, "web", 3, LIMIT)?;
    until_healthy(&stage.bed, "deaf", 1, LIMIT)?;
    let mut well = None;
    stage.until("all nodes are answered", || {
        well = verify_some(stage, &["web"], 0).ok();
        well.as_ref().is_some_and(|verdict| verdict.silences() == 0 && datagrams(verdict, None).len() == 12)
    })?;
    let well = well.ok_or("a verdict")?;
    let is_of_nodes = |kind| matches!(kind, CheckKind::Node | CheckKind::Range);
    stage
        .must(checks(&well).all(|(_, check)| !is_of_nodes(check.kind)), || format!("more than asked for: {well:?}"))?;
    let refused = verify_some(stage, &["deaf"], 1)?;
    stage.must(datagrams(&refused, None) == [Datagram::Refused; 6], || format!("{refused:?}"))?;
    verify_some(stage, &["web", "nobody"], 1).expect_err("a stranger has no verdict");
    let told = trace(stage, &["net", "trace", NODES[0], "web:8080", "--udp"], 0)?;
    stage.must(told.steps.iter().any(|step| step.at == "datagram"), || format!("{told:?}"))?;

    let (drops, passes) = DROPPING;
    foreign(stage, drops)?;
    let broken = verify_some(stage, &["web"], 1);
    foreign(stage, passes)?;
    let broken = broken?;
    // What the node there asks does not go by the rule that drops; what its instances ask does.
    stage.must(datagrams(&broken, Some(NODES[1])).contains(&Datagram::Stopped), || format!("{broken:?}"))?;
    stage.must(datagrams(&broken, Some(NODES[0])).contains(&Datagram::Silent), || format!("{broken:?}"))
}

fn checks(verdict: &NetworkVerdict) -> impl Iterator<Item = (&str, &NetworkCheck)> {
    verdict.nodes.iter().flat_map(|report| report.checks.iter().map(|check| (report.node.as_str(), check)))
}

/// What came of the datagrams of a node, or of all.
fn datagrams(verdict: &NetworkVerdict, from: Option<&str>) -> Vec<Datagram> {
    let wanted = checks(verdict).filter(|(node, _)| from.is_none_or(|from| *node == from));
    wanted.filter_map(|(_, check)| check.datagram).collect()
}

/// What the second node says of other programs' tables.
fn firewall(stage: &Stage) -> Option<Condition> {
    let view = stage.bed.node_views().ok()?.into_iter().find(|view| view.name.as_str() == NODES[1])?;
    view.conditions.into_iter().find(|condition| condition.name == "firewall")
}

/// Changes tables on the second node as another program would.
fn foreign(stage: &Stage, command: &str) -> Outcome {
    let status = program::within(Some(&stage.bed.netns(NODES[1])), &["sh", "-c", command]).status()?;
    stage.must(status.success(), || format!("{command}: {status}"))
}

pub(crate) fn verify(stage: &Stage, code: i32) -> Result<NetworkVerdict, Box<dyn std::error::Error>> {
    verify_some(stage, &[], code)
}

/// The same of these services alone, if any is named.
fn verify_some(stage: &Stage, services: &[&str], code: i32) -> Result<NetworkVerdict, Box<dyn std::error::Error>> {
    let answer = stage.bed.wherry(&[&["net", "verify", "-o", "json"], services].concat())?;
    stage.must(answer.code == Some(code), || {
        format!("ended with {:?}: {}{}", answer.code, answer.stdout, answer.stderr)
    })?;
    Ok(serde_json::from_str(&answer.stdout)?)
}

pub(crate) fn trace(stage: &Stage, arguments: &[&str], code: i32) -> Result<NetworkTrace, Box<dyn std::error::Error>> {
    let answer = stage.bed.wherry(&[arguments, &["-o", "json"]].concat())?;
    stage.must(answer.code == Some(code), || {
        format!("ended with {:?}: {}{}", answer.code, answer.stdout, answer.stderr)
    })?;
    Ok(serde_json::from_str(&answer.stdout)?)
}

fn first(stage: &Stage, workload: &str) -> Result<String, Box<dyn std::error::Error>> {
    let instances = stage.bed.instances(workload)?;
    Ok(instances.first().ok_or("an instance")?.name.clone())
}
