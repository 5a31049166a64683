//! What sends telemetry away: to a collector over gRPC or HTTP, or to standard output.

use std::{
    fmt,
    num::ParseIntError,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{PeriodicReader, Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
    trace::{SpanData, SpanExporter},
};

use crate::config::{Endpoint, Metrics, OtlpProtocol, Trace};

/// What sends telemetry cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("`{key}` cannot be used")]
pub struct ExporterError {
    key: &'static str,
    #[source]
    source: ExporterBuildError,
}

/// Whether telemetry arrives. Told once when it no longer does, and once when it does again: the exporter tries again and again.
struct Arrival {
    what: &'static str,
    failing: AtomicBool,
}

impl Arrival {
    const fn of(what: &'static str) -> Self {
        Self {
            what,
            failing: AtomicBool::new(false),
        }
    }

    fn note(&self, sent: &OTelSdkResult) {
        match sent {
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(what = self.what, error = %error, "telemetry does not arrive; requests go on as before");
            }
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!(what = self.what, "telemetry arrives again");
            }
            _ => {}
        }
    }
}

/// An exporter that tells when it fails.
pub(super) struct Told<E> {
    exporter: E,
    arrival: Arrival,
}

impl<E> fmt::Debug for Told<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An exporter's own may hold the headers it sends.
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        self.arrival.note(&sent);
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

impl<E: PushMetricExporter> PushMetricExporter for Told<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let sent = self.exporter.export(metrics).await;
        self.arrival.note(&sent);
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

/// The address that OpenTelemetry's own variable for this signal names, as it stands; else that of the configuration, with the path of
/// the signal where it is spoken to over HTTP (specification, OTLP exporter).
fn endpoint(variable: &str, configured: &str, protocol: OtlpProtocol, path: &str) -> String {
    match std::env::var(variable) {
        Ok(own) if !own.is_empty() => own,
        _ if protocol == OtlpProtocol::Http => format!("{}/{path}", configured.trim_end_matches('/')),
        _ => configured.to_owned(),
    }
}

/// What sends spans where the settings say.
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
    Ok(SpanSender::Otlp(Told {
        exporter,
        arrival: Arrival::of("traces"),
    }))
}

/// What sends spans.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum SpanSender {
    /// To standard output.
    Stdout(opentelemetry_stdout::SpanExporter),
    /// To a collector.
    Otlp(Told<opentelemetry_otlp::SpanExporter>),
}

impl SpanExporter for SpanSender {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self {
            Self::Stdout(exporter) => exporter.export(batch).await,
            Self::Otlp(exporter) => exporter.export(batch).await,
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        match self {
            Self::Stdout(exporter) => exporter.shutdown_with_timeout(timeout),
            Self::Otlp(exporter) => exporter.shutdown_with_timeout(timeout),
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        match self {
            Self::Stdout(exporter) => exporter.set_resource(resource),
            Self::Otlp(exporter) => exporter.set_resource(resource),
        }
    }
}

/// What sends metrics.
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum MetricSender {
    /// To standard output.
    Stdout(opentelemetry_stdout::MetricExporter),
    /// To a collector.
    Otlp(Told<opentelemetry_otlp::MetricExporter>),
}

impl PushMetricExporter for MetricSender {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        match self {
            Self::Stdout(exporter) => exporter.export(metrics).await,
            Self::Otlp(exporter) => exporter.export(metrics).await,
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        match self {
            Self::Stdout(exporter) => exporter.force_flush(),
            Self::Otlp(exporter) => exporter.force_flush(),
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        match self {
            Self::Stdout(exporter) => exporter.shutdown_with_timeout(timeout),
            Self::Otlp(exporter) => exporter.shutdown_with_timeout(timeout),
        }
    }

    fn temporality(&self) -> Temporality {
        match self {
            Self::Stdout(exporter) => exporter.temporality(),
            Self::Otlp(exporter) => exporter.temporality(),
        }
    }
}

/// `OTEL_METRIC_EXPORT_INTERVAL`, in milliseconds, where it is set.
fn interval_variable() -> Option<Result<Duration, ParseIntError>> {
    let value = std::env::var("OTEL_METRIC_EXPORT_INTERVAL").ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.parse().map(Duration::from_millis))
}

/// Tells of what is passed over since it makes no sense (specification, environment variables): for when lines can be written.
pub(super) fn tell_ignored_variables() {
    if let Some(Err(error)) = interval_variable() {
        tracing::warn!(
            error = %error,
            "OTEL_METRIC_EXPORT_INTERVAL is passed over: it is no number of milliseconds; `observability.metrics.interval` holds"
        );
    }
}

/// What reads the metrics and sends them, every `interval` or as often as `OTEL_METRIC_EXPORT_INTERVAL` says, in milliseconds.
pub(super) fn metric_reader(settings: &Metrics) -> Result<PeriodicReader<MetricSender>, ExporterError> {
    let sender = if let Endpoint::Url(configured) = &settings.endpoint {
        let variable = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
        let url = endpoint(variable, configured, settings.protocol, "v1/metrics");
        let builder = opentelemetry_otlp::MetricExporter::builder();
        let built = match settings.protocol {
            OtlpProtocol::Grpc => builder.with_tonic().with_endpoint(url).build(),
            OtlpProtocol::Http => builder.with_http().with_endpoint(url).build(),
        };
        MetricSender::Otlp(Told {
            exporter: built.map_err(|source| ExporterError {
                key: "observability.metrics.endpoint",
                source,
            })?,
            arrival: Arrival::of("metrics"),
        })
    } else {
        MetricSender::Stdout(opentelemetry_stdout::MetricExporter::default())
    };
    let variable = interval_variable().and_then(Result::ok);
    let interval = variable.unwrap_or(settings.interval.into());
    Ok(PeriodicReader::builder(sender).with_interval(interval).build())
}
