//! Tokens that people and joining nodes show: kept as hashes, compared in constant time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard},
};

use api_daemon::identity::{
    pin::Pin,
    token::{ApiToken, JoinToken, Secret, TokenError},
};
use api_server::control_plane::{Role, Subject};
use api_types::{id::NodeId, join::NodeTokenRequest, time::Timestamp};
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::records::{API_TOKEN_PREFIX, ApiTokenRecord, JOIN_TOKEN_PREFIX, JoinTokenRecord};
use crate::store::Write;

/// How long a join token is good unless said otherwise, in milliseconds: one hour.
const LIFETIME_MS: u64 = 60 * 60 * 1000;
/// How long a join token may be good, in milliseconds: 30 days.
const LIFETIME_MS_MAX: u64 = 30 * 24 * LIFETIME_MS;
/// How many nodes a join token may let in.
const USES_MAX: u32 = 10_000;
/// How many refused joins are explained in a minute; a valid token always passes.
const REFUSALS_PER_MINUTE_MAX: usize = 20;
const MINUTE_MS: u64 = 60 * 1000;

/// Why a token was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TokenRefusal {
    /// It is not a token at all.
    #[error(transparent)]
    Form(#[from] TokenError),
    /// Of another cluster.
    #[error("this token belongs to another cluster")]
    OtherCluster,
    /// No such token, or a wrong secret: which of the two is nobody's business.
    #[error("this token is not known here")]
    Unknown,
    /// Its time is over.
    #[error("this token has expired")]
    Expired,
    /// It let in as many nodes as it may.
    #[error("this token is used up")]
    UsedUp,
    /// Bound to another name.
    #[error("this token is for the node `{bound}`, not for `{asked}`")]
    WrongName {
        /// The name it is bound to.
        bound: NodeId,
        /// The name that was asked for.
        asked: String,
    },
    /// The name is not one.
    #[error("{0}")]
    BadName(String),
    /// The name is taken, and the token is not bound to it.
    #[error("there is a node `{0}` already")]
    NameTaken(NodeId),
    /// Too many wrong tokens lately.
    #[error("too many wrong tokens were shown in the last minute")]
    TooMany,
}

/// What a new node gets by its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its name.
    pub(crate) node: NodeId,
    /// Its site.
    pub(crate) site: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// The token's id.
    pub(crate) token: String,
    /// Whether a use was taken; not if the answer to an earlier try was lost.
    pub(crate) counted: bool,
    /// The token, with one use less; durable together with the node.
    pub(crate) write: Write,
}

/// All tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    pin: Pin,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    api: BTreeMap<String, ApiTokenRecord>,
    join: BTreeMap<String, JoinTokenRecord>,
    refused_at: VecDeque<Timestamp>,
}

impl Tokens {
    /// Begins with what is durable; `pin` is that of the cluster's authority.
    pub(crate) fn new(
        pin: Pin,
        api: BTreeMap<String, ApiTokenRecord>,
        join: BTreeMap<String, JoinTokenRecord>,
    ) -> Self {
        Self { pin, inner: Mutex::new(Inner { api, join, refused_at: VecDeque::new() }) }
    }

    /// Who holds this token of the API.
    pub(crate) fn subject(&self, token: &str, now: Timestamp) -> Result<Subject, TokenRefusal> {
        let token: ApiToken = token.parse()?;
        let inner = self.lock();
        let record = inner.api.get(&token.id);
        let matches = same_secret(record.map(|record| record.secret_sha256.as_str()), &token.secret);
        let record = record.filter(|_| matches).ok_or(TokenRefusal::Unknown)?;
        if record.expires_at.is_some_and(|end| end <= now) {
            return Err(TokenRefusal::Expired);
        }
        let role = role_of(&record.role).ok_or(TokenRefusal::Unknown)?;
        Ok(Subject { token: token.id, role })
    }

    /// Makes a join token: the token to show once, when it ends, and what must be durable before that.
    pub(crate) fn prepare_join(
        &self,
        request: NodeTokenRequest,
        now: Timestamp,
    ) -> Result<(JoinToken, JoinTokenRecord, Vec<Write>), String> {
        let lifetime_ms = request.lifetime_ms.unwrap_or(LIFETIME_MS);
        if lifetime_ms == 0 || lifetime_ms > LIFETIME_MS_MAX {
            return Err("a join token is good for at most 30 days, and at least a millisecond".to_owned());
        }
        let uses_left = request.uses.unwrap_or(1);
        if uses_left == 0 || uses_left > USES_MAX {
            return Err(format!("a join token lets in 1 to {USES_MAX} nodes, not {uses_left}"));
        }
        if request.name.is_some() && uses_left > 1 {
            return Err("a join token that is bound to a name lets in one node".to_owned());
        }
        let token = JoinToken::generate(self.pin).map_err(|error| error.to_string())?;
        let record = JoinTokenRecord {
            secret_sha256: HEXLOWER.encode(&token.secret.sha256()),
            expires_at: now + lifetime_ms,
            uses_left,
            name: request.name,
            site: request.site.unwrap_or_else(|| "default".to_owned()),
            labels: request.labels,
        };
        let mut writes = vec![Write::put(join_key(&token.id), &record)];
        writes.extend(self.drop_expired(now));
        Ok((token, record, writes))
    }

