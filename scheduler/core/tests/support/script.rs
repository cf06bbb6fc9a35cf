//! The language of the stories: a command a line, `#` begins a comment. What each command does stands beside its name.

#[path = "balance.rs"]
mod balance;
#[path = "company.rs"]
mod company;
#[path = "content.rs"]
mod content;
#[path = "explain.rs"]
mod explain;
#[path = "jobs.rs"]
mod jobs;
#[path = "moves.rs"]
mod moves;
#[path = "rollouts.rs"]
mod rollouts;
#[path = "scale.rs"]
mod scale;
#[path = "volumes.rs"]
mod volumes;

use std::{collections::BTreeMap, fmt::Write as _};

use api_types::{
    container::{ContainerSpec, NetworkMode, PortSpec, Protocol},
    counter::Revision,
    id::{InstanceId, Name, NodeId, WorkloadId},
    instance::{Desired, Health, InstanceState},
    node::{Availability, Condition, NodeUsage, TakenPort},
    placement::{Constraint, ConstraintKey, Operator, PlacementSpec},
    probe::{ProbeCheck, ProbeSpec},
    resources::{ResourceSpec, Resources},
    restart::RestartSpec,
    view::WorkloadChange,
    workload::WorkloadSpec,
};
use scheduler_core::{
    Settings,
    effect::{Accepted, Refusal},
    input::{Change, Input},
};

use crate::fleet::{Fleet, crashed, well};

/// Plays a story; gives each command with what it answered or showed.
pub(crate) fn play(story: &str, settings: Settings) -> String {
    let mut fleet = Fleet::new(settings);
    let mut shown = String::new();
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            writeln!(shown, "\n{line}").expect("a text takes all");
            continue;
        }
        writeln!(shown, "> {line}").expect("a text takes all");
        for answer in command(&mut fleet, line).lines() {
            writeln!(shown, "    {answer}").expect("a text takes all");
        }
    }
    shown.trim_start().to_owned()
}

fn command(fleet: &mut Fleet, line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (verb, rest) = words.split_first().expect("no empty lines");
    match *verb {
        "node" => node(fleet, rest),
        "apply" => apply(fleet, rest),
        "plan" => {
            let specs: Vec<WorkloadSpec> = rest.split(|word| *word == "+").map(spec).collect();
            explain::plan(fleet.scheduler.plan(&specs))
        }
        "what-if" => explain::what_if(&fleet.scheduler, rest),
        "secret" | "delete-secret" => {
            let change = content::change(&fleet.scheduler, &words);
            answer(fleet.request(change))
        }
        "scale" => {
            let change = Change::Scale { workload: id(rest[0]), replicas: rest[1].parse().expect("a number") };
            answer(fleet.request(change))
        }
        "delete" => answer(fleet.request(Change::Delete { workload: id(rest[0]) })),
        // `rollout web undo 2`, `rollout web pause`.
        "rollout" => answer(fleet.request(rollouts::change(rest))),
        "cordon" => availability(fleet, rest[0], Availability::Cordoned),
        "uncordon" => availability(fleet, rest[0], Availability::Active),
        "drain" => availability(fleet, rest[0], Availability::Draining),
        "remove" => answer(fleet.request(moves::remove(rest))),
        "forget" => forget(fleet, rest),
        // What an operator configures; only before everything else.
        "automatic" => {
            *fleet = Fleet::new(moves::automatic(milliseconds(rest[0])));
            String::new()
        }
        "rebalance" => answer(fleet.request(Change::Rebalance)),
        // `resume berlin`, and how a site is reached inside and from others: `set-site berlin vxlan apart`.
        "resume" | "set-site" => answer(fleet.request(moves::site(rest))),
        "condition" => condition(fleet, rest),
        "measured" => volumes::measured(fleet, rest),
        "load" => scale::load(fleet, rest),
        "advance" => {
            fleet.advance(milliseconds(rest[0]));
            String::new()
        }
        "mute" | "confirm" | "lose" | "return" | "reboot" => {
            rest.iter().for_each(|node| befall(fleet, verb, &name(node)));
            String::new()
        }
        // `away 90s`: the scheduler is not there for so long.
        "away" | "restart-scheduler" => {
            fleet.now = fleet.now + rest.first().map_or(0, |time| milliseconds(time));
            fleet.restart();
            String::new()
        }
        "preparing" | "stuck" | "missing" | "starting" | "unproven" => say(fleet, verb, rest),
        "running" | "healthy" | "unhealthy" | "crashed" | "used-up" | "ended" => say(fleet, verb, rest),
        "run" | "zone" | "exited" | "alone" => jobs::command(fleet, verb, rest),
        // Agents end what they were told to stop.
        "stopped" => {
            for id in fleet.to_do(Desired::Stop) {
                fleet.end(&id);
            }
            String::new()
        }
        // Agents do everything at once, again and again, until there is nothing to do.
        "settle" => {
            assert!(fleet.settle(), "it never settles");
            String::new()
        }
        "show" => show(fleet, rest),
        other => panic!("no such command: {other}"),
    }
}

