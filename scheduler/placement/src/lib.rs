//! Where instances go: a pure, deterministic engine over integers that knows no names.
//!
//! The owner interns what nodes have in common into classes, compiles what a workload asks for into a [`Demand`], and
//! tells the [`Engine`] of every node and of every instance that comes or goes. The engine picks nodes and says why one
//! does not take an instance. It has no clock, no I/O, no floats and no random order: the same calls give the same
//! answers on every machine.

mod amount;
mod batch;
mod block;
mod ceiling;
mod check;
mod class;
mod columns;
mod demand;
mod device;
mod engine;
mod fill;
mod fleet;
mod group;
mod holders;
mod holdings;
mod lanes;
mod parked;
mod preemption;
mod rebalance;
mod rebuild;
mod score;
mod search;
mod selection;
mod single;
mod slice;
mod tournament;

pub use amount::Amount;
pub use check::{Credit, Miss};
pub use class::{ClassId, DomainKey, DomainValue, Selection, SelectionId};
pub use demand::{Affinity, Demand, Over, Port, Protocol, Relation, Spread};
pub use device::{DeviceAmount, DeviceAsk, Grant, Slot};
pub use engine::{Engine, Holding, Run};
pub use fleet::{Fleet, Intake, NodeIndex, NodeShape};
pub use group::{Count, Group, GroupIndex};
pub use parked::Parked;
pub use preemption::{Displaceable, Preemption, Victim, preempt};
pub use rebalance::{Gain, Move, Rebalance, RebalancePlan, Residual, rebalance};
pub use score::{Judgement, SPREADS_MAX};
