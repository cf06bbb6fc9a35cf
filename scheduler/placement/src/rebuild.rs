//! Everything that is kept up to date step by step, made anew and compared: what tests and the owner's invariants ask.

use crate::{
    amount::Amount,
    ceiling::Height,
    class::{ClassId, SelectionId},
    engine::{Engine, Holding},
    fleet::{Class, Fleet, Intake, NodeIndex, NodeShape},
    group::{Group, GroupIndex},
};

impl Engine {
    /// Makes everything anew from the nodes, the demands and all instances, and compares it with what was kept up to date.
    ///
    /// # Errors
    /// The first difference, in one line.
    pub fn compare<'h>(
        &self,
        instances: impl IntoIterator<Item = (NodeIndex, GroupIndex, Holding<'h>)>,
    ) -> Result<(), String> {
        let mut rebuilt = self.emptied();
        for (node, group, holding) in instances {
            rebuilt.take(node, group, holding);
        }
        let mut kept = self.clone();
        for engine in [&mut kept, &mut rebuilt] {
            engine.selections.weigh(&mut engine.fleet.classes);
        }
        kept.fleet.compare(&rebuilt.fleet)?;
        for (index, (group, made)) in kept.groups.iter().zip(&rebuilt.groups).enumerate() {
            if group != made {
                return Err(format!("group {index}: its counts differ from a rebuild"));
            }
        }
        let same = kept.selections.equals(&rebuilt.selections);
        if same { Ok(()) } else { Err("the selections differ from a rebuild".to_owned()) }
    }

    /// The same nodes, classes and demands without any instance.
    fn emptied(&self) -> Self {
        let mut made = Self { selections: self.selections.emptied(), vacant: self.vacant.clone(), ..Self::default() };
        for class in &self.fleet.classes {
            made.add_class(&class.domains);
        }
        let nobody = NodeShape { class: ClassId(0), capacity: Amount::default(), order: 0, intake: Intake::Shut };
        for index in (0..).take(self.fleet.nodes.len()).map(NodeIndex) {
            made.add_node(self.fleet.shape(index).unwrap_or(nobody));
            let slots = self.fleet.devices(index).iter().map(|slot| crate::device::Slot { used: 0, ..*slot });
            made.set_devices(index, slots.collect());
        }
        for index in (0..).take(self.fleet.nodes.len()).map(NodeIndex) {
            if self.fleet.shape(index).is_none() {
                made.remove_node(index);
            }
        }
        made.groups = self.groups.iter().map(|group| group.as_ref().map(|_| Group::default())).collect();
        for (index, group) in self.groups() {
            made.selections.want(SelectionId(0), 0, 0);
            made.set_demand(index, group.demand.clone(), group.wanted);
        }
        made
    }
}

impl Fleet {
    fn compare(&self, rebuilt: &Self) -> Result<(), String> {
        for node in self.nodes() {
            if self.free(node) != rebuilt.free(node) || self.shape(node) != rebuilt.shape(node) {
                return Err(format!("node {}: what it has free differs from a rebuild", node.0));
            }
            if self.devices(node) != rebuilt.devices(node) {
                return Err(format!("node {}: its devices differ from a rebuild", node.0));
            }
            if self.placed(node).is_some_and(|(class, row)| self.node_at(class, row) != node) {
                return Err(format!("node {}: its row is another's", node.0));
            }
            let height = Height::of(self.free(node));
            if self.placed(node).is_some_and(|(class, _)| !self.ceilings.admits(class, height)) {
                return Err(format!("node {}: it has more free than the ceiling of its class", node.0));
            }
        }
        let facts = |class: &Class| (class.rows, class.held, class.capacity, class.scarcity);
        if !self.classes.iter().map(facts).eq(rebuilt.classes.iter().map(facts)) {
            return Err("what the classes have in all differs from a rebuild".to_owned());
        }
        if self.classes.iter().any(|class| self.has_marks(class)) {
            return Err("a search left marks".to_owned());
        }
        let side = |fleet: &Self| (fleet.ports.clone(), fleet.open_devices.clone(), fleet.excess().clone());
        if side(self) == side(rebuilt) { Ok(()) } else { Err("a side table differs from a rebuild".to_owned()) }
    }
}
