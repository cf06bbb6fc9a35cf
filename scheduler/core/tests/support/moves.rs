//! Words of the stories about where instances go and what moves.

use std::{collections::BTreeMap, fmt::Write as _};

use api_types::{
    container::Mount,
    disconnect::{DisconnectPolicy, OnReturn},
    id::Name,
    placement::{Domain, Priority, Spread},
    service::WatchKey,
    site::{Across, Reach},
};
use scheduler_core::{Scheduler, Settings, input::Change};

use super::milliseconds;

/// `site,label.rack:1,node`: what to be even over, with the skew that is allowed.
pub(crate) fn spread(text: &str) -> Vec<Spread> {
    let rule = |text: &str| {
        let (over, skew) = text.split_once(':').unwrap_or((text, ""));
        let over = match over {
            "site" => Domain::Site,
            "node" => Domain::Node,
            label => Domain::Label(label.trim_start_matches("label.").to_owned()),
        };
        Spread { over, skew_max: skew.parse().ok() }
    };
    text.split(',').map(rule).collect()
}

pub(crate) fn priority(text: &str) -> Priority {
    match text {
        "low" => Priority::Low,
        "high" => Priority::High,
        "critical" => Priority::Critical,
        _ => Priority::Normal,
    }
}

/// `data`, `data,logs`: volumes below their own names.
pub(crate) fn volumes(text: &str) -> impl Iterator<Item = (String, Mount)> {
    text.split(',').map(|name| {
        let volume = Mount::Volume { name: Name::new(name).expect("a name"), read_only: false };
        (format!("/{name}"), volume)
    })
}

/// `berlin`: its silent nodes are given up; `berlin vxlan apart`: how it is reached inside, and from others.
pub(crate) fn site(words: &[&str]) -> Change {
    let site = words[0].to_owned();
    let [_, reach, across] = words else { return Change::ResumeSite { site } };
    let reach = if *reach == "vxlan" { Reach::Vxlan } else { Reach::Routes };
    let across = match *across {
        "apart" => Across::Apart,
        "tunnel" => Across::Tunnel,
        _ => Across::Routes,
    };
    Change::SetSite { site, reach: Some(reach), across: Some(across) }
}

/// The sites, and what each node is told of the others.
pub(crate) fn show_sites(scheduler: &Scheduler) -> String {
    let mut text = String::new();
    for view in scheduler.site_views() {
        let (reach, across) = (view.reach.as_str(), view.across.as_str());
        writeln!(text, "{}  {reach}  {across}  {}/{} ready", view.name, view.ready, view.nodes)
            .expect("a text takes all");
    }
    for peer in scheduler.service_table().iter().flat_map(|table| table.peers.iter()) {
        let (reach, across) = (peer.reach.as_str(), peer.across.as_str());
        writeln!(text, "peer {}  {reach}  {across}", peer.node).expect("a text takes all");
    }
    text
}

/// Settings with which the scheduler rebalances by itself, so often.
pub(crate) fn automatic(pause_ms: u64) -> Settings {
    Settings { rebalance_automatic: true, rebalance_pause_ms: pause_ms, ..Settings::default() }
}

/// `remove NODE [force] [key=NUMBER]`: the key of which each byte is that number is the nodes' from then on.
pub(crate) fn remove(words: &[&str]) -> Change {
    let key = words.iter().find_map(|word| word.strip_prefix("key="));
    Change::RemoveNode {
        node: words[0].parse().expect("a name"),
        force: words.contains(&"force"),
        watch_key: key.map(|number| WatchKey([number.parse().expect("a byte"); 32])),
    }
}

/// The first byte of the key in the service table.
pub(crate) fn key(scheduler: &Scheduler) -> String {
    let key = scheduler.service_table().and_then(|table| table.watch_key);
    key.map_or_else(|| "none\n".to_owned(), |WatchKey(bytes)| format!("{}\n", bytes[0]))
}

pub(crate) fn show_volumes(scheduler: &Scheduler) -> String {
    let mut text = String::new();
    for view in scheduler.volume_views() {
        let instance = view.instance.map(|instance| instance.to_string()).unwrap_or_default();
        writeln!(
            text,
            "{}  {}  slot {}  {}  {instance}  {}{}",
            view.workload,
            view.volume,
            view.slot,
            view.node,
            view.reason,
            super::volumes::show((view.used_bytes, view.size_bytes))
        )
        .expect("a text takes all");
    }
    text
}

pub(crate) fn show_rebalance(scheduler: &Scheduler) -> String {
    let plan = scheduler.rebalance_plan();
    let mut text = format!("at least {}, {} left of one that goes on\n", plan.moves_min, plan.left);
    for moved in plan.moves {
        writeln!(text, "{}  {} -> {}  {}", moved.instance, moved.from, moved.to, moved.gain).expect("a text takes all");
    }
    for residual in plan.residuals {
        writeln!(text, "stays uneven: {residual}").expect("a text takes all");
    }
    text
}

/// `replace_after=never stop_after=10s on_return=keep-original`.
pub(crate) fn contract(options: &BTreeMap<String, String>) -> DisconnectPolicy {
    let get = |key: &str| options.get(key).map(String::as_str);
    DisconnectPolicy {
        replace_after_ms: match get("replace_after") {
            None => Some(10_000),
            Some("never") => None,
            Some(time) => Some(milliseconds(time)),
        },
        stop_after_ms: get("stop_after").map(milliseconds),
        on_return: get("on_return").map(|word| match word {
            "keep-original" => OnReturn::KeepOriginal,
            "keep-replacement" => OnReturn::KeepReplacement,
            other => panic!("nobody keeps {other}"),
        }),
    }
}
