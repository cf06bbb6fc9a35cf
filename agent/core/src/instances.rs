//! Every instance here: what is wanted of it, what was observed, what is in flight.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use api_types::{
    assignment::Assignment,
    container::NetworkMode,
    id::InstanceId,
    instance::{Exit, Findings, Health, InstanceState, InstanceStatus},
    job::Tries,
    time::Timestamp,
};

use crate::{
    Settings,
    attempts::{Attempt, Attempts},
    companions::Companion,
    dependencies::Waiting,
    farewell::Farewell,
    lease::Cover,
    probes::Probes,
    restart::Restart,
};

/// Why an instance is on the books.
#[derive(Clone, Debug)]
pub(crate) enum Claim {
    /// Found on the node while no assignment set is held, or only one from disk: it may be wanted, so it is left alone.
    Unclaimed,
    /// Assigned to run.
    Run(Arc<Assignment>),
    /// To end and leave nothing: told so, left out of the set, or never assigned at all. For good.
    Leave(Option<Arc<Assignment>>),
}

/// What the service tables say of an instance since it is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Listing {
    /// None listed it yet: this node knows better.
    #[default]
    Unlisted,
    /// The latest that spoke of it lists it.
    Listed,
    /// One listed it and a later one does not: the scheduler takes it out before it ends it.
    Withdrawn,
}

/// An instance's network namespace, by what is known of it.
#[derive(Clone, Debug)]
pub(crate) enum Network {
    /// Not there.
    Absent,
    /// Something of it is there, but it may not be as it should: made again before the next start.
    Doubted,
    /// `EnsureNetwork` is in flight.
    Making,
    /// It is there.
    Ready {
        /// When this program first knew; a list taken shortly before may lack it.
        known_at: Timestamp,
    },
    /// `EnsureNetwork` failed.
    Failed {
        /// Why, for people.
        reason: String,
        /// When it is tried again.
        retry_at: Timestamp,
    },
    /// `RemoveNetwork` is in flight.
    Removing,
}

/// All that is known of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// Why it is on the books.
    pub(crate) claim: Claim,
    /// Its main containers.
    pub(crate) attempts: Attempts,
    /// The containers beside the main one, by their companion's place in the assignment.
    pub(crate) companions: BTreeMap<u8, Companion>,
    /// Whether its first process here waits for other workloads.
    pub(crate) waiting: Waiting,
    /// Its network.
    pub(crate) network: Network,
    /// How often making the network failed in a row.
    pub(crate) network_failures: u32,
    /// Its address, from the first moment it is wanted until the network is gone.
    pub(crate) address: Option<Ipv4Addr>,
    /// Whether a lease covered it, where it runs by one.
    pub(crate) cover: Cover,
    /// Whether what its process is shown may be another thing than it shall be.
    pub(crate) shown_in_doubt: bool,
    /// Whether image and network were ready once: from then on it starts, it does not prepare.
    pub(crate) prepared: bool,
    /// Why no free address was found; empty otherwise.
    pub(crate) address_trouble: String,
    /// When the next attempt is due.
    pub(crate) restart: Restart,
    /// What the probes said.
    pub(crate) probes: Probes,
    /// The attempt that misses a device which it was given, and why it is missing.
    pub(crate) bereft: Option<(u32, String)>,
    /// The attempt that was given up while its process ran: until nothing of it is left, no other process is started.
    pub(crate) given_up: Option<u32>,
    /// What the service tables say of it since it is well.
    pub(crate) listing: Listing,
    /// What its last signal waits for; `None` while it shall not leave.
    pub(crate) farewell: Option<Farewell>,
    /// How its process last ended.
    pub(crate) last_exit: Option<Exit>,
    /// How often its process was tried; `None` = none of them ended yet.
    pub(crate) tries: Option<Tries>,
    /// Whether what its processes wrote may be there though its network is not.
    pub(crate) left_output: bool,
    /// Of which attempt the last lines are still to be asked for, and since when it ran.
    pub(crate) lines_wanted: Option<(u32, Timestamp)>,
    /// What the process that last ended wrote last, and which attempt that was.
    pub(crate) last_lines: Option<(u32, String)>,
    /// Why leftovers could not be removed; empty otherwise.
    pub(crate) removal_trouble: String,
    /// What people and the scheduler see.
    pub(crate) status: InstanceStatus,
    /// Whether the open session was told that status.
    pub(crate) reported: bool,
}

