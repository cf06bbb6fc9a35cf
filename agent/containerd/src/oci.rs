//! An assignment and its image to an OCI runtime specification (1.0.2), hardened by default; pure.

use std::path::PathBuf;

use api_types::{
    container::{ContainerSpec, NetworkMode},
    resources::ResourceSpec,
};
use serde_json::{Value, json};

use crate::{
    devices::Granted,
    documents::RunConfig,
    mounts::{is_reserved, normalized},
    seccomp,
    user::User,
};

/// What containerd 2 leaves of the old fourteen.
const CAPABILITIES: [&str; 9] =
    ["CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL"];
/// All that the kernel knows; others are spelling mistakes.
const CAPABILITIES_KNOWN: &str = "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN \
    DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE \
    MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN \
    SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG \
    WAKE_ALARM";
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What programs are told of the terminal that they write to.
const DEFAULT_TERMINAL: &str = "TERM=xterm";
/// Microseconds in which a CPU quota is counted.
const CPU_PERIOD_US: u64 = 100_000;
/// What containerd's shim for runc is told which of its containers it shall serve alone (`runtime/v2/runc` of containerd).
const SHIM_GROUP: &str = "io.containerd.runc.v2.group";
/// The least quota that the kernel takes, in microseconds.
const CPU_QUOTA_US_MIN: u64 = 1_000;

/// Everything that a specification is made of.
pub(crate) struct SpecInput<'a> {
    pub(crate) container: &'a ContainerSpec,
    /// Variables that hold secrets. They become a part of the record that containerd keeps on disk.
    pub(crate) secret_env: Vec<(String, String)>,
    pub(crate) resources: &'a ResourceSpec,
    pub(crate) image: &'a RunConfig,
    pub(crate) user: User,
    /// Whether its process gets a terminal.
    pub(crate) terminal: bool,
    pub(crate) mounts: Vec<Value>,
    pub(crate) devices: Granted,
    /// Which slot of a run it fills; `None` = it belongs to no job.
    pub(crate) slot: Option<u32>,
    pub(crate) hostname: &'a str,
    /// Whether one shim serves all containers of this host name: they begin sooner, and take less memory.
    pub(crate) shares_shim: bool,
    pub(crate) netns: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) capabilities_ceiling: &'a [String],
    pub(crate) node: NodeLimits,
}

/// What this node can give.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeLimits {
    /// Open files per process.
    pub(crate) nofile: u64,
    /// How readily the kernel kills it when memory is short, -1000 to 1000.
    pub(crate) oom_score_adj: i32,
    /// Whether the kernel limits swap apart from memory.
    pub(crate) limits_swap: bool,
}

/// Makes the specification; the error is one line for people.
pub(crate) fn spec(input: &SpecInput<'_>) -> Result<Value, String> {
    let capabilities = capabilities(input.container, input.capabilities_ceiling)?;
    let named: Vec<String> = capabilities.iter().map(|name| format!("CAP_{name}")).collect();
    // A process that is not root gets none to use; what is bounding only limits set-uid programs.
    let held: &[String] = if input.user.uid == 0 { &named } else { &[] };

    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": input.terminal,
            "user": {"uid": input.user.uid, "gid": input.user.gid, "additionalGids": input.user.groups},
            "args": arguments(input.container, input.image)?,
            "env": environment(input),
            "cwd": working_directory(input.container, input.image)?,
            "capabilities": {"bounding": named, "effective": held, "permitted": held},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": input.node.nofile, "soft": input.node.nofile}],
            "noNewPrivileges": true,
            "oomScoreAdj": input.node.oom_score_adj,
        },
        "root": {"path": "rootfs", "readonly": input.container.read_only},
        "hostname": input.hostname,
        "mounts": input.mounts,
        "linux": {
            "cgroupsPath": input.cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "cgroup"},
                {"type": "network", "path": input.netns},
            ],
            "devices": input.devices.files(),
            "resources": limits(input.resources, input.node.limits_swap, input.devices.rules()),
            "seccomp": seccomp::profile(&capabilities, std::env::consts::ARCH),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "sysctl": sysctls(input.container),
        },
    });
    if input.shares_shim {
        spec["annotations"] = json!({ SHIM_GROUP: input.hostname });
    }
    Ok(spec)
}

/// Instead of the capabilities NET_BIND_SERVICE and NET_RAW, which then nobody needs for ports and ping. In the node's own
/// network they would be the node's.
fn sysctls(container: &ContainerSpec) -> Value {
    match container.network {
        NetworkMode::Own | NetworkMode::Published => {
            json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"})
        }
        NetworkMode::Host => json!({}),
    }
}

