//! Writes the latest assignment set, service table, addresses, tries and schedules: to memory at once, for an agent that is started again, and
//! to disk once a second, for a node that is.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_core::Followed;
use api_types::{assignment::AssignmentSet, id::InstanceId, job::Tries, service::ServiceTable};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::last_assignments::{Kept, LastAssignments};

/// The shortest time between two writes of the same thing to disk: flash wears out.
const PAUSE: Duration = Duration::from_secs(1);
/// After each write to memory it rests so many times as long as that took: a large table that changes all the time costs a
/// tenth of a core at most.
const REST_FACTOR: u32 = 9;
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
    pub(crate) tries: Place<BTreeMap<InstanceId, Tries>>,
    pub(crate) followed: Place<Followed>,
}

/// The place of one thing: only the latest counts.
#[derive(Debug)]
pub(crate) struct Place<T> {
    latest: watch::Sender<Option<Arc<T>>>,
    memory: watch::Receiver<Progress<T>>,
    disk: watch::Receiver<Progress<T>>,
    wait_max: Duration,
}

/// How far a medium has come.
#[derive(Debug)]
struct Progress<T> {
    /// What it has.
    written: Option<Arc<T>>,
    /// Whether the next change has to wait.
    rests: bool,
    /// Whether the last write failed: nobody waits for the next.
    failed: bool,
}

/// The part that owns the files. Each keeps a pace of its own: none waits for another.
#[derive(Debug)]
pub(crate) struct Keeper {
    assignments: Paces<AssignmentSet>,
    services: Paces<ServiceTable>,
    addresses: Paces<BTreeMap<InstanceId, Ipv4Addr>>,
    tries: Paces<BTreeMap<InstanceId, Tries>>,
    followed: Paces<Followed>,
}

/// One thing on its way to both media.
#[derive(Debug)]
struct Paces<T> {
    memory: Pace<T>,
    disk: Pace<T>,
}

/// Brings one thing to one medium, again and again.
#[derive(Debug)]
struct Pace<T> {
    last: LastAssignments,
    write: fn(&LastAssignments, &T) -> io::Result<()>,
    latest: watch::Receiver<Option<Arc<T>>>,
    progress: watch::Sender<Progress<T>>,
    /// How long it rests after a write: so long, and so many times as long as the write took.
    rest: (Duration, u32),
}

impl Keeper {
    pub(crate) fn new(last: &LastAssignments) -> (Shelf, Self) {
        Self::with_times(last, PAUSE, WAIT_MAX)
    }

    fn with_times(last: &LastAssignments, pause: Duration, wait_max: Duration) -> (Shelf, Self) {
        let (to_assignments, assignments) = place(last, pause, wait_max);
        let (to_services, services) = place(last, pause, wait_max);
        let (to_addresses, addresses) = place(last, pause, wait_max);
        let (to_tries, tries) = place(last, pause, wait_max);
        let (to_followed, followed) = place(last, pause, wait_max);
        let shelf = Shelf {
            assignments: to_assignments,
            services: to_services,
            addresses: to_addresses,
            tries: to_tries,
            followed: to_followed,
        };
        (shelf, Self { assignments, services, addresses, tries, followed })
    }

    /// Writes until the token is cancelled, and once more what waits then.
    pub(crate) async fn run(self, token: CancellationToken) -> Result<(), Infallible> {
        tokio::join!(
            self.assignments.run(&token),
            self.services.run(&token),
            self.addresses.run(&token),
            self.tries.run(&token),
            self.followed.run(&token)
        );
        Ok(())
    }
}

fn place<T: Kept>(last: &LastAssignments, pause: Duration, wait_max: Duration) -> (Place<T>, Paces<T>) {
    let (latest, wanted) = watch::channel(None);
    let pace = |write, rest| {
        let (progress, seen) = watch::channel(Progress { written: None, rests: false, failed: false });
        (seen, Pace { last: last.clone(), write, latest: wanted.clone(), progress, rest })
    };
    let (memory, to_memory) = pace(LastAssignments::remember, (Duration::ZERO, REST_FACTOR));
    let (disk, to_disk) = pace(LastAssignments::keep, (pause, 0));
    (Place { latest, memory, disk, wait_max }, Paces { memory: to_memory, disk: to_disk })
}

impl<T: Kept> Place<T> {
    /// Puts it there, and does not wait.
    pub(crate) fn put(&self, thing: Arc<T>) {
        self.latest.send_replace(Some(thing));
    }

    /// Puts it there and waits until it outlives this process, and the node where nothing was written less than a second ago:
    /// for no more than 200 ms.
    pub(crate) async fn keep(&mut self, thing: Arc<T>) {
        let disk_rests = self.disk.borrow().rests;
        self.put(thing.clone());
        let kept = async {
            has(&mut self.memory, &thing).await;
            if !disk_rests {
                has(&mut self.disk, &thing).await;
            }
        };
        if timeout(self.wait_max, kept).await.is_err() {
            tracing::warn!("the disk is slow: assignments take effect before they are kept");
        }
    }

    /// Waits until the latest outlives this process: for no more than 200 ms.
    pub(crate) async fn remembered(&mut self) {
        let Some(latest) = self.latest.borrow().clone() else { return };
        if timeout(self.wait_max, has(&mut self.memory, &latest)).await.is_err() {
            tracing::warn!("the run directory is slow: an agent that is killed now would start with what was before");
        }
    }
}

