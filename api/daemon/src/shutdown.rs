//! The wish to end: SIGTERM or SIGINT cancels a token that every part watches.

use std::{io, process};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code after a second signal: 128 and SIGINT.
const IMPATIENT_EXIT_CODE: i32 = 130;

/// Gives a token that the first SIGTERM or SIGINT cancels; a second one ends the process at once.
///
/// # Errors
/// When signals cannot be watched.
pub fn on_signals() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        // Both arms are cancel-safe: a signal stays pending until it is received.
        for round in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round == 0 {
                tracing::info!("asked to end");
                cancelled.cancel();
            }
        }
        process::exit(IMPATIENT_EXIT_CODE);
    });
    Ok(token)
}
