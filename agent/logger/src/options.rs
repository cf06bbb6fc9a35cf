//! The options: pairs of a name and a value, in any order, as the shim takes them from the query.

use std::path::PathBuf;

/// What the agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Where the files go.
    pub(crate) directory: PathBuf,
    /// Size at which a file is followed by the next, in bytes.
    pub(crate) bytes_max: u64,
    /// How many files are kept.
    pub(crate) files_max: u64,
    /// The directory of the container's pipes; `None` = the shim that starts this gives them.
    pub(crate) pipes: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments; `None` where one is missing or makes no sense.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let (mut directory, mut bytes_max, mut files_max, mut pipes) = (None, None, None, None);
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            match name.as_str() {
                "directory" => directory = Some(PathBuf::from(value)).filter(|path| path.is_absolute()),
                "bytes" => bytes_max = value.parse().ok().filter(|bytes| *bytes > 0),
                "files" => files_max = value.parse().ok().filter(|files| *files > 0),
                "pipes" => pipes = Some(PathBuf::from(value)),
                // A later agent may say more.
                _ => {}
            }
        }
        Some(Self { directory: directory?, bytes_max: bytes_max?, files_max: files_max?, pipes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_in_any_order() {
        let parse = |text: &str| Options::parse(text.split_whitespace().map(str::to_owned));

        let options = Options { directory: PathBuf::from("/logs/web"), bytes_max: 4096, files_max: 3, pipes: None };
        assert_eq!(parse("files 3 directory /logs/web bytes 4096"), Some(options.clone()));
        assert_eq!(parse("later yes files 3 bytes 4096 directory /logs/web"), Some(options.clone()));
        let with_pipes = Options { pipes: Some(PathBuf::from("/run/web")), ..options };
        assert_eq!(parse("pipes /run/web files 3 bytes 4096 directory /logs/web"), Some(with_pipes));
        for text in ["", "files 3", "directory logs bytes 1 files 1", "directory /l bytes 0 files 1", "directory"] {
            assert_eq!(parse(text), None, "{text} was accepted");
        }
    }
}
