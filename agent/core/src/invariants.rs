//! What holds after every step; asked for by tests and the simulation.

use std::collections::BTreeSet;

use api_types::id::InstanceId;

use crate::{
    addresses::is_for_instances,
    attempts::Attempt,
    instances::{Instance, Network},
    machine::{Agent, Runtime},
};

impl Agent {
    /// Checks everything that must hold between two steps.
    ///
    /// # Errors
    /// The first thing that does not hold, for the person who reads the failing test.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut addresses = BTreeSet::new();
        for (id, instance) in &self.instances {
            if let Some(fault) = instance.attempts.fault() {
                return Err(format!("{id} {fault}: {:?}", instance.attempts));
            }
            for (index, companion) in &instance.companions {
                if let Some(fault) = companion.attempts.fault() {
                    return Err(format!("companion {index} of {id} {fault}: {companion:?}"));
                }
            }
            if let Some(address) = instance.address
                && !addresses.insert(address)
            {
                return Err(format!("{id} shares its address {address}"));
            }
            if let Some((probed, _)) = &instance.probes.probing
                && instance.running().map(|(number, _)| number) != Some(*probed)
            {
                return Err(format!("attempt {probed} of {id} is probed, but does not run"));
            }
            if self.gone.contains(id) {
                return Err(format!("{id} is gone and still on the books"));
            }
            self.check_reach(id, instance)?;
        }
        if let Some(id) = self.gone.iter().find(|id| !self.listed.contains(*id)) {
            return Err(format!("{id} is gone, named by nobody, and still remembered"));
        }
        self.check_endpoints()
    }

    /// Nothing is done to a node that was not looked at, and no address is given that is not an instance's.
    fn check_reach(&self, id: &InstanceId, instance: &Instance) -> Result<(), String> {
        let untouched = !instance.has_remains() && matches!(instance.network, Network::Absent);
        if self.runtime == Runtime::Unseen && !untouched {
            return Err(format!("{id} was acted on before the node was looked at"));
        }
        let making = matches!(instance.network, Network::Making);
        if let (true, Some(address), Some(set)) = (making, instance.address, &self.set)
            && instance.shall_run()
            && !is_for_instances(set.subnet, address)
            && !instance.has_remains()
        {
            return Err(format!("{id} was given {address}, which is not for instances of {}", set.subnet));
        }
        Ok(())
    }

    /// The kernel was never asked to balance to something here that does not run.
    fn check_endpoints(&self) -> Result<(), String> {
        for (workload, id, address) in self.balancing.local_endpoints() {
            let running = self.instances.get(id).is_some_and(|instance| {
                instance.reached_at(&self.settings) == Some(address)
                    && instance.attempts.held.values().any(|attempt| matches!(attempt, Attempt::Running { .. }))
            });
            if !running {
                return Err(format!("{workload} is balanced to {id}, which does not run"));
            }
        }
        Ok(())
    }
}
