//! `wrk` while something happens: another program's word for how many requests were answered and how many failed.
//!
//! It counts as failed what is not answered by 2xx or 3xx, what cannot be connected, sent or read to its end, and what takes longer
//! than two seconds. A connection that the server ends after it has announced it with an answer is none of these.

use std::{fs, net::SocketAddr, time::Duration};

use nix::sys::signal::Signal;
use tests_support::{
    cluster::Bed,
    program::{Program, signal},
    wait::try_wait_for,
};

use crate::Result;

/// Connections of each `wrk`, each with a millisecond's rest before a request: the processors are to be left to what happens.
const CONNECTIONS: &str = "-c6";
const REST: &str = "function delay()\n  return 1\nend\n";
/// Far longer than what happens meanwhile; it is asked to end.
const DURATION: &str = "-d1h";
const LIMIT: Duration = Duration::from_secs(30);

/// A `wrk` that goes on until [`Wrk::finish`].
#[derive(Debug)]
pub(crate) struct Wrk(Program);

/// What it counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The requests that were answered, however.
    pub(crate) answered: u64,
    /// Those that failed.
    pub(crate) failed: u64,
}

impl Wrk {
    /// Starts one in the namespace of this name, on connections that it keeps or with one for each request.
    fn start(bed: &Bed, client: &str, server: SocketAddr, keeps: bool) -> Result<Self> {
        let pace = bed.folder().join("wrk-rest.lua");
        fs::write(&pace, REST)?;
        let log = bed.folder().join(format!("wrk-{client}-{keeps}.log"));
        // What is read at the end is of this run alone.
        fs::write(&log, "")?;
        let (pace, url) = (pace.to_string_lossy().into_owned(), format!("http://{server}/"));
        let mut command = vec!["wrk", "-t1", CONNECTIONS, DURATION, "-s", &pace];
        if !keeps {
            command.extend(["-H", "Connection: close"]);
        }
        command.push(&url);
        Ok(Self(Program::start(Some(&bed.netns(client)), &command, &log)?))
    }

    /// Ends it and reads what it says, which is shown if anything failed.
    #[expect(clippy::print_stdout, reason = "what failed is what one runs this for")]
    fn finish(mut self) -> Result<Counted> {
        signal(self.0.pid(), Signal::SIGINT);
        if try_wait_for(LIMIT, || (!self.0.runs()).then_some(())).is_none() {
            self.0.kill();
        }
        let said = self.0.log();
        let counted = counted(&said).ok_or_else(|| format!("wrk said what is not understood: {said}"))?;
        if counted.failed > 0 {
            println!("{said}");
        }
        Ok(counted)
    }
}

/// Reads what `wrk` says at its end; lines of errors are there only if there were some.
fn counted(said: &str) -> Option<Counted> {
    let of = |line: Option<&str>| line.map_or(Some(0), |rest| rest.trim().parse().ok());
    let after = |head: &'static str| said.lines().find_map(move |line| line.trim().strip_prefix(head));
    let answered = said.lines().find_map(|line| line.split_once(" requests in "))?.0.trim().parse().ok()?;
    let mut failed: u64 = of(after("Non-2xx or 3xx responses:"))?;
    for kind in after("Socket errors:").into_iter().flat_map(|kinds| kinds.split(',')) {
        failed += kind.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    }
    Some(Counted { answered, failed })
}

/// Starts one of either kind at each of the servers, in the namespaces of these names.
pub(crate) fn start_all(bed: &Bed, servers: &[(String, SocketAddr)]) -> Result<Vec<Wrk>> {
    let kinds = servers.iter().flat_map(|server| [true, false].map(|keeps| (server, keeps)));
    kinds.map(|((client, server), keeps)| Wrk::start(bed, client, *server, keeps)).collect()
}

/// Ends all and adds up what they counted.
pub(crate) fn finish_all(running: Vec<Wrk>, all: &mut Counted) -> Result<()> {
    for wrk in running {
        let counted = wrk.finish()?;
        all.answered += counted.answered;
        all.failed += counted.failed;
    }
    Ok(())
}
