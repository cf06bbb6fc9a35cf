//! Makes and removes the networks of instances.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use agent_core::input::Input;
use api_types::{container::NetworkMode, id::InstanceId};
use tokio::time::sleep;

use super::Tools;

const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

pub(super) async fn ensure(tools: Tools, network: NetworkMode, instance: InstanceId, address: Ipv4Addr) {
    let outcome = match network {
        NetworkMode::Own | NetworkMode::Published => tools.network.ensure_instance(&instance, address).await,
        NetworkMode::Host => tools.network.ensure_in_node(&instance, address).await,
    };
    tools
        .tell(match outcome {
            Ok(_) => Input::NetworkReady { instance },
            Err(error) => {
                tracing::warn!(%instance, %error, "no network");
                Input::NetworkFailed { instance, reason: error.to_string() }
            }
        })
        .await;
}

/// Removes the network, however often it takes; unless it is kept, the instance's output goes too, as the last of it.
pub(super) async fn remove(tools: Tools, instance: InstanceId, keeps_output: bool) {
    let mut pause = PAUSE_MIN;
    while let Err(error) = tools.network.remove_instance(&instance).await {
        tracing::warn!(%instance, %error, "the network cannot be removed");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    if !keeps_output && let Err(error) = tools.containerd.forget(&instance) {
        tracing::warn!(%instance, %error, "its files cannot be removed");
    }
    tools.tell(Input::NetworkRemoved { instance }).await;
}

/// Counts who is still connected to instances that are to end.
pub(super) async fn count_connections(tools: Tools, instances: Vec<(InstanceId, Ipv4Addr)>) {
    let addresses: BTreeSet<Ipv4Addr> = instances.iter().map(|(_, address)| *address).collect();
    let counted = tools.network.count_connections(addresses).await;
    let open = match counted {
        Ok(open) => Ok(instances
            .into_iter()
            .map(|(instance, address)| (instance, open.get(&address).copied().unwrap_or_default()))
            .collect()),
        Err(error) => {
            tracing::warn!(%error, "open connections cannot be counted: instances wait for their whole drain time");
            Err(error.to_string())
        }
    };
    tools.tell(Input::ConnectionsCounted { open }).await;
}
