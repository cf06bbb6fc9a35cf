//! What the store promises: nothing acknowledged is lost by a kill, damage is seen, one owner, no write without a change.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use api_types::counter::Epoch;
use scheduler::store::{Loaded, Store, StoreError, Write};
use scheduler_core::effect::Record;

/// Set in the child that writes until it is killed: the state directory.
const WRITER: &str = "STORE_TEST_WRITER";

/// The child's part of [`a_kill_loses_nothing_that_was_acknowledged`]; without the variable there is nothing to do.
#[test]
fn writer() {
    let Some(directory) = env::var_os(WRITER) else { return };
    let (mut store, loaded) = Store::open(Path::new(&directory)).expect("the parent made it");
    let mut round: u64 = loaded.optional("round").expect("readable").unwrap_or(0);
    loop {
        round += 1;
        // All of one batch or nothing of it: a counter, a record of this round, and one of an earlier round gone.
        let mut batch = vec![Write::put("round".to_owned(), &round), Write::put(format!("r/{round}"), &round)];
        batch.extend(round.checked_sub(10).map(|old| Write::remove(format!("r/{old}"))));
        store.commit(&batch).expect("the disk works");
        println!("committed {round}");
        std::io::stdout().flush().expect("the parent reads");
    }
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let state = State::new("kill");
    Store::create(&state.0, &[]).expect("an empty directory");

    let mut acknowledged = 0;
    for kill_after in [1, 7, 40, 3, 100, 15] {
        let mut child = spawn_writer(&state.0);
        acknowledged = kill_after_lines(&mut child, kill_after, acknowledged);

        let (_, loaded) = Store::open(&state.0).expect("it opens after a kill");
        let round: u64 = loaded.required("round").expect("there");
        assert!(round >= acknowledged, "round {acknowledged} was acknowledged, {round} is there");
        let kept: Vec<u64> = loaded.below("r/").expect("readable").into_values().collect();
        assert_eq!(kept.iter().max(), Some(&round), "a batch is there whole");
        assert!(!kept.contains(&round.saturating_sub(10)), "a batch is there whole");
    }
    assert!(acknowledged >= 166);
}

#[test]
fn one_process_owns_the_store() {
    let state = State::new("owner");
    Store::create(&state.0, &[]).expect("an empty directory");

    let first = open(&state);
    assert!(matches!(Store::open(&state.0), Err(StoreError::Locked(_))));
    drop(first);
    assert!(Store::open(&state.0).is_ok());
}

#[test]
fn a_cluster_is_made_once_and_whole() {
    let state = State::new("once");
    assert!(matches!(Store::open(&state.0), Err(StoreError::Missing(_))));

    Store::create(&state.0, &[Write::put("a".to_owned(), &1)]).expect("an empty directory");

    assert_eq!(state.files(), ["scheduler.db"], "no draft stays");
    assert!(matches!(Store::create(&state.0, &[]), Err(StoreError::Exists(_))));
    assert_eq!(open(&state).1.required::<u32>("a").expect("there"), 1);
}

#[test]
fn what_a_killed_try_left_is_no_hindrance_and_goes() {
    let state = State::new("killed");
    fs::create_dir_all(&state.0).expect("writable");
    for beside in ["", "-wal", "-journal"] {
        fs::write(state.0.join(format!("scheduler.db.new{beside}")), "half of something").expect("writable");
    }

    Store::create(&state.0, &[Write::put("a".to_owned(), &1)]).expect("the leftovers do not matter");

    assert_eq!(state.files(), ["scheduler.db"]);
    assert_eq!(open(&state).1.required::<u32>("a").expect("there"), 1);
}

#[test]
fn each_run_has_a_higher_epoch() {
    let state = State::new("epoch");
    Store::create(&state.0, &[]).expect("an empty directory");

    for run in 1..=3 {
        let (mut store, loaded) = open(&state);
        assert_eq!(store.next_epoch(&loaded).expect("the disk works"), Epoch(run));
    }
}

#[test]
fn a_flipped_bit_is_seen_and_named() {
    let state = State::new("bit");
    let text = "a value that can be found in the file".to_owned();
    Store::create(&state.0, &[Write::put("the-key".to_owned(), &text)]).expect("an empty directory");

    let path = state.0.join("scheduler.db");
    let mut bytes = fs::read(&path).expect("readable");
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("in the file");
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("writable");

    let error = Store::open(&state.0).expect_err("it is damaged");
    assert!(matches!(&error, StoreError::Damaged { key, .. } if key == "the-key"), "{error}");
}

