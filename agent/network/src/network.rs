//! The adapter's face: each call runs on a thread that may block; programs, verifications and checks take turns.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use api_types::{id::InstanceId, net::Ipv6Prefix};
use tokio::sync::Semaphore;

use crate::{
    Error, Plan, Programmed, Settings, Verified, conntrack,
    family::Family,
    in_node, instance,
    kernel::{Current, Instances, Kernel, local, lock},
    mirror,
    reach::{self, Outcome, Try},
    route::Routing,
    self_check,
    sysctl::{self, Switched},
};

/// Networks made or removed at once: the kernel does one after the other anyway, and each takes a thread.
const AT_ONCE: usize = 4;
/// The longest name of a link is 15 bytes; ten are the instance's.
const PREFIX_BYTES_MAX: usize = 5;

/// The kernel's networking of one node, as far as it is ours.
#[derive(Clone, Debug)]
pub struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    kernel: Mutex<Kernel>,
    ipv6_prefix: Arc<Mutex<Option<Ipv6Prefix>>>,
    instances: Instances,
    at_once: Semaphore,
    /// The largest packet of the instances' links; the kernel's part sets it.
    mtu: Arc<AtomicU32>,
    /// Held by whoever tries ways: all share one scratch instance.
    reaching: Mutex<()>,
}

impl Network {
    /// Opens the way to the kernel, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When a setting cannot work, the caller is not root, or the kernel has no nftables.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        check(&settings)?;
        let kernel = Kernel::open(settings.clone())?;
        self_check::clean(&kernel)?;
        instance::clear_files(&settings)?;
        reach::clean(&settings)?;
        let known = instance::list(&settings, &kernel.routing)?;
        let instances = known.into_iter().filter_map(|(instance, address)| Some((instance, address?))).collect();
        let shared = Shared {
            settings,
            ipv6_prefix: Arc::clone(&kernel.ipv6_prefix),
            mtu: Arc::clone(&kernel.mtu),
            kernel: Mutex::new(kernel),
            instances: Mutex::new(instances),
            at_once: Semaphore::new(AT_ONCE),
            reaching: Mutex::new(()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where the instance's network namespace is, or will be.
    #[must_use]
    pub fn netns_path(&self, instance: &InstanceId) -> PathBuf {
        instance::netns_path(&self.shared.settings, instance.as_str())
    }

    /// Makes the instance's network namespace and its link, and gives the namespace's path. Again: changes nothing.
    ///
    /// # Errors
    /// When the kernel refuses a step; what was made is completed by the next call or removed by
    /// [`Self::remove_instance`].
    pub async fn ensure_instance(&self, instance: &InstanceId, address: Ipv4Addr) -> Result<PathBuf, Error> {
        let instance = instance.clone();
        let _turn = self.shared.at_once.acquire().await;
        self.blocking(move |shared| {
            let fit = (local(shared.settings.node_address), shared.mtu.load(Ordering::Relaxed));
            let path = instance::ensure(&shared.settings, &Routing::open()?, (instance.as_str(), address), fit)?;
            lock(&shared.instances).insert(instance.clone(), address);
            // Read after that: who makes the IPv6 half meanwhile finds the instance, or this finds the prefix.
            let ipv6_prefix = *lock(&shared.ipv6_prefix);
            if let Some(prefix) = ipv6_prefix {
                mirror::furnish(&shared.settings, &Routing::open()?, (instance.as_str(), address), prefix)?;
            }
            Ok(path)
        })
        .await
    }

    /// Books an instance that is in the node's own network, and gives the path of that. The address only keeps its place.
    /// Again: changes nothing.
    ///
    /// # Errors
    /// When the settings do not give instances the node's network, or the kernel refuses a step.
    pub async fn ensure_in_node(&self, instance: &InstanceId, address: Ipv4Addr) -> Result<PathBuf, Error> {
        let instance = instance.clone();
        let _turn = self.shared.at_once.acquire().await;
        self.blocking(move |shared| {
            let path = in_node::ensure(&shared.settings, &Routing::open()?, (instance.as_str(), address))?;
            lock(&shared.instances).insert(instance, address);
            Ok(path)
        })
        .await
    }

    /// Removes the instance's network, whatever of it is there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_instance(&self, instance: &InstanceId) -> Result<(), Error> {
        let instance = instance.clone();
        let _turn = self.shared.at_once.acquire().await;
        self.blocking(move |shared| {
            lock(&shared.instances).remove(&instance);
            instance::remove(&shared.settings, &Routing::open()?, instance.as_str())
        })
        .await
    }

    /// Lists the instances that have a network, sorted; one that is only half made has the address 0.0.0.0.
    ///
    /// # Errors
    /// When the directory or the kernel's routes cannot be read.
    pub async fn list_instances(&self) -> Result<Vec<(InstanceId, Ipv4Addr)>, Error> {
        self.blocking(|shared| {
            let found = instance::list(&shared.settings, &Routing::open()?)?;
            Ok(found.into_iter().map(|(id, address)| (id, address.unwrap_or(Ipv4Addr::UNSPECIFIED))).collect())
        })
        .await
    }

    /// The IPv6 address by which other nodes reach this one: one of the link that has the node's IPv4 address.
    ///
    /// # Errors
    /// When the kernel's addresses cannot be read.
    pub async fn ipv6_address(&self) -> Result<Option<Ipv6Addr>, Error> {
        self.blocking(|shared| mirror::address_beside(&Routing::open()?, shared.settings.node_address)).await
    }

    /// Makes the kernel equal to the plan without losing a connection, and says what could not be had.
    ///
    /// # Errors
    /// When the kernel refuses; the next call starts over.
    pub async fn program(&self, plan: &Plan) -> Result<Programmed, Error> {
        let next = Current::of(plan);
        self.blocking(move |shared| lock(&shared.kernel).program(next, &shared.instances)).await
    }

    /// Says at which port of the node's own address names are answered instead of 53; the next program or verify leads
    /// there whoever asks port 53.
    pub async fn lead_names_to(&self, port: Option<u16>) {
        self.blocking(move |shared| lock(&shared.kernel).names_port = port).await;
    }

    /// Compares the kernel with the last plan and restores what others changed. Cheap while nothing changed: meant
    /// for every two seconds. Before the first plan it does nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn verify(&self) -> Result<Verified, Error> {
        self.blocking(|shared| lock(&shared.kernel).verify(&shared.instances)).await
    }

