//! What the kernel says of a process: memory, CPU time, bytes written.

use std::{fs, io};

/// Resident memory in KiB.
pub(crate) fn rss_kib(pid: u32) -> io::Result<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:")
}

/// The most resident memory that it ever had, in KiB.
pub(crate) fn peak_kib(pid: u32) -> io::Result<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmHWM:")
}

/// Proportional memory in KiB: private pages, and its share of those that others map too.
pub(crate) fn pss_kib(pid: u32) -> io::Result<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss:")
}

/// Bytes that it caused to be written to a device so far.
pub(crate) fn written_bytes(pid: u32) -> io::Result<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/io"))?, "write_bytes:")
}

/// CPU time in seconds so far, of the process and its threads.
pub(crate) fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; fields count from behind it (proc(5): utime and stime are 14 and 15).
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    #[expect(clippy::cast_precision_loss, reason = "a tick count is far below 2^52")]
    Ok(ticks as f64 / 100.0)
}

/// CPU time in nanoseconds so far, of the process and its threads (the scheduler's statistics: the first number of each).
pub(crate) fn cpu_nanoseconds(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that ends meanwhile takes its time along: those that work do not end.
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(sum)
}

fn field(text: &str, name: &str) -> io::Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no field {name}")))
}