#[test]
fn a_page_of_instances_that_is_not_one_is_refused_whatever_it_says() {
    let page = r#"{"instances":{"v":1,"page":20,"nodes":["n0","n1"],"runs":[{"at":3,"workload":"web","revision":1,"slot":0,
        "placed_at":9,"nodes":[0,1,0]},{"at":8,"workload":"prod/api","revision":2,"slot":7,"placed_at":9,"stop":true,
        "nodes":[1],"devices":{"8":[{"device":"cam-1","kind":"camera","millis":1000}]}}]}}"#;
    let read = |bytes: &[u8]| serde_json::from_slice::<Record>(bytes);
    let Ok(Record::Instances(whole)) = read(page.as_bytes()) else { panic!("the page is one") };
    assert_eq!(whole.instances().count(), 4);
    let written = serde_json::to_vec(&Record::Instances(whole.clone())).expect("plain data");
    assert_eq!(read(&written).expect("readable"), Record::Instances(whole));

    // Every byte replaced by several others: refused, or a page that can be read to its end.
    let mut refused = 0;
    for at in 0..written.len() {
        for byte in [b'0', b'9', b'"', b'}', b',', b'-', 0xff] {
            let mut bytes = written.clone();
            bytes[at] = byte;
            match read(&bytes) {
                Ok(Record::Instances(page)) => assert!(page.instances().count() <= 64),
                Ok(_) => {}
                Err(_) => refused += 1,
            }
        }
        assert!(read(&written[..at]).is_err(), "cut after {at} bytes");
    }
    assert!(refused > written.len(), "{refused}");
}

#[test]
fn a_store_of_a_later_version_is_left_alone() {
    let state = State::new("later");
    Store::create(&state.0, &[]).expect("an empty directory");
    let path = state.0.join("scheduler.db");
    // SQLite's `user_version` is a big-endian number at offset 60 (its file format, 1.3.13).
    let mut bytes = fs::read(&path).expect("readable");
    bytes[60..64].copy_from_slice(&9_u32.to_be_bytes());
    fs::write(&path, bytes).expect("writable");

    assert!(matches!(Store::open(&state.0), Err(StoreError::Newer { found: 9, .. })));
}

#[test]
fn the_write_ahead_log_is_reused() {
    let state = State::new("reuse");
    Store::create(&state.0, &[]).expect("an empty directory");
    let (mut store, _) = open(&state);
    let log = state.0.join("scheduler.db-wal");
    let mut sizes = Vec::new();

    for round in 0..6_000 {
        store.commit(&[Write::put("a".to_owned(), &round)]).expect("the disk works");
        sizes.push(fs::metadata(&log).expect("in use").len());
    }

    // It grows up to a checkpoint, and is then overwritten from its start.
    assert!(sizes.last() < Some(&(6 << 20)), "{:?}", sizes.last());
    assert_eq!(sizes[3_000], sizes[5_999]);
}

#[test]
fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let state = State::new("mode");
    Store::create(&state.0, &[]).expect("an empty directory");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;

    assert_eq!((mode(&state.0), mode(&state.0.join("scheduler.db"))), (0o700, 0o600));
}

struct State(PathBuf);

impl State {
    fn new(purpose: &str) -> Self {
        let directory = env::temp_dir().join(format!("wherry-store-{purpose}-{}", std::process::id()));
        fs::remove_dir_all(&directory).ok();
        Self(directory)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("there").map(|entry| entry.expect("readable").file_name());
        entries.map(|name| name.into_string().expect("text")).collect()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn open(state: &State) -> (Store, Loaded) {
    Store::open(&state.0).expect("it is there and whole")
}

fn spawn_writer(directory: &Path) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "writer", "--nocapture"])
        .env(WRITER, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts")
}

/// Kills the child once it acknowledged so many batches; gives the last acknowledged one.
fn kill_after_lines(child: &mut Child, lines: usize, before: u64) -> u64 {
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    let (mut last, mut seen) = (before, 0);
    let mut line = String::new();
    while reader.read_line(&mut line).expect("text") > 0 {
        if let Some(round) = acknowledged(&line) {
            last = round;
            seen += 1;
            if seen == lines {
                child.kill().expect("it runs");
            }
        }
        line.clear();
    }
    child.wait().expect("it ended");
    last
}

fn acknowledged(line: &str) -> Option<u64> {
    // The test harness writes on the same line before the first.
    line.split_once("committed ")?.1.trim().parse().ok()
}
