//! The end of an instance that others may be connected to: the kernel sends it nothing new, then a lull for what is being
//! opened, then its open connections may end. Only then comes the signal.

use std::{collections::BTreeMap, net::Ipv4Addr};

use api_types::{id::InstanceId, time::Timestamp};

use crate::{
    Settings,
    effect::{Effect, Effects},
    instances::Instance,
    machine::Agent,
    services::Progress,
};

/// What the last signal to an instance waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Farewell {
    /// The kernel has done at least this number of [`Effect::ProgramServices`]: then nobody here balances to it. `None` while
    /// it may still be asked.
    number: Option<u64>,
    /// The end of being asked, then of waiting for that, whatever the kernel does.
    until: Timestamp,
    /// Since when nobody here balances to it.
    quiet_since: Option<Timestamp>,
    /// Whether no connection to it is open any more.
    drained: bool,
    /// Milliseconds that its open connections may last; `None` = it has no ports.
    drain_ms: Option<u64>,
}

/// When open connections are counted.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    /// Whether an answer is outstanding.
    in_flight: bool,
    /// Not before this.
    not_before: Option<Timestamp>,
}

impl Farewell {
    /// Begins now.
    pub(crate) fn begin(drain_ms: Option<u64>, settings: &Settings, now: Timestamp) -> Self {
        Self { number: None, until: now + settings.farewell_ms, quiet_since: None, drained: false, drain_ms }
    }

    /// Goes on with what the kernel did; whether the signal still waits.
    pub(crate) fn waits(
        &mut self,
        (kernel, may_be_asked): (Progress, bool),
        settings: &Settings,
        now: Timestamp,
    ) -> bool {
        if self.number.is_none() && !may_be_asked {
            // A kernel that was not asked yet may balance to it since an earlier run of this program.
            self.number = Some(kernel.asked.max(1));
            self.until = now + settings.farewell_ms;
        }
        let has_left = self.number.is_some_and(|number| kernel.programmed >= number);
        if self.quiet_since.is_none() && (has_left || now >= self.until) {
            self.quiet_since = Some(now);
        }
        self.deadline(settings).is_some_and(|at| now < at)
    }

    /// Whether it may still be asked: for so long a table that names its successor is waited for.
    pub(crate) fn may_be_asked(&self, now: Timestamp) -> bool {
        self.number.is_none() && now < self.until
    }

    /// Until when the signal waits at most in this stage; `None` = it does not.
    fn deadline(&self, settings: &Settings) -> Option<Timestamp> {
        let (Some(since), Some(drain_ms)) = (self.quiet_since, self.drain_ms) else {
            return self.quiet_since.is_none().then_some(self.until);
        };
        let lull_ms = if self.drained { settings.lull_ms } else { settings.lull_ms.max(drain_ms) };
        Some(since + lull_ms)
    }

    /// When to look again, and why.
    pub(crate) fn look(&self, settings: &Settings) -> Option<(Timestamp, &'static str)> {
        let why = if self.quiet_since.is_none() { "a process that is still balanced to" } else { "open connections" };
        self.deadline(settings).map(|at| (at, why))
    }

    /// From when on it is asked whether connections are open; `None` = no more, or not yet.
    fn counted_from(&self, settings: &Settings) -> Option<Timestamp> {
        let drains = !self.drained && self.drain_ms.is_some_and(|drain_ms| drain_ms > settings.lull_ms);
        self.quiet_since.filter(|_| drains).map(|since| since + settings.lull_ms)
    }
}

impl Counting {
    /// When connections are to be counted next, if somebody waits for that.
    fn due(&self, from: Option<Timestamp>) -> Option<Timestamp> {
        let from = from.filter(|_| !self.in_flight)?;
        Some(self.not_before.map_or(from, |at| at.max(from)))
    }
}

impl Instance {
    /// From when on its open connections are counted.
    fn counted_from(&self, settings: &Settings) -> Option<Timestamp> {
        let leaves = self.shall_leave() && self.running().is_some();
        self.farewell.filter(|_| leaves)?.counted_from(settings)
    }
}

impl Agent {
    /// Asks for the open connections of all instances that wait for their end.
    pub(crate) fn count_connections(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.counting_due().is_none_or(|at| at > now) {
            return;
        }
        let waiting = self
            .instances
            .iter()
            .filter(|(_, instance)| instance.counted_from(&self.settings).is_some_and(|from| from <= now));
        let addresses: Vec<(InstanceId, Ipv4Addr)> =
            waiting.filter_map(|(id, instance)| Some((id.clone(), instance.address?))).collect();
        if !addresses.is_empty() {
            self.counting.in_flight = true;
            effects.push(Effect::CountConnections(addresses));
        }
    }

    /// When open connections are counted next.
    pub(crate) fn counting_due(&self) -> Option<Timestamp> {
        let waiting = self.instances.values().filter(|instance| instance.address.is_some());
        self.counting.due(waiting.filter_map(|instance| instance.counted_from(&self.settings)).min())
    }

    /// The connections were counted, or could not be: then those that wait do so as long as they may.
    pub(crate) fn connections_counted(&mut self, open: &Result<BTreeMap<InstanceId, u32>, String>, now: Timestamp) {
        self.counting = Counting { in_flight: false, not_before: Some(now + self.settings.count_interval_ms) };
        let Ok(open) = open else { return };
        for (id, _) in open.iter().filter(|(_, count)| **count == 0) {
            if let Some(farewell) = self.instances.get_mut(id).and_then(|instance| instance.farewell.as_mut()) {
                farewell.drained = true;
            }
        }
    }
}
