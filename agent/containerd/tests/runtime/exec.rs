//! Commands beside a container's own process.

use agent_containerd::{Exec, ExecError, ExecRequest};
use api_types::{id::InstanceId, relay::TerminalSize};
use tests_support::wait::wait_until_async;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::bed::{Bed, LIMIT, assignment};

#[tokio::test]
async fn a_command_is_fed_read_and_ends_with_its_own_code() {
    let bed = Bed::new().await;
    let instance = sleeper(&bed).await;

    let script = "cat; echo \"as $(id -u) in $(pwd) by $HOSTNAME\" >&2; exit 3";
    let mut command = run(&bed, &instance, &["sh", "-c", script], true, None).await.expect("runs");
    let mut stdin = command.stdin.take().expect("an input");
    stdin.write_all(b"hello\n").await.expect("taken");
    drop(stdin);
    command.console.close_input().await.expect("closed");
    let (out, err) = (read(&mut command.stdout).await, read(&mut command.stderr).await);
    let code = timeout(LIMIT, command.wait()).await.expect("in time").expect("an exit");
    drop(command);

    assert_eq!((out.as_str(), err.as_str(), code), ("hello\n", "as 0 in / by web-1\n", 3));
    wait_until_async(LIMIT, async || is_clean(&bed)).await;
}

#[tokio::test]
async fn a_terminal_has_the_size_that_it_was_given_last() {
    let bed = Bed::new().await;
    let instance = sleeper(&bed).await;
    let size = |columns, rows| TerminalSize { columns, rows };

    let script = "stty size; read line; stty size; tty";
    let mut command = run(&bed, &instance, &["sh", "-c", script], true, Some(size(101, 31))).await.expect("runs");
    let mut stdout = command.stdout.take().expect("an output");
    let mut seen = String::new();
    while !seen.contains("31 101") {
        let mut piece = [0; 256];
        let length = timeout(LIMIT, stdout.read(&mut piece)).await.expect("in time").expect("read");
        assert!(length > 0, "it ended: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    command.console.resize(size(133, 44)).await.expect("resized");
    command.stdin.as_mut().expect("an input").write_all(b"\r").await.expect("taken");
    let rest = read(&mut Some(stdout)).await;

    assert!(rest.contains("44 133") && rest.contains("/dev/pts/"), "{rest:?}");
    assert_eq!(timeout(LIMIT, command.wait()).await.expect("in time").expect("an exit"), 0);
}

#[tokio::test]
async fn what_cannot_be_run_says_why_and_leaves_nothing() {
    let bed = Bed::new().await;
    let instance = sleeper(&bed).await;

    let missing = run(&bed, &instance, &["nope"], false, None).await.expect_err("not there");
    let absent = run(&bed, &instance, &["/bin/nope"], false, None).await.expect_err("not there");
    let forbidden = run(&bed, &instance, &["/etc/hosts"], false, None).await.expect_err("no program");
    let stranger = InstanceId::new("nobody").expect("a name");
    let nobody = run(&bed, &stranger, &["sh"], false, None).await.expect_err("nobody");

    assert!(matches!(&missing, ExecError::NotFound(line) if line.contains("`nope`")), "{missing:?}");
    assert!(matches!(&absent, ExecError::NotFound(line) if line.contains("/bin/nope")), "{absent:?}");
    assert!(matches!(&forbidden, ExecError::NotExecutable(_)), "{forbidden:?}");
    assert!(matches!(&nobody, ExecError::NotRunning(_)), "{nobody:?}");
    wait_until_async(LIMIT, async || is_clean(&bed)).await;
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_ended_with_all_it_started() {
    let bed = Bed::new().await;
    let instance = sleeper(&bed).await;
    // It hears nothing of a hang-up; neither do its children.
    let script = "trap '' HUP TERM; sleep 100000 & (sleep 100000; true) & echo ready; wait";
    let mut command = run(&bed, &instance, &["sh", "-c", script], true, None).await.expect("runs");
    let mut ready = [0; 6];
    command.stdout.as_mut().expect("an output").read_exact(&mut ready).await.expect("ready");
    wait_until_async(LIMIT, async || bed.processes("web-1.0") >= 4).await;

    drop(command);

    wait_until_async(LIMIT, async || bed.processes("web-1.0") == 1).await;
    wait_until_async(LIMIT, async || is_clean(&bed)).await;
}

#[tokio::test]
async fn the_next_run_of_the_agent_ends_what_the_last_one_left() {
    let bed = Bed::new().await;
    let instance = sleeper(&bed).await;
    let mut command = run(&bed, &instance, &["sh", "-c", "echo ready; sleep 100000"], true, None).await.expect("runs");
    let mut ready = [0; 6];
    command.stdout.as_mut().expect("an output").read_exact(&mut ready).await.expect("ready");
    // As SIGKILL leaves it: nothing of it is cleared.
    std::mem::forget(command);
    assert!(!is_clean(&bed));

    bed.second_adapter().await.sweep().await.expect("swept");

    assert!(is_clean(&bed));
    wait_until_async(LIMIT, async || bed.processes("web-1.0") == 1).await;
}

#[tokio::test]
async fn a_command_ends_with_its_container() {
    let bed = Bed::new().await;
    let instance = sleeper(&bed).await;
    let command = run(&bed, &instance, &["sleep", "100000"], false, None).await.expect("runs");

    bed.adapter.remove(&instance, 0).await.expect("removed");

    let ended = timeout(LIMIT, command.wait()).await.expect("in time");
    assert!(ended.as_ref().map_or(true, |code| *code == 137), "{ended:?}");
    drop(command);
    wait_until_async(LIMIT, async || is_clean(&bed)).await;
}

/// An instance that does nothing.
async fn sleeper(bed: &Bed) -> InstanceId {
    let assignment = assignment("web-1", &["/bin/sleep", "100000"]);
    bed.start(&assignment, 0).await.expect("started");
    assignment.instance
}

async fn run(
    bed: &Bed,
    instance: &InstanceId,
    command: &[&str],
    stdin: bool,
    terminal: Option<TerminalSize>,
) -> Result<Exec, ExecError> {
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    bed.adapter.exec(&ExecRequest { instance, container: None, command: &command, stdin, terminal }).await
}

async fn read(from: &mut Option<tokio::net::unix::pipe::Receiver>) -> String {
    let mut text = String::new();
    let reading = from.as_mut().expect("an output").read_to_string(&mut text);
    timeout(LIMIT, reading).await.expect("in time").expect("text");
    text
}

/// Whether no command has left its pipes.
fn is_clean(bed: &Bed) -> bool {
    !bed.folder().join("run/.exec/web-1.0").exists()
}
