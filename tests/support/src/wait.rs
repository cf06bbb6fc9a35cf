//! Waits for conditions; the only place in the tests where time passes by itself.

use std::{
    future::Future,
    panic::Location,
    thread,
    time::{Duration, Instant},
};

/// How long to rest between two looks at a condition.
const REST: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not hold within `limit`; the message names the caller's line.
#[track_caller]
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(limit, || condition().then_some(()));
}

/// Waits until `look` finds something, and gives it.
///
/// # Panics
/// If nothing is found within `limit`; the message names the caller's line.
#[track_caller]
pub fn wait_for<T>(limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    let caller = Location::caller();
    try_wait_for(limit, look).unwrap_or_else(|| panic!("{caller}: what is waited for did not happen within {limit:?}"))
}

/// Waits until `look` finds something; `None` when `limit` passes first.
pub fn try_wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        pace(REST);
    }
}

/// Waits until the asynchronous `condition` holds.
///
/// # Panics
/// If it does not hold within `limit`; the message names the caller's line.
#[track_caller]
pub fn wait_until_async(limit: Duration, mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let end = tokio::time::Instant::now() + limit;
        while !condition().await {
            assert!(tokio::time::Instant::now() < end, "{caller}: what is waited for did not happen within {limit:?}");
            tokio::time::sleep(REST).await;
        }
    }
}

/// Rests between two requests of steady traffic. To wait for something, use the functions above.
#[expect(clippy::disallowed_methods, reason = "this is the place where waiting for a condition is made of sleeping")]
pub fn pace(rest: Duration) {
    thread::sleep(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let mut looks = 0;

        let found = wait_for(Duration::from_secs(5), || {
            looks += 1;
            (looks == 3).then_some("here")
        });

        assert_eq!((found, looks), ("here", 3));
    }

    #[test]
    #[should_panic(expected = "wait.rs")]
    fn a_condition_that_never_holds_names_the_caller() {
        wait_until(Duration::from_millis(1), || false);
    }
}
