//! `wherry-logger`: writes what one container says to files that are bounded in size and number.
//!
//! containerd's shim starts one per container (`binary://…?directory=D&bytes=B&files=F`) with the ends of the container's
//! stdout and stderr as descriptors 3 and 4; closing descriptor 5 says "ready". Nobody starts it again when it dies, and then the
//! container's next write kills the container: so it never exits before both pipes end, whatever the disk says.

mod descriptors;
mod options;
mod pipe;
mod store;

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    process::ExitCode,
};

use crate::{options::Options, pipe::Pipe, store::Store};

fn main() -> ExitCode {
    descriptors::ignore_signals();
    let Some([stdout, stderr, ready]) = descriptors::inherited() else {
        return ExitCode::from(2);
    };
    // With options that make no sense there is no place to write to; the pipes are emptied all the same.
    let store = Options::parse(std::env::args().skip(1)).map(Store::open);
    drop(ready);
    run([Pipe::new('o', stdout), Pipe::new('e', stderr)], store);
    ExitCode::SUCCESS
}

/// Copies until both pipes have ended.
fn run(mut pipes: [Pipe; 2], mut store: Option<Store>) {
    while pipes.iter().any(Pipe::is_open) {
        let waiting: Vec<&OwnedFd> = pipes.iter().filter_map(Pipe::descriptor).collect();
        let readable = descriptors::wait_readable(&waiting);
        for pipe in &mut pipes {
            if pipe.descriptor().is_some_and(|descriptor| readable.contains(&descriptor.as_raw_fd())) {
                pipe.read(store.as_mut());
            }
        }
    }
    if let Some(store) = &mut store {
        store.tell_dropped();
    }
}
