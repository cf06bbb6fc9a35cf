//! `wherry logs`.

use api_client::LogQuery;
use api_types::id::{InstanceId, Name, WorkloadId};
use clap::Args;

use crate::{
    commands::{Session, name},
    failure::Failure,
    output::clean,
};

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A workload, for all its instances, or an instance
    name: String,
    /// An init step or a sidecar of it, by its name in the manifest; left out, the main container
    #[arg(short, long, value_name = "NAME", value_parser = name::<Name>)]
    container: Option<Name>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// How many of the last lines of each instance
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    tail: u32,
    /// How to show it
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Logs) -> Result<(), Failure> {
    let client = session.client()?;
    let workload = arguments.name.parse::<WorkloadId>().map_err(|error| Failure::Usage(error.problem))?;
    // A workload's name comes first; names of instances are longer than that of their workload.
    let workloads = client.workloads(None).await?.items;
    let is_workload = workloads.iter().any(|view| view.name == workload);
    let query = LogQuery { container: arguments.container.clone(), tail: arguments.tail, follow: arguments.follow };
    let mut lines = if is_workload {
        client.workload_logs(&workload, &query).await?
    } else {
        let instance = arguments.name.parse::<InstanceId>().map_err(|_| {
            let hint = "`wherry get workloads` and `wherry get instances` show what there is";
            Failure::Hinted(format!("there is no workload `{workload}`"), hint.to_owned())
        })?;
        client.instance_logs(&instance, &query).await?
    };
    while let Some(line) = lines.next().await? {
        let text = match (arguments.output.as_str(), is_workload) {
            ("json", _) => serde_json::json!(line).to_string(),
            (_, true) => format!("{}  {}", line.instance, line.text),
            (_, false) => line.text,
        };
        // Colours of a program must not reach a terminal, where they could do more; a file gets the text as it was.
        let text = if session.screen.data_terminal { clean(&text) } else { text };
        session.screen.data_raw(&(text + "\n"));
    }
    Ok(())
}
