//! Takes measurements from requests without making one wait for another.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::histograms::{Took, Written};

/// How many measurements may wait. They go round in a ring, which is small enough to stay in the
/// processor's cache.
const CAPACITY: usize = 512;
/// As many are written together.
const BATCH: usize = 128;
/// How long one waits at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// Collects measurements for the histograms of OpenTelemetry's SDK, which take a lock that all
/// requests would share and look up the attributes of each measurement. Requests put their
/// measurements into a lock-free queue, and one task writes them into the histograms. No
/// measurement is lost: if the queue is full, the request writes some of them itself.
pub(super) struct Recorder {
    queue: ArrayQueue<(Took, Duration)>,
    filling: Notify,
    written: Mutex<Written>,
}

impl Recorder {
    /// Starts a recorder, with a task that lives as long as it does. It must be called within a
    /// tokio runtime.
    pub(super) fn start(written: Written) -> Arc<Self> {
        let recorder = Arc::new(Self {
            queue: ArrayQueue::new(CAPACITY),
            filling: Notify::new(),
            written: Mutex::new(written),
        });
        tokio::spawn(write(Arc::downgrade(&recorder)));
        recorder
    }

    /// Notes how long something took.
    pub(super) fn record(&self, what: Took, took: Duration) {
        if let Err((what, took)) = self.queue.push((what, took)) {
            self.written.lock().write(what, took);
            self.drain();
        } else if self.queue.len().is_multiple_of(BATCH) {
            self.filling.notify_one();
        }
    }

    /// Writes what waits.
    pub(super) fn drain(&self) {
        let mut written = self.written.lock();
        // Bounded by the capacity, so that concurrent recording cannot keep this loop running.
        for _ in 0..CAPACITY {
            match self.queue.pop() {
                Some((what, took)) => written.write(what, took),
                None => return,
            }
        }
    }
}

async fn write(recorder: Weak<Recorder>) {
    loop {
        let Some(recorder) = recorder.upgrade() else {
            return;
        };
        recorder.drain();
        let timeout = tokio::time::timeout(INTERVAL, recorder.filling.notified());
        // Whether it filled or the time is over makes no difference.
        drop(timeout.await);
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::{super::Route, *};

    #[tokio::test]
    async fn nothing_is_lost_when_more_comes_than_there_is_room_for() {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .unwrap();
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let recorder = Recorder::start(Written::new(&provider.meter("test")));
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let recorder = recorder.clone();
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        let route = Route::new(&Method::GET, Some("/a".into()), 200);
                        recorder.record(Took::Request(route), Duration::from_millis(1));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        recorder.drain();
        let families = registry.gather();
        let count = families
            .iter()
            .find(|family| family.name() == "http_server_request_duration_seconds")
            .map(|family| family.get_metric()[0].get_histogram().get_sample_count());
        assert_eq!(count, Some(40_000));
    }
}