/// The capabilities without `CAP_`, sorted.
fn capabilities(container: &ContainerSpec, ceiling: &[String]) -> Result<Vec<String>, String> {
    let clean = |name: &String| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    let add: Vec<String> = container.capabilities_add.iter().map(clean).collect();
    let drop: Vec<String> = container.capabilities_drop.iter().map(clean).collect();
    let ceiling: Vec<String> = ceiling.iter().map(clean).collect();
    for name in &add {
        if !CAPABILITIES_KNOWN.split_whitespace().any(|known| known == name) {
            return Err(format!("`{name}` is not a capability"));
        }
        if !ceiling.contains(name) && !CAPABILITIES.contains(&name.as_str()) {
            return Err(format!(
                "capability {name} is not allowed on this node (capabilities_ceiling in the agent's configuration)"
            ));
        }
    }
    let kept = |name: &&str| !drop.iter().any(|dropped| dropped == name || dropped == "ALL");
    let mut all: Vec<String> = CAPABILITIES.iter().filter(|name| kept(name)).map(|name| (*name).to_owned()).collect();
    all.extend(add);
    all.sort();
    all.dedup();
    Ok(all)
}

/// A command of the spec takes the image's arguments away too, as they were meant for the image's own.
fn arguments(container: &ContainerSpec, image: &RunConfig) -> Result<Vec<String>, String> {
    let mut all = match &container.command {
        Some(command) => command.clone(),
        None => image.entrypoint.clone().unwrap_or_default(),
    };
    match (&container.args, &container.command) {
        (Some(args), _) => all.extend(args.iter().cloned()),
        (None, None) => all.extend(image.cmd.iter().flatten().cloned()),
        (None, Some(_)) => {}
    }
    if all.first().is_none_or(String::is_empty) {
        return Err(format!("image {} has no command of its own: set `command`", container.image));
    }
    if all.iter().any(|text| text.contains('\0')) {
        return Err("an argument holds a NUL character".to_owned());
    }
    Ok(all)
}

/// The image's variables, under those that name the devices and the slot, under the spec's own.
fn environment(input: &SpecInput<'_>) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut said = input.devices.variables.clone();
    said.extend(input.slot.map(|slot| ("WHERRY_SLOT".to_owned(), slot.to_string())));
    said.extend(input.container.env.clone());
    said.extend(input.secret_env.iter().cloned());
    let image_own = input.image.env.iter().flatten().filter(|entry| !said.contains_key(&name(entry)));
    let mut all: Vec<String> = image_own.cloned().collect();
    all.extend(said.iter().map(|(name, value)| format!("{name}={value}")));
    if !all.iter().any(|entry| name(entry) == "PATH") {
        all.push(DEFAULT_PATH.to_owned());
    }
    if !all.iter().any(|entry| name(entry) == "HOSTNAME") {
        all.push(format!("HOSTNAME={}", input.hostname));
    }
    if input.terminal && !all.iter().any(|entry| name(entry) == "TERM") {
        all.push(DEFAULT_TERMINAL.to_owned());
    }
    all
}

/// A working directory in the kernel's file systems could be a handle of the runtime's (CVE-2024-21626).
fn working_directory(container: &ContainerSpec, image: &RunConfig) -> Result<PathBuf, String> {
    let wanted = container.workdir.as_deref().or(image.working_dir.as_deref()).filter(|path| !path.is_empty());
    let wanted = wanted.unwrap_or("/");
    match normalized(wanted) {
        Some(path) if !is_reserved(&path) => Ok(path),
        Some(_) | None => Err(format!(
            "working directory `{wanted}`: it must be absolute, free of `..` and outside /proc, /sys and /dev"
        )),
    }
}

