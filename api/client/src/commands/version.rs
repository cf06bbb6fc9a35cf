//! `wherry version`.

use crate::{commands::Session, failure::Failure, output::table::facts};

pub(crate) async fn run(session: &Session<'_>) -> Result<(), Failure> {
    // The scheduler's version is shown where it can be asked; this program's own is known anyhow.
    let scheduler = match session.client() {
        Ok(client) => match client.cluster().await {
            Ok(cluster) => format!("{}, cluster {}", cluster.version, cluster.cluster),
            Err(error) => format!("unknown: {error}"),
        },
        Err(_) => "unknown: no context".to_owned(),
    };
    let versions = [("wherry", env!("CARGO_PKG_VERSION").to_owned()), ("scheduler", scheduler)];
    session.screen.data(&facts(&versions));
    Ok(())
}
