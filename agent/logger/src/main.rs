//! `wherry-logger`: writes what one container says to files that are bounded in size and number.
//!
//! containerd's shim starts one per container (`binary://…?directory=D&bytes=B&files=F`) with the ends of the container's
//! stdout and stderr as descriptors 3 and 4; closing descriptor 5 says "ready". Nobody starts it again when it dies, and then the
//! container's next write kills the container: so it never exits before both pipes end, whatever the disk says.

mod descriptors;
mod options;
mod pipe;
mod place;
mod store;
mod watchers;

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use crate::{options::Options, pipe::Pipe, place::Place, store::Store, watchers::Watchers};

/// How often to look whether a container that has not written yet was given up before it began.
const LOOK: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    descriptors::ignore_signals();
    let options = Options::parse(std::env::args().skip(1));
    if let Some((options, pipes)) = options.as_ref().and_then(|options| Some((options, options.pipes.as_deref()?))) {
        return serve(options, pipes);
    }
    let Some([stdout, stderr, ready]) = descriptors::inherited() else {
        return ExitCode::from(2);
    };
    // With options that make no sense there is no place to write to; the pipes are emptied all the same.
    let store = options.map(Store::open);
    drop(ready);
    run(&mut [Pipe::new('o', stdout), Pipe::new('e', stderr)], store, None);
    ExitCode::SUCCESS
}

/// Goes on in the background once all is open: the end of the program that was started says "ready".
#[expect(clippy::print_stderr, reason = "the agent reads why it cannot")]
fn serve(options: &Options, pipes: &Path) -> ExitCode {
    let opened = Place::open(pipes).and_then(|place| match place {
        Some(place) => Ok(descriptors::detach()?.then_some(place)),
        None => Ok(None),
    });
    match opened {
        Ok(Some(mut place)) => run(&mut place.pipes, Some(Store::open(options.clone())), Some(&mut place.watchers)),
        Ok(None) => {}
        Err(error) => {
            eprintln!("{}: {error}", pipes.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Copies until all pipes have ended.
fn run(pipes: &mut [Pipe], mut store: Option<Store>, mut watchers: Option<&mut Watchers>) {
    // Pipes with names may never be opened by anybody else.
    let mut limit = watchers.is_some().then_some(LOOK);
    while pipes.iter().any(Pipe::is_open) {
        let mut waiting: Vec<&OwnedFd> = pipes.iter().filter_map(Pipe::descriptor).collect();
        waiting.extend(watchers.iter().flat_map(|watchers| watchers.descriptors()));
        let readable = descriptors::wait_readable(&waiting, limit);
        // First of all: who was connected before something was written sees it.
        if let Some(watchers) = &mut watchers {
            watchers.serve(&readable);
        }
        for pipe in pipes.iter_mut() {
            let has_more = pipe.descriptor().is_some_and(|descriptor| readable.contains(&descriptor.as_raw_fd()));
            if has_more {
                limit = None;
            }
            if has_more || (limit.is_some() && readable.is_empty() && pipe.is_unlinked()) {
                pipe.read(store.as_mut(), watchers.as_deref_mut());
            }
        }
    }
    if let Some(store) = &mut store {
        store.tell_dropped();
    }
}
