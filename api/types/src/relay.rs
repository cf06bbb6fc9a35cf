//! A relay: two streams of bytes between a person and an instance or a volume, by way of the scheduler and the agent's own
//! connection.

pub mod frame;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    error::ValidationError,
    id::{InstanceId, Name, WorkloadId},
};

/// The most words of a command.
pub const COMMAND_WORDS_MAX: usize = 1024;
/// The longest command, in bytes of all its words.
pub const COMMAND_BYTES_MAX: usize = 64 << 10;
/// The longest path, in bytes, as the kernel has it.
pub const PATH_BYTES_MAX: usize = 4095;
/// The exit code of a command that may not be executed, as shells have it.
pub const NOT_EXECUTABLE: i32 = 126;
/// The exit code of a command that was not found, as shells have it.
pub const NOT_FOUND: i32 = 127;

/// Which relay a person wants, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayRequest {
    /// The other end.
    pub target: RelayTarget,
    /// What for.
    pub purpose: RelayPurpose,
}

/// The other end of a relay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelayTarget {
    /// A running instance.
    Instance(InstanceId),
    /// Data that stays on its node, whether an instance uses it or not.
    Volume(VolumeSlot),
}

/// One volume of one slot of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSlot {
    /// Whose it is; the workload may be deleted since.
    pub workload: WorkloadId,
    /// The volume's name in it.
    pub volume: Name,
    /// The slot.
    pub slot: u32,
}

/// What a relay is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RelayPurpose {
    /// To run a command beside the container's own process, with its user, rights and limits.
    Exec {
        /// The name of the companion in which it runs; `None` = the main container.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<Name>,
        /// Program and arguments; the program is looked for in the container's PATH.
        command: Vec<String>,
        /// Whether the command reads what the person sends; else it finds its input at the end.
        stdin: bool,
        /// The size of the terminal that the command gets; `None` = plain pipes, stdout and stderr apart.
        terminal: Option<TerminalSize>,
    },
    /// To read what the container's own process writes from now on, until it ends: line by line, as it is kept. With `stdin` or
    /// `terminal` byte by byte, as it is written; of a terminal also the last that it showed.
    Attach {
        /// Whether what the person sends goes to the process. An end of it closes the input for good, unless it is a terminal.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stdin: bool,
        /// The size that the process's terminal gets; `None` = it stays as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        terminal: Option<TerminalSize>,
    },
    /// To speak with what listens on a port inside, on the loopback address.
    PortForward {
        /// The port.
        port: u16,
    },
    /// To get a file or directory as a tar archive with one root, named as the path's last part.
    CopyFrom {
        /// Absolute, as the container's process sees it; links are followed within the container.
        path: String,
    },
    /// To put files there from a tar archive with one root. They belong to the user of the container's process.
    CopyTo {
        /// Absolute. An existing directory takes the archive's root under its own name; else the root gets this path.
        path: String,
    },
    /// To get all that is in a volume as a tar archive with one root, named as the volume. Owners are numbers.
    Backup {},
    /// To put an archive's root in the place of a volume that nothing uses: whole, with its owners, or not at all.
    Restore {},
}

impl RelayRequest {
    /// Whether it can be had at all.
    ///
    /// # Errors
    /// When a command is empty or too long, a path is not absolute, or the purpose is none for such a target.
    pub fn check(&self) -> Result<(), ValidationError> {
        self.purpose.check()?;
        let of_volume = matches!(self.purpose, RelayPurpose::Backup {} | RelayPurpose::Restore {});
        match (&self.target, of_volume) {
            (RelayTarget::Instance(_), false) | (RelayTarget::Volume(_), true) => Ok(()),
            (target, _) => Err(ValidationError::new(
                "purpose",
                format!("{} is nothing that {target} can be asked", self.purpose.word()),
            )),
        }
    }
}

impl fmt::Display for RelayTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(instance) => write!(formatter, "`{instance}`"),
            Self::Volume(volume) => volume.fmt(formatter),
        }
    }
}

impl fmt::Display for VolumeSlot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "volume `{}` of slot {} of `{}`", self.volume, self.slot, self.workload)
    }
}

/// Columns and rows of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Characters of a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What a person sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayInput {
    /// Bytes for the other end.
    Data(Vec<u8>),
    /// There are no more bytes.
    End,
    /// The terminal has another size.
    Resize(TerminalSize),
}

/// What a person gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayOutput {
    /// Bytes of the other end; with a terminal, of stderr too.
    Stdout(Vec<u8>),
    /// What a command without terminal writes to stderr.
    Stderr(Vec<u8>),
    /// How it ended: the last that comes.
    Ended(RelayEnd),
}

