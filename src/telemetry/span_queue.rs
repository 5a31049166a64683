//! Bounds the spans that wait to be sent, and reports those that were dropped. The queue of
//! opentelemetry_sdk drops them too, and reports no more than the first.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The variable for the most spans that wait, and its default (specification, batch span
/// processor). opentelemetry_sdk reads it for its own queue.
const ROOM_VARIABLE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const ROOM: usize = 2048;

/// How often dropped spans are reported at most.
const REPORTED_EVERY: Duration = Duration::from_secs(60);

/// The spans that wait.
#[derive(Debug)]
pub(super) struct SpanQueue {
    room: usize,
    waiting: AtomicUsize,
    /// Spans that were dropped and not reported yet.
    dropped: AtomicU64,
    reported: Mutex<Option<Instant>>,
}

impl SpanQueue {
    pub(super) fn of_environment() -> Self {
        let room = std::env::var(ROOM_VARIABLE).ok().and_then(|room| room.parse().ok());
        Self::with_room(room.unwrap_or(ROOM))
    }

    fn with_room(room: usize) -> Self {
        Self {
            room,
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            reported: Mutex::default(),
        }
    }

    /// Whether one more span may wait. If not, it counts as dropped.
    pub(super) fn admits(&self) -> bool {
        let admits = self.waiting.fetch_add(1, Relaxed) < self.room;
        if !admits {
            self.waiting.fetch_sub(1, Relaxed);
            self.dropped.fetch_add(1, Relaxed);
        }
        admits
    }

    /// Some spans that waited are being sent.
    pub(super) fn took(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Relaxed);
        self.report(self.unreported(Instant::now()));
    }

    /// Reports what is left to report: no more spans come.
    pub(super) fn end(&self) {
        self.report(self.dropped.swap(0, Relaxed));
    }

    /// The dropped spans that are to be reported now.
    fn unreported(&self, now: Instant) -> u64 {
        if self.dropped.load(Relaxed) == 0 {
            return 0;
        }
        let mut reported = self.reported.lock();
        if reported.is_some_and(|at| now.duration_since(at) < REPORTED_EVERY) {
            return 0;
        }
        *reported = Some(now);
        self.dropped.swap(0, Relaxed)
    }

    fn report(&self, dropped: u64) {
        if dropped > 0 {
            tracing::warn!(
                dropped,
                room = self.room,
                "spans were dropped: they were made faster than they are sent; lower `observability.trace.sample.rate`"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_reported_once_a_minute() {
        let queue = SpanQueue::with_room(2);
        let admitted = (0..5).filter(|_| queue.admits()).count();
        assert_eq!(admitted, 2);
        let began = Instant::now();
        assert_eq!(queue.unreported(began), 3);
        assert!(!queue.admits());
        assert_eq!(queue.unreported(began + Duration::from_secs(59)), 0);
        assert_eq!(queue.unreported(began + Duration::from_secs(60)), 1);
        assert_eq!(queue.unreported(began + Duration::from_secs(120)), 0);
        queue.took(2);
        assert!(queue.admits());
    }
}
