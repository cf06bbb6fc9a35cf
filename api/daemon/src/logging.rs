//! Log lines on stderr: plain text, colours only for people, priorities for the journal.

use std::{
    env, fmt,
    io::{self, IsTerminal},
};

use thiserror::Error;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Compact, Format, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

/// The filter is not one.
#[derive(Debug, Error)]
#[error("`{0}` is not a log filter: use a level such as `info`, or `info,agent=debug`")]
pub struct LoggingError(String);

/// Writes log lines from now on; `filter` is a level, or levels by module (`info,agent=debug`).
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: &str) -> Result<(), LoggingError> {
    let targets = targets(filter).ok_or_else(|| LoggingError(filter.to_owned()))?;
    let builder = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(io::stderr);
    // A second subscriber is refused; the first goes on.
    if env::var_os("JOURNAL_STREAM").is_some_and(|stream| !stream.is_empty()) {
        let format = Format::default().without_time().with_ansi(false).with_level(false).compact();
        tracing::subscriber::set_global_default(
            builder.with_ansi(false).event_format(Journal(format)).finish().with(targets),
        )
        .ok();
    } else {
        let subscriber = builder.with_ansi(io::stderr().is_terminal()).compact().finish().with(targets);
        tracing::subscriber::set_global_default(subscriber).ok();
    }
    Ok(())
}

/// Reads a filter. A word alone must be a level: as a module's name it would silence everything else.
fn targets(filter: &str) -> Option<Targets> {
    let is_level = |part: &str| part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok());
    if filter.split(',').all(is_level) { filter.parse().ok() } else { None }
}

/// Begins each line with its priority, as sd-daemon(3) has it; the journal adds the time.
struct Journal(Format<Compact, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str(priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_says_what_a_right_one_is() {
        for filter in ["inf", "", "info,agent=loud"] {
            let error = start(filter).expect_err("not a filter").to_string();
            assert!(error.contains("use a level such as `info`"), "{error}");
        }
        assert!(targets("info").is_some() && targets("warn,agent=debug,scheduler=off").is_some());
    }

    #[test]
    fn the_journal_gets_priorities() {
        assert_eq!((priority(Level::ERROR), priority(Level::INFO), priority(Level::TRACE)), ("<3>", "<6>", "<7>"));
    }
}
