//! How a command fails: what is said, and the exit code.

use api_client::{ClientError, context::ContextError};
use api_types::view::Fault;

use crate::output::{Screen, faults};

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The scheduler could not be asked, or said no.
    Client(ClientError),
    /// Nothing says whom to ask.
    Context(ContextError),
    /// A manifest has faults.
    Manifest { file: String, text: String, faults: Vec<Fault> },
    /// The command line makes no sense.
    Usage(String),
    /// Anything else.
    Other(String),
    /// Anything else, and what to do next.
    Hinted(String, String),
    /// The command line makes no sense here, and what to write instead.
    Misused(String, String),
    /// What was asked for ended otherwise than wanted, with an exit code of its own.
    Ended(String, u8),
    /// All was said already; only the exit code is left.
    Said(u8),
}

/// Exit codes with a meaning of their own.
pub(crate) mod code {
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const CHANGES: u8 = 3;
    pub(crate) const NOT_PLACED: u8 = 4;
    pub(crate) const DID_NOT_WORK: u8 = 5;
    pub(crate) const TIMEOUT: u8 = 6;
    pub(crate) const NOT_ALLOWED: u8 = 7;
    pub(crate) const CONFLICT: u8 = 8;
    pub(crate) const INVALID: u8 = 9;
    pub(crate) const INTERRUPTED: u8 = 130;
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        Self::Context(error)
    }
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Client(ClientError::Refused(problem)) => match problem.status {
                401 | 403 => code::NOT_ALLOWED,
                409 | 412 => code::CONFLICT,
                422 => code::INVALID,
                _ => code::ERROR,
            },
            Self::Client(_) | Self::Other(_) | Self::Hinted(..) => code::ERROR,
            Self::Context(_) | Self::Usage(_) | Self::Misused(..) => code::USAGE,
            Self::Manifest { .. } => code::INVALID,
            Self::Ended(_, code) | Self::Said(code) => *code,
        }
    }

    pub(crate) fn show(&self, screen: &Screen) {
        match self {
            Self::Client(error) => {
                screen.error(&error.to_string(), error.hint());
                if let ClientError::Refused(problem) = error {
                    for fault in &problem.faults {
                        let help = if fault.help.is_empty() { String::new() } else { format!(" ({})", fault.help) };
                        screen.say(&format!("  {}: {}{help}", fault.path, fault.message));
                    }
                }
            }
            Self::Context(error) => screen.error(&error.to_string(), ""),
            Self::Manifest { file, text, faults } => {
                screen.say_raw(&faults::render(file, text, faults, screen));
                let count = match faults.len() {
                    1 => "1 fault".to_owned(),
                    many => format!("{many} faults"),
                };
                screen.error(&format!("{file} has {count}; nothing was changed"), "");
            }
            Self::Usage(message) | Self::Other(message) | Self::Ended(message, _) => screen.error(message, ""),
            Self::Hinted(message, hint) | Self::Misused(message, hint) => screen.error(message, hint),
            Self::Said(_) => {}
        }
    }
}
