//! What must be so: desired and observed state in, assignments and endpoints out.
//!
//! # The contract
//!
//! 1. **Total.** `step` never fails, waits or panics on an input. A bad input is refused by an effect, or counted and ignored.
//! 2. **Effects are wishes.** Each is plain data, comparable and printable. Success is never assumed.
//! 3. **Time is given.** No clock, no sleep: grace and heartbeats are deadlines in the state, so they survive and replay.
//! 4. **Order is defined.** Sorted maps only; ties are broken by node name.
//! 5. **Durable before visible.** Within a batch the loop performs every `Persist` before anything that leaves the process.
//! 6. **Whole, then changes.** A node's set is always given whole here; the session makes the difference.
//! 7. **Fenced.** Sets and tables carry the epoch of this run and a generation in it.
//! 8. **Level-triggered.** When nothing is left to do, a full reconcile emits nothing.
//! 9. **Immutable decisions.** An instance is placed once, never moves, never starts under the same id elsewhere.
//! 10. **Bounded.** One step does at most so many placements and asks for another tick.

mod admission;
mod assignments;
mod autoscale;
mod barrier;
mod cluster;
pub mod effect;
mod endpoints;
mod history;
pub mod input;
mod invariants;
mod liveness;
mod machine;
mod observation;
mod placement;
mod plan;
mod reconcile;
mod recovery;
mod rehearsal;
mod requests;
pub mod schedule;
mod secrets;
mod settings;
mod spelling;
mod timers;
mod views;
mod what_if;

pub use assignments::{SetChange, SetOutline};
pub use machine::Scheduler;
pub use settings::{Settings, SystemReserve};
pub use views::LivenessCounts;
