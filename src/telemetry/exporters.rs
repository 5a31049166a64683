//! What sends telemetry away: to a collector over gRPC or HTTP, or to standard output.

use std::{
    fmt,
    num::ParseIntError,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{MeterProviderBuilder, PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};
use parking_lot::Mutex;

use crate::config::{Endpoint, Metrics, OtlpProtocol, Trace};

/// What sends telemetry cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` cannot be used")]
pub struct ExporterError {
    key: &'static str,
    #[source]
    source: ExporterBuildError,
}

/// How long no request is traced after the exporter gave up sending spans. It is short, so that
/// tracing resumes soon after the collector is back.
const PAUSE: Duration = Duration::from_secs(1);
/// Longer than all tries of one batch take together.
const LONGEST_EXPORT: Duration = Duration::from_secs(60);

/// Whether the collector receives telemetry. It logs one line when sending begins to fail, and one
/// when it works again, since the exporter retries all the time.
pub(super) struct Delivery {
    what: &'static str,
    created: Instant,
    /// In milliseconds since `created`; 0 if nothing failed. Each request reads it.
    paused_until: AtomicU64,
    state: Mutex<DeliveryState>,
}

#[derive(Default)]
struct DeliveryState {
    is_failing: bool,
    /// Spans that were not delivered since sending began to fail.
    lost: usize,
}

impl Delivery {
    fn of(what: &'static str) -> Arc<Self> {
        Arc::new(Self {
            what,
            created: Instant::now(),
            paused_until: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Whether a span made now would probably be lost: the last batch failed less than a second
    /// ago, or another is being tried after a failure.
    pub(super) fn is_paused(&self) -> bool {
        match self.paused_until.load(Ordering::Relaxed) {
            // The usual case does not read the clock.
            0 => false,
            until => self.created.elapsed().as_millis() < u128::from(until),
        }
    }

    fn pause(&self, pause: Duration) {
        let until = self.created.elapsed() + pause;
        self.paused_until.store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// A batch is about to be sent.
    fn tries(&self) {
        if self.state.lock().is_failing {
            self.pause(LONGEST_EXPORT);
        }
    }

    fn note(&self, sent: &OTelSdkResult, spans: usize) {
        let mut state = self.state.lock();
        match sent {
            Ok(()) if !state.is_failing => {}
            Ok(()) => {
                let before = std::mem::take(&mut *state);
                self.paused_until.store(0, Ordering::Relaxed);
                let spans_lost = (before.lost > 0).then_some(before.lost);
                tracing::info!(what = self.what, spans_lost, "telemetry is sent again");
            }
            Err(error) => {
                if !state.is_failing {
                    tracing::warn!(what = self.what, error = %error, "telemetry cannot be sent; requests are served as before");
                }
                state.is_failing = true;
                state.lost += spans;
                self.pause(PAUSE);
            }
        }
    }
}

/// An exporter that reports to a [`Delivery`] whether sending worked.
pub(super) struct WatchedExporter<E> {
    exporter: E,
    pub(super) delivery: Arc<Delivery>,
}

impl<E> fmt::Debug for WatchedExporter<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An exporter's own may hold the headers it sends.
        f.debug_struct("WatchedExporter").finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for WatchedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.delivery.tries();
        let sent = self.exporter.export(batch).await;
        self.delivery.note(&sent, spans);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for WatchedExporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let sent = self.exporter.export(metrics).await;
        self.delivery.note(&sent, 0);
        sent
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// The address that OpenTelemetry's own variable for this signal names, as it stands; else that of
/// the configuration, with the path of the signal if the protocol is HTTP (specification, OTLP
/// exporter).
fn endpoint(variable: &str, configured: &str, protocol: OtlpProtocol, path: &str) -> String {
    match std::env::var(variable) {
        Ok(own) if !own.is_empty() => own,
        _ if protocol == OtlpProtocol::Http => format!("{}/{path}", configured.trim_end_matches('/')),
        _ => configured.to_owned(),
    }
}

/// The exporter that sends spans to the configured endpoint.
pub(super) fn span_exporter(settings: &Trace) -> Result<SpanSender, ExporterError> {
    let Endpoint::Url(configured) = &settings.endpoint else {
        return Ok(SpanSender::Stdout(opentelemetry_stdout::SpanExporter::default()));
    };
    let url = endpoint(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        configured,
        settings.protocol,
        "v1/traces",
    );
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let built = match settings.protocol {
        OtlpProtocol::Grpc => builder.with_tonic().with_endpoint(url).build(),
        OtlpProtocol::Http => builder.with_http().with_endpoint(url).build(),
    };
    let exporter = built.map_err(|source| ExporterError {
        key: "observability.trace.endpoint",
        source,
    })?;
    Ok(SpanSender::Otlp(WatchedExporter {
        exporter,
        delivery: Delivery::of("traces"),
    }))
}

/// What sends spans.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum SpanSender {
    /// To standard output.
    Stdout(opentelemetry_stdout::SpanExporter),
    /// To a collector.
    Otlp(WatchedExporter<opentelemetry_otlp::SpanExporter>),
}

/// What reads the metrics and sends them.
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum MetricReader {
    /// To standard output.
    Stdout(PeriodicReader<opentelemetry_stdout::MetricExporter>),
    /// To a collector.
    Otlp(PeriodicReader<WatchedExporter<opentelemetry_otlp::MetricExporter>>),
}

impl MetricReader {
    /// Has it read the metrics that `provider` will collect.
    pub(super) fn of(self, provider: MeterProviderBuilder) -> MeterProviderBuilder {
        match self {
            Self::Stdout(reader) => provider.with_reader(reader),
            Self::Otlp(reader) => provider.with_reader(reader),
        }
    }
}

/// `OTEL_METRIC_EXPORT_INTERVAL`, in milliseconds, if it is set.
fn interval_variable() -> Option<Result<Duration, ParseIntError>> {
    let value = std::env::var("OTEL_METRIC_EXPORT_INTERVAL").ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.parse().map(Duration::from_millis))
}

/// Logs which variables are ignored because their values are invalid (specification, environment
/// variables). Call it after the log has started.
pub(super) fn warn_of_ignored_variables() {
    if let Some(Err(error)) = interval_variable() {
        tracing::warn!(
            error = %error,
            "OTEL_METRIC_EXPORT_INTERVAL is ignored: it is not a number of milliseconds; `observability.metrics.interval` is used"
        );
    }
}

/// What sends the metrics every `interval`, or as often as `OTEL_METRIC_EXPORT_INTERVAL` says, in
/// milliseconds.
pub(super) fn metric_reader(settings: &Metrics) -> Result<MetricReader, ExporterError> {
    let interval = interval_variable().and_then(Result::ok);
    let interval = interval.unwrap_or(settings.interval.into());
    let Endpoint::Url(configured) = &settings.endpoint else {
        let reader = PeriodicReader::builder(opentelemetry_stdout::MetricExporter::default());
        return Ok(MetricReader::Stdout(reader.with_interval(interval).build()));
    };
    let variable = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
    let url = endpoint(variable, configured, settings.protocol, "v1/metrics");
    let builder = opentelemetry_otlp::MetricExporter::builder();
    let built = match settings.protocol {
        OtlpProtocol::Grpc => builder.with_tonic().with_endpoint(url).build(),
        OtlpProtocol::Http => builder.with_http().with_endpoint(url).build(),
    };
    let exporter = built.map_err(|source| ExporterError {
        key: "observability.metrics.endpoint",
        source,
    })?;
    let watched = WatchedExporter {
        exporter,
        delivery: Delivery::of("metrics"),
    };
    let reader = PeriodicReader::builder(watched).with_interval(interval).build();
    Ok(MetricReader::Otlp(reader))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use opentelemetry_sdk::error::OTelSdkError;

    use super::*;

    #[derive(Debug)]
    struct Collector {
        is_there: AtomicBool,
    }

    impl SpanExporter for Collector {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            match self.is_there.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err(OTelSdkError::InternalFailure("away".to_owned())),
            }
        }
    }

    #[tokio::test]
    async fn spans_for_an_absent_collector_are_made_only_now_and_then() {
        let watched = WatchedExporter {
            exporter: Collector {
                is_there: AtomicBool::new(true),
            },
            delivery: Delivery::of("traces"),
        };
        let is_paused = || watched.delivery.is_paused();
        tokio::time::sleep(Duration::from_millis(2)).await;
        watched.export(Vec::new()).await.unwrap();
        assert!(!is_paused());

        watched.exporter.is_there.store(false, Ordering::SeqCst);
        assert!(watched.export(Vec::new()).await.is_err());
        assert!(is_paused());
        watched.delivery.paused_until.store(1, Ordering::SeqCst);
        assert!(
            !is_paused(),
            "the pause is over, so that something is there to try with"
        );
        watched.delivery.tries();
        assert!(is_paused(), "it is being tried");
        assert!(watched.export(Vec::new()).await.is_err());
        assert!(is_paused());

        watched.exporter.is_there.store(true, Ordering::SeqCst);
        watched.export(Vec::new()).await.unwrap();
        assert!(!is_paused());
        watched.delivery.tries();
        assert!(!is_paused());
    }

    #[test]
    fn what_was_lost_is_counted_until_something_arrives() {
        let delivery = Delivery::of("traces");
        for _ in 0..2 {
            delivery.note(&Err(OTelSdkError::InternalFailure("away".to_owned())), 6);
        }
        assert_eq!(delivery.state.lock().lost, 12);
        delivery.note(&Ok(()), 5);
        assert_eq!(delivery.state.lock().lost, 0);
    }
}
