//! How large, how many and how long: the bounds that both ends keep.

use std::time::Duration;

/// The largest message an agent may send, in bytes; a complete report of 5,000 instances fits.
pub const FROM_AGENT_BYTES_MAX: usize = 1 << 20;

/// The largest message the scheduler may send, in bytes; a whole table of 1,000 services with 10 endpoints each is a
/// twentieth of it.
pub const FROM_SCHEDULER_BYTES_MAX: usize = 16 << 20;

/// The longest text an agent may send in one field, in bytes: a reason, a version, a name of a condition.
pub const TEXT_BYTES_MAX: usize = 2048;

/// The longest log line that travels, in bytes; longer ones are cut.
pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;

/// The most bytes of text in one log chunk before it is sent.
pub const LOG_CHUNK_BYTES: usize = 128 << 10;

/// The size of one chunk of an image archive, in bytes.
pub const ARCHIVE_CHUNK_BYTES: usize = 128 << 10;

/// The flow-control window of a stream, in bytes.
pub const WINDOW_BYTES: u32 = 64 << 10;

/// How many logs of one node may be read at once.
pub const LOGS_PER_NODE_MAX: usize = 32;

/// The most bytes in one message of a relay.
pub const RELAY_CHUNK_BYTES: usize = 32 << 10;

/// How many relays one node serves at once; a forwarded connection is one.
pub const RELAYS_PER_NODE_MAX: usize = 32;

/// How many streams an agent may have open at once: its session, its logs, its relays, archives, a renewal.
pub const STREAMS_MAX: u32 = 96;

/// The flow-control window of a connection, in bytes, on both ends: all streams together, so that logs and relays which
/// nobody reads cannot keep a heartbeat or an assignment from passing.
pub const CONNECTION_WINDOW_BYTES: u32 = WINDOW_BYTES * STREAMS_MAX;

/// The largest list of request headers, in bytes.
pub const HEADER_LIST_BYTES_MAX: u32 = 8 << 10;

/// How often a silent connection is pinged.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a ping may stay unanswered before the connection counts as dead.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the first message of a session may take.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Cuts a text to `bytes_max` at a character's edge.
#[must_use]
pub fn cut(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let edge = (0..=bytes_max).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0);
        text.truncate(edge);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("aää".to_owned(), 4), "aä");
        assert_eq!(cut("abc".to_owned(), 3), "abc");
    }
}
