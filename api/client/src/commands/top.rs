//! `wherry top`: what nodes and instances use.

use clap::{Args, ValueEnum};

use crate::{
    commands::Session,
    failure::Failure,
    output::{
        amounts::{bytes, cpus, percent},
        table::table,
    },
};

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Of what
    #[arg(value_enum, default_value_t = Kind::Nodes)]
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    #[value(alias = "node")]
    Nodes,
    #[value(alias = "instance")]
    Instances,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Top) -> Result<(), Failure> {
    let client = session.client()?;
    let text = match arguments.kind {
        Kind::Nodes => {
            let row = |node: &api_types::view::NodeView| {
                let capacity = &node.facts.capacity;
                vec![
                    node.name.to_string(),
                    cpus(node.usage.cpu_millis),
                    percent(node.usage.cpu_millis, capacity.cpu_millis),
                    bytes(node.usage.memory_bytes),
                    percent(node.usage.memory_bytes, capacity.memory_bytes),
                    bytes(node.usage.disk_free_bytes),
                    node.instances.to_string(),
                ]
            };
            let rows: Vec<Vec<String>> = client.nodes(None).await?.items.iter().map(row).collect();
            table(&["NODE", "CPU", "CPU%", "MEMORY", "MEMORY%", "DISK-FREE", "INSTANCES"], &rows)
        }
        Kind::Instances => {
            let mut instances = client.instances(None).await?.items;
            instances.retain(|instance| instance.pid.is_some());
            instances.sort_by_key(|instance| std::cmp::Reverse(instance.usage.cpu_millis));
            let row = |instance: &api_types::view::InstanceView| {
                vec![
                    instance.name.clone(),
                    instance.node.as_ref().map(ToString::to_string).unwrap_or_default(),
                    cpus(instance.usage.cpu_millis),
                    bytes(instance.usage.memory_bytes),
                    instance.usage.pids.to_string(),
                ]
            };
            let rows: Vec<Vec<String>> = instances.iter().map(row).collect();
            table(&["INSTANCE", "NODE", "CPU", "MEMORY", "PROCESSES"], &rows)
        }
    };
    session.screen.data(&text);
    Ok(())
}
