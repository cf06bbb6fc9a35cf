//! Has an image: here already, else from an archive that a person loaded into the cluster, else from its registry.

use agent_containerd::ImageError;
use agent_core::input::Input;

use super::Tools;
use crate::session::archive::{self, ArchiveError};

pub(super) async fn ensure(tools: Tools, image: String) {
    let outcome = have(&tools, &image).await;
    tools
        .tell(match outcome {
            Ok(()) => Input::ImageReady { image },
            Err(error) => {
                let (reason, is_missing) = (error.to_string(), error.is_missing());
                tracing::warn!(image, reason, "an image cannot be had");
                Input::ImageFailed { image, reason, is_missing }
            }
        })
        .await;
}

async fn have(tools: &Tools, image: &str) -> Result<(), ImageError> {
    let _permit = tools.pulls.acquire().await;
    if tools.containerd.has_image(image).await? {
        return Ok(());
    }
    if let Some(dispatcher) = tools.link.dispatcher() {
        match archive::load(dispatcher, &tools.containerd, &tools.archive_dir, image).await {
            // The archive may name it otherwise than the registry does.
            Ok(_) if tools.containerd.has_image(image).await? => return Ok(()),
            Ok(_) | Err(ArchiveError::Absent) => {}
            Err(error) => tracing::warn!(image, %error, "an archive that the scheduler offers is of no use"),
        }
    }
    tracing::info!(image, "pulling");
    tools.containerd.ensure_image(image, |_| {}).await
}
