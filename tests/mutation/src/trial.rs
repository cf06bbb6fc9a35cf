//! Tries a tree: the tests of the cores first, then the simulation.

use std::{
    io::{self, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{outcome::Verdict, tree::Tree};

/// The packages whose tests are asked, and the folder of each.
const PACKAGES: [(&str, &str); 4] = [
    ("api-types", "api/types/"),
    ("agent-core", "agent/core/"),
    ("scheduler-placement", "scheduler/placement/"),
    ("scheduler-core", "scheduler/core/"),
];

/// The worlds that are simulated: first seed, how many, nodes, minutes.
const WORLDS: [&str; 4] = ["1", "8", "12", "10"];

/// How long a bug may keep something from ending before that counts as noticed.
const HANGS_AFTER: Duration = Duration::from_secs(2700);

/// Who may notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// The tests beside the bug: properties, scripts, units of its own package.
    Own,
    /// The tests of all cores and of the engine.
    Tests,
    /// The simulation, with fixed seeds and all scenarios.
    Simulation,
}

impl Judge {
    /// What it says of the tree as it is, with a bug in `file` (or in none: then nobody has tests beside it).
    ///
    /// # Errors
    /// When cargo cannot be started.
    pub fn ask(self, tree: &Tree, file: &str) -> io::Result<Verdict> {
        match self {
            Self::Own | Self::Tests => {
                let is_asked = |folder: &str| self == Self::Tests || file.starts_with(folder);
                let asked: Vec<&str> =
                    PACKAGES.iter().filter(|(_, folder)| is_asked(folder)).flat_map(|(name, _)| ["-p", name]).collect();
                if asked.is_empty() {
                    return Ok(Verdict::Passed);
                }
                cargo(tree, ["test", "--locked", "--tests"].into_iter().chain(asked))
            }
            Self::Simulation => {
                let scenarios = ["test", "--locked", "-p", "tests-simulation", "--test", "scenarios"];
                let told = cargo(tree, scenarios.into_iter())?;
                if told != Verdict::Passed {
                    return Ok(told);
                }
                let [seed, count, nodes, minutes] = WORLDS;
                let run =
                    ["run", "--quiet", "--locked", "-p", "tests-simulation", "--", "--shrink", "0", "--seed", seed];
                let size = ["--count", count, "--nodes", nodes, "--minutes", minutes];
                cargo(tree, run.into_iter().chain(size))
            }
        }
    }
}

/// Runs cargo in the tree, in a process group of its own, so that all of it ends when it hangs.
fn cargo<'a>(tree: &Tree, words: impl Iterator<Item = &'a str>) -> io::Result<Verdict> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(tree.sources()).env("CARGO_TARGET_DIR", tree.target());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let (sender, texts) = mpsc::channel();
    read_all(child.stdout.take(), sender.clone());
    read_all(child.stderr.take(), sender);
    let mut output = String::new();
    for _ in 0..2 {
        match texts.recv_timeout(HANGS_AFTER) {
            Ok(text) => output += &text,
            Err(_) => {
                end(&mut child)?;
                return Ok(Verdict::Hung);
            }
        }
    }
    Ok(Verdict::read(child.wait()?.success(), &output))
}

fn read_all(pipe: Option<impl Read + Send + 'static>, sender: mpsc::Sender<String>) {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read until then is told.
            pipe.read_to_end(&mut bytes).ok();
        }
        sender.send(String::from_utf8_lossy(&bytes).into_owned()).ok();
    });
}

/// Ends a process group.
fn end(child: &mut Child) -> io::Result<()> {
    Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
    child.wait()?;
    Ok(())
}
