//! Reads manifests from files, directories and standard input, and checks them all before any is used.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use api_types::content::TEXTS_BYTES_MAX;
use clap::Args;

use crate::failure::Failure;

/// `-f FILE`, `-f DIRECTORY`, `-f -`.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A manifest, a directory of *.toml, or - for standard input; may be given more than once
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// A manifest that has no fault as far as can be told here.
#[derive(Debug)]
pub(crate) struct Read {
    /// How people know it.
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) workloads: usize,
}

impl Files {
    /// Reads and checks all. The first file with faults ends it: all its faults are reported.
    pub(crate) fn read(&self) -> Result<Vec<Read>, Failure> {
        let mut read = Vec::new();
        for file in &self.files {
            if file.is_dir() {
                for file in manifests_in(file)? {
                    read.push(checked_file(&file)?);
                }
            } else {
                read.push(checked_file(file)?);
            }
        }
        Ok(read)
    }
}

/// Reads and checks one file, or standard input for `-`.
pub(crate) fn checked_file(file: &Path) -> Result<Read, Failure> {
    if file.as_os_str() == "-" {
        let text = io::read_to_string(io::stdin()).map_err(|error| unreadable(file, &error))?;
        return checked("standard input".to_owned(), text, Path::new("."));
    }
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    checked(file.display().to_string(), text, file.parent().unwrap_or(Path::new(".")))
}

/// Reads the files that the manifest's configurations name, from beside it. One with too much in it is not read on.
fn beside(directory: &Path, text: &str) -> Result<Vec<(String, String)>, Failure> {
    let read = |name: String| {
        let path = directory.join(&name);
        let failed = |error: io::Error| {
            let hint = "a `file` of [config.x] is looked for from the manifest's directory, and is text in UTF-8";
            Failure::Hinted(format!("cannot read {}: {error}", path.display()), hint.to_owned())
        };
        let mut content = Vec::new();
        let file = fs::File::open(&path).map_err(failed)?;
        file.take(TEXTS_BYTES_MAX as u64 + 1).read_to_end(&mut content).map_err(failed)?;
        if content.len() > TEXTS_BYTES_MAX {
            let problem =
                format!("{} has more than {TEXTS_BYTES_MAX} bytes, the most of a configuration", path.display());
            return Err(Failure::Other(problem));
        }
        let content = String::from_utf8(content).map_err(|_| failed(io::ErrorKind::InvalidData.into()))?;
        Ok((name, content))
    };
    api_manifest::files(text).into_iter().map(read).collect()
}

fn manifests_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |error| unreadable(directory, &error);
    let entries = fs::read_dir(directory).map_err(unreadable)?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(unreadable)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    if files.is_empty() {
        let hint = "manifests end in .toml; name a file with -f to read it whatever its name";
        return Err(Failure::Hinted(format!("there is no *.toml in {}", directory.display()), hint.to_owned()));
    }
    Ok(files)
}

fn checked(file: String, text: String, directory: &Path) -> Result<Read, Failure> {
    let text = api_manifest::with_files(&text, &beside(directory, &text)?);
    match api_manifest::parse(&text) {
        Ok(manifest) => Ok(Read { file, text, workloads: manifest.workloads.len() }),
        Err(faults) => Err(Failure::Manifest { file, text, faults }),
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Failure {
    Failure::Other(format!("cannot read {}: {error}", file.display()))
}
