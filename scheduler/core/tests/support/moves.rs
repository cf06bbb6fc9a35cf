//! Words of the stories about where instances go and what moves.

use std::fmt::Write as _;

use api_types::{
    container::Mount,
    id::Name,
    placement::{Domain, Priority, Spread},
};
use scheduler_core::Scheduler;

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

pub(crate) fn show_volumes(scheduler: &Scheduler) -> String {
    let mut text = String::new();
    for view in scheduler.volume_views() {
        let instance = view.instance.map(|instance| instance.to_string()).unwrap_or_default();
        writeln!(
            text,
            "{}  {}  slot {}  {}  {instance}  {}",
            view.workload, view.volume, view.slot, view.node, view.reason
        )
        .expect("a text takes all");
    }
    text
}