    /// Takes up a join token that is durable.
    pub(crate) fn keep_join(&self, id: String, record: JoinTokenRecord) {
        self.lock().join.insert(id, record);
    }

    /// Takes one use of a join token. `known` says whether a node of that name is registered, and whether by this
    /// very token and key: then the answer to an earlier try was lost, and the try is free.
    pub(crate) fn take(
        &self,
        token: &str,
        name: &str,
        known: impl FnOnce(&NodeId, &str) -> Known,
        now: Timestamp,
    ) -> Result<Entry, TokenRefusal> {
        let mut inner = self.lock();
        let taken = inner.take(self.pin, token, name, known, now);
        if taken.is_err() && !inner.may_explain(now) {
            return Err(TokenRefusal::TooMany);
        }
        taken
    }

    /// Gives a use back: the node was refused for another reason.
    pub(crate) fn give_back(&self, token: &str) {
        if let Some(record) = self.lock().join.get_mut(token) {
            record.uses_left += 1;
        }
    }

    fn drop_expired(&self, now: Timestamp) -> Vec<Write> {
        // A day later nobody wonders any more why a token is refused.
        let forgotten = |record: &JoinTokenRecord| record.expires_at + 24 * LIFETIME_MS < now;
        let mut inner = self.lock();
        let ids: Vec<String> =
            inner.join.iter().filter(|(_, record)| forgotten(record)).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            inner.join.remove(id);
        }
        ids.iter().map(|id| Write::remove(join_key(id))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics while holding it")
    }
}

/// What is known of a name that a joining node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    No,
    /// A node has it.
    Taken,
    /// A node has it, which joined by this very token and key.
    SameNode,
}

impl Inner {
    fn take(
        &mut self,
        pin: Pin,
        token: &str,
        name: &str,
        known: impl FnOnce(&NodeId, &str) -> Known,
        now: Timestamp,
    ) -> Result<Entry, TokenRefusal> {
        let token: JoinToken = token.parse()?;
        if token.pin != pin {
            return Err(TokenRefusal::OtherCluster);
        }
        let record = self.join.get_mut(&token.id);
        let matches = same_secret(record.as_ref().map(|record| record.secret_sha256.as_str()), &token.secret);
        let record = record.filter(|_| matches).ok_or(TokenRefusal::Unknown)?;
        if record.expires_at <= now {
            return Err(TokenRefusal::Expired);
        }
        let node = match &record.name {
            Some(bound) if name.is_empty() || name == bound.as_str() => bound.clone(),
            Some(bound) => return Err(TokenRefusal::WrongName { bound: bound.clone(), asked: shown(name) }),
            None => NodeId::new(name).map_err(|error| TokenRefusal::BadName(error.problem))?,
        };
        let known = known(&node, &token.id);
        let counted = known != Known::SameNode;
        if counted {
            if record.uses_left == 0 {
                return Err(TokenRefusal::UsedUp);
            }
            if known == Known::Taken && record.name.is_none() {
                return Err(TokenRefusal::NameTaken(node));
            }
            record.uses_left -= 1;
        }
        let write = Write::put(join_key(&token.id), &*record);
        Ok(Entry { node, site: record.site.clone(), labels: record.labels.clone(), token: token.id, counted, write })
    }

    fn may_explain(&mut self, now: Timestamp) -> bool {
        while self.refused_at.front().is_some_and(|&at| at + MINUTE_MS < now) {
            self.refused_at.pop_front();
        }
        if self.refused_at.len() >= REFUSALS_PER_MINUTE_MAX {
            return false;
        }
        self.refused_at.push_back(now);
        true
    }
}

/// Makes a token of the API and what must be durable before it is shown.
pub(crate) fn new_api_token(role: Role) -> Result<(ApiToken, Write), TokenError> {
    let token = ApiToken::generate()?;
    let record = ApiTokenRecord {
        secret_sha256: HEXLOWER.encode(&token.secret.sha256()),
        role: role_word(role).to_owned(),
        expires_at: None,
    };
    let write = Write::put(format!("{API_TOKEN_PREFIX}{}", token.id), &record);
    Ok((token, write))
}

fn join_key(id: &str) -> String {
    format!("{JOIN_TOKEN_PREFIX}{id}")
}

fn same_secret(kept: Option<&str>, shown: &Secret) -> bool {
    let shown = HEXLOWER.encode(&shown.sha256());
    // An unknown id takes as long as a wrong secret.
    let compared = kept.unwrap_or("0000000000000000000000000000000000000000000000000000000000000000");
    bool::from(compared.as_bytes().ct_eq(shown.as_bytes())) && kept.is_some()
}

fn shown(name: &str) -> String {
    name.chars().take(80).collect::<String>().escape_debug().to_string()
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Deployer => "deployer",
        Role::Operator => "operator",
        Role::Admin => "admin",
    }
}

fn role_of(word: &str) -> Option<Role> {
    [Role::Viewer, Role::Deployer, Role::Operator, Role::Admin].into_iter().find(|&role| role_word(role) == word)
}
