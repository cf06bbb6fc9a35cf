//! What a node costs the engine in memory.

use std::{fs, io};

use scheduler::replay::synthetic::{Mix, Order};
use tests_support::figures::{Figures, number};

use crate::{Result, fleet::Fleet};

/// The growth of this process by engines with 100,000 nodes each in 500 zones, with their classes, for each node. It runs
/// before everything else, so that no memory that was freed hides any; and by several engines, so that nothing else counts.
pub(crate) fn of_nodes(figures: &mut Figures) -> Result<()> {
    /// So many engines.
    const ENGINES: usize = 8;
    let mix =
        Mix { nodes: 100_000, zones: 500, replicas: 1_000, shapes: 1, load_pct: 1, order: Order::ByService, seed: 1 };
    let fleet = Fleet::new(&mix)?;
    let before = resident_kib()?;
    let engines: Vec<_> = (0..ENGINES).map(|_| fleet.engine.clone()).collect();
    let grown = resident_kib()?.saturating_sub(before) * 1_024;
    let nodes: usize = engines.iter().map(|engine| engine.fleet().len()).sum();
    if nodes != ENGINES * fleet.nodes.len() {
        return Err(format!("the engines have {nodes} nodes").into());
    }
    Ok(figures.note("core_bytes_per_node", number(grown) / number(nodes as u64))?)
}

fn resident_kib() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    field.ok_or_else(|| io::Error::other("the kernel does not say how much memory is resident"))
}
