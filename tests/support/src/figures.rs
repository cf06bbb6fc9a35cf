//! The figures: a flat name → number file that all benches of the project write to, and a line for people.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};

/// Writes figures to a file in which those of other benches stay.
#[derive(Debug)]
pub struct Figures {
    path: PathBuf,
}

impl Figures {
    /// The file of this build: `bench/figures.json` in the target folder that this very program lies in.
    ///
    /// # Errors
    /// If the system does not say where this program lies.
    pub fn of_this_build() -> io::Result<Self> {
        let this = std::env::current_exe()?;
        let target = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).and_then(Path::parent);
        let target = target.ok_or_else(|| io::Error::other("this program lies in no target folder"))?;
        Ok(Self::at(target.join("bench/figures.json")))
    }

    /// Any file; it is made when the first figure is noted.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Notes one figure, to three decimals, prints it, and writes the file, so that a stopped bench loses none it had.
    /// The file is read again each time: two benches that run one after the other keep each other's figures.
    ///
    /// # Errors
    /// If the file cannot be written, or holds something else than names and numbers.
    #[expect(clippy::print_stdout, reason = "a bench's output is its figures")]
    pub fn note(&mut self, name: &str, value: f64) -> io::Result<()> {
        let rounded = (value * 1000.0).round() / 1000.0;
        println!("{name:<36} {rounded}");
        let mut values = self.read()?;
        values.insert(name.to_owned(), rounded);
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let draft = self.path.with_extension("json.new");
        fs::write(&draft, serde_json::to_vec_pretty(&values)?)?;
        fs::rename(&draft, &self.path)
    }

    fn read(&self) -> io::Result<BTreeMap<String, f64>> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| io::Error::other(format!("{}: {error}; move it away", self.path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }
}

/// The CPU time of this thread since it was started: on a machine that others use too, work that never waits took so long.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts it.
    ///
    /// # Panics
    /// If the kernel does not know the CPU time of a thread, which Linux does.
    #[must_use]
    pub fn start() -> Self {
        Self(cpu_time())
    }

    /// The CPU time since then. Only in the thread that started it this means anything.
    ///
    /// # Panics
    /// Like [`Self::start`].
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        cpu_time().saturating_sub(self.0)
    }
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux counts the CPU time of threads").into()
}

/// The middle value; of an even number the lower of the two in the middle.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The smallest value: of a time, what the machine can do when nobody else needs it.
#[must_use]
pub fn best(values: &[f64]) -> f64 {
    values.iter().copied().min_by(f64::total_cmp).unwrap_or(f64::NAN)
}

/// A count as a number to reckon with.
#[must_use]
pub fn number(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "what is counted in benches is far below 2^52")]
    let value = count as f64;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_joins_those_of_others_and_replaces_its_own() {
        let folder = std::env::temp_dir().join(format!("figures-{}", std::process::id()));
        let path = folder.join("figures.json");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&path, r#"{ "theirs": 1.5, "ours": 2.0 }"#).unwrap();

        Figures::at(path.clone()).note("ours", 2.500_04).unwrap();

        let values: BTreeMap<String, f64> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(values, BTreeMap::from([("theirs".to_owned(), 1.5), ("ours".to_owned(), 2.5)]));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_middle_and_the_best_of_some_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(best(&[3.0, 1.0, 2.0]), 1.0);
    }
}