/// What happens to a node.
fn befall(fleet: &mut Fleet, what: &str, node: &NodeId) {
    match what {
        // It does not say any more which service table its kernel holds.
        "mute" => {
            fleet.mute.insert(node.clone());
        }
        // It says it again.
        "confirm" => {
            fleet.mute.remove(node);
            fleet.confirm_table(node);
        }
        // It is not heard of any more.
        "lose" => fleet.agents.get_mut(node).expect("a known agent").connected = false,
        // It comes back with all that ran on it.
        "return" => fleet.connect(node),
        // It comes back with nothing running.
        _ => {
            fleet.power_cut(node);
            fleet.connect(node);
        }
    }
}

fn forget(fleet: &mut Fleet, words: &[&str]) -> String {
    let slot = words.get(2).map(|slot| slot.parse().expect("a number"));
    let volume = Name::new(words[1]).expect("a name");
    answer(fleet.request(Change::ForgetVolume { workload: id(words[0]), volume, slot }))
}

fn node(fleet: &mut Fleet, words: &[&str]) -> String {
    let node = name(words[0]);
    let options = options(&words[1..]);
    let get = |key: &str, default: &str| options.get(key).map_or(default, String::as_str).to_owned();
    let labels =
        options.iter().filter_map(|(key, value)| Some((key.strip_prefix("label.")?.to_owned(), value.clone())));
    let labels = labels.collect();
    let capacity = Resources {
        cpu_millis: get("cpu", "2000").parse().expect("a number"),
        memory_bytes: bytes(&get("memory", "4GiB")),
    };
    if !fleet.agents.contains_key(&node) {
        fleet.add_agent(&node, capacity, &get("arch", "amd64"));
        let devices = options.get("devices").map(|text| company::devices(text)).unwrap_or_default();
        fleet.agents.get_mut(&node).expect("just added").facts.devices = devices;
    }
    let shown = answer(fleet.request(Change::AdmitNode { node: node.clone(), site: get("site", "default"), labels }));
    if fleet.scheduler.node(&node).is_some() && !options.contains_key("silent") {
        fleet.connect(&node);
    }
    shown
}

fn apply(fleet: &mut Fleet, words: &[&str]) -> String {
    let expect =
        words.iter().find_map(|word| word.strip_prefix("expect=")).map(|n| Revision(n.parse().expect("a number")));
    let specs = words.split(|word| *word == "+").map(spec).collect();
    answer(fleet.request(Change::Apply { specs, expect }))
}

fn spec(words: &[&str]) -> WorkloadSpec {
    let options = options(&words[1..]);
    let get = |key: &str| options.get(key).map(String::as_str);
    let number = |key: &str| get(key).map(|value| value.parse().expect("a port"));
    let port = number("port").or(number("host")).map(|container: u16| PortSpec {
        name: "main".to_owned(),
        container,
        protocol: Protocol::Tcp,
        service: number("service").unwrap_or(container),
        publish: number("publish"),
        http: options.contains_key("http"),
        host: number("host"),
        bind: get("bind").map(|bind| bind.parse().expect("an address or a link")),
        allow: Vec::new(),
    });
    let memory_bytes = bytes(get("memory").unwrap_or("64MiB"));
    let image = get("image").unwrap_or("registry.lan/app:1");
    let spec = if let Some(job) = jobs::spec(&options) {
        WorkloadSpec::job(id(words[0]), image, job)
    } else if options.contains_key("daemon") {
        WorkloadSpec::daemon(id(words[0]), image)
    } else {
        WorkloadSpec::service(id(words[0]), image, get("replicas").map_or(1, |n| n.parse().expect("a number")))
    };
    WorkloadSpec {
        resources: ResourceSpec {
            reserve: Resources { cpu_millis: get("cpu").map_or(50, |n| n.parse().expect("a number")), memory_bytes },
            memory_bytes_max: memory_bytes.max(256 << 20),
            ..ResourceSpec::default()
        },
        placement: PlacementSpec {
            constraints: get("constraint").map(constraint).into_iter().collect(),
            per_node_max: get("per_node").map(|n| n.parse().expect("a number")),
            priority: get("priority").map(moves::priority).unwrap_or_default(),
            affinities: company::affinities(get("with"), get("without")),
            spread: get("spread").map_or_else(|| PlacementSpec::default().spread, moves::spread),
        },
        container: ContainerSpec {
            mounts: get("volume").into_iter().flat_map(moves::volumes).collect(),
            network: match () {
                () if options.contains_key("published") => NetworkMode::Published,
                () if options.contains_key("host_network") => NetworkMode::Host,
                () => NetworkMode::Own,
            },
            content: content::spec(&options),
            ..spec.container
        },
        volume_sizes: get("sizes").into_iter().flat_map(volumes::sizes).collect(),
        devices: get("devices").map(company::requests).unwrap_or_default(),
        ports: port.into_iter().collect(),
        companions: company::companions(get("init").map(bytes), get("sidecar").map(bytes)),
        after: get("after").map(company::after).unwrap_or_default(),
        balance: balance::spec(&options),
        probe: options.contains_key("probe").then_some(ProbeSpec {
            check: ProbeCheck::Tcp { port: 80 },
            interval_ms: 5_000,
            timeout_ms: 1_000,
            failures: 3,
            successes: 1,
            grace_ms: 10_000,
        }),
        restart: RestartSpec {
            max_restarts: get("max_restarts").map(|n| n.parse().expect("a number")),
            ..spec.restart
        },
        update: rollouts::spec(&options).filter(|_| !options.contains_key("job")),
        scale: scale::spec(&options),
        schedule: jobs::schedule(&options),
        disconnect: moves::contract(&options),
        ..spec
    }
}