/// How a relay ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayEnd {
    /// The exit code of the command; 128 and its number for one that a signal ended. [`NOT_FOUND`] and [`NOT_EXECUTABLE`]
    /// with a reason. Of other relays 0, or 1 with a reason.
    pub code: i32,
    /// Why it did not go as wanted; empty when a command ended by itself, however it did.
    pub reason: String,
}

impl RelayPurpose {
    /// One word for people.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exec { .. } => "exec",
            Self::Attach { .. } => "attach",
            Self::PortForward { .. } => "port-forward",
            Self::CopyFrom { .. } => "copy-from",
            Self::CopyTo { .. } => "copy-to",
            Self::Backup {} => "backup",
            Self::Restore {} => "restore",
        }
    }

    /// What it is about, for the log: the command, the port or the path.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Exec { command, .. } => command.join(" "),
            Self::Attach { .. } | Self::Backup {} | Self::Restore {} => String::new(),
            Self::PortForward { port } => port.to_string(),
            Self::CopyFrom { path } | Self::CopyTo { path } => path.clone(),
        }
    }

    fn check(&self) -> Result<(), ValidationError> {
        match self {
            Self::Exec { command, .. } => check_command(command),
            Self::CopyFrom { path } | Self::CopyTo { path } => check_path(path),
            Self::PortForward { port: 0 } => Err(ValidationError::new("port", "0 is not a port")),
            Self::PortForward { .. } | Self::Attach { .. } | Self::Backup {} | Self::Restore {} => Ok(()),
        }
    }
}

fn check_command(command: &[String]) -> Result<(), ValidationError> {
    let fault = |problem: String| Err(ValidationError::new("command", problem));
    if command.first().is_none_or(String::is_empty) {
        return fault("there is none: write it after `--`".to_owned());
    }
    if command.iter().any(|word| word.contains('\0')) {
        return fault("a word holds a NUL character".to_owned());
    }
    if command.len() > COMMAND_WORDS_MAX || command.iter().map(String::len).sum::<usize>() > COMMAND_BYTES_MAX {
        return fault(format!("it is longer than {COMMAND_WORDS_MAX} words or {} KiB", COMMAND_BYTES_MAX >> 10));
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), ValidationError> {
    let fault = |problem: String| Err(ValidationError::new("path", problem));
    if !path.starts_with('/') {
        return fault(format!("`{path}` is not absolute: begin with `/`"));
    }
    if path.contains('\0') || path.len() > PATH_BYTES_MAX {
        return fault(format!("it holds a NUL character, or is longer than {PATH_BYTES_MAX} bytes"));
    }
    if path.split('/').any(|part| part == "..") {
        return fault("`..` is not followed: write where it leads".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused() {
        let exec = |words: &[&str]| RelayPurpose::Exec {
            container: None,
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            stdin: false,
            terminal: None,
        };

        assert!(exec(&["ls", ""]).check().is_ok());
        for refused in [exec(&[]), exec(&[""]), exec(&["a\0b"]), exec(&["x"; COMMAND_WORDS_MAX + 1])] {
            assert!(refused.check().is_err(), "{refused:?}");
        }
        for path in ["relative", "", "/a/../b", "/a\0", &"/a".repeat(PATH_BYTES_MAX)] {
            assert!(RelayPurpose::CopyTo { path: path.to_owned() }.check().is_err(), "{path:?}");
        }
        assert!(RelayPurpose::CopyFrom { path: "/".to_owned() }.check().is_ok());
        assert!(RelayPurpose::PortForward { port: 0 }.check().is_err());
    }

    #[test]
    fn what_is_asked_of_a_volume_is_not_asked_of_an_instance() {
        let instance = RelayTarget::Instance(InstanceId::new("web-1").expect("a name"));
        let workload = "web".parse().expect("a name");
        let volume = RelayTarget::Volume(VolumeSlot { workload, volume: Name::new("data").expect("a name"), slot: 0 });
        let check = |target: &RelayTarget, purpose| RelayRequest { target: target.clone(), purpose }.check();

        assert!(
            check(&instance, RelayPurpose::Attach { stdin: false, terminal: None }).is_ok()
                && check(&volume, RelayPurpose::Backup {}).is_ok()
        );
        assert!(check(&volume, RelayPurpose::Attach { stdin: false, terminal: None }).is_err());
        let error = check(&instance, RelayPurpose::Restore {}).expect_err("an instance is no volume");
        assert_eq!(error.to_string(), "purpose: restore is nothing that `web-1` can be asked");
    }
}
