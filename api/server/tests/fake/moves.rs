//! What an operator moves or ties to a place, without a cluster.

use api_types::{
    id::{Name, WorkloadId},
    site::{Across, Reach},
    view::{Done, List, Problem, RebalanceMove, RebalancePlan, SiteView, VolumeView},
};

use super::{node_id, problem};

pub(super) fn resume_site(site: &str) -> Result<Done, Problem> {
    match site {
        "berlin" => Ok(Done { message: "site berlin: an operator gave up 2 silent nodes".into() }),
        _ => {
            Err(problem(404, "not_found", &format!("there is no site `{site}`"), "`wherry get sites` shows the sites"))
        }
    }
}

pub(super) fn rebalance_plan(left: u32) -> RebalancePlan {
    let moved = |instance: &str, slot, from, to, gain: &str| RebalanceMove {
        instance: instance.parse().unwrap(),
        workload: "web".parse().unwrap(),
        slot,
        from: node_id(from),
        to: node_id(to),
        gain: gain.into(),
    };
    RebalancePlan {
        moves: vec![
            moved("web-0a", 0, "n1", "n3", "more even over site"),
            moved("web-1a", 1, "n2", "n3", "room on n2"),
        ],
        moves_min: 1,
        residuals: vec!["db: site hamburg has 2 fewer than the fullest: n4 lacks 1 GiB".into()],
        left,
    }
}

pub(super) fn sites() -> List<SiteView> {
    let site = |name: &str, reach, across| SiteView { name: name.into(), reach, across, nodes: 2, ready: 1 };
    let items = vec![site("berlin", Reach::Vxlan, Across::Apart), site("default", Reach::default(), Across::default())];
    List { version: 5, items }
}

pub(super) fn set_site(name: &str, reach: Option<Reach>, across: Option<Across>) -> Result<Done, Problem> {
    let Some(site) = sites().items.into_iter().find(|site| site.name == name) else {
        let title = format!("there is no site `{name}`");
        return Err(problem(404, "not_found", &title, "`wherry get sites` shows the sites"));
    };
    let (reach, across) = (reach.unwrap_or(site.reach), across.unwrap_or(site.across));
    Ok(Done { message: format!("site {name}: reach {}, across {}", reach.as_str(), across.as_str()) })
}

pub(super) fn volumes() -> List<VolumeView> {
    let volume = |slot, node, instance: Option<&str>, reason: &str| VolumeView {
        workload: "prod/db".parse().unwrap(),
        volume: "data".parse().unwrap(),
        slot,
        node: node_id(node),
        instance: instance.map(|instance| instance.parse().unwrap()),
        used_bytes: instance.map(|_| 3 << 29),
        size_bytes: instance.map(|_| 1 << 30),
        reason: reason.into(),
    };
    let items = vec![volume(0, "n1", Some("db-0a"), ""), volume(1, "n3", None, "n3 is lost")];
    List { version: 5, items }
}

pub(super) fn forget_volume(workload: &WorkloadId, volume: &Name, slot: Option<u32>) -> Result<Done, Problem> {
    let known = volumes()
        .items
        .iter()
        .any(|view| view.workload == *workload && view.volume == *volume && slot.is_none_or(|slot| slot == view.slot));
    if !known {
        let title = format!("`{workload}` has no data of volume `{volume}` anywhere");
        return Err(problem(404, "not_found", &title, "`wherry get volumes` shows what there is"));
    }
    Ok(Done { message: format!("forgot the data of volume {volume} of {workload}") })
}
