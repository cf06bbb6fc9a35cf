//! What a container runs and with which rights: image, process, environment, security, stop.

use std::collections::BTreeMap;

use api_types::container::{ContainerSpec, DRAIN_MS, NetworkMode, STOP_GRACE_MS};

use crate::{
    config::Configs,
    content,
    fault::{nearest, suggestion},
    image,
    mount::{self, KERNEL_PATHS, is_below, is_plain_path},
    section::{Entry, Section},
    units::Wrong,
};

const HOUR_MS: u64 = 3_600_000;
/// Linux capabilities (capabilities(7)), without `CAP_`.
const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];
pub(crate) const SIGNALS: &[&str] =
    &["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"];

/// Reads what a container runs; one that names no image runs the `usual` one, where there is one.
pub(crate) fn read(section: &Section<'_>, configs: &Configs, usual: Option<&str>) -> Option<ContainerSpec> {
    let image = section.get("image");
    if image.is_none() && usual.is_none() {
        section.missing("image", "add image = \"registry.lan/shop/web:1.4.2\"");
    }
    let image = image.map_or_else(|| usual.map(str::to_owned), |entry| self::image(&entry));
    let command = section.get("command").and_then(|entry| command(&entry));
    let args = section.get("args").and_then(|entry| entry.texts());
    let env = section.get("env").and_then(|entry| entry.section());
    let env = env.map(|section| self::env(&section, configs)).unwrap_or_default();
    let workdir = section.get("workdir").and_then(|entry| workdir(&entry));
    let mounts = section.get("mounts").and_then(|entry| entry.section());
    let mounts = mounts.map(|section| mount::read(&section)).unwrap_or_default();
    let content = content::read(section, configs, &env, &mounts);
    let mut user = section.get("user").and_then(|entry| user(&entry));
    let mut read_only = section.get("read_only").and_then(|entry| entry.boolean());
    let (mut capabilities_add, mut capabilities_drop) = (Vec::new(), Vec::new());
    if let Some(security) = section.get("security").and_then(|entry| entry.section()) {
        if let Some(entry) = security.get("user") {
            refuse_second(&entry, user.is_some());
            user = self::user(&entry);
        }
        if let Some(entry) = security.get("read_only") {
            refuse_second(&entry, read_only.is_some());
            read_only = entry.boolean();
        }
        if let Some(section) = security.get("capabilities").and_then(|entry| entry.section()) {
            capabilities_add = section.get("add").map(|entry| capabilities(&entry, false)).unwrap_or_default();
            capabilities_drop = section.get("drop").map(|entry| capabilities(&entry, true)).unwrap_or_default();
            section.refuse_unknown();
        }
        security.refuse_unknown();
    }
    let stop = section.get("stop").and_then(|entry| entry.section()).map(|section| stop(&section));
    let (stop_signal, stop_grace_ms) = stop.unwrap_or((None, STOP_GRACE_MS));
    let network = section.get("network").and_then(|entry| network(&entry)).unwrap_or_default();
    let drain_ms = section.get("drain").and_then(|entry| entry.duration_ms(0, HOUR_MS)).unwrap_or(DRAIN_MS);
    let stdin = section.get("stdin").and_then(|entry| entry.boolean()).unwrap_or(false);
    let tty = section.get("tty").and_then(|entry| entry.boolean()).unwrap_or(false);
    Some(ContainerSpec {
        command,
        args,
        env,
        user,
        workdir,
        mounts,
        read_only: read_only.unwrap_or(false),
        capabilities_add,
        capabilities_drop,
        stop_signal,
        stop_grace_ms,
        drain_ms,
        network,
        stdin,
        tty,
        content,
        ..ContainerSpec::of_image(image?)
    })
}

fn network(entry: &Entry<'_>) -> Option<NetworkMode> {
    match entry.text()? {
        "own" => Some(NetworkMode::Own),
        "published" => Some(NetworkMode::Published),
        "host" => Some(NetworkMode::Host),
        word => {
            let message = format!("`{}` is no network: `own`, `published` or `host`", word.escape_debug());
            entry.invalid("unknown_value", message, suggestion(word, &["own", "published", "host"]));
            None
        }
    }
}

