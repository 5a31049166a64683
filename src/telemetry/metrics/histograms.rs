//! How long things take.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::Method;
use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Counter, Histogram, Meter},
};
use parking_lot::RwLock;
use tenantry_core::{
    DatabaseErrorKind, DriverErrorKind, database_system,
    engine::{EngineObserver, FetchOutcome, StatementEnd},
};

/// Bounds for requests and statements, in seconds. The bounds of the semantic conventions begin at
/// 5 ms, and most statements are faster.
const SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// One histogram, with what it was bound to so far: a measurement needs no list of attributes, and
/// no lock that excludes others but the short one around the buckets of its attributes.
struct Bound<K> {
    histogram: Histogram<f64>,
    bound: RwLock<HashMap<K, BoundHistogram<f64>, foldhash::quality::RandomState>>,
}

impl<K: Hash + Eq> Bound<K> {
    fn new(meter: &Meter, name: &'static str, description: &'static str) -> Self {
        Self {
            histogram: meter
                .f64_histogram(name)
                .with_description(description)
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            bound: RwLock::default(),
        }
    }

    /// There are few keys: they consist of routes, statuses and kinds, never of text from a client.
    fn record(&self, key: K, took: Duration, attributes: impl FnOnce(&K) -> Vec<KeyValue>) {
        let seconds = took.as_secs_f64();
        if let Some(bound) = self.bound.read().get(&key) {
            return bound.record(seconds);
        }
        let mut all = self.bound.write();
        let bound = all.entry(key);
        let bound = bound.or_insert_with_key(|key| self.histogram.bind(&attributes(key)));
        bound.record(seconds);
    }
}

/// The labels of an answer: method, route and status.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// `_OTHER` for an unusual method (semantic conventions, `http.request.method`).
    method: &'static str,
    /// The documented route; `None` if no route matched.
    route: Option<Arc<str>>,
    status: u16,
}

impl Route {
    pub(crate) fn new(method: &Method, route: Option<Arc<str>>, status: u16) -> Self {
        Self {
            method: method_name(method),
            route,
            status,
        }
    }
}

/// A method as the semantic conventions have it.
pub(crate) fn method_name(method: &Method) -> &'static str {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::CONNECT,
        Method::TRACE,
    ];
    const NAMES: [&str; 9] = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE",
    ];
    let known = KNOWN.iter().position(|known| known == method);
    known.map_or("_OTHER", |at| NAMES[at])
}

/// A driver's type. There are only as many as plugins, so each is leaked once, and copies cost
/// nothing.
type DriverName = &'static str;

/// The most of them; whatever comes after goes by [`OTHER_DRIVER`].
const DRIVERS: usize = 16;
const OTHER_DRIVER: DriverName = "other";

/// How long requests, statements and what they wait for take.
pub(super) struct Histograms {
    requests: Bound<Route>,
    statements: Bound<(DriverName, &'static str, Option<DatabaseErrorKind>)>,
    waits: Bound<(DriverName, Option<DatabaseErrorKind>)>,
    openings: Bound<(DriverName, Option<DriverErrorKind>)>,
    fetches: Bound<&'static str>,
    slow: Counter<u64>,
    drivers: [OnceLock<DriverName>; DRIVERS],
}

impl Histograms {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            requests: Bound::new(
                meter,
                "http.server.request.duration",
                "How long requests took to answer.",
            ),
            statements: Bound::new(
                meter,
                "db.client.operation.duration",
                "How long statements took, without the wait for their connection.",
            ),
            waits: Bound::new(
                meter,
                "db.client.connection.wait_time",
                "How long requests waited for a connection, its opening included.",
            ),
            openings: Bound::new(
                meter,
                "db.client.connection.create_time",
                "How long connections took to open.",
            ),
            fetches: Bound::new(
                meter,
                "tenantry.secret.fetch.duration",
                "How long the secret provider took to answer.",
            ),
            slow: meter
                .u64_counter("tenantry.statements.slow")
                .with_description("Statements over their tenant's threshold.")
                .build(),
            drivers: Default::default(),
        }
    }

    pub(super) fn answered(&self, route: Route, took: Duration) {
        self.requests.record(route, took, |route| {
            let mut attributes = vec![
                KeyValue::new("http.request.method", route.method),
                KeyValue::new("http.response.status_code", i64::from(route.status)),
            ];
            attributes.extend(route.route.clone().map(|route| KeyValue::new("http.route", route)));
            if route.status >= 500 {
                attributes.push(KeyValue::new("error.type", route.status.to_string()));
            }
            attributes
        });
    }

    fn driver(&self, driver: &str) -> DriverName {
        // The first that is free takes the name.
        self.drivers
            .iter()
            .map(|kept| *kept.get_or_init(|| Box::leak(driver.into())))
            .find(|kept| *kept == driver)
            .unwrap_or(OTHER_DRIVER)
    }
}

fn system(driver: &str) -> KeyValue {
    KeyValue::new("db.system.name", database_system(driver).to_owned())
}

/// The attributes of what a driver did, which failed if there is an error.
fn of_driver(driver: DriverName, error: Option<&'static str>) -> Vec<KeyValue> {
    let error = error.map(|kind| KeyValue::new("error.type", kind));
    [system(driver)].into_iter().chain(error).collect()
}

impl EngineObserver for Histograms {
    fn statement(&self, statement: &StatementEnd<'_>) {
        let key = (self.driver(statement.driver), statement.operation, statement.error);
        self.statements
            .record(key, statement.elapsed, |&(driver, operation, error)| {
                let mut attributes = of_driver(driver, error.map(DatabaseErrorKind::as_str));
                attributes.push(KeyValue::new("db.operation.name", operation));
                attributes
            });
        if statement.slow {
            self.slow.add(1, &[system(statement.driver)]);
        }
    }

    fn connection_acquired(&self, driver: &str, waited: Duration, kind: Option<DatabaseErrorKind>) {
        let key = (self.driver(driver), kind);
        self.waits.record(key, waited, |(driver, kind)| {
            of_driver(driver, kind.map(DatabaseErrorKind::as_str))
        });
    }

    fn connection_opened(&self, driver: &str, took: Duration, kind: Option<DriverErrorKind>) {
        let key = (self.driver(driver), kind);
        self.openings.record(key, took, |(driver, kind)| {
            of_driver(driver, kind.map(DriverErrorKind::as_str))
        });
    }

    fn secret_fetched(&self, took: Duration, outcome: FetchOutcome) {
        let attributes = |outcome: &&'static str| vec![KeyValue::new("outcome", *outcome)];
        self.fetches.record(outcome.as_str(), took, attributes);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::SdkMeterProvider;

    use super::*;

    #[test]
    fn no_measurement_is_lost_when_several_threads_measure() {
        let registry = prometheus::Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .unwrap();
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let histograms = Histograms::new(&provider.meter("test"));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..10_000 {
                        let route = Route::new(&Method::GET, Some("/a".into()), 200);
                        histograms.answered(route, Duration::from_millis(1));
                    }
                });
            }
        });
        let families = registry.gather();
        let count = families
            .iter()
            .find(|family| family.name() == "http_server_request_duration_seconds")
            .map(|family| family.get_metric()[0].get_histogram().get_sample_count());
        assert_eq!(count, Some(40_000));
    }
}
