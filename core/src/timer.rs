//! A timer for many deadlines in sequence that are rarely missed.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep},
};

/// Further away than anybody waits.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A timer that its owner, a connection or the server, uses for one deadline after another. Tokio's
/// `timeout` makes a timer each time, and registers and removes it under a lock that all tasks
/// share. This one stays registered: if it fires for an old deadline, it is moved to the present
/// one. It belongs to the runtime in which it was made.
#[derive(Debug)]
pub struct Timer(Pin<Box<Sleep>>);

impl Timer {
    /// A timer of this runtime. It must be called within one.
    pub fn here() -> Self {
        Self(Box::pin(sleep(FAR)))
    }

    /// Returns the output of `future`, or `None` if it takes longer than `limit`, counted from its
    /// first wait. (It takes the pinned future by reference, since moving it would store it twice.)
    pub async fn within<F: Future>(&mut self, limit: Duration, mut future: Pin<&mut F>) -> Option<F::Output> {
        let mut deadline = None;
        poll_fn(|context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Some(output));
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + limit.min(FAR));
            let sleep = &mut self.0;
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            // Unconstrained by the task's budget, since the timer must register the task that it
            // wakes.
            while pin!(unconstrained(sleep.as_mut())).poll(context).is_ready() {
                if deadline <= Instant::now() {
                    return Poll::Ready(None);
                }
                sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_is_had_however_often_the_timer_was_used() {
        let mut timer = Timer::here();
        for n in 0..100 {
            let started = Instant::now();
            assert_eq!(timer.within(SECOND, pin!(ready(n))).await, Some(n));
            assert_eq!(timer.within(SECOND, pin!(sleep(SECOND * 9 / 10))).await, Some(()));
            assert_eq!(started.elapsed().as_millis(), 900);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_ends_at_its_own_deadline() {
        let mut timer = Timer::here();
        for limit in [5, 1, 3, 3, 2, 60, 1] {
            // Leaves the timer set to a moment that is none of the next one's.
            assert_eq!(timer.within(SECOND * 4, pin!(sleep(SECOND / 2))).await, Some(()));
            let started = Instant::now();
            assert_eq!(timer.within(SECOND * limit, pin!(pending::<()>())).await, None);
            // Tokio's timers are exact to a millisecond.
            assert_eq!(started.elapsed().as_secs(), u64::from(limit));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_future_that_was_dropped_leaves_a_timer_that_holds() {
        let mut timer = Timer::here();
        {
            let never = pin!(pending::<()>());
            let mut dropped = pin!(timer.within(SECOND, never));
            assert!(futures_util::poll!(dropped.as_mut()).is_pending());
        }
        let started = Instant::now();
        let other = tokio::spawn(async move { timer.within(SECOND * 3, pin!(pending::<()>())).await });
        assert_eq!(other.await.unwrap(), None);
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[test]
    fn a_timer_is_of_the_runtime_in_which_it_was_made() {
        let runtime = || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(1).enable_time().build().unwrap()
        };
        let own = runtime();
        let mut timer = own.block_on(async { Timer::here() });
        for _ in 0..2 {
            let other = runtime();
            let limit = Duration::from_millis(10);
            assert_eq!(
                other.block_on(async { timer.within(limit, pin!(pending::<()>())).await }),
                None
            );
        }
    }
}
