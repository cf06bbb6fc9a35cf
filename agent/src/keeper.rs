//! Writes the latest assignment set, service table and addresses to disk: a change at once, those that follow it once a second.

use std::{collections::BTreeMap, convert::Infallible, io, net::Ipv4Addr, sync::Arc, time::Duration};

use api_types::{assignment::AssignmentSet, id::InstanceId, service::ServiceTable};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::last_assignments::LastAssignments;

/// The shortest time between two writes of the same thing: flash wears out.
const PAUSE: Duration = Duration::from_secs(1);
/// How long after a failure to try again.
const RETRY: Duration = Duration::from_secs(10);
/// How long whoever hands something over waits for a slow disk.
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Where the control loop puts what shall be kept.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) assignments: Place<AssignmentSet>,
    pub(crate) services: Place<ServiceTable>,
    pub(crate) addresses: Place<BTreeMap<InstanceId, Ipv4Addr>>,
}

/// The place of one thing: only the latest counts.
#[derive(Debug)]
pub(crate) struct Place<T> {
    latest: watch::Sender<Option<Arc<T>>>,
    pauses: watch::Receiver<bool>,
    wait_max: Duration,
}

/// The part that owns the files. Each keeps a pace of its own: none waits for another.
#[derive(Debug)]
pub(crate) struct Keeper {
    assignments: Pace<AssignmentSet>,
    services: Pace<ServiceTable>,
    addresses: Pace<BTreeMap<InstanceId, Ipv4Addr>>,
}

/// How one thing is written.
type Write<T> = fn(&LastAssignments, &T) -> io::Result<()>;

/// Brings one thing to disk, again and again.
#[derive(Debug)]
struct Pace<T> {
    last: LastAssignments,
    write: Write<T>,
    latest: watch::Receiver<Option<Arc<T>>>,
    /// What the disk has.
    written: Option<Arc<T>>,
    /// Whether the next change has to wait.
    pauses: watch::Sender<bool>,
    pause: Duration,
}

impl Keeper {
    pub(crate) fn new(last: &LastAssignments) -> (Shelf, Self) {
        Self::with_times(last, PAUSE, WAIT_MAX)
    }

    fn with_times(last: &LastAssignments, pause: Duration, wait_max: Duration) -> (Shelf, Self) {
        let (to_assignments, assignments) = place(last, LastAssignments::keep_assignments, pause, wait_max);
        let (to_services, services) = place(last, LastAssignments::keep_services, pause, wait_max);
        let (to_addresses, addresses) = place(last, LastAssignments::keep_addresses, pause, wait_max);
        let shelf = Shelf { assignments: to_assignments, services: to_services, addresses: to_addresses };
        (shelf, Self { assignments, services, addresses })
    }

    /// Writes until the token is cancelled, and once more what waits then.
    pub(crate) async fn run(self, token: CancellationToken) -> Result<(), Infallible> {
        tokio::join!(self.assignments.run(&token), self.services.run(&token), self.addresses.run(&token));
        Ok(())
    }
}

fn place<T>(last: &LastAssignments, write: Write<T>, pause: Duration, wait_max: Duration) -> (Place<T>, Pace<T>) {
    let ((latest, wanted), (pauses, paused)) = (watch::channel(None), watch::channel(false));
    let pace = Pace { last: last.clone(), write, latest: wanted, written: None, pauses, pause };
    (Place { latest, pauses: paused, wait_max }, pace)
}

impl<T> Place<T> {
    /// Puts it there, and does not wait.
    pub(crate) fn put(&self, thing: Arc<T>) {
        self.latest.send_replace(Some(thing));
    }

    /// Puts it there and waits until it is durable: for no more than 200 ms, and not at all where another was written less
    /// than a second ago.
    pub(crate) async fn keep(&mut self, thing: Arc<T>) {
        let is_paused = *self.pauses.borrow();
        self.put(thing);
        if !is_paused && timeout(self.wait_max, self.pauses.wait_for(|pauses| *pauses)).await.is_err() {
            tracing::warn!("the disk is slow: assignments take effect before they are kept");
        }
    }
}

