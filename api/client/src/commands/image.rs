//! `wherry image`: gives an image to every node without a registry.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api_client::{Client, ClientError, Lines};
use api_types::view::ImageOutcome;
use clap::{Args, Subcommand};
use futures_util::TryStreamExt;
use tokio_util::io::ReaderStream;

use crate::{
    commands::Session,
    failure::{Failure, code},
    output::{
        amounts::{bytes, percent},
        live::Live,
    },
};

/// One piece of the archive on its way.
const CHUNK_BYTES: usize = 128 << 10;
const REDRAW: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Send an OCI archive to every ready node
    Load(Load),
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// An OCI archive, as `docker save` or `skopeo copy` write it
    archive: PathBuf,
}

pub(crate) async fn run(session: &Session<'_>, command: &ImageCommand) -> Result<(), Failure> {
    let ImageCommand::Load(arguments) = command;
    let unreadable = |error| Failure::Other(format!("cannot read {}: {error}", arguments.archive.display()));
    let file = tokio::fs::File::open(&arguments.archive).await.map_err(unreadable)?;
    let total = file.metadata().await.map_err(unreadable)?.len();
    let mut outcomes = send(session, &session.client()?, file, total).await?;
    let mut failed = false;
    while let Some(outcome) = outcomes.next().await? {
        if outcome.error.is_empty() {
            session.screen.data(&format!("{}: {}", outcome.node, outcome.images.join(", ")));
        } else {
            failed = true;
            session.screen.error(&format!("{}: {}", outcome.node, outcome.error), "");
        }
    }
    if failed { Err(Failure::Said(code::ERROR)) } else { Ok(()) }
}

/// Sends the archive, and shows how far it is where somebody looks.
async fn send(
    session: &Session<'_>,
    client: &Client,
    file: tokio::fs::File,
    total: u64,
) -> Result<Lines<ImageOutcome>, ClientError> {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let archive = ReaderStream::with_capacity(file, CHUNK_BYTES).inspect_ok(move |chunk| {
        counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    });
    let sending = client.load_image(archive);
    if !session.screen.talk_terminal {
        return sending.await;
    }
    let (mut live, mut sending) = (Live::default(), std::pin::pin!(sending));
    loop {
        tokio::select! {
            outcomes = &mut sending => {
                live.clear(session.screen);
                return outcomes;
            }
            () = tokio::time::sleep(REDRAW) => {
                let sent = sent.load(Ordering::Relaxed);
                let line = format!("sent {} of {} ({})", bytes(sent), bytes(total), percent(sent, total));
                live.draw(session.screen, &[line]);
            }
        }
    }
}