fn limits(resources: &ResourceSpec, limits_swap: bool, devices: Value) -> Value {
    let shares = (resources.reserve.cpu_millis * 1024 / 1000).clamp(2, 262_144);
    let mut memory = json!({"limit": resources.memory_bytes_max});
    if limits_swap {
        // Memory and swap together: the same number means no swap.
        memory["swap"] = json!(resources.memory_bytes_max);
    }
    let mut cpu = json!({"shares": shares});
    if let Some(millis) = resources.cpu_millis_max {
        cpu["period"] = json!(CPU_PERIOD_US);
        cpu["quota"] = json!((millis * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN));
    }
    json!({
        "devices": devices,
        "memory": memory,
        "cpu": cpu,
        "pids": {"limit": resources.pids_max},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_container_gets_the_hardened_defaults() {
        let container = container("[]");
        let mut spec = spec(&input(&container, User::default())).expect("a specification");

        let seccomp = spec["linux"]["seccomp"].take();

        assert!(seccomp["syscalls"].as_array().is_some_and(|calls| calls.len() > 5));
        let golden: Value = serde_json::from_str(include_str!("../tests/golden/spec.json")).expect("JSON");
        assert_eq!(spec, golden, "{spec:#}");
    }

    #[test]
    fn containers_of_one_instance_name_the_shim_that_they_share() {
        let container = container("[]");

        let spec =
            spec(&SpecInput { shares_shim: true, ..input(&container, User::default()) }).expect("a specification");

        assert_eq!(spec["annotations"], json!({"io.containerd.runc.v2.group": "web-1"}));
    }

    #[test]
    fn a_process_with_a_terminal_is_told_which() {
        let mut container = container("[]");
        let variables =
            |container: &ContainerSpec| environment(&SpecInput { terminal: true, ..input(container, User::default()) });

        assert!(variables(&container).contains(&"TERM=xterm".to_owned()));
        container.env.insert("TERM".to_owned(), "vt100".to_owned());
        assert!(!variables(&container).contains(&"TERM=xterm".to_owned()));
    }

    #[test]
    fn an_instance_of_a_job_knows_its_slot() {
        let container = container("[]");

        let variables = environment(&SpecInput { slot: Some(3), ..input(&container, User::default()) });

        assert!(variables.contains(&"WHERRY_SLOT=3".to_owned()), "{variables:?}");
    }

    #[test]
    fn a_process_that_is_not_root_holds_no_capability() {
        let container = container("[]");

        let spec = spec(&input(&container, User { uid: 1000, gid: 1000, groups: vec![20] })).expect("a specification");

        assert_eq!(spec["process"]["capabilities"]["effective"], json!([]));
        assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().map(Vec::len), Some(9));
    }

    #[test]
    fn a_capability_needs_the_nodes_leave() {
        let wants = |add: &str, ceiling: &[&str]| {
            let ceiling: Vec<String> = ceiling.iter().map(|name| (*name).to_owned()).collect();
            capabilities(&container(add), &ceiling)
        };

        assert!(wants(r#"["NET_ADMIN"]"#, &[]).is_err_and(|problem| problem.contains("capabilities_ceiling")));
        assert!(wants(r#"["NET_ADMIN"]"#, &["NET_ADMIN"]).is_ok_and(|all| all.len() == 10));
        assert!(wants(r#"["KILL"]"#, &[]).is_ok_and(|all| all.len() == 9));
        assert!(wants(r#"["FLY"]"#, &["FLY"]).is_err());
        let mut none = container("[]");
        none.capabilities_drop = vec!["ALL".to_owned()];
        assert_eq!(capabilities(&none, &[]), Ok(Vec::new()));
    }

    #[test]
    fn a_command_takes_the_images_arguments_away() {
        let image = RunConfig {
            entrypoint: Some(vec!["/entry".to_owned()]),
            cmd: Some(vec!["one".to_owned()]),
            ..RunConfig::default()
        };
        let mut container = container("[]");

        container.command = None;
        assert_eq!(arguments(&container, &image).expect("arguments"), ["/entry", "one"]);
        container.args = Some(vec!["two".to_owned()]);
        assert_eq!(arguments(&container, &image).expect("arguments"), ["/entry", "two"]);
        (container.command, container.args) = (Some(vec!["/own".to_owned()]), None);
        assert_eq!(arguments(&container, &image).expect("arguments"), ["/own"]);
        container.command = Some(Vec::new());
        assert!(arguments(&container, &image).is_err());
    }

    #[test]
    fn a_working_directory_in_the_kernels_file_systems_is_refused() {
        let mut container = container("[]");
        for path in ["/proc/self/fd/7", "/dev", "/sys/fs", "relative", "/a/../proc/self"] {
            container.workdir = Some(path.to_owned());
            assert!(working_directory(&container, &RunConfig::default()).is_err(), "{path} was accepted");
        }
        container.workdir = None;
        assert_eq!(working_directory(&container, &RunConfig::default()), Ok(PathBuf::from("/")));
    }

    fn container(capabilities_add: &str) -> ContainerSpec {
        let text = format!(
            r#"{{"image": "web:1", "command": ["/bin/web"], "env": {{"B": "2", "A": "1"}}, "stop_grace_ms": 1000,
                "capabilities_add": {capabilities_add}}}"#
        );
        serde_json::from_str(&text).expect("a container")
    }

    fn input(container: &ContainerSpec, user: User) -> SpecInput<'_> {
        const RESOURCES: ResourceSpec = ResourceSpec {
            reserve: api_types::resources::Resources { cpu_millis: 100, memory_bytes: 32 << 20 },
            cpu_millis_max: Some(1500),
            memory_bytes_max: 64 << 20,
            pids_max: 512,
        };
        static IMAGE: std::sync::LazyLock<RunConfig> = std::sync::LazyLock::new(|| RunConfig {
            env: Some(vec!["A=0".to_owned(), "C=3".to_owned()]),
            working_dir: Some("/srv".to_owned()),
            ..RunConfig::default()
        });
        SpecInput {
            container,
            secret_env: Vec::new(),
            resources: &RESOURCES,
            image: &IMAGE,
            user,
            terminal: false,
            mounts: vec![json!({"destination": "/proc"})],
            devices: Granted::default(),
            hostname: "web-1",
            slot: None,
            shares_shim: false,
            netns: PathBuf::from("/run/netns/web-1"),
            cgroup: "/wherry/web-1.0".to_owned(),
            capabilities_ceiling: &[],
            node: NodeLimits { nofile: 65536, oom_score_adj: 0, limits_swap: true },
        }
    }
}
