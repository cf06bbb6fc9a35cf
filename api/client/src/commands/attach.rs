//! `wherry attach`: at an instance's own process.

use api_client::RelayWriter;
use api_types::{
    id::InstanceId,
    relay::{RelayEnd, RelayInput, RelayPurpose, RelayRequest, RelayTarget, TerminalSize},
};
use clap::Args;

use crate::{
    commands::{
        Session, name,
        relay::{RawTerminal, ended, follow_size, input, show, wanted_terminal},
    },
    failure::Failure,
    output::clean,
};

/// Show what an instance writes from now on, until it ends
///
/// The exit code is that of the instance's process. Nothing is sent to it unless `-i` says so; then Ctrl-C ends the look, not the
/// instance. With `-t` all keys go to the instance, Ctrl-C too; Ctrl-P Ctrl-Q leave it.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// The instance
    #[arg(value_parser = name::<InstanceId>)]
    instance: InstanceId,
    /// Send what this program reads to the instance's process; its manifest says `stdin = true`
    #[arg(short, long)]
    interactive: bool,
    /// Use the terminal of the instance's process; its manifest says `tty = true`
    #[arg(short = 't', long)]
    tty: bool,
}

/// How a person's time at a process ended.
#[derive(Debug)]
pub(crate) enum Parting {
    /// The process ended.
    Ended(RelayEnd),
    /// The person left.
    Left,
}

pub(crate) async fn run(session: &Session<'_>, arguments: &Attach) -> Result<(), Failure> {
    let terminal = wanted_terminal(arguments.tty)?;
    if arguments.interactive || terminal.is_some() {
        return match join(session, &arguments.instance, arguments.interactive, terminal).await? {
            Parting::Ended(end) => ended(end),
            Parting::Left => {
                session.screen.say(&format!("{} goes on; come back by the same command", arguments.instance));
                Ok(())
            }
        };
    }
    let request = request(&arguments.instance, false, None);
    let (_writer, mut reader) = session.client()?.relay(&request).await?;
    // Lines of a stranger, as `logs` shows them.
    let cleaned = |bytes: Vec<u8>| clean(&String::from_utf8_lossy(&bytes)).into_bytes();
    let shown = if session.screen.data_terminal { cleaned } else { |bytes| bytes };
    ended(show(&mut reader, shown).await?)
}

/// Joins this program's input and output to an instance's process until one of both ends.
///
/// # Errors
/// When the instance cannot be reached, or the connection breaks.
pub(crate) async fn join(
    session: &Session<'_>,
    instance: &InstanceId,
    stdin: bool,
    terminal: Option<TerminalSize>,
) -> Result<Parting, Failure> {
    let (writer, mut reader) = session.client()?.relay(&request(instance, stdin, terminal)).await?;
    let raw = (terminal.is_some() && stdin).then(RawTerminal::enter).transpose()?;
    if terminal.is_some() {
        tokio::spawn(follow_size(writer.clone()));
    }
    let keys = raw.is_some().then(LeavingKeys::default);
    let parting = tokio::select! {
        // What was written before a process ended is shown before its end is told.
        biased;
        end = show(&mut reader, |bytes| bytes) => end.map(Parting::Ended),
        () = feed(writer, stdin, keys) => Ok(Parting::Left),
    };
    if raw.is_some() {
        // The next line of this program begins at the left.
        session.screen.say_raw("\r\n");
    }
    parting
}

pub(crate) fn request(instance: &InstanceId, stdin: bool, terminal: Option<TerminalSize>) -> RelayRequest {
    RelayRequest { target: RelayTarget::Instance(instance.clone()), purpose: RelayPurpose::Attach { stdin, terminal } }
}

/// Sends the input of this process; ends only when the person leaves. Its end is none for the instance, which lives on.
async fn feed(writer: RelayWriter, stdin: bool, mut keys: Option<LeavingKeys>) {
    if stdin {
        let mut pieces = input();
        while let Some(piece) = pieces.recv().await {
            let Some(keys) = &mut keys else {
                writer.send(RelayInput::Data(piece)).await;
                continue;
            };
            let (passed, leaves) = keys.sift(&piece);
            if leaves {
                return;
            }
            writer.send(RelayInput::Data(passed)).await;
        }
    }
    // The writer is kept: without one the other end hears that this program is gone.
    std::future::pending::<()>().await;
}

/// Finds Ctrl-P Ctrl-Q among the keys, as `docker attach` does.
#[derive(Debug, Default)]
struct LeavingKeys {
    /// The first of both was the last that came; it is held back until the next says what was meant.
    is_begun: bool,
}

impl LeavingKeys {
    const FIRST: u8 = 0x10;
    const SECOND: u8 = 0x11;

    /// Gives what goes on to the instance, and whether the person leaves.
    fn sift(&mut self, keys: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(keys.len() + 1);
        for key in keys {
            let was_begun = std::mem::take(&mut self.is_begun);
            if was_begun && *key == Self::SECOND {
                return (passed, true);
            }
            if was_begun {
                passed.push(Self::FIRST);
            }
            if *key == Self::FIRST {
                self.is_begun = true;
            } else {
                passed.push(*key);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_keys_leave_and_all_others_go_on_in_their_order() {
        let mut keys = LeavingKeys::default();

        assert_eq!(keys.sift(b"ls\r"), (b"ls\r".to_vec(), false));
        assert_eq!(keys.sift(b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(keys.sift(b"b\x10\x10"), (b"\x10b\x10".to_vec(), false));
        assert_eq!(keys.sift(b"\x11"), (Vec::new(), true));
        assert_eq!(LeavingKeys::default().sift(b"x\x11\x10\x11y"), (b"x\x11".to_vec(), true));
    }
}
