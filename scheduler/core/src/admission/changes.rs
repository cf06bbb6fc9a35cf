//! What a spec changes, field by field. Each struct is taken apart whole, so that an added field is missed by the compiler.

mod job;

use api_types::{
    access::Source,
    balance::{BalancePolicy, BalanceSpec},
    companion::CompanionSpec,
    container::{ContainerSpec, Mount, PortSpec},
    content::{ContentSpec, FileContent, FileSpec, OnChange, Owner},
    disconnect::DisconnectPolicy,
    fnv,
    placement::PlacementSpec,
    probe::{ProbeCheck, ProbeSpec},
    resources::ResourceSpec,
    restart::RestartSpec,
    rollout::{Share, UpdateOrder, UpdateSpec},
    scale::ScaleSpec,
    view::{FieldChange, WorkloadChange},
    workload::{Workload, WorkloadKind, WorkloadSpec},
};

use super::{
    json::{null, number, object, text, texts},
    kind_name,
};
use crate::cluster::workloads::has_host_ports;

/// The longest text of a file that is shown as it is, in bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// What applying `spec` does.
pub(crate) fn change(existing: Option<&Workload>, spec: &WorkloadSpec) -> WorkloadChange {
    let mut fields = Vec::new();
    let action = match existing {
        None => "create",
        Some(existing) if existing.spec == *spec => "none",
        Some(existing) => {
            fields = differences(&existing.spec, spec);
            let is_count = |field: &FieldChange| field.path == "replicas" || field.path.starts_with("scale.");
            if fields.iter().all(is_count) { "scale" } else { "update" }
        }
    };
    let warnings = if action == "none" { Vec::new() } else { warnings(existing, spec) };
    WorkloadChange { workload: spec.id.clone(), action: action.to_owned(), fields, placements: Vec::new(), warnings }
}

fn warnings(existing: Option<&Workload>, spec: &WorkloadSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    for image in spec.containers().flat_map(ContainerSpec::images) {
        let name = image.rsplit('/').next().unwrap_or(image);
        if !name.contains(':') && !name.contains('@') {
            warnings.push(format!("`{image}` has no tag: nodes may run different images"));
        }
    }
    let replaced = existing.is_some_and(|existing| !existing.spec.runs_the_same_as(spec));
    if replaced && (has_host_ports(spec) || spec.kind == WorkloadKind::Daemon) {
        warnings.push("each instance is stopped before its successor starts".to_owned());
    }
    warnings.extend(job::warning(existing, spec, replaced).map(str::to_owned));
    warnings
}

