//! `wherry run`: one job for one command, shown until it ends.

mod watch;

use std::fmt::Write as _;

use api_client::ClientError;
use api_types::{counter::Revision, error::ValidationError, id::WorkloadId};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::watch::Outcome;
use crate::{
    commands::{Session, duration_ms, relay::wanted_terminal},
    failure::{Failure, code},
    output::amounts::now,
};

/// Run a command on some node until it ends, and show what it writes
///
/// It is a job of its own, deleted when it ended; the exit code is that of its process. Ctrl-C and SIGTERM end it. With `--detach` it
/// goes on by itself and stays until `wherry delete`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The image
    image: String,
    /// What the job is called, `NAME` or `NAMESPACE/NAME` [default: run- and a number]
    #[arg(long)]
    name: Option<String>,
    /// Do not wait until it ends
    #[arg(short, long)]
    detach: bool,
    /// Do not delete the job when it ended
    #[arg(long, conflicts_with = "detach")]
    keep: bool,
    /// Send what this program reads to its process, once that runs
    #[arg(short, long)]
    interactive: bool,
    /// Give its process a terminal. Ctrl-P Ctrl-Q leave it: then the job goes on, as with `--detach`
    #[arg(short = 't', long)]
    tty: bool,
    /// A variable for it, NAME=VALUE
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// What its node must meet, such as "arch == arm64" or "node == edge-1"
    #[arg(long, value_name = "RULE")]
    require: Vec<String>,
    /// How often it is tried again when it fails
    #[arg(long, default_value_t = 0)]
    retries: u32,
    /// After how long it is ended and counts as failed
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    deadline: Option<u64>,
    /// What it is promised and may use at most, such as "128MiB .. 256MiB"
    #[arg(long, value_name = "AMOUNT")]
    memory: Option<String>,
    /// The same of the processor, such as "0.25 .. 1"
    #[arg(long, value_name = "AMOUNT")]
    cpu: Option<String>,
    /// Replaces the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Replaces the image's arguments, after `--`
    #[arg(last = true, value_name = "ARGUMENTS")]
    args: Vec<String>,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Run) -> Result<(), Failure> {
    let name = arguments.name.clone().unwrap_or_else(|| format!("run-{:x}", now().0));
    let id: WorkloadId = name.parse().map_err(|error: ValidationError| Failure::Usage(error.problem))?;
    let manifest = manifest(&id, arguments)?;
    api_manifest::parse(&manifest).map_err(|faults| Failure::Manifest {
        file: "the command line".to_owned(),
        text: manifest.clone(),
        faults,
    })?;
    let terminal = wanted_terminal(arguments.tty && !arguments.detach)?;
    let client = session.client()?;
    let mut terminated = signal(SignalKind::terminate())
        .map_err(|error| Failure::Other(format!("SIGTERM cannot be waited for: {error}")))?;
    // A name that is taken is not taken over: no workload is at revision 0.
    client.apply(&manifest, Some(Revision(0))).await.map_err(|error| taken(error, &id))?;
    if arguments.detach {
        session.screen.data(&id.to_string());
        tell_how_to_go_on(session, &id);
        return Ok(());
    }
    let outcome = tokio::select! {
        outcome = watch::until_ended(session, &client, &id, (arguments.interactive, terminal)) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Said(code::INTERRUPTED)),
        _ = terminated.recv() => Err(Failure::Said(code::INTERRUPTED)),
    };
    if matches!(outcome, Ok(Outcome::Left)) {
        session.screen.say(&format!("{id} goes on"));
        tell_how_to_go_on(session, &id);
        return Ok(());
    }
    let interrupted = matches!(outcome, Err(Failure::Said(code::INTERRUPTED)));
    if !arguments.keep || interrupted {
        client.delete(&id).await?;
    }
    match outcome? {
        Outcome::Ended(0) | Outcome::Left => Ok(()),
        Outcome::Ended(code) => Err(Failure::Said(code)),
    }
}

fn tell_how_to_go_on(session: &Session<'_>, id: &WorkloadId) {
    session.screen.say(&format!("  output:  wherry logs -f {id}"));
    session.screen.say(&format!("  remove:  wherry delete {id}"));
}

