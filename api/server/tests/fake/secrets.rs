//! One secret that somebody uses, and one that nobody does.

use api_types::{
    id::SecretId,
    view::{Done, List, Problem, SecretView},
};

use super::{THEN, problem};

pub(super) fn secrets() -> List<SecretView> {
    let secret = |name: &str, version, bytes, used_by: &[&str]| SecretView {
        secret: name.parse().unwrap(),
        version,
        bytes,
        set_by: "k7p2".into(),
        set_at: THEN,
        used_by: used_by.iter().map(|name| name.parse().unwrap()).collect(),
    };
    List { version: 5, items: vec![secret("prod/db-password", 3, 24, &["prod/db"]), secret("spare", 1, 7, &[])] }
}

pub(super) fn delete_secret(secret: &SecretId) -> Result<Done, Problem> {
    match secrets().items.iter().find(|view| view.secret == *secret) {
        Some(view) if view.used_by.is_empty() => Ok(Done { message: format!("{secret} is deleted") }),
        Some(view) => {
            let title = format!("`{secret}` is used by `{}`: take it out of there first", view.used_by[0]);
            Err(problem(409, "conflict", &title, ""))
        }
        None => Err(problem(404, "not_found", &format!("there is no secret `{secret}`"), "")),
    }
}