impl Instance {
    /// Makes an instance of which nothing is there yet.
    pub(crate) fn new(id: InstanceId, claim: Claim, now: Timestamp) -> Self {
        let status = InstanceStatus {
            instance: id,
            state: InstanceState::Assigned,
            health: Health::Unknown,
            address: None,
            pid: None,
            restarts: 0,
            last_exit: None,
            reason: String::new(),
            since: now,
            findings: Findings::default(),
        };
        Self {
            claim,
            attempts: Attempts::default(),
            companions: BTreeMap::new(),
            waiting: Waiting::default(),
            network: Network::Absent,
            network_failures: 0,
            address: None,
            cover: Cover::Awaited(now),
            shown_in_doubt: false,
            prepared: false,
            address_trouble: String::new(),
            restart: Restart::default(),
            probes: Probes::default(),
            bereft: None,
            given_up: None,
            listing: Listing::default(),
            farewell: None,
            last_exit: None,
            tries: None,
            left_output: false,
            lines_wanted: None,
            last_lines: None,
            removal_trouble: String::new(),
            status,
            reported: false,
        }
    }

    /// Where it is reached: at its own address, or at the node's if it is in the node's network.
    pub(crate) fn reached_at(&self, settings: &Settings) -> Option<Ipv4Addr> {
        match self.assignment().map(|assignment| assignment.container.network) {
            Some(NetworkMode::Host) => self.address.and(settings.node_address),
            Some(NetworkMode::Own | NetworkMode::Published) | None => self.address,
        }
    }

    /// The assignment, if it was ever assigned.
    pub(crate) fn assignment(&self) -> Option<&Arc<Assignment>> {
        match &self.claim {
            Claim::Run(assignment) | Claim::Leave(Some(assignment)) => Some(assignment),
            Claim::Unclaimed | Claim::Leave(None) => None,
        }
    }

    /// The attempt that is alive.
    pub(crate) fn alive(&self) -> Option<(u32, &Attempt)> {
        self.attempts.alive()
    }

    /// The attempt whose process runs, with its process id.
    pub(crate) fn running(&self) -> Option<(u32, u32)> {
        match self.alive()? {
            (number, Attempt::Running { pid, .. }) => Some((number, *pid)),
            (_, Attempt::Starting | Attempt::Stopping { .. } | Attempt::Ended)
            | (_, Attempt::Removing { .. } | Attempt::RemovalFailed { .. }) => None,
        }
    }

    /// The attempt whose process runs, and since when.
    pub(crate) fn running_since(&self) -> Option<(u32, Timestamp)> {
        self.attempts.running_since()
    }

    /// Why the process that runs misses a device; empty when it has all that it was given.
    pub(crate) fn device_trouble(&self) -> &str {
        match (&self.bereft, self.running()) {
            (Some((attempt, trouble)), Some((running, _))) if *attempt == running => trouble,
            (Some(_) | None, _) => "",
        }
    }

    /// Whether a process may be started: none is there, may come, or was given up and may still be there.
    pub(crate) fn has_no_process(&self) -> bool {
        self.alive().is_none() && self.given_up.is_none_or(|attempt| !self.attempts.held.contains_key(&attempt))
    }

    /// Whether it is assigned to run.
    pub(crate) fn shall_run(&self) -> bool {
        matches!(self.claim, Claim::Run(_))
    }

    /// Whether one that shall leave is asked for want of others: it was taken over, and the table that names its successor
    /// may not have come to disk, as the order to end it did. A table that was `heard` settles that, and so does time.
    pub(crate) fn may_be_asked(&self, heard: bool, now: Timestamp) -> bool {
        self.probes.adopted && !heard && self.farewell.is_none_or(|farewell| farewell.may_be_asked(now))
    }

    /// Has it end and leave nothing, for good.
    pub(crate) fn leave(&mut self) {
        match &self.claim {
            Claim::Unclaimed => self.claim = Claim::Leave(None),
            Claim::Run(held) => self.claim = Claim::Leave(Some(held.clone())),
            Claim::Leave(_) => {}
        }
    }

    /// Whether it is to end and leave nothing.
    pub(crate) fn shall_leave(&self) -> bool {
        matches!(self.claim, Claim::Leave(_))
    }
}
