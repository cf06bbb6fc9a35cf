//! Autoscaling as people read it.

use api_types::{
    time::Timestamp,
    view::{ScaleView, WorkloadView},
};

use crate::output::amounts::age;

/// `2..10, wish 4, cpu 143%/70%`; empty where people say the number.
pub(crate) fn in_a_column(view: Option<&ScaleView>) -> String {
    let Some(scale) = view else { return String::new() };
    let wish = scale.wish.map_or_else(|| "?".to_owned(), |wish| wish.to_string());
    format!(
        "{}..{}, wish {wish}{}",
        scale.min,
        scale.max,
        loads(scale).iter().map(|one| format!(", {one}")).collect::<String>()
    )
}

/// The rows of `describe`: the bounds, and the last numbers with what came of them.
pub(crate) fn facts(view: &WorkloadView, now: Timestamp) -> [(&'static str, String); 3] {
    let Some(scale) = &view.scale else {
        return [("scale", ""), ("load", ""), ("scale reason", "")].map(|(name, text)| (name, text.to_owned()));
    };
    let changed = scale.changed_at.map_or_else(String::new, |at| format!(", changed {} ago", age(at, now)));
    let wish = scale.wish.map_or_else(|| "none yet".to_owned(), |wish| wish.to_string());
    [
        ("scale", format!("{} to {}, wish {wish}{changed}", scale.min, scale.max)),
        ("load", loads(scale).join(", ")),
        ("scale reason", scale.reason.clone()),
    ]
}

fn loads(scale: &ScaleView) -> Vec<String> {
    let load = |load: &api_types::view::LoadView| {
        let mean = load.load.map_or_else(|| "?".to_owned(), |mean| load.metric.show(mean));
        format!("{} {mean}/{}", load.metric.as_str(), load.metric.show(load.target.into()))
    };
    scale.loads.iter().map(load).collect()
}
