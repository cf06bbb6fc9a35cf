//! The vocabulary: values that every part shares. No clock, no I/O, no async.
//!
//! # Glossary
//!
//! One word for one concept, in code, protocol, manifest, logs and papers.
//!
//! | word | means | type |
//! | --- | --- | --- |
//! | **workload** | what shall run: container, count, rules | [`workload::WorkloadSpec`] |
//! | **service**, **daemon** | N replicas behind one address; one instance per matching node | [`workload::WorkloadKind`] |
//! | **job**, **run** | what runs until it is done; one time that it does | [`job::JobSpec`], [`view::JobRunView`] |
//! | **schedule** | when a job begins runs by itself, by the clock of a time zone | [`schedule::ScheduleSpec`] |
//! | **completion** | one slot of a run that ended with success | [`job::JobSpec::completions`] |
//! | **revision** | version of a workload's spec | [`counter::Revision`] |
//! | **instance** | one run of a workload on one node; placed once, never revived | [`instance::Instance`] |
//! | **companion**, **init step**, **sidecar** | a container beside an instance's main one; one that ends before that starts; one that runs with it | [`companion::CompanionSpec`] |
//! | **dependency** | a workload that an instance waits for before its first process is started | [`dependency::Dependency`] |
//! | **slot** | the place in which instances succeed each other | [`instance::Instance::slot`] |
//! | **state**, **health** | where an instance is in its life; its probes' verdict | [`instance::InstanceState`], [`instance::Health`] |
//! | **desired**, **observed** | what is wanted; what was seen | [`instance::Desired`], [`instance::InstanceStatus`] |
//! | **node** | a machine | [`node::NodeSpec`] |
//! | **site** | nodes that are close to each other; how they reach each other's instances | [`site::SiteSpec`] |
//! | **lease**, **fence** | for how long a node may run what runs once at most, since it was surely heard; to end it when that is over | [`disconnect::DisconnectPolicy::stop_after_ms`] |
//! | **ready, unreachable, lost** | alive; silent within grace; given up | [`node::Liveness`] |
//! | **active, cordoned, draining** | what an operator wants of a node | [`node::Availability`] |
//! | **assignment** | "this instance belongs to this node" | [`assignment::Assignment`] |
//! | **assignment set** | all that one node must do | [`assignment::AssignmentSet`] |
//! | **generation** | version of a node's set or of the service table | [`counter::Generation`] |
//! | **epoch** | which run of the scheduler speaks | [`counter::Epoch`] |
//! | **session** | one connection of an agent | [`counter::SessionId`] |
//! | **service table** | all services a node must know | [`service::ServiceTable`] |
//! | **endpoint** | one healthy instance's address behind a service | [`service::Endpoint`] |
//! | **balance** | how a service's connections are shared out among its endpoints | [`balance::BalanceSpec`] |
//! | **weight** | an endpoint's part of the connections, relative to the others' | [`balance::WeightRule`] |
//! | **source**, **access** | who may ask; who may ask a workload's instances | [`access::Source`], [`access::Access`] |
//! | **constraint** | what a node must meet | [`placement::Constraint`] |
//! | **spread**, **domain** | evenness; what counts as one place | [`placement::Spread`], [`placement::Domain`] |
//! | **affinity** | with or without another workload in one place | [`placement::Affinity`] |
//! | **priority** | who goes first where room is short | [`placement::Priority`] |
//! | **device**, **grant** | a countable thing of a node; what an instance got of it | [`device::Device`], [`device::DeviceGrant`] |
//! | **volume** | data that stays on its node | [`container::Mount::Volume`] |
//! | **content** | files of configuration and secrets that an instance is shown | [`content::ContentSpec`] |
//! | **secret** | a value that only instances which use it are shown; set by version | [`secret::Secret`], [`view::SecretView`] |
//! | **probe** | how health is asked for | [`probe::ProbeSpec`] |
//! | **rollout**, **canary** | a change on its way to all instances; the first few of it, until a person promotes it | [`rollout::UpdateSpec`] |
//! | **trial** | the time in which a new instance must show that it works | [`rollout::UpdateSpec::healthy_for_ms`] |
//! | **scale**, **wish** | how many replicas a service has by what they use and serve; how many the numbers ask for | [`scale::ScaleSpec`] |
//! | **relay** | two streams of bytes between a person and an instance: exec, attach, port-forward, copy | [`relay::RelayRequest`] |
//! | **condition** | one thing that a node checks about itself | [`node::Condition`] |
//! | **event** | one line of the history shown to people | [`view::Event`] |

pub mod access;
pub mod assignment;
pub mod balance;
pub mod companion;
pub mod container;
pub mod content;
pub mod counter;
pub mod dependency;
pub mod device;
pub mod disconnect;
pub mod error;
pub mod fnv;
pub mod id;
pub mod instance;
pub mod job;
pub mod join;
pub mod net;
pub mod node;
pub mod placement;
pub mod probe;
pub mod relay;
pub mod resources;
pub mod restart;
pub mod rollout;
pub mod scale;
pub mod schedule;
pub mod secret;
pub mod service;
pub mod site;
pub mod time;
pub mod view;
pub mod workload;
