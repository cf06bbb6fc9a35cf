//! How much the volumes hold, told seldom.

use std::{sync::Arc, time::Duration};

use agent_containerd::Containerd;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::session::outbox::Outbox;

/// From the end of one look to the next: large volumes take a while to look through, and grow slowly.
const PAUSE: Duration = Duration::from_secs(300);

/// Measures again and again until the token is cancelled.
pub(crate) async fn measure(
    containerd: Containerd,
    outbox: Arc<Outbox>,
    token: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    loop {
        // Cancelled meanwhile, the look is not waited for: it changes nothing.
        tokio::select! {
            measured = containerd.measure_volumes() => outbox.volumes(measured),
            () = token.cancelled() => return Ok(()),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = token.cancelled() => return Ok(()),
        }
    }
}
