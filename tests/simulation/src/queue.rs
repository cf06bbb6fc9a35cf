//! What is going to happen, in the order of time; at one moment, in the order in which it was asked for.

use std::{cmp::Reverse, collections::BinaryHeap};

use api_types::time::Timestamp;

use crate::event::Event;

/// The order of events: when, whether after what is done from outside, which of them.
type Order = (Timestamp, bool, u64);

/// The queue. Events are large and stay where they are; what is sorted are their numbers.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    order: BinaryHeap<Reverse<(Order, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    sequence: u64,
}

impl Queue {
    /// Adds an event; `is_later`: after the others of its moment.
    pub(crate) fn add(&mut self, at: Timestamp, is_later: bool, event: Event) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.order.push(Reverse(((at, is_later, self.sequence), place)));
    }

    /// Takes the next event that is due until `end`, with its time.
    pub(crate) fn take(&mut self, end: Timestamp) -> Option<(Timestamp, Event)> {
        let Reverse(((at, ..), _)) = self.order.peek()?;
        if *at > end {
            return None;
        }
        let Reverse(((at, ..), place)) = self.order.pop()?;
        self.free.push(place);
        self.events[place].take().map(|event| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_from_outside_then_as_they_were_added() {
        let mut queue = Queue::default();
        for (at, is_later, node) in [(5, true, 1), (3, true, 2), (5, false, 3), (5, true, 4), (9, true, 5)] {
            queue.add(Timestamp(at), is_later, Event::Dial(node));
        }
        let mut taken = Vec::new();

        while let Some((at, event)) = queue.take(Timestamp(5)) {
            let Event::Dial(node) = event else { panic!("{event:?}") };
            taken.push((at.0, node));
        }

        assert_eq!(taken, [(3, 2), (5, 3), (5, 1), (5, 4)]);
        assert!(queue.take(Timestamp(9)).is_some());
    }
}