/// `arch:arm64`, `label.disk:ssd`, `site:!b`.
fn constraint(text: &str) -> Constraint {
    let (key, value) = text.split_once(':').expect("key:value");
    let key = match key {
        "arch" => ConstraintKey::Arch,
        "site" => ConstraintKey::Site,
        "node" => ConstraintKey::Node,
        label => ConstraintKey::Label(label.trim_start_matches("label.").to_owned()),
    };
    let operator = if value.starts_with('!') { Operator::NotEqual } else { Operator::Equal };
    Constraint { key, operator, values: vec![value.trim_start_matches('!').to_owned()] }
}

fn say(fleet: &mut Fleet, verb: &str, words: &[&str]) -> String {
    let targets: Vec<InstanceId> = match words {
        ["all"] => fleet.to_do(Desired::Run),
        names => names.iter().map(|name| InstanceId::new(name).expect("an instance")).collect(),
    };
    for target in targets {
        fleet.say(&target, |status| match verb {
            "running" | "healthy" => well(status),
            "unhealthy" => status.health = Health::Unhealthy,
            "used-up" => {
                crashed(status);
                status.findings.used_up = true;
            }
            "preparing" => status.state = InstanceState::Preparing,
            "starting" => status.state = InstanceState::Starting,
            "unproven" => status.state = InstanceState::Running,
            "stuck" => {
                status.state = InstanceState::Preparing;
                status.reason = "pulling its image: registry.lan answers 404".to_owned();
            }
            "missing" => {
                status.state = InstanceState::Preparing;
                status.reason = "image app:2 was not found in the registry (404)".to_owned();
                status.findings.no_image = true;
            }
            "crashed" => crashed(status),
            _ => status.state = InstanceState::Failed,
        });
    }
    String::new()
}

fn condition(fleet: &mut Fleet, words: &[&str]) -> String {
    let node = name(words[0]);
    let session = fleet.agents[&node].session;
    let taken = words[3..].iter().filter_map(|word| word.strip_prefix("taken=")?.split_once(':'));
    let taken = taken.map(|(port, owner)| TakenPort {
        port: port.parse().expect("a port"),
        protocol: Protocol::Tcp,
        owner: owner.to_owned(),
    });
    let condition = Condition {
        name: words[1].to_owned(),
        ok: words[2] == "ok",
        reason: words[3..].join(" "),
        taken: taken.collect(),
    };
    fleet.step(Input::NodeReported {
        node,
        session,
        conditions: Some(vec![condition]),
        facts: None,
        usage: NodeUsage::default(),
        instances: BTreeMap::new(),
        requests: BTreeMap::new(),
    });
    String::new()
}

fn availability(fleet: &mut Fleet, node: &str, availability: Availability) -> String {
    answer(fleet.request(Change::SetAvailability { node: name(node), availability }))
}

