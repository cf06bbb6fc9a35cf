//! The list of nodes: one row is one machine.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    io::BufRead,
};

use crate::replay::{
    table::{Column, Faults, Row, Table},
    trace::{GPUS_MAX, MEMORY_MIB_MAX, Node},
};

const fn column(name: &'static str, aliases: &'static [&'static str], required: bool) -> Column {
    Column { name, aliases, required }
}

/// The columns. Aliases are the names of the public Alibaba trace of GPU clusters (2023).
pub(crate) const COLUMNS: &[Column] = &[
    column("name", &["sn"], true),
    column("cpu_millis", &["cpu_milli"], true),
    column("memory_mib", &[], true),
    column("gpus", &["gpu"], false),
    column("gpu_model", &["model"], false),
    column("zone", &[], false),
    column("arch", &[], false),
    column("labels", &[], false),
];
const NAME: usize = 0;
const CPU: usize = 1;
const MEMORY: usize = 2;
const GPUS: usize = 3;
const GPU_MODEL: usize = 4;
const ZONE: usize = 5;
const ARCH: usize = 6;
const LABELS: usize = 7;

/// Facts with a column of their own, which labels may not name.
const FACTS: &[(&str, usize)] = &[("gpu_model", GPU_MODEL), ("zone", ZONE), ("arch", ARCH)];

/// Reads all nodes.
pub(crate) fn read<R: BufRead>(table: &mut Table<R>, faults: &mut Faults) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    table.each(faults, |row, faults| match node(row) {
        Ok(node) => match lines.entry(node.name.clone()) {
            Entry::Occupied(first) => faults.add(row.at(&format!(
                "the node `{}` is there already, in line {}; give each its own name",
                node.name,
                first.get()
            ))),
            Entry::Vacant(place) => {
                place.insert(row.line);
                nodes.push(node);
            }
        },
        Err(fault) => faults.add(fault),
    });
    nodes
}

fn node(row: &Row<'_>) -> Result<Node, String> {
    let name = row.text(NAME).to_owned();
    if name.is_empty() {
        return Err(row.at("`name`: the cell is empty; give the node a name"));
    }
    let gpus = row.small(GPUS, 0, GPUS_MAX)?;
    let mut facts = labels(row)?;
    for (fact, column) in FACTS {
        if !row.text(*column).is_empty() {
            facts.insert((*fact).to_owned(), row.text(*column).to_owned());
        }
    }
    Ok(Node {
        name,
        cpu_millis: row.small(CPU, 0, u32::MAX)?,
        memory_mib: row.small(MEMORY, 0, MEMORY_MIB_MAX)?,
        gpus,
        facts,
    })
}

fn labels(row: &Row<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    for label in row.text(LABELS).split(';').map(str::trim).filter(|label| !label.is_empty()) {
        let (key, value) = label
            .split_once('=')
            .map(|(key, value)| (key.trim(), value.trim()))
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| row.at(&format!("`labels`: `{label}` is no label; write key=value;key=value")))?;
        if FACTS.iter().any(|(fact, _)| *fact == key) {
            return Err(row.at(&format!("`labels`: `{key}` has a column of its own; write it there")));
        }
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(row.at(&format!("`labels`: `{key}` is there twice; leave one")));
        }
    }
    Ok(labels)
}
