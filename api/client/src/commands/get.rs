//! `wherry get`: lists, once or as they change.

use std::collections::BTreeMap;

use api_client::{Client, ClientError};
use api_types::{time::Timestamp, view::List};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::{
    commands::Session,
    failure::Failure,
    output::{Screen, amounts::now, columns::Listed, jobs::JobLine, live::Live, table::table_within},
};

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// What to list
    #[arg(value_enum)]
    kind: Kind,
    /// Only these
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Go on showing changes
    #[arg(short, long)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    #[value(alias = "node")]
    Nodes,
    #[value(alias = "service")]
    Services,
    #[value(alias = "daemon")]
    Daemons,
    #[value(alias = "job")]
    Jobs,
    #[value(alias = "workload")]
    Workloads,
    #[value(alias = "instance")]
    Instances,
    #[value(alias = "event")]
    Events,
    #[value(alias = "volume")]
    Volumes,
    #[value(alias = "site")]
    Sites,
    #[value(alias = "secret")]
    Secrets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The most important columns
    Table,
    /// All columns
    Wide,
    /// The objects of the API; with --watch, one a line
    Json,
    /// Names only
    Name,
}

impl Get {
    /// Lists secrets, once.
    pub(crate) fn secrets(names: Vec<String>, output: Format) -> Self {
        Self { kind: Kind::Secrets, names, output, watch: false }
    }
}

impl Kind {
    /// As on the command line.
    fn word(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Services => "services",
            Self::Daemons => "daemons",
            Self::Jobs => "jobs",
            Self::Workloads => "workloads",
            Self::Instances => "instances",
            Self::Events => "events",
            Self::Volumes => "volumes",
            Self::Sites => "sites",
            Self::Secrets => "secrets",
        }
    }
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Get) -> Result<(), Failure> {
    let client = &session.client()?;
    let (screen, asked) = (session.screen, arguments);
    match arguments.kind {
        Kind::Nodes => list(screen, asked, async |after| client.nodes(after).await).await,
        Kind::Services => list(screen, asked, async |after| client.services(after).await).await,
        Kind::Daemons => list(screen, asked, async |after| client.daemons(after).await).await,
        Kind::Jobs => list(screen, asked, async |after| jobs(client, after).await).await,
        Kind::Workloads => list(screen, asked, async |after| client.workloads(after).await).await,
        Kind::Instances => list(screen, asked, async |after| client.instances(after).await).await,
        Kind::Events => list(screen, asked, async |after| client.events(after).await).await,
        Kind::Volumes => list(screen, asked, async |after| client.volumes(after).await).await,
        Kind::Secrets => list(screen, asked, async |after| client.secrets(after).await).await,
        Kind::Sites => list(screen, asked, async |after| client.sites(after).await).await,
    }
}

async fn jobs(client: &Client, after: Option<u64>) -> Result<List<JobLine>, ClientError> {
    let List { version, items } = client.jobs(after).await?;
    Ok(List { version, items: items.into_iter().map(JobLine).collect() })
}

async fn list<T: Listed + Serialize>(
    screen: &Screen,
    asked: &Get,
    fetch: impl AsyncFn(Option<u64>) -> Result<List<T>, ClientError>,
) -> Result<(), Failure> {
    let mut list = fetch(None).await?;
    retain(&mut list, asked.kind, &asked.names)?;
    if !asked.watch {
        show(screen, asked, &list);
        return Ok(());
    }
    let mut watch = Watch::default();
    loop {
        watch.show(screen, asked.output, &list, now());
        list = fetch(Some(list.version)).await?;
        // A thing that is not there any more is no reason to stop watching.
        list.items.retain(|item| asked.names.is_empty() || asked.names.contains(&item.name()));
    }
}

/// Keeps what was asked for; a name that is not there is an error.
fn retain<T: Listed>(list: &mut List<T>, kind: Kind, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let missing = names.iter().find(|name| !list.items.iter().any(|item| item.name() == **name));
    list.items.retain(|item| names.contains(&item.name()));
    match missing {
        Some(name) => Err(Failure::Hinted(
            format!("there is no {} `{name}`", kind.word().trim_end_matches('s')),
            format!("`wherry get {}` shows what there is", kind.word()),
        )),
        None => Ok(()),
    }
}

fn show<T: Listed + Serialize>(screen: &Screen, asked: &Get, list: &List<T>) {
    match asked.output {
        Format::Json => screen.data(&format!("{:#}\n", serde_json::json!(list))),
        Format::Name => list.items.iter().for_each(|item| screen.data(&item.name())),
        Format::Table => screen.data(&lines(Format::Table, screen.width, &list.items, now())),
        Format::Wide => screen.data(&lines(Format::Wide, None, &list.items, now())),
    }
    if list.items.is_empty() && asked.output != Format::Json {
        screen.say(&format!("there are no {}", asked.kind.word()));
    }
}

fn lines<T: Listed>(format: Format, width: Option<usize>, items: &[T], now: Timestamp) -> String {
    let wide = format == Format::Wide;
    let rows: Vec<Vec<String>> = items.iter().map(|item| item.row(wide, now)).collect();
    if rows.is_empty() { String::new() } else { table_within(width, &T::headers(wide), &rows) }
}

/// What a watch showed so far.
#[derive(Debug, Default)]
struct Watch {
    live: Live,
    /// What was last shown of each item.
    said: BTreeMap<String, String>,
}

impl Watch {
    /// On a terminal the table is drawn anew; elsewhere each changed item is a line.
    fn show<T: Listed + Serialize>(&mut self, screen: &Screen, format: Format, list: &List<T>, now: Timestamp) {
        let table = matches!(format, Format::Table | Format::Wide);
        if table && screen.data_terminal && screen.talk_terminal {
            let text = lines(format, None, &list.items, now);
            self.live.draw(screen, &text.lines().map(str::to_owned).collect::<Vec<_>>());
            return;
        }
        let changed: Vec<&T> = list.items.iter().filter(|item| self.is_new(format, *item)).collect();
        for item in changed {
            match format {
                Format::Json => screen.data(&format!("{}\n", serde_json::json!(item))),
                Format::Name => screen.data(&item.name()),
                Format::Table | Format::Wide => screen.data(&item.row(format == Format::Wide, now).join("  ")),
            }
        }
    }

    fn is_new<T: Listed + Serialize>(&mut self, format: Format, item: &T) -> bool {
        // At the time zero all ages are the same, so a row differs only when something happened.
        let now = match format {
            Format::Json => serde_json::json!(item).to_string(),
            Format::Name => item.name(),
            Format::Table | Format::Wide => item.row(format == Format::Wide, Timestamp(0)).join(" "),
        };
        let key = item.identity();
        if self.said.get(&key) == Some(&now) {
            return false;
        }
        self.said.insert(key, now);
        true
    }
}
