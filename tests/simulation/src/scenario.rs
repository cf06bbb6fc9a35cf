//! A story that is written down: how large the world is, what chance is like in it, and what is done to it when.

use std::fmt::Write;

use crate::story::Deed;

/// How much goes wrong by chance, beside the deeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// Messages lost, of a thousand; `None` = the seed says.
    pub loss: Option<u64>,
    /// Whether processes end, operations and kernels fail, and agents die at the worst moment.
    pub failures: bool,
}

/// A story that is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Where delays and other small things come from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many virtual minutes with faults.
    pub minutes: u64,
    /// What chance is like.
    pub noise: Noise,
    /// What is done, each with its millisecond since the start.
    pub deeds: Vec<(u64, Deed)>,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// Which line is wrong, and why.
    pub fn read(text: &str) -> Result<Self, String> {
        let noise = Noise { loss: None, failures: true };
        let mut scenario = Self { seed: 0, nodes: 0, minutes: 0, noise, deeds: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                scenario.read_line(line).map_err(|wrong| format!("line {}: {wrong}", number + 1))?;
            }
        }
        if scenario.nodes == 0 || scenario.minutes == 0 {
            return Err("`nodes N` and `minutes M` must be there, and above 0".to_owned());
        }
        scenario.deeds.sort_by_key(|(at, _)| *at);
        Ok(scenario)
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        let (first, rest) = line.split_once(char::is_whitespace).ok_or("one word is not enough")?;
        let number = || rest.trim().parse::<u64>().map_err(|_| format!("`{rest}` is not a number"));
        match first {
            "seed" => self.seed = number()?,
            "nodes" => self.nodes = usize::try_from(number()?).map_err(|_| "too many nodes")?,
            "minutes" => self.minutes = number()?,
            "loss" => self.noise.loss = Some(number()?),
            "failures" => self.noise.failures = rest.trim() == "yes",
            _ => {
                let at = first.parse().map_err(|_| format!("`{first}` is no setting and no millisecond"))?;
                self.deeds.push((at, rest.trim().parse()?));
            }
        }
        Ok(())
    }

    /// The scenario as a file, with a comment above it.
    #[must_use]
    pub fn write(&self, comment: &str) -> String {
        let mut text: String = comment.lines().map(|line| format!("# {line}\n")).collect();
        let failures = if self.noise.failures { "yes" } else { "no" };
        let loss = self.noise.loss.map_or(String::new(), |loss| format!("loss {loss}\n"));
        let (seed, nodes, minutes) = (self.seed, self.nodes, self.minutes);
        text += &format!("seed {seed}\nnodes {nodes}\nminutes {minutes}\n{loss}failures {failures}\n\n");
        for (at, deed) in &self.deeds {
            writeln!(text, "{at:>9}  {deed}").expect("a string takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_the_same() {
        let text = "seed 7\nnodes 9\nminutes 3\nloss 0\nfailures no\n\n     1500  cut site=2 way=up for=4000\n     \
                    2000  apply workload=web replicas=3 version=2 cpu=20 memory=16 host-port=9000 probe\n";

        let scenario = Scenario::read(text).expect("it is well formed");

        assert_eq!(scenario.write(""), text);
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let wrong = |line: &str| Scenario::read(&format!("nodes 3\nminutes 1\n{line}")).expect_err(line);

        assert_eq!(wrong("5 cut site=2 way=left for=1"), "line 3: cut: `way=left` cannot be read");
        assert_eq!(wrong("5 ghost node=1 for=3"), "line 3: ghost: `for` is not known here");
        assert_eq!(wrong("x ghost node=1"), "line 3: `x` is no setting and no millisecond");
        assert_eq!(wrong("5 dance node=1"), "line 3: dance: there is no such deed");
    }
}
