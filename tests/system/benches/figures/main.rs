//! The figures of the README: each promise beside its floor, in one run, on real containerd.
//!
//! `make bench` runs it as root. It prints each figure, and keeps all in `target/bench/figures.json`. Names of sections
//! after `cargo bench -p tests-system --` run only those: `sizes idle swarm speed balancing rollout names reach tunnel relay loss
//! alone boot`.

mod balancing;
mod floor;
mod footprint;
mod loss;
mod names;
mod process;
mod reach;
mod relay;
mod rollout;
mod speed;
mod swarm;
mod wrk;

use std::fs;

use tests_support::{
    cluster::Bed,
    figures::{Figures, number},
    oci::Image,
    program,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> {
    // `cargo test --benches` only wants to know that it builds and starts.
    let (flags, sections): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|word| word.starts_with('-'));
    if !flags.iter().any(|flag| flag == "--bench") {
        return Ok(());
    }
    let wanted = |section: &str| sections.is_empty() || sections.iter().any(|name| name == section);
    let mut figures = Figures::of_this_build()?;
    if wanted("sizes") {
        sizes(&mut figures)?;
    }

    let mut bed = Bed::for_test("bench")?;
    let hello = Image::default()
        .program("bin/hello", &program::folder()?.join("hello"))?
        .set("Entrypoint", serde_json::json!(["/bin/hello"]));
    let hello = bed.registry().push(&hello, "bench/hello", "1")?;
    let sleeper = bed.registry().push(&Image::busybox()?, "bench/busybox", "1")?;
    for node in ["one", "two", "three"] {
        bed.add_node(node)?;
    }
    if wanted("idle") {
        footprint::idle(&bed, &mut figures)?;
    }
    if wanted("swarm") {
        swarm::sessions(&bed, &mut figures)?;
    }
    if wanted("speed") {
        speed::apply_and_restart(&bed, &sleeper, &mut figures)?;
    }
    if wanted("balancing") {
        balancing::ratios(&bed, &hello, &mut figures)?;
    }
    if wanted("rollout") {
        rollout::requests(&bed, &hello, &mut figures)?;
    }
    if wanted("names") {
        names::queries(&bed, &hello, &mut figures)?;
    }
    if wanted("reach") {
        reach::vxlan_over_routes(&bed, &sleeper, &mut figures)?;
    }
    if wanted("tunnel") {
        reach::tunnel_over_routes(&mut bed, &sleeper, &mut figures)?;
    }
    if wanted("relay") {
        relay::relay(&bed, &sleeper, &mut figures)?;
    }
    if wanted("loss") {
        loss::node_loss(&mut bed, &hello, &mut figures)?;
    }
    if wanted("alone") {
        loss::peer_death(&mut bed, &hello, &mut figures)?;
    }
    if wanted("boot") {
        loss::cold_boot(&mut bed, &sleeper, &mut figures)?;
    }
    Ok(())
}

/// The size of each stripped binary in MB (1,000,000 bytes).
fn sizes(figures: &mut Figures) -> Result<()> {
    for (name, program) in [("agent", "wherry-agent"), ("scheduler", "wherry-scheduler"), ("cli", "wherry")] {
        let bytes = fs::metadata(program::folder()?.join(program))?.len();
        figures.note(&format!("binary_{name}_mb"), number(bytes) / 1e6)?;
    }
    Ok(())
}
