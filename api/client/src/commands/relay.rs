//! What all that goes through a relay shares: a person's input and output, or files, at its ends.
//!
//! Input and output have threads of their own. Whoever does not read what comes stalls only the thread that writes it, and
//! through the full channels the command at the other end; the connection itself goes on answering.

use std::{
    io::{self, Read, Write},
    thread,
};

use api_client::{RelayReader, RelayWriter};
use api_types::relay::{RelayEnd, RelayInput, RelayOutput, RelayRequest, TerminalSize};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use crate::{
    commands::Session,
    failure::{Failure, code},
};

/// Bytes that are read from the input at once.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces between a thread and the relay.
const PIECES_MAX: usize = 2;

/// The terminal of this process without echo, lines and signals of its own, until it is dropped.
pub(crate) struct RawTerminal(Termios);

impl RawTerminal {
    /// Hands every key on as it is pressed.
    pub(crate) fn enter() -> Result<Self, Failure> {
        let failed = |error: rustix::io::Errno| Failure::Other(format!("cannot use the terminal: {error}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no order.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// The size of the terminal that this process reads from; `None` where it reads from something else.
fn terminal_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    Some(TerminalSize { columns: size.ws_col, rows: size.ws_row })
}

/// The size of the terminal for whoever wants one, which this process must then read from.
pub(crate) fn wanted_terminal(is_wanted: bool) -> Result<Option<TerminalSize>, Failure> {
    let terminal = if is_wanted { terminal_size() } else { None };
    if is_wanted && terminal.is_none() {
        let hint = "leave out `-t`; `-i` alone sends what is read";
        return Err(Failure::Misused("this program does not read from a terminal".to_owned(), hint.to_owned()));
    }
    Ok(terminal)
}

/// Writes what comes until it ends, and says how. `shown` is what of each piece reaches the screen.
pub(crate) async fn show(reader: &mut RelayReader, shown: fn(Vec<u8>) -> Vec<u8>) -> Result<RelayEnd, Failure> {
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    let (done, written) = oneshot::channel();
    thread::spawn(move || done.send(write_all(waiting, shown)));
    let outcome = loop {
        match reader.next().await {
            Ok(RelayOutput::Ended(end)) => break Ok(end),
            Ok(output) => {
                if pieces.send(output).await.is_err() {
                    // Nobody reads it any more, as with `| head`.
                    break Ok(RelayEnd::default());
                }
            }
            Err(error) => break Err(error.into()),
        }
    };
    drop(pieces);
    match written.await {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("cannot write the output: {error}")))
        }
        Ok(Ok(()) | Err(_)) | Err(_) => outcome,
    }
}

/// Sends the input of this process until it ends, and then its end.
pub(crate) async fn feed(writer: RelayWriter) {
    let mut pieces = input();
    while let Some(piece) = pieces.recv().await {
        if !writer.send(RelayInput::Data(piece)).await {
            return;
        }
    }
    writer.send(RelayInput::End).await;
}

/// The input of this process, piece by piece, as far as it is taken.
pub(crate) fn input() -> mpsc::Receiver<Vec<u8>> {
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    // It is never waited for: it may hang in a read for as long as this process lives.
    thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match io::stdin().lock().read(&mut piece) {
                Ok(0) => return,
                Ok(length) if pieces.blocking_send(piece[..length].to_vec()).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    });
    waiting
}

/// Tells the other end whenever the terminal gets another size.
pub(crate) async fn follow_size(writer: RelayWriter) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    while changed.recv().await.is_some() {
        if let Some(size) = terminal_size()
            && !writer.send(RelayInput::Resize(size)).await
        {
            return;
        }
    }
}

/// Has a thread of its own take all that a relay brings; fine only if both ends say so.
pub(crate) async fn take(
    session: &Session<'_>,
    request: &RelayRequest,
    taker: impl FnOnce(mpsc::Receiver<Vec<u8>>) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (_writer, mut reader) = session.client()?.relay(request).await?;
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    let (done, taken) = oneshot::channel();
    thread::spawn(move || done.send(taker(waiting)));
    let end = loop {
        match reader.next().await? {
            RelayOutput::Stdout(piece) => {
                if pieces.send(piece).await.is_err() {
                    break RelayEnd::default();
                }
            }
            RelayOutput::Stderr(_) => {}
            RelayOutput::Ended(end) => break end,
        }
    };
    drop(pieces);
    ended(end).and(taken.await.unwrap_or_else(|_| Err(broken_off())))
}

/// Has a thread of its own give all that a relay shall bring to the other end; fine only if both ends say so.
pub(crate) async fn give(
    session: &Session<'_>,
    request: &RelayRequest,
    giver: impl FnOnce(mpsc::Sender<Vec<u8>>) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (writer, mut reader) = session.client()?.relay(request).await?;
    let (pieces, mut waiting) = mpsc::channel(PIECES_MAX);
    let (done, given) = oneshot::channel();
    thread::spawn(move || done.send(giver(pieces)));
    let giving = async {
        while let Some(piece) = waiting.recv().await {
            if !writer.send(RelayInput::Data(piece)).await {
                break;
            }
        }
        drop(waiting);
        let given = given.await.unwrap_or_else(|_| Err(broken_off()));
        // An archive that is cut is noticed there, too: it lacks its end.
        writer.send(RelayInput::End).await;
        given
    };
    let (given, end) = tokio::join!(giving, last(&mut reader));
    // What the other end says is the cause when both failed.
    ended(end?).and(given)
}

async fn last(reader: &mut RelayReader) -> Result<RelayEnd, Failure> {
    loop {
        if let RelayOutput::Ended(end) = reader.next().await? {
            return Ok(end);
        }
    }
}

fn broken_off() -> Failure {
    Failure::Other("what reads and writes the files here broke off".to_owned())
}

/// The end of a relay as the end of this program: the command's own exit code is this program's.
pub(crate) fn ended(end: RelayEnd) -> Result<(), Failure> {
    let exit = u8::try_from(end.code).unwrap_or(code::ERROR);
    match (exit, end.reason.is_empty()) {
        (0, true) => Ok(()),
        (exit, true) => Err(Failure::Said(exit)),
        (exit, false) => Err(Failure::Ended(end.reason, exit.max(code::ERROR))),
    }
}

fn write_all(mut waiting: mpsc::Receiver<RelayOutput>, shown: fn(Vec<u8>) -> Vec<u8>) -> io::Result<()> {
    while let Some(output) = waiting.blocking_recv() {
        match output {
            RelayOutput::Stdout(bytes) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&shown(bytes))?;
                stdout.flush()?;
            }
            RelayOutput::Stderr(bytes) => io::stderr().lock().write_all(&shown(bytes))?,
            RelayOutput::Ended(_) => {}
        }
    }
    Ok(())
}
