//! Times to figures: the best of several rounds, with the median beside it.

use std::time::Duration;

use tests_support::figures::{Figures, best, median};

use crate::Result;

/// Notes the best of several rounds under `name`, and their median under `name_median`: other programs on the machine
/// only ever make a round slower.
pub(crate) fn note_time(figures: &mut Figures, name: &str, rounds: &[f64]) -> Result<()> {
    figures.note(name, best(rounds))?;
    Ok(figures.note(&format!("{name}_median"), median(rounds.to_vec()))?)
}

/// The time that so many percent did not exceed.
pub(crate) fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}
