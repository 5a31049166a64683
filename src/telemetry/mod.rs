//! Log lines, metrics and traces.
//!
//! ```text
//! requests    times each request and reports it; streamed does so for a body that is streamed
//! logging     the levels, and what is never logged; lines adds the ids of request and tenant
//! metrics     the instruments: histograms, and the engine's counters, read on demand;
//!             tenant_labels bounds the tenants that have a name
//! traces      which requests are traced; span_queue bounds and counts the spans that wait, and
//!             exporters sends spans and metrics to the collector
//! ```

#[cfg(feature = "otlp")]
mod exporters;
mod lines;
mod logging;
mod metrics;
mod requests;
#[cfg(feature = "otlp")]
mod span_queue;
mod streamed;
#[cfg(feature = "otlp")]
mod traces;

use std::{sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
#[cfg(not(feature = "otlp"))]
use opentelemetry_sdk::error::OTelSdkResult;
use tokio::{task::spawn_blocking, time::timeout};

use tenantry_core::TrustedProxies;

use crate::config::Loaded;

#[cfg(feature = "otlp")]
pub use exporters::ExporterError;
pub(crate) use logging::RunningLog;
#[cfg(feature = "testing")]
pub(crate) use logging::start_in_test;
pub use logging::{LoggingError, start_logging};
pub(crate) use metrics::Metrics;
pub use metrics::MetricsError;
pub(crate) use requests::{RequestTelemetry, RequestTelemetryEndpoint};

/// Everything that is measured and sent. Clones share it.
#[derive(Clone)]
pub(crate) struct Telemetry {
    metrics: Metrics,
    #[cfg(feature = "otlp")]
    traces: Option<traces::Traces>,
}

/// Telemetry cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The instruments cannot be made.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// What sends it cannot be built.
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Exporter(#[from] exporters::ExporterError),
    /// The configuration asks for traces, and this process already has a log subscriber.
    #[error(
        "`observability.trace` is on, but something in this process logs already, so no trace could be made: \
         start the server before it, or set `observability.trace.enabled: false`"
    )]
    Untraced,
    /// Log lines cannot be written.
    #[error(transparent)]
    Logging(#[from] LoggingError),
}

impl Telemetry {
    /// Counts for `/metrics`, and sends nothing. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub(crate) fn silent(loaded: &Loaded) -> Result<Self, TelemetryError> {
        Ok(Self {
            metrics: Metrics::new(resource(loaded), |readers| readers)?,
            #[cfg(feature = "otlp")]
            traces: None,
        })
    }

    /// Collects metrics, and sends traces and metrics as `observability` says. It must be called
    /// within a tokio runtime.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    fn sending(loaded: &Loaded) -> Result<Self, TelemetryError> {
        // OpenTelemetry's own switch (specification, general SDK configuration).
        let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        if !loaded.config.observability.enabled || disabled {
            return Self::silent(loaded);
        }
        // The check of the configuration has refused what cannot be sent.
        #[cfg(not(feature = "otlp"))]
        return Self::silent(loaded);
        #[cfg(feature = "otlp")]
        {
            let resource = resource(loaded);
            let observability = &loaded.config.observability;
            let reader = observability
                .metrics
                .enabled
                .then(|| exporters::metric_reader(&observability.metrics))
                .transpose()?;
            let metrics = Metrics::new(resource.clone(), |readers| match reader {
                Some(reader) => reader.of(readers),
                None => readers,
            })?;
            let traces = observability
                .trace
                .enabled
                .then(|| traces::Traces::start(&observability.trace, resource))
                .transpose()?;
            Ok(Self { metrics, traces })
        }
    }

    /// Like [`sending`](Self::sending), and also starts the log of this process, for the program
    /// itself.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub(crate) fn of_process(loaded: &Loaded) -> Result<Self, TelemetryError> {
        let telemetry = Self::sending(loaded)?;
        telemetry.log(loaded)?;
        Ok(telemetry)
    }

    /// Like [`silent`](Self::silent), for a command: warnings about secrets go to standard error.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub(crate) fn of_command(loaded: &Loaded) -> Result<Self, TelemetryError> {
        logging::start_for_command();
        Self::silent(loaded)
    }

    /// Like [`sending`](Self::sending), for a process that sets up its own log. Only if traces are
    /// configured does it start the log as well, since one subscriber does both.
    ///
    /// # Errors
    /// See [`TelemetryError`]; also if traces are configured and the process already has a log
    /// subscriber.
    pub(crate) fn within_process(loaded: &Loaded) -> Result<Self, TelemetryError> {
        let telemetry = Self::sending(loaded)?;
        #[cfg(feature = "otlp")]
        if telemetry.traces.is_some() {
            telemetry.log(loaded).map_err(|error| match error {
                LoggingError::Started => TelemetryError::Untraced,
                other => other.into(),
            })?;
        }
        Ok(telemetry)
    }

    fn log(&self, loaded: &Loaded) -> Result<(), LoggingError> {
        let config = &loaded.config;
        #[cfg(feature = "otlp")]
        {
            logging::start(&config.logging, self.traces.as_ref().map(traces::Traces::layer))?;
            if config.observability.enabled {
                exporters::warn_of_ignored_variables();
            }
        }
        #[cfg(not(feature = "otlp"))]
        logging::start(&config.logging, None::<logging::NoLayer>)?;
        Ok(())
    }

    /// The metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The layer around every request.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "only traces need them"))]
    pub(crate) fn requests(&self, trusted_proxies: TrustedProxies, request_timeout: Duration) -> RequestTelemetry {
        RequestTelemetry {
            metrics: self.metrics.clone(),
            request_timeout,
            #[cfg(feature = "otlp")]
            sampler: self.traces.as_ref().map(traces::Traces::sampler),
            #[cfg(feature = "otlp")]
            trusted_proxies,
        }
    }

    /// Sends what was not sent yet, and ends. If the collector does not answer, this takes
    /// `within`, and no longer than the five seconds for which opentelemetry_sdk waits.
    pub(crate) async fn shutdown(&self, within: Duration) {
        // The exporters wait in threads of their own.
        let metrics = self.metrics.clone();
        let metrics = spawn_blocking(move || metrics.shutdown());
        #[cfg(feature = "otlp")]
        let traces = self.traces.clone();
        #[cfg(feature = "otlp")]
        let traces = spawn_blocking(move || traces.map_or(Ok(()), |traces| traces.shutdown()));
        #[cfg(not(feature = "otlp"))]
        let traces = async { Ok::<_, tokio::task::JoinError>(OTelSdkResult::Ok(())) };
        match timeout(within, async { tokio::join!(metrics, traces) }).await {
            Ok((Ok(Ok(())), Ok(Ok(())))) => {}
            Ok(ended) => tracing::debug!(?ended, "not all telemetry was sent"),
            Err(_) => tracing::warn!("telemetry was not sent to its end: the collector does not answer"),
        }
    }
}

/// The resource that all telemetry describes. `OTEL_RESOURCE_ATTRIBUTES` adds to it.
fn resource(loaded: &Loaded) -> Resource {
    let config = &loaded.config;
    let service = &config.observability.service;
    let version = service.version.as_deref().unwrap_or(&loaded.product.version);
    Resource::builder()
        .with_attributes([
            KeyValue::new("service.version", version.to_owned()),
            KeyValue::new("deployment.environment.name", config.app.environment.clone()),
            KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
        ])
        .with_service_name(service.name.clone())
        .build()
}

/// The level of log lines as operators set it.
pub(crate) fn log_control() -> Arc<dyn tenantry_openapi::LogControl> {
    Arc::new(RunningLog)
}