/// Waits until a medium has this very thing, or fails.
async fn has<T>(progress: &mut watch::Receiver<Progress<T>>, thing: &Arc<T>) {
    progress.wait_for(|progress| progress.failed || progress.has(thing)).await.ok();
}

impl<T> Progress<T> {
    fn has(&self, thing: &Arc<T>) -> bool {
        self.written.as_ref().is_some_and(|written| Arc::ptr_eq(written, thing))
    }
}

impl<T: Kept> Paces<T> {
    async fn run(self, token: &CancellationToken) {
        tokio::join!(self.memory.run(token), self.disk.run(token));
    }
}

impl<T: Kept> Pace<T> {
    async fn run(mut self, token: &CancellationToken) {
        loop {
            // Both arms are cancel-safe: a change stays marked until it is read.
            let ends = tokio::select! {
                () = token.cancelled() => true,
                changed = self.latest.changed() => changed.is_err(),
            };
            let begin = Instant::now();
            let written = self.write().await;
            if ends {
                return;
            }
            let (pause, factor) = self.rest;
            let rest = if written { pause + begin.elapsed() * factor } else { RETRY };
            tokio::select! {
                () = sleep(rest) => {}
                () = token.cancelled() => {}
            }
            if self.behind().is_none() {
                self.progress.send_modify(|progress| progress.rests = false);
            }
        }
    }

    /// Writes what the medium does not have yet; `false` if it cannot.
    async fn write(&mut self) -> bool {
        self.latest.mark_unchanged();
        let Some(thing) = self.behind() else { return true };
        let (write, last, wanted) = (self.write, self.last.clone(), thing.clone());
        let outcome = spawn_blocking(move || write(&last, &wanted)).await.map_err(io::Error::other).flatten();
        if let Err(error) = &outcome {
            tracing::error!(%error, "the last assignments cannot be kept: a restart without scheduler would use older ones");
            self.latest.mark_changed();
        }
        let failed = outcome.is_err();
        self.progress.send_modify(|progress| {
            (progress.rests, progress.failed) = (true, failed);
            if !failed {
                progress.written = Some(thing);
            }
        });
        !failed
    }

    /// What the medium does not have yet.
    fn behind(&self) -> Option<Arc<T>> {
        let latest = self.latest.borrow().clone()?;
        (!self.progress.borrow().has(&latest)).then_some(latest)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

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

        assert_eq!((on_disk(&directory), generation(&last)), (Some(1), Some(1)));
        token.cancel();
        running.await.expect("it ends").expect("without failure");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[tokio::test]
    async fn of_sets_in_quick_succession_the_disk_gets_the_latest_and_memory_each() {
        let (last, directory) = open("latest");
        let (mut shelf, keeper) = Keeper::with_times(&last, LONG, LONG);
        let token = CancellationToken::new();
        let running = tokio::spawn(keeper.run(token.clone()));

        for number in 1..=3 {
            shelf.assignments.keep(set(number)).await;
            assert_eq!(on_disk(&directory), Some(1), "the pause is not over");
            assert_eq!(generation(&last), Some(number), "an agent that is started again now finds it");
        }
        token.cancel();
        running.await.expect("it ends").expect("without failure");

        assert_eq!(on_disk(&directory), Some(3));
        fs::write(directory.join("last/assignments.current"), "").expect("writable");
        assert_eq!(on_disk(&directory), Some(1), "the second was never written");
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
        shelf.assignments.disk.wait_for(|progress| !progress.rests).await.expect("the keeper runs");

        assert_eq!(on_disk(&directory), Some(2));
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

    #[tokio::test]
    async fn whoever_asks_waits_until_the_latest_outlives_the_process() {
        let (last, directory) = open("remembered");
        let (mut shelf, keeper) = Keeper::with_times(&last, LONG, LONG);
        let token = CancellationToken::new();
        let running = tokio::spawn(keeper.run(token.clone()));
        shelf.assignments.remembered().await;

        for number in 1..=3 {
            shelf.assignments.put(set(number));
            shelf.assignments.remembered().await;
            assert_eq!(generation(&last), Some(number));
        }

        token.cancel();
        running.await.expect("it ends").expect("without failure");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_directory_that_cannot_be_written() {
        let (last, directory) = open("gone");
        fs::remove_dir_all(&directory).expect("ours");
        let (mut shelf, keeper) = Keeper::with_times(&last, LONG, LONG);
        let token = CancellationToken::new();
        let running = tokio::spawn(keeper.run(token.clone()));

        shelf.assignments.keep(set(1)).await;
        shelf.assignments.remembered().await;

        assert_eq!(generation(&last), None);
        token.cancel();
        running.await.expect("it ends").expect("without failure");
    }

    fn open(name: &str) -> (LastAssignments, PathBuf) {
        let directory = std::env::temp_dir().join(format!("wherry-keeper-{}-{name}", std::process::id()));
        (LastAssignments::open(&directory, &directory.join("run")).expect("a writable directory"), directory)
    }

    /// What a reboot would find.
    fn on_disk(directory: &Path) -> Option<u64> {
        generation(&LastAssignments::open(directory, &directory.join("rebooted")).expect("a writable directory"))
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
            met: Vec::new(),
            ahead: Vec::new(),
            secrets: BTreeMap::new(),
        })
    }
}