/// What differs between two specs, field by field.
pub(crate) fn differences(before: &WorkloadSpec, after: &WorkloadSpec) -> Vec<FieldChange> {
    let (before, after) = (fields(before), fields(after));
    let value = |fields: &[(String, String)], path: &str| {
        fields.iter().find(|(other, _)| other == path).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let mut paths: Vec<&String> = before.iter().map(|(path, _)| path).collect();
    paths.extend(after.iter().map(|(path, _)| path).filter(|path| !before.iter().any(|(other, _)| other == *path)));
    let changes = paths.into_iter().map(|path| FieldChange {
        path: path.clone(),
        before: value(&before, path),
        after: value(&after, path),
    });
    changes.filter(|change| change.before != change.after).collect()
}

/// Every field with the JSON of its value, in the order of the spec.
fn fields(spec: &WorkloadSpec) -> Vec<(String, String)> {
    let WorkloadSpec {
        id: _,
        kind,
        container,
        resources,
        companions,
        after,
        volume_sizes,
        devices,
        placement,
        ports,
        balance,
        probe,
        restart,
        update,
        scale,
        schedule,
        disconnect,
        ipv6,
        across_sites,
        allow_from,
    } = spec;
    let mut fields = Fields(Vec::new());
    fields.add("kind", text(kind_name(kind)));
    if let WorkloadKind::Service { replicas } = kind {
        fields.add("replicas", replicas.to_string());
    }
    if let WorkloadKind::Job(job) = kind {
        fields.add_job(job);
    }
    fields.add_container("container", container);
    fields.add_resources("resources", resources);
    companions.iter().for_each(|companion| fields.add_companion(companion));
    fields.add("after", texts(&after.iter().map(ToString::to_string).collect::<Vec<_>>()));
    for (name, bytes) in volume_sizes {
        fields.add(&format!("volume.{name}.size_bytes"), bytes.to_string());
    }
    let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
    fields.add("devices", texts(&devices));
    fields.add_placement(placement);
    for port in ports {
        fields.add(&format!("ports.{}", port.name), port_json(port));
    }
    fields.add_balance(balance);
    fields.add("probe", probe.as_ref().map_or_else(null, probe_json));
    let RestartSpec { startup, liveness, max_restarts } = restart;
    fields.add("restart.startup", startup.as_ref().map_or_else(null, probe_json));
    fields.add("restart.liveness", liveness.as_ref().map_or_else(null, probe_json));
    fields.add("restart.max_restarts", number(max_restarts.map(u64::from)));
    fields.add_update(update.as_ref());
    fields.add_scale(scale.as_ref());
    fields.add_schedule(schedule.as_ref());
    let DisconnectPolicy { replace_after_ms, stop_after_ms, on_return } = disconnect;
    fields.add("disconnect.replace_after_ms", number(*replace_after_ms));
    fields.add("disconnect.stop_after_ms", number(*stop_after_ms));
    fields.add("disconnect.on_return", on_return.map_or_else(null, |keep| text(keep.as_str())));
    fields.add("ipv6", ipv6.to_string());
    fields.add("across_sites", across_sites.to_string());
    let sources = |sources: &Vec<Source>| texts(&sources.iter().map(ToString::to_string).collect::<Vec<_>>());
    fields.add("allow_from", allow_from.as_ref().map_or_else(null, sources));
    fields.0
}

struct Fields(Vec<(String, String)>);

impl Fields {
    fn add(&mut self, path: &str, value: String) {
        self.0.push((path.to_owned(), value));
    }

    fn add_container(&mut self, path: &str, container: &ContainerSpec) {
        let ContainerSpec {
            image,
            command,
            args,
            env,
            user,
            workdir,
            mounts,
            read_only,
            capabilities_add,
            capabilities_drop,
            stop_signal,
            stop_grace_ms,
            drain_ms,
            network,
            stdin,
            tty,
            content: ContentSpec { files, env: secret_env, on_change },
        } = container;
        let mut add = |field: &str, value: String| self.add(&format!("{path}.{field}"), value);
        add("image", text(image));
        add("command", command.as_ref().map_or_else(null, |words| texts(words)));
        add("args", args.as_ref().map_or_else(null, |words| texts(words)));
        add("env", object(env.iter().map(|(name, value)| (name.as_str(), text(value)))));
        add("user", user.as_ref().map_or_else(null, |user| text(user)));
        add("workdir", workdir.as_ref().map_or_else(null, |path| text(path)));
        add("mounts", object(mounts.iter().map(|(inside, mount)| (inside.as_str(), mount_json(mount)))));
        add("read_only", read_only.to_string());
        add("capabilities_add", texts(capabilities_add));
        add("capabilities_drop", texts(capabilities_drop));
        add("stop_signal", stop_signal.as_ref().map_or_else(null, |signal| text(signal)));
        add("stop_grace_ms", stop_grace_ms.to_string());
        add("drain_ms", drain_ms.to_string());
        add("network", text(network.as_str()));
        add("stdin", if *stdin { stdin.to_string() } else { null() });
        add("tty", if *tty { tty.to_string() } else { null() });
        for (inside, file) in files {
            add(&format!("files.{inside}"), file_json(file));
        }
        let secret_env = secret_env.iter().map(|(variable, secret)| (variable.as_str(), text(secret.as_str())));
        add("secret_env", object(secret_env));
        add("on_change", on_change_json(on_change));
    }

    fn add_resources(&mut self, path: &str, resources: &ResourceSpec) {
        let ResourceSpec { reserve, cpu_millis_max, memory_bytes_max, pids_max } = resources;
        let mut add = |field: &str, value: String| self.add(&format!("{path}.{field}"), value);
        add("reserve.cpu_millis", reserve.cpu_millis.to_string());
        add("reserve.memory_bytes", reserve.memory_bytes.to_string());
        add("cpu_millis_max", number(*cpu_millis_max));
        add("memory_bytes_max", memory_bytes_max.to_string());
        add("pids_max", pids_max.to_string());
    }

    /// Without what it does not say: one that comes or goes is shown by what it says.
    fn add_companion(&mut self, companion: &CompanionSpec) {
        let CompanionSpec { name, role, container, resources } = companion;
        let path = format!("{}.{name}", role.as_str());
        let mut all = Self(Vec::new());
        all.add_container(&path, container);
        all.add_resources(&format!("{path}.resources"), resources);
        self.0.extend(all.0.into_iter().filter(|(_, value)| !matches!(value.as_str(), "null" | "[]" | "{}")));
    }

    fn add_placement(&mut self, placement: &PlacementSpec) {
        let PlacementSpec { constraints, spread, per_node_max, affinities, priority } = placement;
        let constraints: Vec<String> = constraints.iter().map(ToString::to_string).collect();
        let spread: Vec<String> = spread.iter().map(ToString::to_string).collect();
        let affinities: Vec<String> = affinities.iter().map(ToString::to_string).collect();
        self.add("placement.constraints", texts(&constraints));
        self.add("placement.spread", texts(&spread));
        self.add("placement.per_node_max", number(per_node_max.map(u64::from)));
        self.add("placement.affinities", texts(&affinities));
        self.add("placement.priority", text(priority.as_str()));
    }

    fn add_balance(&mut self, balance: &BalanceSpec) {
        let BalanceSpec { policy: BalancePolicy { prefer, affinity_ms, slow_start_ms, when_none_ready }, weights } =
            balance;
        let weights: Vec<String> = weights.iter().map(ToString::to_string).collect();
        self.add("balance.prefer", text(prefer.as_str()));
        self.add("balance.affinity_ms", number(*affinity_ms));
        self.add("balance.slow_start_ms", number(*slow_start_ms));
        self.add("balance.when_none_ready", text(when_none_ready.as_str()));
        self.add("balance.weights", texts(&weights));
    }

    fn add_update(&mut self, update: Option<&UpdateSpec>) {
        let Some(update) = update else { return };
        let UpdateSpec { order, parallel, healthy_for_ms, deadline_ms, on_failure, canary, canary_weight, waves } =
            update;
        let share = |share: &Option<Share>| share.map_or_else(null, |share| text(&share.to_string()));
        self.add("update.order", order.map_or_else(null, |order: UpdateOrder| text(order.as_str())));
        self.add("update.parallel", share(parallel));
        self.add("update.healthy_for_ms", healthy_for_ms.to_string());
        self.add("update.deadline_ms", deadline_ms.to_string());
        self.add("update.on_failure", text(on_failure.as_str()));
        self.add("update.canary", share(canary));
        self.add("update.canary_weight", canary_weight.map_or_else(null, |percent| text(&format!("{percent}%"))));
        self.add("update.waves", waves.as_ref().map_or_else(null, |sites| texts(sites)));
    }

    fn add_scale(&mut self, scale: Option<&ScaleSpec>) {
        let Some(scale) = scale else { return };
        let ScaleSpec {
            min,
            max,
            cpu_percent,
            memory_percent,
            requests,
            new_connections,
            tolerance_percent,
            window_ms,
            cooldown_ms,
            step_up,
            step_down,
            per_site,
        } = scale;
        let target = |target: &Option<u32>| number(target.map(u64::from));
        self.add("scale.min", min.to_string());
        self.add("scale.max", max.to_string());
        self.add("scale.cpu_percent", target(cpu_percent));
        self.add("scale.memory_percent", target(memory_percent));
        self.add("scale.requests", target(requests));
        self.add("scale.new_connections", target(new_connections));
        self.add("scale.tolerance_percent", tolerance_percent.to_string());
        self.add("scale.window_ms", window_ms.to_string());
        self.add("scale.cooldown_ms", cooldown_ms.to_string());
        self.add("scale.step_up", text(&step_up.to_string()));
        self.add("scale.step_down", text(&step_down.to_string()));
        self.add("scale.per_site", per_site.to_string());
    }
}

fn port_json(port: &PortSpec) -> String {
    let PortSpec { name: _, container, protocol, service, publish, http, host, bind, allow } = port;
    let allow: Vec<String> = allow.iter().map(ToString::to_string).collect();
    let guard = [
        http.then(|| ("http", "true".to_owned())),
        bind.as_ref().map(|bind| ("bind", text(&bind.to_string()))),
        (!allow.is_empty()).then(|| ("allow", texts(&allow))),
    ];
    object(
        [
            ("container", container.to_string()),
            ("protocol", text(protocol.as_str())),
            ("service", service.to_string()),
            ("publish", number(publish.map(u64::from))),
            ("host", number(host.map(u64::from))),
        ]
        .into_iter()
        .chain(guard.into_iter().flatten()),
    )
}

fn probe_json(probe: &ProbeSpec) -> String {
    let ProbeSpec { check, interval_ms, timeout_ms, failures, successes, grace_ms } = probe;
    let check = match check {
        ProbeCheck::Tcp { port } => ("tcp", object([("port", port.to_string())].into_iter())),
        ProbeCheck::Http { port, path } => {
            ("http", object([("port", port.to_string()), ("path", text(path))].into_iter()))
        }
        ProbeCheck::Grpc { port, service } => {
            ("grpc", object([("port", port.to_string()), ("service", text(service))].into_iter()))
        }
        ProbeCheck::Exec { command } => ("exec", object([("command", texts(command))].into_iter())),
    };
    object(
        [
            ("check", object([check].into_iter())),
            ("interval_ms", interval_ms.to_string()),
            ("timeout_ms", timeout_ms.to_string()),
            ("failures", failures.to_string()),
            ("successes", successes.to_string()),
            ("grace_ms", grace_ms.to_string()),
        ]
        .into_iter(),
    )
}

fn mount_json(mount: &Mount) -> String {
    let (kind, body) = match mount {
        Mount::Host { path, read_only } => {
            ("host", object([("path", text(path)), ("read_only", read_only.to_string())].into_iter()))
        }
        Mount::Volume { name, read_only } => {
            ("volume", object([("name", text(name.as_str())), ("read_only", read_only.to_string())].into_iter()))
        }
        Mount::Image { image } => ("image", object([("image", text(image))].into_iter())),
        Mount::Tmpfs { bytes_max } => ("tmpfs", object([("bytes_max", bytes_max.to_string())].into_iter())),
    };
    object([(kind, body)].into_iter())
}

fn file_json(file: &FileSpec) -> String {
    let FileSpec { content, mode, owner } = file;
    let content = match content {
        FileContent::Text(shown) if shown.len() <= SHOWN_BYTES_MAX => vec![("text", text(shown))],
        FileContent::Text(long) => {
            vec![("bytes", long.len().to_string()), ("sum", text(&format!("{:016x}", fnv::sum(long.bytes()))))]
        }
        FileContent::Secret(name) => vec![("secret", text(name.as_str()))],
    };
    let mode = ("mode", text(&format!("{mode:04o}")));
    let owner = owner.map(|Owner { user, group }| ("owner", text(&format!("{user}:{group}"))));
    object(content.into_iter().chain([mode]).chain(owner))
}

fn on_change_json(on_change: &OnChange) -> String {
    match on_change {
        OnChange::Restart => text("restart"),
        OnChange::Signal(name) => text(&format!("signal:{}", name.trim_start_matches("SIG"))),
        OnChange::Nothing => text("none"),
    }
}
