//! `wherry net`: whether the network is as it should be, and where a packet goes.

use std::collections::BTreeSet;

use api_types::{
    container::Protocol,
    id::{NodeId, WorkloadId},
    view::{CheckKind, Datagram, NetworkCheck, NetworkReport, NetworkVerdict, TraceRequest, VerifyRequest},
};
use clap::{Args, Subcommand};

use crate::{
    commands::{Session, counted, name},
    failure::{Failure, code},
    output::table::table,
};

/// More nodes than this make no matrix that a screen can hold; failures are listed either way.
const MATRIX_NODES_MAX: usize = 16;

#[derive(Debug, Subcommand)]
pub(crate) enum NetCommand {
    /// Try every way: between all nodes, to every service and endpoint, names, and what each kernel holds
    Verify(Verify),
    /// Follow a packet: which rule, which endpoint, which way, and what stops it
    Trace(Trace),
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Try the ways to these services alone; none: every way
    #[arg(value_parser = name::<WorkloadId>)]
    services: Vec<WorkloadId>,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// Who asks: an instance, a node or an address
    from: String,
    /// Who is asked: a service, an instance, a node or an address, and the port
    #[arg(value_name = "TO:PORT")]
    to: String,
    /// By datagrams
    #[arg(long)]
    udp: bool,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) async fn run(session: &Session<'_>, command: &NetCommand) -> Result<(), Failure> {
    match command {
        NetCommand::Verify(arguments) => verify(session, arguments).await,
        NetCommand::Trace(arguments) => trace(session, arguments).await,
    }
}

async fn verify(session: &Session<'_>, arguments: &Verify) -> Result<(), Failure> {
    let request = VerifyRequest { services: arguments.services.clone() };
    let verdict = session.client()?.verify_network(&request).await?;
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(verdict)));
    } else {
        show(session, &verdict, arguments.services.is_empty());
    }
    if verdict.failures() == 0 { Ok(()) } else { Err(Failure::Said(code::ERROR)) }
}

fn show(session: &Session<'_>, verdict: &NetworkVerdict, with_nodes: bool) {
    let count = verdict.nodes.len();
    if with_nodes && (2..=MATRIX_NODES_MAX).contains(&count) {
        session.screen.data(&format!("{}\n", matrix(&verdict.nodes)));
    }
    if count <= MATRIX_NODES_MAX && verdict.nodes.iter().any(|report| by_datagram(report).next().is_some()) {
        session.screen.data(&format!("{}\n", datagrams(&verdict.nodes)));
    }
    let columns = [
        CheckKind::Table,
        CheckKind::Kernel,
        CheckKind::Node,
        CheckKind::Service,
        CheckKind::Endpoint,
        CheckKind::Names,
    ];
    let row = |report: &NetworkReport| {
        let counts = columns.map(|kind| {
            // A node is reached if its address and its range are, or if a tunnel leads there.
            let of = |check: &&NetworkCheck| {
                check.kind == kind
                    || (kind == CheckKind::Node && matches!(check.kind, CheckKind::Range | CheckKind::Tunnel))
            };
            let all = report.checks.iter().filter(of).count();
            let silent = report.checks.iter().filter(of).filter(is_silent).count();
            let passed = report.checks.iter().filter(of).filter(|check| check.failure.is_none()).count() - silent;
            match (all, silent) {
                (0, _) => String::new(),
                (_, 0) => format!("{passed}/{all}"),
                (_, _) => format!("{passed}/{all}, {silent} silent"),
            }
        });
        std::iter::once(report.node.to_string()).chain(counts).collect()
    };
    let rows: Vec<Vec<String>> = verdict.nodes.iter().map(row).collect();
    session.screen.data(&table(&["NODE", "TABLE", "KERNEL", "NODES", "SERVICES", "ENDPOINTS", "NAMES"], &rows));
    for report in &verdict.nodes {
        for check in &report.checks {
            let Some(failure) = &check.failure else { continue };
            session.screen.data(&format!(
                "\n{}: {}: {}\n    what to do: {}\n",
                report.node,
                subject(check),
                failure.reason,
                failure.remedy
            ));
        }
    }
    conclude(session, verdict);
}

/// How much was tried, failed, stayed open and was not tried at all.
fn conclude(session: &Session<'_>, verdict: &NetworkVerdict) {
    let (failures, silences) = (verdict.failures(), verdict.silences());
    let tried = verdict.nodes.iter().map(|report| report.checks.len()).sum();
    session.screen.say(&match failures {
        0 if silences > 0 => format!("{}, none failed", counted(tried, "check")),
        0 => format!("{}, all well", counted(tried, "check")),
        _ => format!("{} of {} failed", failures, counted(tried, "check")),
    });
    if silences > 0 {
        session.screen.say(&format!(
            "{} not answered, which proves nothing: no rule or route is in the way, and many programs answer only what they \
             understand",
            if silences == 1 { "1 datagram was".to_owned() } else { format!("{silences} datagrams were") }
        ));
    }
    for report in verdict.nodes.iter().filter(|report| report.untried > 0) {
        let made = report.checks.len();
        let all = u64::try_from(made).unwrap_or(u64::MAX).saturating_add(report.untried);
        session.screen.say(&format!(
            "{} made {made} of {all} checks, no more at once; the rest: name services, as in `wherry net verify NAME...`",
            report.node
        ));
    }
}

