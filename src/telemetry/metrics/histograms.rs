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
use tenantry_core::{
    DatabaseErrorKind, DriverErrorKind, database_system,
    engine::{EngineObserver, FetchOutcome, StatementEnd},
};

use super::recorder::Recorder;

/// Bounds for requests and statements, in seconds. The bounds of the semantic conventions begin at
/// 5 ms, and most statements are faster.
const SECONDS: [f64; 15] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// One histogram, with what it was bound to so far: no list of attributes is made for each
/// measurement.
struct Bound<K> {
    histogram: Histogram<f64>,
    bound: HashMap<K, BoundHistogram<f64>, foldhash::quality::RandomState>,
    /// What was measured last, which is mostly measured next: found without a look-up.
    last: Option<(K, BoundHistogram<f64>)>,
}

impl<K: Hash + Eq + Clone> Bound<K> {
    fn new(meter: &Meter, name: &'static str, description: &'static str) -> Self {
        Self {
            histogram: meter
                .f64_histogram(name)
                .with_description(description)
                .with_unit("s")
                .with_boundaries(SECONDS.to_vec())
                .build(),
            bound: HashMap::default(),
            last: None,
        }
    }

    /// There are few keys: they consist of routes, statuses and kinds, never of text from a client.
    fn record(&mut self, key: K, took: Duration, attributes: impl Fn(&K) -> Vec<KeyValue>) {
        if let Some((last, bound)) = &self.last
            && *last == key
        {
            bound.record(took.as_secs_f64());
            return;
        }
        let bound = self.bound.entry(key.clone());
        let bound = bound.or_insert_with_key(|key| self.histogram.bind(&attributes(key)));
        bound.record(took.as_secs_f64());
        self.last = Some((key, bound.clone()));
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

/// What took some time.
pub(super) enum Took {
    Request(Route),
    Statement(DriverName, &'static str, Option<DatabaseErrorKind>),
    Wait(DriverName, Option<DatabaseErrorKind>),
    Opening(DriverName, Option<DriverErrorKind>),
    Fetch(FetchOutcome),
}

/// OpenTelemetry's histograms, which take a lock for each measurement.
pub(super) struct Written {
    requests: Bound<Route>,
    statements: Bound<(DriverName, &'static str, Option<DatabaseErrorKind>)>,
    waits: Bound<(DriverName, Option<DatabaseErrorKind>)>,
    openings: Bound<(DriverName, Option<DriverErrorKind>)>,
    fetches: Bound<&'static str>,
}

impl Written {
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
        }
    }

    pub(super) fn write(&mut self, what: Took, took: Duration) {
        match what {
            Took::Request(route) => self.requests.record(route, took, |route| {
                let mut attributes = vec![
                    KeyValue::new("http.request.method", route.method),
                    KeyValue::new("http.response.status_code", i64::from(route.status)),
                ];
                attributes.extend(route.route.clone().map(|route| KeyValue::new("http.route", route)));
                if route.status >= 500 {
                    attributes.push(KeyValue::new("error.type", route.status.to_string()));
                }
                attributes
            }),
            Took::Statement(driver, operation, kind) => {
                let key = (driver, operation, kind);
                self.statements.record(key, took, |(driver, operation, kind)| {
                    let mut attributes = vec![system(driver), KeyValue::new("db.operation.name", *operation)];
                    attributes.extend(error(kind.map(DatabaseErrorKind::as_str)));
                    attributes
                });
            }
            Took::Wait(driver, kind) => self.waits.record((driver, kind), took, |(driver, kind)| {
                let mut attributes = vec![system(driver)];
                attributes.extend(error(kind.map(DatabaseErrorKind::as_str)));
                attributes
            }),
            Took::Opening(driver, kind) => self.openings.record((driver, kind), took, |(driver, kind)| {
                let mut attributes = vec![system(driver)];
                attributes.extend(error(kind.map(DriverErrorKind::as_str)));
                attributes
            }),
            Took::Fetch(outcome) => self.fetches.record(outcome.as_str(), took, |outcome| {
                vec![KeyValue::new("outcome", *outcome)]
            }),
        }
    }
}

/// Takes measurements from requests.
pub(super) struct Histograms {
    recorder: Arc<Recorder>,
    slow: Counter<u64>,
    drivers: [OnceLock<DriverName>; DRIVERS],
}

impl Histograms {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            recorder: Recorder::start(Written::new(meter)),
            slow: meter
                .u64_counter("tenantry.statements.slow")
                .with_description("Statements over their tenant's threshold.")
                .build(),
            drivers: Default::default(),
        }
    }

    /// Writes what was measured and waits.
    pub(super) fn drain(&self) {
        self.recorder.drain();
    }

    pub(super) fn answered(&self, route: Route, took: Duration) {
        self.recorder.record(Took::Request(route), took);
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

fn error(kind: Option<&'static str>) -> Option<KeyValue> {
    kind.map(|kind| KeyValue::new("error.type", kind))
}

impl EngineObserver for Histograms {
    fn statement(&self, statement: &StatementEnd<'_>) {
        let what = Took::Statement(self.driver(statement.driver), statement.operation, statement.error);
        self.recorder.record(what, statement.elapsed);
        if statement.slow {
            self.slow.add(1, &[system(statement.driver)]);
        }
    }

    fn connection_acquired(&self, driver: &str, waited: Duration, kind: Option<DatabaseErrorKind>) {
        self.recorder.record(Took::Wait(self.driver(driver), kind), waited);
    }

    fn connection_opened(&self, driver: &str, took: Duration, kind: Option<DriverErrorKind>) {
        self.recorder.record(Took::Opening(self.driver(driver), kind), took);
    }

    fn secret_fetched(&self, took: Duration, outcome: FetchOutcome) {
        self.recorder.record(Took::Fetch(outcome), took);
    }
}
