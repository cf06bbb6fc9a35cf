//! People at an instance's own process: its input, its terminal, and what becomes of both when others restart.

use std::{
    error::Error,
    io::{Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use api_types::{node::Liveness, view::InstanceView};
use tests_system::cluster::{until_healthy, until_node};

use crate::stage::{LIMIT, Outcome, Stage};

/// The keys by which a person leaves a terminal: Ctrl-P Ctrl-Q.
const LEAVE: &[u8] = b"\x10\x11";

/// A person who types, and reads what comes.
struct Person {
    program: Child,
    keys: ChildStdin,
    screen: ChildStdout,
    seen: String,
    /// How much of that was looked for already.
    read: usize,
}

/// Lines go in and out, through deaths of the agent; the end of the process is the person's.
pub(crate) fn a_process_is_spoken_with(stage: &mut Stage) -> Outcome {
    let script = "while read line; do echo \\\"got $line\\\"; test $line != end || exit 7; done";
    let shell = begin(stage, "stdin = true", script)?;
    let node = shell.node.clone().ok_or("a node")?.to_string();

    let mut person = person(stage, &["attach", "-i", &shell.name])?;
    person.types(b"one\n")?;
    person.until("got one")?;
    let mut other = person_reading(stage, &["attach", "-i", &shell.name])?;
    person.types(b"both\n")?;
    person.until("got both")?;
    other.until("got both")?;
    stage.bed.node_mut(&node).kill_agent();
    let told = person.program.wait()?.code();
    stage.must(told != Some(0), || format!("without the agent the person is told {told:?}"))?;
    other.program.wait()?;
    stage.bed.node_mut(&node).start_agent()?;
    until_node(&stage.bed, &node, Liveness::Ready, LIMIT)?;
    until_healthy(&stage.bed, "shell", 1, LIMIT)?;
    let mut again = self::person(stage, &["attach", "-i", &shell.name])?;
    again.types(b"two\n")?;
    again.until("got two")?;
    let after = one(stage)?;
    stage.must(after.pid == shell.pid && after.restarts == 0, || format!("it was disturbed: {after:?}"))?;
    again.types(b"end\n")?;
    let code = again.program.wait()?.code();

    stage.must(code == Some(7), || format!("the process exited with 7, the person is told {code:?}"))?;
    let written = stage.wherry(&["logs", &shell.name])?;
    let all = ["got one", "got both", "got two", "got end"].iter().all(|line| written.contains(line));
    stage.must(all, || format!("what was shown is kept, too: {written}"))?;
    let refused = stage.bed.wherry(&["attach", "-t", &shell.name])?;
    stage.must(refused.stderr.contains("does not read from a terminal"), || refused.stderr.clone())
}

/// A terminal has a size, keys that are signals, and two that leave; who comes later sees the last of it.
pub(crate) fn a_terminal_is_left_and_found_again(stage: &mut Stage) -> Outcome {
    let script = "trap 'echo kept going' INT; while true; do printf 'name? '; read name && stty size && echo \\\"hello $name\\\"; done";
    let shell = begin(stage, "stdin = true\ntty = true", script)?;

    let mut first = at_terminal(stage, "stty rows 31 cols 101", &format!("attach -it {}", shell.name))?;
    first.until("name? ")?;
    first.types(b"edge\r")?;
    first.until("hello edge")?;
    first.types(b"\x03")?;
    first.until("kept going")?;
    first.types(LEAVE)?;
    first.until("goes on")?;
    let left = first.program.wait()?.code();
    let mut second = at_terminal(stage, "stty rows 44 cols 133", &format!("attach -it {}", shell.name))?;
    second.until("kept going")?;
    second.types(b"again\r")?;
    second.until("hello again")?;
    second.types(LEAVE)?;
    second.program.wait()?;

    stage.must(left == Some(0), || format!("who leaves is told {left:?}"))?;
    stage.must(first.seen.contains("31 101") && second.seen.contains("44 133"), || {
        format!("{}\n{}", first.seen, second.seen)
    })?;
    let after = one(stage)?;
    stage.must(after.pid == shell.pid, || format!("it was disturbed: {after:?}"))?;
    let written = stage.wherry(&["logs", &shell.name])?;
    stage.must(written.contains("hello edge\n") && written.contains("hello again\n"), || format!("{written:?}"))
}

/// A command gets what this program reads, to its end; or this program's terminal.
pub(crate) fn a_command_is_run_with_an_input_and_with_a_terminal(stage: &mut Stage) -> Outcome {
    let image = stage.image.clone();
    let fed = ["run", "-i", "--entrypoint", "/bin/sh", &image, "--", "-c", "cat; echo the end >&2; exit 3"];

    let mut counted = person(stage, &fed)?;
    counted.types(b"one\ntwo\n")?;
    let Person { mut program, keys, mut screen, .. } = counted;
    drop(keys);
    let mut output = String::new();
    screen.read_to_string(&mut output)?;
    let code = program.wait()?.code();
    let run = format!("run -it --name there --entrypoint /bin/sh {image} -- -c 'tty; read line; exit 4'");
    let mut typed = at_terminal(stage, "true", &run)?;
    typed.until("/dev/")?;
    typed.types(b"\r")?;
    let at_terminal = typed.program.wait()?.code();

    stage.must(output == "one\ntwo\n" && code == Some(3), || format!("{code:?}: {output:?}"))?;
    stage.must(at_terminal == Some(4), || format!("{at_terminal:?}: {}", typed.seen))?;
    let left = stage.wherry(&["get", "jobs"])?;
    stage.must(!left.contains("there") && !left.contains("run-"), || format!("it is left: {left}"))
}

/// One replica of a service that runs a script.
fn begin(stage: &mut Stage, more: &str, script: &str) -> Result<InstanceView, Box<dyn Error>> {
    let image = stage.image.clone();
    let command = format!("[\"/bin/sh\", \"-c\", \"{script}\"]");
    stage.apply(&format!("name = \"people\"\n[service.shell]\nimage = \"{image}\"\ncommand = {command}\n{more}\nstop = {{ grace = \"0s\" }}\n"))?;
    until_healthy(&stage.bed, "shell", 1, LIMIT)?;
    one(stage)
}

fn one(stage: &Stage) -> Result<InstanceView, Box<dyn Error>> {
    stage.bed.instances("shell")?.into_iter().next().ok_or_else(|| "an instance".into())
}

fn person(stage: &Stage, arguments: &[&str]) -> Result<Person, Box<dyn Error>> {
    Person::begin(stage.bed.wherry_command(arguments)?)
}

/// A person who has seen that he is there: a first line comes back.
fn person_reading(stage: &Stage, arguments: &[&str]) -> Result<Person, Box<dyn Error>> {
    let mut person = person(stage, arguments)?;
    person.types(b"here\n")?;
    person.until("got here")?;
    Ok(person)
}

/// A person at a terminal, which `script` makes.
fn at_terminal(stage: &Stage, before: &str, arguments: &str) -> Result<Person, Box<dyn Error>> {
    let plain = stage.bed.wherry_command(&[])?;
    let words = std::iter::once(plain.get_program()).chain(plain.get_args());
    let program = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{before}; {program} {arguments}"), "/dev/null"]).env("SHELL", "/bin/sh");
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Person::begin(command)
}

impl Person {
    fn begin(mut command: Command) -> Result<Self, Box<dyn Error>> {
        let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (keys, screen) = (program.stdin.take().ok_or("keys")?, program.stdout.take().ok_or("a screen")?);
        Ok(Self { program, keys, screen, seen: String::new(), read: 0 })
    }

    fn types(&mut self, keys: &[u8]) -> Result<(), Box<dyn Error>> {
        Ok(self.keys.write_all(keys)?)
    }

    /// Reads until the words are there, after those that were waited for before.
    fn until(&mut self, words: &str) -> Result<(), Box<dyn Error>> {
        let mut piece = [0; 4096];
        loop {
            if let Some(at) = self.seen[self.read..].find(words) {
                self.read += at + words.len();
                return Ok(());
            }
            let length = self.screen.read(&mut piece)?;
            if length == 0 {
                return Err(format!("it ended without `{words}`: {:?}", self.seen).into());
            }
            self.seen.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
    }
}