/// What came of the datagrams to services: rows are asked, columns ask.
fn datagrams(reports: &[NetworkReport]) -> String {
    let names: Vec<String> = reports.iter().map(|report| report.node.to_string()).collect();
    let headers: Vec<&str> = std::iter::once("UDP TO / FROM").chain(names.iter().map(String::as_str)).collect();
    let subjects: BTreeSet<&str> = reports.iter().flat_map(by_datagram).map(|(subject, _)| subject).collect();
    let row = |subject: &&str| {
        let cells = reports.iter().map(|report| {
            let found = by_datagram(report).find(|(asked, _)| asked == subject);
            match found.map(|(_, datagram)| datagram) {
                None => "not tried",
                Some(Datagram::Answers) => "answers",
                Some(Datagram::Silent) => "silent",
                Some(Datagram::Refused) => "refused",
                Some(Datagram::Stopped) => "STOPPED",
            }
        });
        std::iter::once(*subject).chain(cells).map(str::to_owned).collect()
    };
    table(&headers, &subjects.iter().map(row).collect::<Vec<_>>())
}

/// The services that a node asked by datagrams.
fn by_datagram(report: &NetworkReport) -> impl Iterator<Item = (&str, Datagram)> {
    let services = report.checks.iter().filter(|check| check.kind == CheckKind::Service);
    services.filter_map(|check| Some((check.subject.as_str(), check.datagram?)))
}

fn is_silent(check: &&NetworkCheck) -> bool {
    check.datagram == Some(Datagram::Silent)
}

/// Who reaches whom: rows ask, columns are asked.
fn matrix(reports: &[NetworkReport]) -> String {
    let names: Vec<String> = reports.iter().map(|report| report.node.to_string()).collect();
    let headers: Vec<&str> = std::iter::once("FROM / TO").chain(names.iter().map(String::as_str)).collect();
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            let cells = reports.iter().map(|other| cell(report, &other.node));
            std::iter::once(report.node.to_string()).chain(cells).collect()
        })
        .collect();
    table(&headers, &rows)
}

fn cell(report: &NetworkReport, to: &NodeId) -> String {
    if report.node == *to {
        return "-".to_owned();
    }
    let between = |kind| report.checks.iter().find(|check| check.kind == kind && check.subject == to.as_str());
    if let Some(tunnel) = between(CheckKind::Tunnel) {
        return if tunnel.failure.is_none() { "tunnel" } else { "FAILED" }.to_owned();
    }
    match (between(CheckKind::Node), between(CheckKind::Range)) {
        (None, _) | (_, None) => "not tried".to_owned(),
        (Some(node), Some(range)) => match (&node.failure, &range.failure) {
            (None, None) => format!("{:.1} ms", milliseconds(range.took_us)),
            (None, Some(_)) => "NODE ONLY".to_owned(),
            (Some(_), None) => "RANGE ONLY".to_owned(),
            (Some(_), Some(_)) => "FAILED".to_owned(),
        },
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    f64::from(u32::try_from(microseconds).unwrap_or(u32::MAX)) / 1000.0
}

fn subject(check: &NetworkCheck) -> String {
    match check.kind {
        CheckKind::Table => "service table".to_owned(),
        CheckKind::Kernel => "kernel".to_owned(),
        CheckKind::Node => format!("to node {}", check.subject),
        CheckKind::Range => format!("to the instances' range of {}", check.subject),
        CheckKind::Service => format!("to service {}", check.subject),
        CheckKind::Endpoint => format!("to endpoint {}", check.subject),
        CheckKind::Names => format!("name {}", check.subject),
        CheckKind::Tunnel => format!("by a tunnel to node {}", check.subject),
    }
}

async fn trace(session: &Session<'_>, arguments: &Trace) -> Result<(), Failure> {
    let usage =
        || Failure::Usage(format!("`{}` has no port: write `web:80`, `10.43.0.1:80` or `[fd00::1]:80`", arguments.to));
    let (to, port) = arguments.to.rsplit_once(':').ok_or_else(usage)?;
    // An IPv6 address has colons of its own.
    let to = to.strip_prefix('[').and_then(|to| to.strip_suffix(']')).unwrap_or(to);
    let port = port.parse().map_err(|_| usage())?;
    let protocol = if arguments.udp { Protocol::Udp } else { Protocol::Tcp };
    let request = TraceRequest { from: arguments.from.clone(), to: to.to_owned(), port, protocol };
    let traced = session.client()?.trace_network(&request).await?;
    let stopped = traced.steps.iter().any(|step| step.stops);
    if arguments.output == "json" {
        session.screen.data(&format!("{:#}\n", serde_json::json!(traced)));
    } else {
        let rows: Vec<Vec<String>> = traced
            .steps
            .iter()
            .map(|step| vec![step.at.clone(), if step.stops { "STOP" } else { "pass" }.to_owned(), step.what.clone()])
            .collect();
        session.screen.say(&format!(
            "{} to {} {}/{port}, seen from {}",
            traced.source,
            traced.destination,
            protocol.as_str(),
            traced.node
        ));
        session.screen.data(&table(&["AT", "", "WHAT HAPPENS"], &rows));
    }
    if stopped { Err(Failure::Said(code::ERROR)) } else { Ok(()) }
}