fn image(entry: &Entry<'_>) -> Option<String> {
    let refuse = |(message, help): Wrong| entry.invalid("invalid_image", message, help);
    image::complete(entry.text()?).map_err(refuse).ok()
}

fn command(entry: &Entry<'_>) -> Option<Vec<String>> {
    let words = entry.texts()?;
    if words.first().is_none_or(String::is_empty) {
        entry.invalid("invalid_command", "the command is empty", "leave `command` out to run what the image says");
        return None;
    }
    Some(words)
}

/// Whether it can be the name of a variable of the environment.
pub(crate) fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn env(section: &Section<'_>, configs: &Configs) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for entry in section.entries() {
        if !is_variable(entry.key) {
            let message = format!("`{}` is not the name of a variable", entry.key.escape_debug());
            section.faults.report("invalid_name", &entry.path, entry.key_place.clone(), message);
        }
        if let Some(value) = entry.text().and_then(|text| configs.expand(&entry, text)) {
            env.insert(entry.key.to_owned(), value);
        }
    }
    env
}

fn workdir(entry: &Entry<'_>) -> Option<String> {
    let path = entry.text()?;
    // A working directory behind /proc/self/fd once led out of the container.
    if !is_plain_path(path) || is_below(path, KERNEL_PATHS) {
        let message = format!("`{}` is not a directory to start in", path.escape_debug());
        entry.invalid("invalid_path", message, "write an absolute path without `..`, outside of /proc, /sys and /dev");
        return None;
    }
    Some(path.to_owned())
}

fn refuse_second(entry: &Entry<'_>, twice: bool) {
    if twice {
        entry.invalid("duplicate", format!("`{}` is said twice", entry.key), "keep it in one of the two places");
    }
}

/// Reads `user[:group]`, each a name or a number that fits a signed 32-bit id.
fn user(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text()?;
    let good = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let number = part.bytes().all(|byte| byte.is_ascii_digit());
        let edge = part.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        edge && part.len() <= 32 && part.bytes().all(inner) && (!number || part.parse::<i32>().is_ok())
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    if !good(user) || group.is_some_and(|group| !good(group)) {
        let message = format!("`{}` is not a user", text.escape_debug());
        entry.invalid("invalid_user", message, "write \"user\", \"user:group\" or numbers up to 2147483647");
        return None;
    }
    Some(text.to_owned())
}

fn capabilities(entry: &Entry<'_>, all: bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for item in entry.items().unwrap_or_default() {
        let Some(name) = item.text() else { continue };
        if CAPABILITIES.contains(&name) || (all && name == "ALL") {
            if names.iter().any(|other| other == name) {
                item.invalid("duplicate", format!("`{name}` is there twice"), "");
            }
            names.push(name.to_owned());
            continue;
        }
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let help = match nearest(bare, CAPABILITIES.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "write one of capabilities(7) without `CAP_`".to_owned(),
        };
        item.invalid("unknown_value", format!("`{}` is not a capability", name.escape_debug()), help);
    }
    names
}

fn stop(section: &Section<'_>) -> (Option<String>, u64) {
    let signal = section.get("signal").and_then(|entry| {
        let name = entry.text()?;
        if SIGNALS.contains(&name) {
            return Some(name.to_owned());
        }
        let full = format!("SIG{}", name.to_ascii_uppercase().trim_start_matches("SIG"));
        entry.invalid(
            "unknown_value",
            format!("`{}` is not a signal", name.escape_debug()),
            suggestion(&full, SIGNALS),
        );
        None
    });
    let grace = section.get("grace").and_then(|entry| entry.duration_ms(0, HOUR_MS));
    section.refuse_unknown();
    (signal, grace.unwrap_or(STOP_GRACE_MS))
}
