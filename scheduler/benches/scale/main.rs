//! The figures of scale: deciding, quality of placement, and the loop around it, without nodes and without root.
//!
//! `make bench-scale` runs it. It prints each figure, and keeps all in `target/bench/figures.json`. Names of sections
//! after `cargo bench -p scheduler --bench scale --` run only those. Each section checks what was decided: a bench that
//! places nonsense fails.

mod acknowledge;
mod cluster;
mod counting;
mod durable;
mod fleet;
mod memory;
mod place;
mod quality;
mod rebalance;
mod replan;
mod shapes;
mod timing;

use tests_support::figures::Figures;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One part of the bench: its name, and what measures it.
type Section = (&'static str, fn(&mut Figures) -> Result<()>);

/// All of it, in the order in which it runs.
const SECTIONS: &[Section] = &[
    ("memory", memory::of_nodes),
    ("services", place::million_services),
    ("identical", place::million_alike),
    ("singles", place::singles),
    ("shapes", shapes::weak),
    ("replan", replan::tenth_lost),
    ("rebalance", rebalance::tenth_joined),
    ("quality", quality::shares),
    ("durable", durable::million),
    ("acknowledge", acknowledge::million),
];

fn main() -> Result<()> {
    // `cargo test --benches` only wants to know that it builds and starts.
    let (flags, wanted): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    if !flags.iter().any(|flag| flag == "--bench") {
        return Ok(());
    }
    if let Some(unknown) = wanted.iter().find(|name| !SECTIONS.iter().any(|(section, _)| section == name)) {
        let sections: Vec<&str> = SECTIONS.iter().map(|(section, _)| *section).collect();
        return Err(format!("there is no section {unknown}: choose of {}", sections.join(", ")).into());
    }
    let mut figures = Figures::of_this_build()?;
    for (section, measure) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|name| name == section) {
            measure(&mut figures).map_err(|error| format!("{section}: {error}"))?;
        }
    }
    Ok(())
}
