//! People at a container's own process.

use std::{fs, path::Path, process::Command};

use agent_containerd::{Attached, ExecError, Written};
use api_types::{assignment::Assignment, instance::Exit, relay::TerminalSize};
use tests_support::wait::{wait_until, wait_until_async};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::bed::{Bed, LIMIT, assignment};

/// As many may look on at once.
const PEOPLE_MAX: usize = 8;

#[tokio::test]
async fn a_process_is_fed_read_and_told_the_end_of_its_input() {
    let bed = Bed::new().await;
    let assignment = open("cat; echo the end >&2; exit 3", true, false);
    bed.start(&assignment, 0).await.expect("started");

    let mut attached = bed.adapter.attach(&assignment.instance, true, None).await.expect("attached");
    let mut stdin = attached.stdin.take().expect("an input");
    stdin.write_all(b"hello\n").await.expect("taken");
    let first = next(&attached).await;
    drop(stdin);
    attached.console.close_input().await.expect("closed");
    let second = next(&attached).await;
    let exit = timeout(LIMIT, bed.adapter.wait(&assignment.instance, 0)).await.expect("in time").expect("an exit");

    assert_eq!(first, Some(Written::Stdout(b"hello\n".to_vec())));
    assert_eq!(second, Some(Written::Stderr(b"the end\n".to_vec())));
    assert_eq!((next(&attached).await, exit), (None, Exit::Code(3)));
    bed.adapter.remove(&assignment.instance, 0).await.expect("removed");
    assert_eq!(bed.all_lines(&assignment.instance).await, ["hello", "the end"]);
    assert!(is_clean(&bed));
}

#[tokio::test]
async fn a_terminal_shows_its_last_to_who_comes_late_and_gets_the_size_of_who_came_last() {
    let bed = Bed::new().await;
    let script = "printf 'name? '; read name; stty size; echo \"$name in $TERM\"; read rest";
    let assignment = open(script, true, true);
    bed.start(&assignment, 0).await.expect("started");
    let attach = async |size| bed.adapter.attach(&assignment.instance, true, Some(size)).await.expect("attached");

    let first = attach(TerminalSize { columns: 80, rows: 24 }).await;
    until(&first, "name? ").await;
    let mut second = attach(TerminalSize { columns: 133, rows: 44 }).await;
    until(&second, "name? ").await;
    let mut stdin = second.stdin.take().expect("an input");
    stdin.write_all(b"edge\r").await.expect("taken");
    let seen = [until(&first, "edge in xterm").await, until(&second, "edge in xterm").await];

    assert!(seen.iter().all(|text| text.contains("44 133")), "{seen:?}");
    drop((first, second, stdin));
    // Nobody is there any more: it goes on, and so does its output.
    let third = attach(TerminalSize { columns: 80, rows: 24 }).await;
    until(&third, "edge in xterm").await;
    bed.adapter.remove(&assignment.instance, 0).await.expect("removed");
    assert_eq!(bed.all_lines(&assignment.instance).await, ["name? edge", "44 133", "edge in xterm"]);
}

#[tokio::test]
async fn who_does_not_read_stalls_nobody_and_is_told_what_is_left_out() {
    const LINES: usize = 100_000;
    let bed = Bed::new().await;
    let assignment = open(&format!("read go; seq {LINES} | tee /dev/stderr | tail -n 1; read rest"), true, false);
    bed.start(&assignment, 0).await.expect("started");
    let mut stalled = bed.adapter.attach(&assignment.instance, true, None).await.expect("attached");
    let reader = bed.adapter.attach(&assignment.instance, false, None).await.expect("attached");

    let mut stdin = stalled.stdin.take().expect("an input");
    stdin.write_all(b"go\n").await.expect("taken");
    let whole = loop {
        // The last line comes by stdout, when all that nobody took was written to stderr.
        if let Some(Written::Stdout(line)) = next(&reader).await {
            break line;
        }
    };
    stdin.write_all(b"end\n").await.expect("taken");
    let mut told = String::new();
    while let Some(written) = next(&stalled).await {
        told.push_str(&text(written));
    }

    assert_eq!(whole, format!("{LINES}\n").into_bytes());
    assert!(told.contains("bytes are left out"), "{} bytes came", told.len());
}

