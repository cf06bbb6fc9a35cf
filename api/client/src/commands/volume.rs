//! `wherry volume`: data that stays on its node.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use api_types::{
    id::{Name, WorkloadId},
    relay::{RelayPurpose, RelayRequest, RelayTarget, VolumeSlot},
};
use clap::{Args, Subcommand};
use tokio::sync::mpsc;

use crate::{
    commands::{Session, cannot, name, relay},
    failure::Failure,
};

/// The size of a piece of an archive, in bytes.
const PIECE_BYTES: usize = 64 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Write all that is in a volume to a tar archive
    ///
    /// An instance that runs goes on writing meanwhile: end it first where the data must be of one moment.
    Backup(Backup),
    /// Put a tar archive in the place of a volume that no instance uses
    ///
    /// The volume is as before until the archive has arrived whole. Owners and modes are those of the archive.
    Restore(Restore),
    /// Give up data, so that instances that wait for it start with none, anywhere
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    #[command(flatten)]
    which: Which,
    /// The file to write; `-` = standard output. One that is there is replaced when the archive is whole
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    which: Which,
    /// The file to read; `-` = standard input
    file: PathBuf,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
struct Which {
    /// Whose it is
    #[arg(value_parser = name::<WorkloadId>)]
    workload: WorkloadId,
    /// The volume's name
    #[arg(value_parser = name::<Name>)]
    volume: Name,
    /// Of this slot
    #[arg(long, default_value_t = 0)]
    slot: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Whose it is
    #[arg(value_parser = name::<WorkloadId>)]
    workload: WorkloadId,
    /// The volume's name
    #[arg(value_parser = name::<Name>)]
    volume: Name,
    /// Of this slot only [default: all]
    #[arg(long)]
    slot: Option<u32>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(session: &Session<'_>, command: &VolumeCommand) -> Result<(), Failure> {
    match command {
        VolumeCommand::Backup(backup) => back_up(session, backup).await,
        VolumeCommand::Restore(restore) => put_back(session, restore).await,
        VolumeCommand::Forget(forget) => give_up(session, forget).await,
    }
}

impl Which {
    fn slot(&self) -> VolumeSlot {
        VolumeSlot { workload: self.workload.clone(), volume: self.volume.clone(), slot: self.slot }
    }

    fn request(&self, purpose: RelayPurpose) -> RelayRequest {
        RelayRequest { target: RelayTarget::Volume(self.slot()), purpose }
    }
}

async fn back_up(session: &Session<'_>, Backup { which, file }: &Backup) -> Result<(), Failure> {
    let request = which.request(RelayPurpose::Backup {});
    if file == Path::new("-") {
        let stdout = |error| cannot(Path::new("standard output"), &error);
        return relay::take(session, &request, move |pieces| write(pieces, io::stdout().lock()).map_err(stdout)).await;
    }
    let mut part = file.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    part.push(".part");
    let part = file.with_file_name(part);
    let made = File::create(&part).map_err(|error| cannot(&part, &error))?;
    let path = part.clone();
    let taken = relay::take(session, &request, move |pieces| {
        let durable = write(pieces, &made).and_then(|()| made.sync_all());
        durable.map_err(|error| cannot(&path, &error))
    });
    let written = taken.await.and_then(|()| fs::rename(&part, file).map_err(|error| cannot(file, &error)));
    if written.is_err() {
        // It is not an archive; the error says why.
        fs::remove_file(&part).ok();
    }
    written?;
    let bytes = fs::metadata(file).map_or(0, |found| found.len());
    session.screen.data(&format!("{} is in {}: {bytes} bytes", which.slot(), file.display()));
    Ok(())
}

async fn put_back(session: &Session<'_>, Restore { which, file, yes }: &Restore) -> Result<(), Failure> {
    let request = which.request(RelayPurpose::Restore {});
    let mut source: Box<dyn Read + Send> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|error| cannot(file, &error))?)
    };
    session.confirm(*yes, &format!("replace all that is in {}", which.slot()))?;
    let path = file.clone();
    let giver = move |pieces| read(&mut source, &pieces).map_err(|error| cannot(&path, &error));
    relay::give(session, &request, giver).await?;
    session.screen.data(&format!("{} is as in {}", which.slot(), file.display()));
    Ok(())
}

async fn give_up(session: &Session<'_>, forget: &Forget) -> Result<(), Failure> {
    let Forget { workload, volume, slot, yes } = forget;
    let of = slot.map(|slot| format!(" of slot {slot}")).unwrap_or_default();
    session.confirm(*yes, &format!("give up the data of volume `{volume}`{of} of `{workload}`"))?;
    let done = session.client()?.forget_volume(workload, volume, *slot).await?;
    session.screen.data(&done.message);
    Ok(())
}

fn write(mut pieces: mpsc::Receiver<Vec<u8>>, mut to: impl Write) -> io::Result<()> {
    while let Some(piece) = pieces.blocking_recv() {
        to.write_all(&piece)?;
    }
    to.flush()
}

/// Reads until the end, or until nobody wants more: the other end says why.
fn read(from: &mut impl Read, pieces: &mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                if pieces.blocking_send(piece[..length].to_vec()).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