/// Says what a conflict means here.
fn taken(error: ClientError, id: &WorkloadId) -> Failure {
    if matches!(&error, ClientError::Refused(problem) if problem.status == 409) {
        return Failure::Ended(format!("there is a workload `{id}` already: choose another --name"), code::CONFLICT);
    }
    error.into()
}

/// The job in the words of a manifest: it is read, and refused, like any other.
fn manifest(id: &WorkloadId, arguments: &Run) -> Result<String, Failure> {
    let mut text = format!("namespace = {}\n", quoted(id.namespace.as_str()));
    let mut line = |key: &str, value: String| writeln!(text, "{key} = {value}").expect("a text takes all");
    line(&format!("[job.{}]\nimage", id.name), quoted(&arguments.image));
    if let Some(entrypoint) = &arguments.entrypoint {
        line("command", list(std::slice::from_ref(entrypoint)));
    }
    for (key, is_wanted) in [("stdin", arguments.interactive), ("tty", arguments.tty)] {
        if is_wanted {
            line(key, true.to_string());
        }
    }
    if !arguments.args.is_empty() {
        line("args", list(&arguments.args));
    }
    line("retries", arguments.retries.to_string());
    if let Some(deadline_ms) = arguments.deadline {
        line("deadline", quoted(&format!("{deadline_ms}ms")));
    }
    if !arguments.require.is_empty() {
        line("place", format!("{{ require = {} }}", list(&arguments.require)));
    }
    let amounts = [("cpu", &arguments.cpu), ("memory", &arguments.memory)];
    let amounts: Vec<String> =
        amounts.iter().filter_map(|(key, amount)| Some(format!("{key} = {}", quoted(amount.as_ref()?)))).collect();
    if !amounts.is_empty() {
        line("resources", format!("{{ {} }}", amounts.join(", ")));
    }
    let mut variables = Vec::new();
    for variable in &arguments.env {
        let (name, value) = variable
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| Failure::Usage(format!("`{variable}` is not a variable: write --env NAME=VALUE")))?;
        variables.push(format!("{} = {}", quoted(name), quoted(value)));
    }
    if !variables.is_empty() {
        line("env", format!("{{ {} }}", variables.join(", ")));
    }
    Ok(text)
}

fn list(words: &[String]) -> String {
    format!("[{}]", words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML 1.0.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            character if character.is_control() => {
                write!(quoted, "\\U{:08x}", u32::from(character)).expect("a text takes all");
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use api_types::{id::Name, workload::WorkloadKind};

    use super::*;

    #[test]
    fn what_was_said_is_what_is_asked_for() {
        let arguments = Run {
            image: "registry.lan/app:1".to_owned(),
            name: None,
            detach: false,
            keep: false,
            interactive: true,
            tty: true,
            env: vec!["A=b=c".to_owned(), "Q=\"\\\u{1b}".to_owned()],
            require: vec!["node == edge-1".to_owned()],
            retries: 2,
            deadline: Some(90_000),
            memory: Some("64MiB .. 128MiB".to_owned()),
            cpu: None,
            entrypoint: Some("/bin/sh".to_owned()),
            args: vec!["-c".to_owned(), "echo \"$A\"\nexit 3".to_owned()],
        };
        let id = WorkloadId { namespace: Name::new("shop").expect("a name"), name: Name::new("once").expect("a name") };

        let text = manifest(&id, &arguments).expect("sound");

        let read = api_manifest::parse(&text).expect("a manifest without faults").workloads.remove(0);
        assert_eq!(read.id, id);
        assert_eq!(read.container.command, Some(vec!["/bin/sh".to_owned()]));
        assert_eq!(read.container.args, Some(arguments.args.clone()));
        assert_eq!(read.container.env.get("Q").map(String::as_str), Some("\"\\\u{1b}"));
        assert_eq!(read.container.env.get("A").map(String::as_str), Some("b=c"));
        assert!(read.container.stdin && read.container.tty);
        let WorkloadKind::Job(job) = read.kind else { panic!("not a job: {read:?}") };
        assert_eq!((job.retries, job.deadline_ms), (2, Some(90_000)));
        assert!(manifest(&id, &Run { env: vec!["=b".to_owned()], ..arguments }).is_err());
    }
}
