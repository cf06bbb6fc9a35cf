//! What the numbers asked for lately: fewer replicas only if no more were asked for all the time.

use std::collections::VecDeque;

use api_types::time::Timestamp;

/// A pause in the numbers that is longer than this begins the window anew, in milliseconds.
const PAUSE_MS_MAX: u64 = 60_000;

/// The wishes of a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Since when there are wishes without a long pause.
    since: Option<Timestamp>,
    /// When the last wish came.
    last: Option<Timestamp>,
    /// Those that no later one is above: times grow, wishes fall.
    wishes: VecDeque<(Timestamp, u32)>,
}

impl Window {
    /// Adds a wish, and forgets those of before the window.
    pub(crate) fn add(&mut self, now: Timestamp, wish: u32, window_ms: u64) {
        if self.last.is_none_or(|last| now.since(last) > PAUSE_MS_MAX) {
            self.wishes.clear();
            self.since = Some(now);
        }
        self.last = Some(now);
        while self.wishes.back().is_some_and(|(_, other)| *other <= wish) {
            self.wishes.pop_back();
        }
        self.wishes.push_back((now, wish));
        while self.wishes.front().is_some_and(|(at, _)| now.since(*at) > window_ms) {
            self.wishes.pop_front();
        }
    }

    /// The highest wish of the window; `None` while less than that is known.
    pub(crate) fn highest(&self, now: Timestamp, window_ms: u64) -> Option<u32> {
        let is_whole = self.since.is_some_and(|since| now.since(since) >= window_ms);
        self.wishes.front().filter(|_| is_whole).map(|(_, wish)| *wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_wish_of_the_window_counts_once_the_window_is_whole() {
        let mut window = Window::default();
        let mut add = |second: u64, wish| {
            window.add(Timestamp(second * 1_000), wish, 60_000);
            window.highest(Timestamp(second * 1_000), 60_000)
        };

        assert_eq!(add(0, 5), None);
        assert_eq!(add(30, 2), None);
        assert_eq!(add(60, 3), Some(5));
        assert_eq!(add(90, 1), Some(3));
        assert_eq!(add(121, 1), Some(1));
    }

    #[test]
    fn a_long_pause_begins_the_window_anew() {
        let mut window = Window::default();
        window.add(Timestamp(0), 5, 60_000);

        window.add(Timestamp(61_000), 1, 60_000);

        assert_eq!(window.highest(Timestamp(61_000), 60_000), None);
    }
}
