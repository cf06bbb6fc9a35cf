//! What the programs cost when nothing happens: memory, CPU time, bytes written.

use std::time::Duration;

use tests_support::{
    cluster::Bed,
    figures::{Figures, number},
    wait::pace,
};

use crate::{Result, process};

/// How long idleness is watched.
const MINUTE: Duration = Duration::from_secs(60);

/// Memory of the scheduler with three nodes and of an agent without instances.
pub(crate) fn idle(bed: &Bed, figures: &mut Figures) -> Result<()> {
    pace(Duration::from_secs(15));
    figures.note("scheduler_rss_idle_mib", number(process::rss_kib(scheduler(bed)?)?) / 1024.0)?;
    Ok(figures.note("agent_rss_idle_mib", number(process::rss_kib(agent(bed, "one")?)?) / 1024.0)?)
}

/// CPU time and bytes written of both over a minute in which nothing happens; call it with ten instances on `one`.
pub(crate) fn quiet_minute(bed: &Bed, figures: &mut Figures) -> Result<()> {
    let (scheduler, agent) = (scheduler(bed)?, agent(bed, "one")?);
    pace(Duration::from_secs(10));
    let look =
        || -> Result<_> { Ok([scheduler, agent].map(|pid| (process::cpu_seconds(pid), process::written_bytes(pid)))) };
    let [scheduler_before, agent_before] = look()?;
    pace(MINUTE);
    let [scheduler_after, agent_after] = look()?;
    for (name, before, after) in
        [("scheduler", scheduler_before, scheduler_after), ("agent", agent_before, agent_after)]
    {
        figures.note(&format!("{name}_cpu_idle_s_per_min"), after.0? - before.0?)?;
        figures.note(&format!("{name}_disk_bytes_per_min_idle"), number(after.1? - before.1?))?;
    }
    Ok(())
}

/// The agent's process on a node.
pub(crate) fn agent(bed: &Bed, node: &str) -> Result<u32> {
    Ok(bed.node(node).agent_pid().ok_or("the agent does not run")?)
}

fn scheduler(bed: &Bed) -> Result<u32> {
    Ok(bed.scheduler_pid().ok_or("the scheduler does not run")?)
}
