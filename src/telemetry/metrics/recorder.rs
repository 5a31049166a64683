//! Takes measurements from requests without making one wait for another.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crossbeam_queue::ArrayQueue;
use opentelemetry::metrics::BoundHistogram;
use tokio::sync::Notify;

/// How many measurements may wait. There is a place for what 10,000 requests leave in half a second.
const CAPACITY: usize = 8_192;
/// How long one waits at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// The histograms of OpenTelemetry's SDK take a lock that every request would share. Requests leave their measurements here instead, in a
/// queue without one, and a task of its own writes them into the histograms. Nothing is lost: a request that finds no place writes its
/// measurement by itself.
pub(super) struct Recorder {
    queue: ArrayQueue<(BoundHistogram<f64>, f64)>,
    filling: Notify,
}

impl Recorder {
    /// One whose task lives as long as it does. It must be called within a tokio runtime.
    pub(super) fn start() -> Arc<Self> {
        let recorder = Arc::new(Self {
            queue: ArrayQueue::new(CAPACITY),
            filling: Notify::new(),
        });
        tokio::spawn(write(Arc::downgrade(&recorder)));
        recorder
    }

    /// Notes a duration, in seconds.
    pub(super) fn record(&self, histogram: &BoundHistogram<f64>, duration: Duration) {
        let measurement = (histogram.clone(), duration.as_secs_f64());
        if let Err((histogram, seconds)) = self.queue.push(measurement) {
            histogram.record(seconds);
        }
        if self.queue.len() == CAPACITY / 2 {
            self.filling.notify_one();
        }
    }

    /// Writes what waits.
    pub(super) fn drain(&self) {
        // No more than there can be: whoever records meanwhile must not hold this up for ever.
        for _ in 0..CAPACITY {
            match self.queue.pop() {
                Some((histogram, seconds)) => histogram.record(seconds),
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
    use opentelemetry::{KeyValue, metrics::MeterProvider as _};
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::*;

    #[tokio::test]
    async fn nothing_is_lost_when_more_comes_than_there_is_room_for() {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .unwrap();
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let histogram = provider.meter("test").f64_histogram("h").build();
        let bound = histogram.bind(&[KeyValue::new("a", "b")]);
        let recorder = Recorder::start();
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (recorder, bound) = (recorder.clone(), bound.clone());
                std::thread::spawn(move || {
                    for _ in 0..10_000 {
                        recorder.record(&bound, Duration::from_millis(1));
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
            .find(|family| family.name() == "h")
            .map(|family| family.get_metric()[0].get_histogram().get_sample_count());
        assert_eq!(count, Some(40_000));
    }
}