impl<T: Send + Sync + 'static> Pace<T> {
    async fn run(mut self, token: &CancellationToken) {
        loop {
            // Both arms are cancel-safe: a change stays marked until it is read.
            let ends = tokio::select! {
                () = token.cancelled() => true,
                changed = self.latest.changed() => changed.is_err(),
            };
            let written = self.write().await;
            if ends {
                return;
            }
            self.pauses.send_replace(true);
            tokio::select! {
                () = sleep(if written { self.pause } else { RETRY }) => {}
                () = token.cancelled() => {}
            }
            if self.behind().is_none() {
                self.pauses.send_replace(false);
            }
        }
    }

    /// Writes what the disk does not have yet; `false` if it cannot.
    async fn write(&mut self) -> bool {
        self.latest.mark_unchanged();
        let Some(thing) = self.behind() else { return true };
        let (write, last, wanted) = (self.write, self.last.clone(), thing.clone());
        let written = spawn_blocking(move || write(&last, &wanted)).await.map_err(io::Error::other).flatten();
        match written {
            Ok(()) => {
                self.written = Some(thing);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the last assignments cannot be kept: a restart without scheduler would use older ones");
                self.latest.mark_changed();
                false
            }
        }
    }

    /// What the disk does not have yet.
    fn behind(&self) -> Option<Arc<T>> {
        let latest = self.latest.borrow().clone()?;
        let is_written = self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, &latest));
        (!is_written).then_some(latest)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use api_types::{
        counter::{Epoch, Generation},
        id::NodeId,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_set_is_durable_before_whoever_hands_it_over_goes_on() {
        let (last, directory) = open("durable");
        let (mut shelf, keeper) = Keeper::with_times(&last, LONG, LONG);
        let token = CancellationToken::new();
        let running = tokio::spawn(keeper.run(token.clone()));

        shelf.assignments.keep(set(1)).await;

        assert_eq!(generation(&last), Some(1));
        token.cancel();
        running.await.expect("it ends").expect("without failure");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[tokio::test]
    async fn of_sets_in_quick_succession_the_latest_is_written_and_nobody_waits() {
        let (last, directory) = open("latest");
        let (mut shelf, keeper) = Keeper::with_times(&last, LONG, LONG);
        let token = CancellationToken::new();
        let running = tokio::spawn(keeper.run(token.clone()));

        for number in 1..=3 {
            shelf.assignments.keep(set(number)).await;
            assert_eq!(generation(&last), Some(1), "the pause is not over");
        }
        token.cancel();
        running.await.expect("it ends").expect("without failure");

        assert_eq!(generation(&last), Some(3));
        fs::write(directory.join("assignments.current"), "").expect("writable");
        assert_eq!(generation(&last), Some(1), "the second was never written");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[tokio::test]
    async fn what_came_in_the_pause_is_written_after_it() {
        let (last, directory) = open("after");
        let (mut shelf, keeper) = Keeper::with_times(&last, Duration::from_millis(1), LONG);
        let token = CancellationToken::new();
        let running = tokio::spawn(keeper.run(token.clone()));

        shelf.assignments.keep(set(1)).await;
        shelf.assignments.keep(set(2)).await;
        shelf.assignments.pauses.wait_for(|pauses| !*pauses).await.expect("the keeper runs");

        assert_eq!(generation(&last), Some(2));
        token.cancel();
        running.await.expect("it ends").expect("without failure");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nobody_for_long() {
        let (last, directory) = open("hangs");
        // A keeper that does not run is the slowest one.
        let (mut shelf, _keeper) = Keeper::new(&last);

        shelf.assignments.keep(set(1)).await;

        assert_eq!(generation(&last), None);
        fs::remove_dir_all(directory).expect("ours");
    }

    fn open(name: &str) -> (LastAssignments, PathBuf) {
        let directory = std::env::temp_dir().join(format!("wherry-keeper-{}-{name}", std::process::id()));
        (LastAssignments::open(directory.clone()).expect("a writable directory"), directory)
    }

    fn generation(last: &LastAssignments) -> Option<u64> {
        last.recover().assignments.map(|set| set.generation.0)
    }

    fn set(generation: u64) -> Arc<AssignmentSet> {
        Arc::new(AssignmentSet {
            epoch: Epoch(1),
            generation: Generation(generation),
            node: NodeId::new("edge-1").expect("a name"),
            subnet: "10.42.1.0/24".parse().expect("a range"),
            assignments: Vec::new(),
        })
    }
}
