//! Secrets: set by version, shown to the instances that use them, and to nobody else. Their contents are sealed here.

use api_types::{
    content::ContentSpec,
    counter::Revision,
    id::{SecretId, WorkloadId},
    secret::SECRET_BYTES_MAX,
    view::SecretView,
    workload::{Workload, WorkloadSpec},
};

use crate::{
    cluster::{Cluster, content},
    effect::{Record, RecordKey, Refusal, SecretRecord},
    history::Subject,
    machine::Scheduler,
    requests::Origin,
    spelling::distance,
};

/// The most secrets of a cluster.
const SECRETS_MAX: usize = 10_000;

impl Scheduler {
    /// The version that a secret gets when it is set next.
    #[must_use]
    pub fn next_secret_version(&self, secret: &SecretId) -> u64 {
        self.cluster.secrets.get(secret).map_or(1, |record| record.version + 1)
    }

    /// All secrets by name, but for what they are.
    #[must_use]
    pub fn secret_views(&self) -> Vec<SecretView> {
        let view = |record: &SecretRecord| SecretView {
            secret: record.secret.clone(),
            version: record.version,
            bytes: record.bytes,
            set_by: record.set_by.clone(),
            set_at: record.set_at,
            used_by: self.cluster.users_of(&record.secret).into_iter().cloned().collect(),
        };
        self.cluster.secrets.values().map(view).collect()
    }

    /// Takes over a version, and has every workload that uses the secret follow it in its own way.
    pub(crate) fn set_secret(
        &mut self,
        secret: SecretId,
        version: u64,
        bytes: u64,
        (set_by, sealed): (String, String),
    ) -> Result<String, Refusal> {
        let next = self.next_secret_version(&secret);
        if version != next {
            return Err(Refusal::Conflict(format!(
                "`{secret}` was set by somebody else at the same time: set it again"
            )));
        }
        if bytes > SECRET_BYTES_MAX as u64 {
            return Err(Refusal::Invalid(format!("{bytes} bytes are more than a secret may have, {SECRET_BYTES_MAX}")));
        }
        if version == 1 && self.cluster.secrets.len() >= SECRETS_MAX {
            return Err(Refusal::Conflict(format!("there are {SECRETS_MAX} secrets: delete some that nothing uses")));
        }
        let message = format!("version {version}, {bytes} bytes, by token {set_by}");
        self.history.add(self.now, Subject::Secret(&secret), "secret-set", message);
        let record = SecretRecord { secret: secret.clone(), version, bytes, set_by, set_at: self.now, sealed };
        self.cluster.persist(Record::Secret(Box::new(record.clone())));
        self.cluster.secrets.insert(secret.clone(), record);
        let users: Vec<WorkloadId> = self.cluster.users_of(&secret).into_iter().cloned().collect();
        let (mut replaced, mut written) = (Vec::new(), Vec::new());
        for id in users {
            self.cluster.touch_sets_of(&id);
            let follows = self.follow_secret(&id, &secret, version);
            if follows { &mut replaced } else { &mut written }.push(id.to_string());
        }
        let mut message = format!("{secret} is at version {version}");
        for (what, who) in [("replaces the instances of", replaced), ("shows it to the instances of", written)] {
            if !who.is_empty() {
                message.push_str(&format!("; {what} {}", who.join(", ")));
            }
        }
        Ok(message)
    }

    /// Begins to replace a workload's instances, if these keep what they were shown; `false` if they do not.
    fn follow_secret(&mut self, id: &WorkloadId, secret: &SecretId, version: u64) -> bool {
        let Some(entry) = self.cluster.workloads.get(id) else { return false };
        let keeps = |shown: &ContentSpec| shown.on_change.is_restart() && shown.secrets().contains(&secret.name);
        if !entry.spec().containers().any(|container| keeps(&container.content)) {
            return false;
        }
        let revision: Revision = entry.workload.revision.next();
        let workload = Workload { revision, runs_since: revision, applied_at: self.now, ..entry.workload.clone() };
        let set_by = self.cluster.secrets.get(secret).map(|record| record.set_by.clone()).unwrap_or_default();
        let reason = format!("secret {secret} is at version {version}");
        let origin = Origin { by: set_by, reason, is_good: false };
        self.note_revision(&workload.spec, (revision, revision), "update", &origin);
        self.cluster.put_workload(workload);
        let message = format!("revision {revision}: secret {secret} is at version {version}");
        self.history.add(self.now, Subject::Workload(id), "secret-changed", message);
        true
    }

    /// Forgets a secret that nothing uses.
    pub(crate) fn delete_secret(&mut self, secret: &SecretId) -> Result<String, Refusal> {
        if !self.cluster.secrets.contains_key(secret) {
            return Err(unknown(&self.cluster, secret, "`wherry secret get` shows what there is"));
        }
        if let Some(user) = self.cluster.users_of(secret).first() {
            return Err(Refusal::Conflict(format!("`{secret}` is used by `{user}`: take it out of there first")));
        }
        self.cluster.secrets.remove(secret);
        self.cluster.unpersist(RecordKey::Secret(secret.clone()));
        self.history.add(self.now, Subject::Secret(secret), "secret-deleted", "nothing used it");
        Ok(format!("{secret} is deleted"))
    }
}

/// Whether every secret that a spec names is there.
pub(crate) fn check(cluster: &Cluster, spec: &WorkloadSpec) -> Result<(), Refusal> {
    match content::secrets(spec).find(|(_, id)| !cluster.secrets.contains_key(id)) {
        None => Ok(()),
        Some((_, id)) => {
            let hint = format!("set it first: `wherry secret set {id}`");
            Err(unknown(cluster, &id, &hint))
        }
    }
}

fn unknown(cluster: &Cluster, secret: &SecretId, otherwise: &str) -> Refusal {
    let near = cluster.secrets.keys().filter(|other| other.namespace == secret.namespace);
    let near = near.map(|other| (distance(other.name.as_str(), secret.name.as_str()), other));
    let near = near.filter(|(distance, other)| *distance <= 1 + other.name.as_str().len() / 4).min();
    let hint = near.map_or_else(|| otherwise.to_owned(), |(_, other)| format!("did you mean `{other}`?"));
    Refusal::UnknownSecret(format!("there is no secret `{secret}`: {hint}"))
}
