//! How workloads change, without a cluster: `web` goes on, `prod/db` was rolled back, others are complete.

use api_types::{
    counter::Revision,
    id::WorkloadId,
    rollout::{RolloutAction, RolloutState},
    time::Timestamp,
    view::{Done, FieldChange, List, Problem, RevisionView, RolloutHistory, RolloutView, WaveTurn, WaveView},
};

use super::problem;

fn unknown(id: &WorkloadId) -> Problem {
    problem(404, "not_found", &format!("there is no workload `{id}`"), "`wherry get services` shows the services")
}

fn wave(site: &str, turn: WaveTurn, (updated, wanted): (u32, u32), silent: u32) -> WaveView {
    WaveView { site: site.to_owned(), turn, updated, wanted, silent }
}

pub(super) fn status(id: &WorkloadId) -> Result<List<RolloutView>, Problem> {
    let view = |revision, state, updated| RolloutView {
        workload: id.clone(),
        revision: Revision(revision),
        state,
        paused: String::new(),
        failed: None,
        cause: String::new(),
        updated,
        wanted: 3,
        waits_for: Vec::new(),
        waves: Vec::new(),
        closed_ports: String::new(),
    };
    let view = match id.to_string().as_str() {
        "web" => RolloutView {
            paused: "paused by ci".into(),
            waits_for: vec!["a person: `wherry rollout resume web`".into(), "web-7 on n2: getting image web:2".into()],
            waves: vec![
                wave("lab", WaveTurn::Done, (1, 1), 0),
                wave("north", WaveTurn::Now, (0, 1), 0),
                wave("plant", WaveTurn::Silent, (0, 1), 1),
            ],
            ..view(2, RolloutState::Progressing, 1)
        },
        "prod/db" => RolloutView {
            failed: Some(Revision(2)),
            cause: "prod.db-9 on n1 exited with code 1: no such table".into(),
            ..view(3, RolloutState::RolledBack, 3)
        },
        "prod/api" => RolloutView {
            closed_ports: "tcp port 8080 of n2 is taken by nginx (pid 812)".into(),
            ..view(4, RolloutState::Complete, 3)
        },
        _ => return Err(unknown(id)),
    };
    Ok(List { version: 5, items: vec![view] })
}

pub(super) fn history(id: &WorkloadId) -> Result<RolloutHistory, Problem> {
    if id.to_string() != "prod/db" {
        return Err(unknown(id));
    }
    let view = |revision, by: &str, reason: &str, image: &str, changes| RevisionView {
        revision: Revision(revision),
        at: Timestamp(1_700_000_000_000),
        by: by.into(),
        reason: reason.into(),
        is_current: revision == 3,
        is_good: revision != 2,
        image: image.into(),
        changes,
    };
    let change = |before: &str, after: &str| {
        let path = "container.image".into();
        vec![FieldChange { path, before: format!("{before:?}"), after: format!("{after:?}") }]
    };
    let back = "rolled back from revision 2 to 1: prod.db-9 on n1 exited with code 1: no such table";
    let revisions = vec![
        view(1, "ci", "applied", "db:1", Vec::new()),
        view(2, "ci", "applied", "db:2", change("db:1", "db:2")),
        view(3, "scheduler", back, "db:1", change("db:2", "db:1")),
    ];
    Ok(RolloutHistory { workload: id.clone(), revisions })
}

pub(super) fn act(by: &str, id: &WorkloadId, action: RolloutAction) -> Result<Done, Problem> {
    status(id)?;
    match action {
        RolloutAction::Undo { to: Some(to) } if to.0 > 3 => {
            let title =
                format!("revision {to} of `{id}` is not kept: `wherry rollout history {id}` shows those that are");
            Err(problem(422, "invalid", &title, ""))
        }
        RolloutAction::Undo { .. } => Ok(Done { message: format!("{id}: revision 1 comes back as revision 4") }),
        RolloutAction::Promote => {
            Err(problem(409, "conflict", &format!("`{id}` has no canary that waits to be promoted"), ""))
        }
        RolloutAction::Pause | RolloutAction::Resume | RolloutAction::Abort => {
            Ok(Done { message: format!("{id}: {action:?} by {by}").to_lowercase() })
        }
    }
}