fn show(fleet: &Fleet, words: &[&str]) -> String {
    let scheduler = &fleet.scheduler;
    let mut text = String::new();
    match words {
        ["instances"] => {
            for view in scheduler.instance_views() {
                let node = view.node.map_or_else(|| "-".to_owned(), |node| node.to_string());
                let state = view.state.as_str();
                line(&mut text, &[&view.name, &format!("r{}", view.revision), &node, state, &view.reason]);
            }
        }
        ["nodes"] => {
            for view in scheduler.node_views() {
                let wish = format!("{:?}", view.availability).to_lowercase();
                let liveness = format!("{:?}", view.liveness).to_lowercase();
                let count = format!("{} instances", view.instances);
                line(&mut text, &[view.name.as_str(), &liveness, &wish, &view.subnet.to_string(), &count]);
            }
        }
        ["content"] => text.push_str(&content::show(fleet)),
        ["jobs" | "ahead", ..] => text.push_str(&jobs::show(fleet, words)),
        ["sites"] => text.push_str(&moves::show_sites(scheduler)),
        ["key"] => text.push_str(&moves::key(&fleet.scheduler)),
        ["met"] => text.push_str(&company::show_met(fleet)),
        ["devices"] => text.push_str(&company::show_devices(fleet)),
        ["workloads"] => {
            for view in scheduler.workload_views() {
                let counts =
                    format!("{}/{} running, {} ready, {} pending", view.running, view.wanted, view.ready, view.pending);
                line(&mut text, &[&view.name.to_string(), &format!("r{}", view.revision), &counts, &view.reason]);
            }
        }
        ["services"] => match scheduler.service_table() {
            None => text.push_str("no table yet\n"),
            Some(table) => {
                for service in &table.services {
                    let endpoints: Vec<_> = service.endpoints.iter().map(balance::endpoint).collect();
                    line(&mut text, &[&service.id.to_string(), &service.address.to_string(), &endpoints.join(" ")]);
                }
            }
        },
        ["set", node] => {
            let set = scheduler.assignment_set(&name(node));
            for a in set.iter().flat_map(|set| &set.assignments) {
                let desired = format!("{:?}", a.desired).to_lowercase();
                line(&mut text, &[a.instance.as_str(), &format!("r{}", a.revision), &a.container.image, &desired]);
            }
        }
        ["events", rest @ ..] => {
            for event in
                scheduler.events().iter().filter(|event| rest.is_empty() || rest.contains(&event.kind.as_str()))
            {
                line(&mut text, &[&event.subject, &event.kind, &event.message]);
            }
        }
        ["why", instance] if instance.contains('-') => {
            text += &explain::why(scheduler.explain_instance(&InstanceId::new(instance).expect("an instance"), false));
        }
        ["why-spec", rest @ ..] => match scheduler.explain_specs(&[spec(rest)], false) {
            Ok(explanations) => explanations.into_iter().for_each(|one| text += &explain::why(Ok(one))),
            Err(refusal) => text += &explain::why(Err(refusal)),
        },
        ["rollout", workload] => text += &rollouts::show(scheduler, &id(workload)),
        ["scale", workload] => text += &scale::show(scheduler, &id(workload)),
        ["history", workload] => text += &rollouts::history(scheduler, &id(workload)),
        ["rebalance"] => text += &moves::show_rebalance(scheduler),
        ["volumes"] => text += &moves::show_volumes(scheduler),
        ["why", workload] => text += &explain::why(scheduler.explain(&id(workload), false)),
        other => panic!("cannot show {other:?}"),
    }
    text
}

fn answer(reply: Result<Accepted, Refusal>) -> String {
    match reply {
        Ok(Accepted::Workloads(list)) => changes(Ok(list)),
        Ok(Accepted::Node(node)) => format!("{} {}\n", node.id, node.subnet),
        Ok(Accepted::Done(message)) => format!("{message}\n"),
        Err(refusal) => format!("refused: {refusal}\n"),
    }
}

fn changes(outcome: Result<Vec<WorkloadChange>, Refusal>) -> String {
    let mut text = String::new();
    match outcome {
        Err(refusal) => line(&mut text, &["refused:", &refusal.to_string()]),
        Ok(list) => {
            for change in list {
                line(&mut text, &[&change.workload.to_string(), &change.action]);
                for field in change.fields {
                    line(&mut text, &[" ", &field.path, &field.before, "->", &field.after]);
                }
                for planned in change.placements {
                    let node = planned.node.map_or_else(|| "-".to_owned(), |node| node.to_string());
                    line(&mut text, &[" ", &format!("slot {}:", planned.slot), &node, &planned.reason]);
                }
                change.warnings.iter().for_each(|warning| line(&mut text, &["  warning:", warning]));
            }
        }
    }
    text
}

fn line(text: &mut String, words: &[&str]) {
    let line = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>().join("  ");
    writeln!(text, "{line}").expect("a text takes all");
}

fn options(words: &[&str]) -> BTreeMap<String, String> {
    let pair = |word: &&str| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        (key.to_owned(), value.to_owned())
    };
    words.iter().map(pair).collect()
}

fn bytes(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 3);
    number.parse::<u64>().expect("a number") << if unit == "GiB" { 30 } else { 20 }
}

fn milliseconds(text: &str) -> u64 {
    match text.strip_suffix("ms") {
        Some(number) => number.parse().expect("a number"),
        None => text.trim_end_matches('s').parse::<u64>().expect("a number") * 1_000,
    }
}

fn name(text: &str) -> NodeId {
    NodeId::new(text).expect("a node's name")
}

fn id(text: &str) -> WorkloadId {
    text.parse().expect("a workload's name")
}
