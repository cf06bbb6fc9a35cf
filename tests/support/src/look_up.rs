//! A program that looks names up as any program does, by the C library that it was built with.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// What the program does with its arguments stands at its beginning.
const SOURCE: &str = include_str!("look_up.c");

/// A C library; each asks name servers in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CLibrary {
    /// Of most distributions, linked when the program starts.
    Glibc,
    /// Of small images, linked into the program.
    Musl,
}

/// Builds the program in a folder, and gives its path.
///
/// # Errors
/// If the compiler (`gcc`, `musl-gcc` of Debian's `musl-tools`) is missing or fails, with what it said.
pub fn build(library: CLibrary, folder: &Path) -> io::Result<PathBuf> {
    let (compiler, name, linked): (_, _, &[&str]) = match library {
        CLibrary::Glibc => ("gcc", "look-up-glibc", &[]),
        CLibrary::Musl => ("musl-gcc", "look-up-musl", &["-static"]),
    };
    let (source, program) = (folder.join(format!("{name}.c")), folder.join(name));
    fs::write(&source, SOURCE)?;
    let mut command = Command::new(compiler);
    let output = command.args(["-O1", "-Wall", "-Werror"]).args(linked).arg("-o").arg(&program).arg(&source).output();
    let output = output.map_err(|error| io::Error::new(error.kind(), format!("start {compiler}: {error}")))?;
    if output.status.success() {
        return Ok(program);
    }
    Err(io::Error::other(format!("{compiler}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
