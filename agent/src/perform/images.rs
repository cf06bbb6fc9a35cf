//! Has an image: here already, else from an archive that a person loaded into the cluster, else from its registry.

use agent_core::input::Input;

use super::Tools;
use crate::session::archive::{self, ArchiveError};

pub(super) async fn ensure(tools: Tools, image: String) {
    let outcome = have(&tools, &image).await;
    tools
        .tell(match outcome {
            Ok(()) => Input::ImageReady { image },
            Err(reason) => {
                tracing::warn!(image, reason, "an image cannot be had");
                Input::ImageFailed { image, reason }
            }
        })
        .await;
}

async fn have(tools: &Tools, image: &str) -> Result<(), String> {
    let _permit = tools.pulls.acquire().await;
    let has = async || tools.containerd.has_image(image).await.map_err(|error| error.to_string());
    if has().await? {
        return Ok(());
    }
    if let Some(dispatcher) = tools.link.dispatcher() {
        match archive::load(dispatcher, &tools.containerd, &tools.archive_dir, image).await {
            // The archive may name it otherwise than the registry does.
            Ok(_) if has().await? => return Ok(()),
            Ok(_) | Err(ArchiveError::Absent) => {}
            Err(error) => tracing::warn!(image, %error, "an archive that the scheduler offers is of no use"),
        }
    }
    tracing::info!(image, "pulling");
    tools.containerd.ensure_image(image, |_| {}).await.map_err(|error| error.to_string())
}
