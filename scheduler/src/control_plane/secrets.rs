//! Secrets: sealed before the control loop hears of them.

use api_server::control_plane::Subject;
use api_types::{
    id::SecretId,
    secret::Secret,
    view::{Done, Problem},
};
use scheduler_core::input::Change;

use super::Port;
use crate::problem;

impl Port {
    /// Seals the next version of a secret and has it taken over. Who comes second of two at once is refused.
    pub(super) async fn seal_and_set(
        &self,
        subject: Subject,
        secret: SecretId,
        value: &Secret,
    ) -> Result<Done, Problem> {
        if value.reveal().is_empty() {
            return Err(problem::invalid("a secret has at least one byte", ""));
        }
        let named = secret.clone();
        let version = self.look(move |scheduler| Ok(scheduler.next_secret_version(&named))).await?;
        let sealed = self.0.vault.seal(&secret, version, value);
        let sealed = sealed.map_err(|error| problem::internal(&error.to_string()))?;
        let bytes = value.reveal().len() as u64;
        self.done(Change::SetSecret { secret, version, bytes, set_by: subject.token, sealed }).await
    }
}