#[tokio::test]
async fn a_logger_that_dies_is_replaced_and_nothing_that_is_written_is_lost() {
    let bed = Bed::new().await;
    let assignment = open("while read line; do echo \"got $line\"; done", true, false);
    bed.start(&assignment, 0).await.expect("started");
    let mut attached = bed.adapter.attach(&assignment.instance, true, None).await.expect("attached");
    let mut stdin = attached.stdin.take().expect("an input");

    kill_loggers_of(bed.folder());
    assert_eq!(next(&attached).await, None);
    stdin.write_all(b"one\n").await.expect("taken");
    // As a later run of the agent would.
    let later = bed.second_adapter().await;
    let keeping = tokio::spawn(async move { later.keep_outputs().await });
    let log = bed.folder().join("logs/web-1/1.log");
    wait_until_async(LIMIT, async || fs::read_to_string(&log).is_ok_and(|text| text.contains("got one"))).await;
    let again = bed.adapter.attach(&assignment.instance, false, None).await.expect("attached");
    stdin.write_all(b"two\n").await.expect("taken");

    assert_eq!(next(&again).await, Some(Written::Stdout(b"got two\n".to_vec())));
    keeping.abort();
}

#[tokio::test]
async fn what_a_process_does_not_have_is_refused() {
    let bed = Bed::new().await;
    let plain = assignment("web-1", &["/bin/sleep", "100000"]);
    bed.start(&plain, 0).await.expect("started");
    let mut fed = open("cat", true, false);
    fed.instance = "web-2".parse().expect("a name");
    bed.start(&fed, 0).await.expect("started");
    let size = Some(TerminalSize { columns: 80, rows: 24 });

    let no_input = bed.adapter.attach(&plain.instance, true, None).await.expect_err("it takes none");
    let no_terminal = bed.adapter.attach(&fed.instance, true, size).await.expect_err("it has none");
    let mut people = Vec::new();
    for _ in 0..PEOPLE_MAX {
        people.push(bed.adapter.attach(&fed.instance, true, None).await.expect("connected"));
    }
    let crowd = bed.adapter.attach(&fed.instance, false, None).await.expect("connected");
    let crowded = timeout(LIMIT, crowd.next()).await.expect("in time").expect_err("refused");
    let mut stdin = people[0].stdin.take().expect("an input");
    stdin.write_all(b"hello\n").await.expect("taken");

    assert!(matches!(&no_input, ExecError::NoInput(_)) && no_input.to_string().contains("stdin = true"));
    assert!(matches!(&no_terminal, ExecError::NoTerminal(_)) && no_terminal.to_string().contains("tty = true"));
    assert!(matches!(crowded, ExecError::Crowded));
    for person in &people {
        assert_eq!(next(person).await, Some(Written::Stdout(b"hello\n".to_vec())));
    }
}

#[tokio::test]
async fn a_container_that_never_began_leaves_neither_pipes_nor_a_logger() {
    let bed = Bed::new().await;
    let mut assignment = open("true", true, true);
    assignment.container.command = Some(vec!["/bin/nope".to_owned()]);

    bed.start(&assignment, 0).await.expect_err("there is no such program");

    assert!(is_clean(&bed));
    wait_until(LIMIT, || loggers_of(bed.folder()).is_empty());
}

/// An instance that runs a script with an input or a terminal of its own.
fn open(script: &str, stdin: bool, tty: bool) -> Assignment {
    let mut assignment = assignment("web-1", &["/bin/sh", "-c", script]);
    (assignment.container.stdin, assignment.container.tty) = (stdin, tty);
    assignment
}

async fn next(attached: &Attached) -> Option<Written> {
    timeout(LIMIT, attached.next()).await.expect("in time").expect("no fault")
}

/// Reads until the words were written, and gives all of it.
async fn until(attached: &Attached, words: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(words) {
        let written = next(attached).await;
        seen.push_str(&text(written.unwrap_or_else(|| panic!("it ended after {seen:?}"))));
    }
    seen
}

fn text(written: Written) -> String {
    let (Written::Stdout(bytes) | Written::Stderr(bytes)) = written;
    String::from_utf8(bytes).expect("text")
}

/// The processes of the loggers of a test.
fn loggers_of(folder: &Path) -> Vec<String> {
    let found = Command::new("pgrep").arg("-f").arg(format!("wherry-logger pipes {}", folder.display())).output();
    String::from_utf8(found.expect("pgrep runs").stdout).expect("numbers").lines().map(str::to_owned).collect()
}

fn kill_loggers_of(folder: &Path) {
    for logger in loggers_of(folder) {
        assert!(Command::new("kill").args(["-9", &logger]).status().expect("kill runs").success());
    }
}

/// Whether no pipes are left.
fn is_clean(bed: &Bed) -> bool {
    !bed.folder().join("run/.attach/web-1.0").exists()
}
