//! `wherry-scheduler init`: makes a cluster, all or nothing, and says what to do next.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use api_daemon::{durable_file, identity::token::TokenError};
use api_server::control_plane::Role;
use thiserror::Error;

use crate::{
    clock,
    config::Config,
    identity::{
        authority::{self, Authority, AuthorityError},
        records::{AUTHORITY_KEY, CLUSTER_KEY, ClusterRecord, SERVER_KEY},
        tokens,
    },
    store::{Store, StoreError, Write},
};

/// Why no cluster was made.
#[derive(Debug, Error)]
pub enum InitError {
    /// Somebody's context is there.
    #[error("{0} exists already: move it away, or name another file with `--context`")]
    ContextExists(PathBuf),
    /// Nobody says where the context file goes.
    #[error("HOME is not set: name the administrator's context file with `--context`")]
    NoHome,
    /// The context file cannot be written.
    #[error("cannot write {path}")]
    Context {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The token cannot be made.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Makes a cluster; gives what to tell the person.
///
/// # Errors
/// When there is one already, or something cannot be written; then nothing is left behind.
pub fn init(config: &Config, context: Option<PathBuf>) -> Result<String, InitError> {
    let context = context.map_or_else(default_context, Ok)?;
    if context.exists() {
        return Err(InitError::ContextExists(context));
    }
    let now = clock::wall_now();
    let cluster = ClusterRecord {
        id: authority::cluster_id()?,
        created_at: now,
        cluster_range: config.network.cluster_range,
        service_range: config.network.service_range,
    };
    let authority_record = Authority::create(&cluster.id, now)?;
    let authority = Authority::load(&cluster.id, &authority_record)?;
    let (token, token_write) = tokens::new_api_token(Role::Admin)?;
    let first = [
        Write::put(CLUSTER_KEY.to_owned(), &cluster),
        Write::put(AUTHORITY_KEY.to_owned(), &authority_record),
        Write::put(SERVER_KEY.to_owned(), &authority.issue_server(now)?),
        token_write,
    ];
    let text = context_text(&config.api_address(), &token.to_string(), authority.certificate());
    // The token is shown nowhere else: it must be on disk before the cluster is.
    let draft = write_draft(&context, &text).map_err(|source| InitError::Context { path: context.clone(), source })?;
    if let Err(error) = Store::create(&config.state.dir, &first) {
        // A draft that stays is overwritten by the next try.
        fs::remove_file(&draft).ok();
        return Err(error.into());
    }
    fs::rename(&draft, &context).map_err(|source| InitError::Context { path: context.clone(), source })?;
    Ok(next_steps(&cluster.id, config, &context))
}

fn default_context() -> Result<PathBuf, InitError> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).ok_or(InitError::NoHome)?;
    Ok(Path::new(&home).join(".config/wherry/config.toml"))
}

fn context_text(server: &str, token: &str, ca: &str) -> String {
    format!(
        "# Written by `wherry-scheduler init`. The token in here is the cluster's administrator: keep it to yourself.\n\
         current = \"default\"\n\n[context.default]\nserver = \"{server}\"\ntoken = \"{token}\"\n\
         ca = \"\"\"\n{}\n\"\"\"\n",
        ca.trim()
    )
}

fn write_draft(context: &Path, text: &str) -> io::Result<PathBuf> {
    if let Some(directory) = context.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    durable_file::draft(context, text.as_bytes())
}

fn next_steps(cluster: &str, config: &Config, context: &Path) -> String {
    let warning = config.loopback_warning().map(|text| format!("\nWarning: {text}.\n")).unwrap_or_default();
    format!(
        "The cluster {cluster} is made in {state}.\n\
         You are its administrator by {context}.\n\
         \n\
         Start the scheduler (it listens on {api} for people and joining nodes, on {session} for agents):\n\
         \x20   systemctl enable --now wherry-scheduler      or: wherry-scheduler run\n\
         Add a node; this prints the command to run on that machine:\n\
         \x20   wherry node add edge-1\n\
         Then:\n\
         \x20   wherry get nodes\n\
         \x20   wherry apply -f hello.toml\n{warning}",
        state = config.state.dir.display(),
        context = context.display(),
        api = config.api_address(),
        session = config.session_address(),
    )
}
