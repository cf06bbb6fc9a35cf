//! What the command line says.

use std::{fs, path::PathBuf, time::SystemTime};

use tests_simulation::{Options, scenario::Scenario};

/// How to call it.
pub(crate) const USAGE: &str =
    "usage: cargo sim -- [--seed S] [--nodes N] [--hours H | --minutes M] [--count C] [--watch TEXT]
                  [--scenario FILE] [--shrink SECONDS] [--folder FOLDER] [--jobs J] [--done FILE]";

/// Everything the command line says.
#[derive(Debug)]
pub(crate) struct Arguments {
    /// The first simulation.
    pub(crate) options: Options,
    /// How many seeds in a row.
    pub(crate) count: u64,
    /// For how many seconds a story that fails is made shorter.
    pub(crate) shrink_s: u64,
    /// Where such a story is written.
    pub(crate) folder: PathBuf,
    /// How many processes at once.
    pub(crate) jobs: usize,
    /// Seeds that are done are listed here, and left out.
    pub(crate) done: Option<PathBuf>,
}

impl Arguments {
    /// Reads them; without a seed the clock gives one.
    pub(crate) fn read() -> Result<Self, String> {
        let fresh = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut read = Self {
            options: Options::of_seed(fresh, 200, 10),
            count: 1,
            shrink_s: 120,
            folder: PathBuf::from("target/simulation"),
            jobs: 1,
            done: None,
        };
        // The alias ends with `--`, and people write another one.
        let mut words = std::env::args().skip(1).filter(|word| word != "--");
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{name}` needs a value"))?;
            read.take(&name, &value)?;
        }
        Ok(read)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|_| format!("`{name} {value}`: not a number"));
        let size = |number: u64| usize::try_from(number.clamp(1, 8000)).unwrap_or(1);
        match name {
            "--seed" => self.options.seed = number()?,
            "--nodes" => self.options.nodes = size(number()?),
            "--hours" => self.options.minutes = number()?.saturating_mul(60),
            "--minutes" => self.options.minutes = number()?,
            "--count" => self.count = number()?,
            "--watch" => self.options.watch = Some(value.to_owned()),
            "--shrink" => self.shrink_s = number()?,
            "--folder" => self.folder = PathBuf::from(value),
            "--jobs" => self.jobs = size(number()?),
            "--done" => self.done = Some(PathBuf::from(value)),
            "--scenario" => {
                let text = fs::read_to_string(value).map_err(|error| format!("{value} cannot be read: {error}"))?;
                let scenario = Scenario::read(&text).map_err(|wrong| format!("{value}: {wrong}"))?;
                let watch = self.options.watch.take();
                self.options = Options { watch, ..Options::of_scenario(scenario) };
            }
            _ => return Err(format!("`{name}` is not known")),
        }
        Ok(())
    }
}

impl Arguments {
    /// The options as words, for a process that runs one seed.
    pub(crate) fn of_seed(&self, seed: u64) -> Vec<String> {
        let mut words = vec!["--seed".to_owned(), seed.to_string()];
        words.extend(["--nodes".to_owned(), self.options.nodes.to_string()]);
        words.extend(["--minutes".to_owned(), self.options.minutes.to_string()]);
        words.extend(["--shrink".to_owned(), self.shrink_s.to_string()]);
        words.extend(["--folder".to_owned(), self.folder.display().to_string()]);
        words
    }
}
