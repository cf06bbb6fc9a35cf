//! What reaching into an instance costs: memory while nobody reads, and bytes per second while somebody does.

use std::{
    io::Read,
    process::{Child, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use tests_support::{
    cluster::Bed,
    figures::Figures,
    wait::{pace, wait_until},
};

use crate::{Result, process};

/// What a command writes to somebody who does not read.
const STALLED_GIB: u64 = 10;
/// What a command writes to somebody who does.
const READ_MIB: u32 = 512;
/// How long nobody reads: the command, which writes a GiB in far less, has long been stopped.
const STALL: Duration = Duration::from_secs(20);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Has an instance write more than anything could hold while nobody reads, then less while somebody does.
pub(crate) fn relay(bed: &Bed, image: &str, figures: &mut Figures) -> Result<()> {
    let manifest =
        format!("name = \"bench\"\n[service.talker]\nimage = \"{image}\"\ncommand = [\"sleep\", \"100000\"]\n");
    bed.apply(&manifest, &[])?;
    let runs = || bed.instances("talker").is_ok_and(|views| views.first().is_some_and(|view| view.pid.is_some()));
    wait_until(LIMIT, runs);
    let views = bed.instances("talker")?;
    let view = views.first().ok_or("no instance of talker")?;
    let node = view.node.as_ref().ok_or("an instance without a node")?;
    let agent = bed.node(node.as_str()).agent_pid().ok_or("no agent")?;

    let before = process::peak_kib(agent)?;
    let (mut stalled, output) = flood(bed, &view.name, &format!("count={}", STALLED_GIB << 10))?;
    pace(STALL);
    let grown = process::peak_kib(agent)?.saturating_sub(before);
    stalled.kill()?;
    stalled.wait()?;
    drop(output);
    #[expect(clippy::cast_precision_loss, reason = "a size in KiB is far below 2^52")]
    figures.note("exec_stalled_agent_growth_kib", grown as f64)?;

    let begin = Instant::now();
    let (mut read, mut output) = flood(bed, &view.name, &format!("count={READ_MIB}"))?;
    let mut piece = vec![0; 1 << 20];
    while output.read(&mut piece)? > 0 {}
    read.wait()?;
    figures.note("exec_mib_per_s", f64::from(READ_MIB) / begin.elapsed().as_secs_f64())?;
    bed.wherry(&["delete", "talker", "--yes"])?;
    Ok(())
}

fn flood(bed: &Bed, instance: &str, count: &str) -> Result<(Child, ChildStdout)> {
    let mut command = bed.wherry_command(&["exec", instance, "--", "dd", "if=/dev/zero", "bs=1048576", count])?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    Ok((child, output))
}
