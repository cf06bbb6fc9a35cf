//! What containerd and the kernel have, against the books: what runs as assigned is adopted, what is gone is booked as gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{id::InstanceId, instance::Exit, time::Timestamp};

use crate::{
    Settings,
    input::{ObservedContainer, ObservedNetwork, ObservedProcess},
    instances::{Attempt, Claim, Instance, Network},
    machine::{Agent, Runtime},
};

/// How to read one list.
struct Reading<'a> {
    settings: &'a Settings,
    now: Timestamp,
    /// Whether the connection is new: then no answer to an earlier wish can be counted on, and the list is the whole truth.
    /// Otherwise answers that came while it was made may be ahead of it.
    settles: bool,
}

impl Agent {
    /// Brings the books in line with a list.
    pub(crate) fn observed(&mut self, now: Timestamp, containers: &[ObservedContainer], networks: &[ObservedNetwork]) {
        let settles = self.runtime != Runtime::Present;
        self.runtime = Runtime::Present;
        // What ended before the first list arrived may be alive in it.
        let asked = self.look_again_at.take().filter(|_| settles);
        if settles {
            self.images.settle();
        }
        let mut by_instance: BTreeMap<&InstanceId, Vec<&ObservedContainer>> = BTreeMap::new();
        for container in containers {
            by_instance.entry(&container.instance).or_default().push(container);
        }
        let addresses: BTreeMap<&InstanceId, Ipv4Addr> =
            networks.iter().map(|network| (&network.instance, network.address)).collect();
        for id in by_instance.keys().chain(addresses.keys()) {
            self.found(id, now);
        }

        let reading = Reading { settings: &self.settings, now, settles };
        let mut used: BTreeSet<Ipv4Addr> = self.instances.values().filter_map(|instance| instance.address).collect();
        let mut doubts = Vec::new();
        for (id, instance) in &mut self.instances {
            let seen = by_instance.remove(id).unwrap_or_default();
            doubts.extend(instance.observed_containers(seen, &reading));
            doubts.extend(instance.observed_network(addresses.get(id).copied(), &mut used, &reading));
        }
        self.look_again_at = doubts.into_iter().chain(asked).min();
        self.trust_images_in_use();
        if settles {
            self.adopt_listings();
        }
    }

    /// A container that runs proves that its image is here.
    fn trust_images_in_use(&mut self) {
        for instance in self.instances.values() {
            if let Claim::Run(assignment) = &instance.claim
                && instance.running().is_some()
            {
                self.images.ready(&assignment.container.image);
            }
        }
    }
}

impl Instance {
    /// Books its containers; gives the moment from which another list can be trusted, where this one cannot.
    fn observed_containers(&mut self, mut seen: Vec<&ObservedContainer>, reading: &Reading<'_>) -> Option<Timestamp> {
        let numbers: BTreeSet<u32> = seen.iter().map(|container| container.attempt).collect();
        // Those that run come first, the highest before the others: it is the one that is kept.
        seen.sort_by_key(|container| {
            (matches!(container.process, ObservedProcess::Ended(_)), std::cmp::Reverse(container.attempt))
        });
        for container in seen {
            match &container.process {
                ObservedProcess::Running { pid, started_at } => {
                    self.observed_running(container.attempt, *pid, *started_at, reading);
                }
                ObservedProcess::Ended(exit) => self.observed_ended(container.attempt, exit, reading),
            }
        }
        let missing: Vec<u32> = self.attempts.keys().filter(|number| !numbers.contains(number)).copied().collect();
        missing.into_iter().filter_map(|number| self.observed_nothing(number, reading)).min()
    }

    fn observed_running(&mut self, number: u32, pid: u32, started_at: Timestamp, reading: &Reading<'_>) {
        match self.attempts.get_mut(&number) {
            // Nobody will answer the stop: it is asked for again.
            Some(attempt @ Attempt::Stopping { .. }) if reading.settles => {
                *attempt = Attempt::Running { pid, started_at, known_at: reading.now };
            }
            Some(attempt @ Attempt::Removing { .. }) if reading.settles => *attempt = Attempt::Ended,
            Some(
                Attempt::Starting
                | Attempt::Running { .. }
                | Attempt::Stopping { .. }
                | Attempt::Ended
                | Attempt::Removing { .. }
                | Attempt::RemovalFailed { .. },
            )
            | None => self.runs(number, pid, started_at, reading.now),
        }
    }

    fn observed_ended(&mut self, number: u32, exit: &Exit, reading: &Reading<'_>) {
        match self.attempts.get_mut(&number) {
            None => self.found_ended(reading.settings, number, exit.clone(), reading.now),
            // It is being made just now: there is a record, and no process yet.
            Some(Attempt::Starting) if !reading.settles => {}
            Some(Attempt::Starting | Attempt::Running { .. } | Attempt::Stopping { .. }) => {
                self.ended(reading.settings, number, exit.clone(), reading.now);
            }
            Some(attempt @ Attempt::Removing { .. }) if reading.settles => *attempt = Attempt::Ended,
            Some(Attempt::Ended | Attempt::Removing { .. } | Attempt::RemovalFailed { .. }) => {}
        }
    }

    fn observed_nothing(&mut self, number: u32, reading: &Reading<'_>) -> Option<Timestamp> {
        let attempt = self.attempts.get_mut(&number)?;
        match attempt {
            // The start never got that far; whatever of it appears later is removed.
            Attempt::Starting | Attempt::Removing { .. } if reading.settles => *attempt = Attempt::Ended,
            Attempt::Running { known_at, .. } => {
                let trusted_from = *known_at + reading.settings.list_delay_ms;
                if !reading.settles && reading.now < trusted_from {
                    return Some(trusted_from);
                }
                self.ended(reading.settings, number, Exit::Unknown, reading.now);
            }
            Attempt::Stopping { .. } => self.ended(reading.settings, number, Exit::Unknown, reading.now),
            Attempt::Starting | Attempt::Ended | Attempt::Removing { .. } | Attempt::RemovalFailed { .. } => {}
        }
        None
    }

    /// Books its network; gives the moment from which another list can be trusted, where this one cannot.
    fn observed_network(
        &mut self,
        seen: Option<Ipv4Addr>,
        used: &mut BTreeSet<Ipv4Addr>,
        reading: &Reading<'_>,
    ) -> Option<Timestamp> {
        let in_flight = matches!(self.network, Network::Making | Network::Removing);
        if in_flight && !reading.settles {
            return None;
        }
        let ready = Network::Ready { known_at: reading.now };
        match (seen, &self.network) {
            (Some(address), _) if self.address == Some(address) => {
                if !matches!(self.network, Network::Ready { .. }) {
                    self.network = ready;
                }
            }
            (Some(address), _) if self.address.is_none() && used.insert(address) => {
                self.address = Some(address);
                self.network = ready;
            }
            // Not the address that it shall have. One that leaves is only removed; another is made as it should be.
            (Some(_), _) => self.network = if self.shall_leave() { ready } else { Network::Doubted },
            (None, Network::Ready { known_at }) => {
                let trusted_from = *known_at + reading.settings.list_delay_ms;
                if !reading.settles && reading.now < trusted_from {
                    return Some(trusted_from);
                }
                self.network = Network::Absent;
            }
            (None, Network::Making | Network::Removing | Network::Doubted) => self.network = Network::Absent,
            (None, Network::Absent | Network::Failed { .. }) => {}
        }
        None
    }
}
