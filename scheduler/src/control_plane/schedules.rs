//! The clocks of time zones, for schedules that people apply or ask about.

use api_types::{view::Problem, workload::WorkloadSpec};
use scheduler_core::input::Input;

use super::Port;
use crate::{problem, zones};

impl Port {
    /// Has the core know the clocks of the time zones that these name.
    pub(super) async fn tell_zones(&self, specs: &[WorkloadSpec]) -> Result<(), Problem> {
        let names = zones::named(specs);
        if names.is_empty() {
            return Ok(());
        }
        let read = tokio::task::spawn_blocking(move || zones::read(names)).await;
        let read = read.map_err(|_| problem::internal("the time zones could not be read"))?;
        self.0.control.input(Input::Zones(read)).await.map_err(problem::stopped)
    }
}
