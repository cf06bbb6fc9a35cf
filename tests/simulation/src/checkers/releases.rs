//! A release that does not work is never said to: nothing would be taken back to it otherwise.

use scheduler_core::effect::{Effect, Record, Rollout};

use crate::{shape::Bad, world::World};

impl World {
    /// Looks at how changes of workloads go.
    pub fn check_releases(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Persist(record) = effect
                && let Record::Rollout(rollout) = record.as_ref()
            {
                let (workload, revision, state) = (&rollout.workload, rollout.current().revision, rollout.state);
                self.note(&format!(
                    "scheduler: revision {revision} of {workload} is {}: {}",
                    state.as_str(),
                    rollout.cause
                ));
                if let Some(wrong) = praised(rollout) {
                    self.fail(wrong);
                }
            }
        }
    }
}

/// What is said to work and cannot.
fn praised(rollout: &Rollout) -> Option<String> {
    let never_works = |image: &str| Bad::of_image(image).is_some();
    let wrong = rollout.revisions.iter().find(|kept| kept.is_good && never_works(&kept.spec.container.image))?;
    let (workload, image) = (&rollout.workload, &wrong.spec.container.image);
    Some(format!("revision {} of {workload} is said to work, and {image} never does", wrong.revision))
}
