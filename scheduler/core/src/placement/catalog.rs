//! Names and numbers: what nodes have in common becomes a class, places, kinds and models become values.

use std::collections::{BTreeMap, BTreeSet};

use api_types::{
    placement::{Constraint, ConstraintKey, Domain, PlacementSpec},
    workload::WorkloadSpec,
};
use scheduler_placement::{ClassId, DomainKey, Over, Selection};

use crate::cluster::nodes::NodeEntry;

/// Texts numbered from one in the order in which they came; zero is the absent one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    numbers: BTreeMap<String, u32>,
}

impl Words {
    /// The number of a text that was given one; zero for others.
    pub(crate) fn known(&self, text: &str) -> u32 {
        self.numbers.get(text).copied().unwrap_or_default()
    }

    /// The number of a text; a new one if it is the first time.
    pub(crate) fn number(&mut self, text: &str) -> u32 {
        let next = u32::try_from(self.numbers.len() + 1).expect("fewer texts than fit into memory");
        *self.numbers.entry(text.to_owned()).or_insert(next)
    }
}

/// What the nodes of one class have in common: all that rules ask about, and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Facts {
    site: String,
    arch: String,
    os: String,
    /// Only labels that some workload speaks of: others would make a class of each node.
    labels: BTreeMap<String, String>,
    /// The kinds of its devices.
    kinds: BTreeSet<String>,
}

impl Facts {
    /// Whether nodes of this class meet the rules that are not about single nodes, and have the kinds of devices.
    pub(crate) fn suit(&self, spec: &WorkloadSpec) -> bool {
        spec.placement.constraints.iter().all(|constraint| self.meet(constraint))
            && spec.devices.iter().all(|request| self.kinds.contains(&request.kind))
    }

    fn meet(&self, constraint: &Constraint) -> bool {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let value = match &constraint.key {
            ConstraintKey::Arch => known(&self.arch),
            ConstraintKey::Os => known(&self.os),
            ConstraintKey::Site => Some(self.site.clone()),
            ConstraintKey::Node => return true,
            ConstraintKey::Label(name) => self.labels.get(name).cloned(),
        };
        constraint.is_met_by(value.as_deref())
    }
}

/// All names that the engine knows as numbers.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    /// The labels that some workload's rules speak of.
    labels: BTreeSet<String>,
    /// The properties to be even or apart over; the site is the first.
    domains: Vec<(Domain, Words)>,
    classes: BTreeMap<Facts, ClassId>,
    /// Kinds of devices.
    pub(crate) kinds: Words,
    /// Models of devices.
    pub(crate) models: Words,
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            labels: BTreeSet::new(),
            domains: vec![(Domain::Site, Words::default())],
            classes: BTreeMap::new(),
            kinds: Words::default(),
            models: Words::default(),
        }
    }
}

impl Catalog {
    /// A catalog for the rules of these workloads.
    pub(crate) fn of<'s>(specs: impl Iterator<Item = &'s WorkloadSpec>) -> Self {
        let mut catalog = Self::default();
        for spec in specs {
            catalog.labels.extend(labels(&spec.placement).map(str::to_owned));
            for domain in domains(&spec.placement) {
                if catalog.key(domain).is_none() && *domain != Domain::Node {
                    catalog.domains.push((domain.clone(), Words::default()));
                }
            }
        }
        catalog
    }

    /// Whether it knows all that a workload's rules speak of.
    pub(crate) fn knows(&self, spec: &WorkloadSpec) -> bool {
        labels(&spec.placement).all(|label| self.labels.contains(label))
            && domains(&spec.placement).all(|domain| *domain == Domain::Node || self.key(domain).is_some())
    }

    /// What counts as one place, as the engine says it; a label that nobody spoke of is no place.
    pub(crate) fn over(&self, domain: &Domain) -> Over {
        self.key(domain).map_or(Over::Node, Over::Domain)
    }

    fn key(&self, domain: &Domain) -> Option<DomainKey> {
        let place = self.domains.iter().position(|(other, _)| other == domain)?;
        Some(DomainKey(u16::try_from(place).expect("fewer labels than are admitted")))
    }

    /// What a node has in common with others.
    pub(crate) fn facts(&self, node: &NodeEntry) -> Facts {
        let labels = node.spec.labels.iter().filter(|(name, _)| self.labels.contains(*name));
        let facts = node.facts.as_ref();
        Facts {
            site: node.spec.site.clone(),
            arch: facts.map(|facts| facts.arch.clone()).unwrap_or_default(),
            os: facts.map(|facts| facts.os.clone()).unwrap_or_default(),
            labels: labels.map(|(name, value)| (name.clone(), value.clone())).collect(),
            kinds: facts.into_iter().flat_map(|facts| &facts.devices).map(|device| device.kind.clone()).collect(),
        }
    }

    /// The class with these facts, if there is one.
    pub(crate) fn class(&self, facts: &Facts) -> Option<ClassId> {
        self.classes.get(facts).copied()
    }

    /// Notes a class.
    pub(crate) fn add_class(&mut self, facts: Facts, class: ClassId) {
        self.classes.insert(facts, class);
    }

    /// The classes that suit a spec.
    pub(crate) fn selection(&self, spec: &WorkloadSpec) -> Selection {
        self.classes.iter().filter(|(facts, _)| facts.suit(spec)).map(|(_, class)| *class).collect()
    }

    /// Gives numbers to the kinds and models of devices that a spec asks for.
    pub(crate) fn learn(&mut self, spec: &WorkloadSpec) {
        for request in &spec.devices {
            self.kinds.number(&request.kind);
            if let Some(model) = &request.model {
                self.models.number(model);
            }
        }
    }

    /// A class's value of each property.
    pub(crate) fn values(&mut self, facts: &Facts) -> Vec<u32> {
        let value = |(domain, words): &mut (Domain, Words)| match domain {
            Domain::Site => words.number(&facts.site),
            Domain::Node => 0,
            Domain::Label(name) => facts.labels.get(name).map(|value| words.number(value)).unwrap_or_default(),
        };
        self.domains.iter_mut().map(value).collect()
    }
}

/// The labels that rules speak of.
fn labels(placement: &PlacementSpec) -> impl Iterator<Item = &str> {
    let asked = placement.constraints.iter().filter_map(|constraint| match &constraint.key {
        ConstraintKey::Label(name) => Some(name.as_str()),
        ConstraintKey::Arch | ConstraintKey::Os | ConstraintKey::Site | ConstraintKey::Node => None,
    });
    let places = domains(placement).filter_map(|domain| match domain {
        Domain::Label(name) => Some(name.as_str()),
        Domain::Site | Domain::Node => None,
    });
    asked.chain(places)
}

fn domains(placement: &PlacementSpec) -> impl Iterator<Item = &Domain> {
    let affinities = placement.affinities.iter().map(|affinity| &affinity.within);
    placement.spread.iter().map(|rule| &rule.over).chain(affinities)
}
