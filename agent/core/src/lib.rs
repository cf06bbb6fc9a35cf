//! What is done on a node: assigned and observed state in, wishes for containers, networks and balancing out.
//!
//! # The contract
//!
//! 1. **Total.** `step` never fails, waits or panics on an input.
//! 2. **Effects are wishes.** Each is plain data; its outcome returns as an input. Success is never assumed.
//! 3. **Time is given.** No clock, no sleep: back-off and grace are deadlines in the state.
//! 4. **Order is defined.** Sorted maps only.
//! 5. **Fenced.** A set or table of an older epoch or generation than the one held is ignored, and one of an older epoch than the
//!    other one held: either may be lost.
//! 6. **Level-triggered.** When nothing is left to do, a full reconcile emits nothing.
//! 7. **Adopts.** What runs as assigned is taken over, never restarted; only what carries our labels is ever removed.

//!
//! # The map
//!
//! | file | question |
//! | --- | --- |
//! | `machine` | what follows from one input, in which order? |
//! | `recovery` | what does a list of what is there change on the books? |
//! | `instances`, `lifecycle` | what is known of one instance, and what is its next move? |
//! | `companions` | which steps come before the main process, and who runs beside it? |
//! | `dependencies` | which workloads does an instance wait for before its first process? |
//! | `reconcile` | what is to be done on the whole node? |
//! | `images`, `addresses`, `restart`, `probes` | which image is here, which address is free, when is the next start, who is well? |
//! | `alone` | which jobs begin by this node's own clock? |
//! | `tries` | what of an instance that shall end by itself is done, and what does the disk remember of it? |
//! | `upkeep` | who is probed, whose process is ended because it does not answer, and whose past is forgiven? |
//! | `services`, `overlay`, `listings` | how does the kernel balance, which endpoints are used at all, and who here is listed? |
//! | `reach`, `tunnels` | how are other nodes' instances asked, and what crosses sites? |
//! | `farewell` | what does the last signal wait for? |
//! | `watch` | which neighbours can be reached? A machine of its own |
//! | `report` | what is the scheduler told? |
//! | `invariants` | what always holds? |

pub mod effect;
pub mod input;

mod addresses;
mod alone;
mod attempts;
mod companions;
mod dependencies;
mod farewell;
mod images;
mod instances;
mod invariants;
mod lease;
mod lifecycle;
mod listings;
mod machine;
mod overlay;
mod policy;
mod probes;
mod reach;
mod reconcile;
mod recovery;
mod report;
mod restart;
mod services;
mod settings;
mod tries;
pub mod tunnels;
mod upkeep;
pub mod watch;

pub use alone::Followed;
pub use machine::{Agent, Version};
pub use settings::Settings;
