//! The figures: a flat name → number file that all benches of the project write to, and a table for people.

use std::{collections::BTreeMap, fs, io, path::Path};

/// Figures by name; those of other benches in the same file are kept.
#[derive(Debug)]
pub(crate) struct Figures {
    path: std::path::PathBuf,
    values: BTreeMap<String, f64>,
}

impl Figures {
    /// Opens `target/bench/figures.json`, or begins it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let values = match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), values })
    }

    /// Notes one figure, prints it, and writes the file, so that a stopped bench loses none it had.
    #[expect(clippy::print_stdout, reason = "a bench's output is its figures")]
    pub(crate) fn note(&mut self, name: &str, value: f64) -> io::Result<()> {
        let rounded = (value * 1000.0).round() / 1000.0;
        println!("{name:<36} {rounded}");
        self.values.insert(name.to_owned(), rounded);
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&self.path, serde_json::to_vec_pretty(&self.values)?)
    }
}

/// The middle value; of an even number the lower of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}
