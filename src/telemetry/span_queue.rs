//! Bounds the spans that wait to be sent, and reports those that were dropped. The queue of
//! opentelemetry_sdk drops them too, and reports no more than the first.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// The variable for the most spans that wait, and its default (specification, batch span
/// processor). opentelemetry_sdk reads it for its own queue.
const ROOM_VARIABLE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const ROOM: usize = 2048;

/// How often dropped spans are reported.
const REPORTED_EVERY: Duration = Duration::from_secs(60);

/// The spans that wait.
#[derive(Debug)]
pub(super) struct SpanQueue {
    room: usize,
    waiting: AtomicUsize,
    /// Spans that were dropped and not reported yet.
    dropped: AtomicU64,
}

impl SpanQueue {
    /// Starts a queue that reports dropped spans, whether or not any are being sent. It must be
    /// called within a tokio runtime.
    pub(super) fn start() -> Arc<Self> {
        let room = std::env::var(ROOM_VARIABLE).ok().and_then(|room| room.parse().ok());
        let queue = Arc::new(Self::with_room(room.unwrap_or(ROOM)));
        tokio::spawn(keep_reporting(Arc::downgrade(&queue)));
        queue
    }

    fn with_room(room: usize) -> Self {
        Self {
            room,
            waiting: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
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

    /// Some spans that waited are being sent. Each was admitted.
    pub(super) fn took(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Relaxed);
    }

    /// Reports the spans that were dropped since the last report.
    pub(super) fn report(&self) {
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                room = self.room,
                "spans were dropped: they were made faster than they are sent; lower `observability.trace.sample.rate`"
            );
        }
    }
}

async fn keep_reporting(queue: Weak<SpanQueue>) {
    loop {
        tokio::time::sleep(REPORTED_EVERY).await;
        match queue.upgrade() {
            Some(queue) => queue.report(),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing takes any of them.
    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_is_reported_within_a_minute() {
        let queue = Arc::new(SpanQueue::with_room(2));
        tokio::spawn(keep_reporting(Arc::downgrade(&queue)));
        let admitted = (0..5).filter(|_| queue.admits()).count();
        assert_eq!(admitted, 2);
        assert_eq!(queue.dropped.load(Relaxed), 3);
        tokio::time::sleep(REPORTED_EVERY + Duration::from_secs(1)).await;
        assert_eq!(queue.dropped.load(Relaxed), 0);
        queue.took(2);
        assert!(queue.admits());
    }
}