    /// Counts the open TCP connections that each of these addresses answers, as this node's kernel saw them pass; who has none is
    /// left out.
    ///
    /// # Errors
    /// When the kernel does not list its connections.
    pub async fn count_connections(&self, addresses: BTreeSet<Ipv4Addr>) -> Result<BTreeMap<Ipv4Addr, u32>, Error> {
        self.blocking(move |shared| {
            let mirrored = lock(&shared.kernel).mirrored();
            let mut counts = BTreeMap::new();
            for family in [Some(Family::V4), mirrored].into_iter().flatten() {
                conntrack::count_open(family, &addresses, &mut counts)?;
            }
            Ok(counts)
        })
        .await
    }

    /// Makes real connections through a test service and gives a line about what was proven. Needs a plan. Takes
    /// milliseconds where balancing works, up to two seconds where it does not.
    ///
    /// # Errors
    /// A line for people: what did not work.
    pub async fn self_check(&self) -> Result<String, String> {
        self.blocking(|shared| self_check::run(&mut lock(&shared.kernel))).await
    }

    /// Tries ways as a packet would go them. What came of them is in the same order. Each takes at most two seconds, forty
    /// go at once.
    pub async fn reach(&self, tries: Vec<Try>) -> Vec<Outcome> {
        self.blocking(move |shared| {
            let _turn = lock(&shared.reaching);
            reach::try_all((&shared.settings, shared.mtu.load(Ordering::Relaxed)), &tries)
        })
        .await
    }

    /// What the kernel has otherwise than the last plan wants, for people; empty = nothing. Repairs nothing.
    ///
    /// # Errors
    /// When there is no plan yet, or the kernel refuses.
    pub async fn differences(&self) -> Result<Vec<String>, Error> {
        self.blocking(|shared| lock(&shared.kernel).differences()).await
    }

    /// Which way the kernel would send a packet of the node to this address, for people.
    ///
    /// # Errors
    /// When there is no way.
    pub async fn way_to(&self, address: IpAddr) -> Result<String, Error> {
        self.blocking(move |_| Routing::open()?.way_to(address)).await
    }

    /// The kernel's switches that were set here since the machine booted.
    pub async fn switched(&self) -> Vec<Switched> {
        self.blocking(|shared| sysctl::switched(&shared.settings.netns_dir)).await
    }

    /// Removes everything of ours: table, routes, links, namespaces. For uninstalling; a running agent never does it.
    ///
    /// # Errors
    /// When the kernel refuses; what could be removed is.
    pub async fn remove_all(&self) -> Result<(), Error> {
        self.blocking(|shared| lock(&shared.kernel).remove_all(&shared.instances)).await
    }

    /// Runs something on a thread that may block. That thread has the namespace of the one that calls.
    async fn blocking<T: Send + 'static>(&self, run: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || run(&shared)).await {
            Ok(outcome) => outcome,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }
}

fn check(settings: &Settings) -> Result<(), Error> {
    let wrong = |name, problem: &str| Err(Error::Setting { name, problem: problem.to_owned() });
    let plain =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !plain(&settings.interface_prefix) || settings.interface_prefix.len() > PREFIX_BYTES_MAX {
        return wrong("interface_prefix", "use 1 to 5 letters, digits, hyphens or underscores");
    }
    if !plain(&settings.table) {
        return wrong("table", "use letters, digits, hyphens and underscores");
    }
    if settings.node_address.is_unspecified() {
        return wrong("node_address", "use an address of this node that other nodes reach");
    }
    if !settings.netns_dir.is_absolute() {
        return wrong("netns_dir", "use an absolute path");
    }
    Ok(())
}
