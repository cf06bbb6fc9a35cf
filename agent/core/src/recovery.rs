//! What containerd and the kernel have, against the books: what runs as assigned is adopted, what is gone is booked as gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use api_types::{id::InstanceId, instance::Exit, time::Timestamp};

use crate::{
    Settings,
    attempts::Attempt,
    input::{ObservedContainer, ObservedNetwork, ObservedProcess},
    instances::{Claim, Instance, Network},
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

/// What follows for an attempt that a list lacks.
enum Missed {
    /// Nothing more than what is booked already.
    Booked,
    /// Its process is gone.
    Ended,
    /// It became known so lately that only another list, from this moment on, can tell.
    Doubted(Timestamp),
}

impl Attempt {
    /// Whether a list says of it no more than how a wish stands: one whose answer was lost is taken back, and one that is
    /// being performed is waited for.
    fn is_settled_by(&mut self, process: &ObservedProcess, reading: &Reading<'_>) -> bool {
        *self = match (&*self, process) {
            // Nobody will answer the stop: it is asked for again.
            (Self::Stopping { .. }, ObservedProcess::Running { pid, started_at }) if reading.settles => {
                Self::Running { pid: *pid, started_at: *started_at, known_at: reading.now }
            }
            (Self::Removing { .. }, _) if reading.settles => Self::Ended,
            // It is being made just now: there is a record, and no process yet.
            (Self::Starting, ObservedProcess::Ended(_)) => return !reading.settles,
            _ => return false,
        };
        true
    }

    /// Books that a list lacks it.
    fn missed_by(&mut self, reading: &Reading<'_>) -> Missed {
        match self {
            // The start never got that far; whatever of it appears later is removed.
            Self::Starting | Self::Removing { .. } if reading.settles => *self = Self::Ended,
            Self::Running { known_at, .. } => {
                let trusted_from = *known_at + reading.settings.list_delay_ms;
                let is_trusted = reading.settles || reading.now >= trusted_from;
                return if is_trusted { Missed::Ended } else { Missed::Doubted(trusted_from) };
            }
            Self::Stopping { .. } => return Missed::Ended,
            Self::Starting | Self::Ended | Self::Removing { .. } | Self::RemovalFailed { .. } => {}
        }
        Missed::Booked
    }
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
            let (beside, seen) = seen.into_iter().partition(|container| container.companion.is_some());
            doubts.extend(instance.observed_containers(seen, &reading));
            doubts.extend(instance.observed_companions(beside, &reading));
            doubts.extend(instance.observed_network(addresses.get(id).copied(), &mut used, &reading));
        }
        self.look_again_at = doubts.into_iter().chain(asked).min();
        self.trust_images_in_use();
        if settles {
            self.adopt_listings();
        }
    }

    /// A container that runs proves that its image is here, and those whose files it is shown.
    fn trust_images_in_use(&mut self) {
        for instance in self.instances.values() {
            if let Claim::Run(assignment) = &instance.claim
                && instance.running().is_some()
            {
                assignment.container.images().for_each(|image| self.images.ready(image));
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
        for ObservedContainer { attempt: number, process, .. } in seen {
            let known = self.attempts.held.get_mut(number);
            let is_known = known.is_some();
            if known.is_some_and(|attempt| attempt.is_settled_by(process, reading)) {
                continue;
            }
            match process {
                ObservedProcess::Running { pid, started_at } => self.runs(*number, *pid, *started_at, reading.now),
                ObservedProcess::Ended(exit) if is_known => {
                    self.ended(reading.settings, *number, exit.clone(), reading.now);
                }
                ObservedProcess::Ended(exit) => {
                    self.found_ended(reading.settings, *number, exit.clone(), reading.now);
                }
            }
        }
        let missing = self.attempts.held.iter_mut().filter(|(number, _)| !numbers.contains(number));
        let missing: Vec<_> = missing.map(|(number, attempt)| (*number, attempt.missed_by(reading))).collect();
        let judged = missing.into_iter().filter_map(|(number, missed)| match missed {
            Missed::Ended => {
                self.ended(reading.settings, number, Exit::Unknown, reading.now);
                None
            }
            Missed::Doubted(trusted_from) => Some(trusted_from),
            Missed::Booked => None,
        });
        judged.min()
    }

    /// Books the containers beside its main one, in the same way.
    fn observed_companions(&mut self, seen: Vec<&ObservedContainer>, reading: &Reading<'_>) -> Option<Timestamp> {
        let mut listed: BTreeMap<(u8, u32), &ObservedProcess> = BTreeMap::new();
        for container in seen {
            listed.extend(container.companion.map(|index| ((index, container.attempt), &container.process)));
        }
        for (&key, &process) in &listed {
            let companion = self.companions.entry(key.0).or_default();
            let known = companion.attempts.held.get_mut(&key.1);
            let is_known = known.is_some();
            if known.is_some_and(|attempt| attempt.is_settled_by(process, reading)) {
                continue;
            }
            match process {
                ObservedProcess::Running { pid, started_at } => {
                    companion.runs(key.1, *pid, *started_at, reading.now);
                }
                ObservedProcess::Ended(exit) if is_known => {
                    self.companion_ended(key, exit.clone(), reading.settings, reading.now);
                }
                ObservedProcess::Ended(exit) => {
                    self.companion_found_ended(key, exit, reading.settings, reading.now);
                }
            }
        }
        let books = self.companions.iter_mut();
        let all = books
            .flat_map(|(index, books)| books.attempts.held.iter_mut().map(|(number, held)| ((*index, *number), held)));
        let missing = all.filter(|(key, _)| !listed.contains_key(key));
        let missing: Vec<_> = missing.map(|(key, attempt)| (key, attempt.missed_by(reading))).collect();
        let judged = missing.into_iter().filter_map(|(key, missed)| match missed {
            Missed::Ended => {
                self.companion_ended(key, Exit::Unknown, reading.settings, reading.now);
                None
            }
            Missed::Doubted(trusted_from) => Some(trusted_from),
            Missed::Booked => None,
        });
        judged.min()
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
