//! What the program tells of itself: log lines, metrics and traces.

#[cfg(feature = "otlp")]
mod exporters;
mod logging;
mod metrics;
mod requests;
#[cfg(feature = "otlp")]
mod traces;

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;

use tenantry_core::TrustedProxies;

use crate::config::Config;

#[cfg(feature = "otlp")]
pub use exporters::ExporterError;
pub(crate) use logging::RunningLog;
pub use logging::{LoggingError, start_logging};
pub(crate) use metrics::Metrics;
pub use metrics::MetricsError;
pub use requests::RequestTelemetry;
pub(crate) use requests::RequestTelemetryEndpoint;

/// Everything that is measured and sent. Clones share it.
#[derive(Clone)]
pub struct Telemetry {
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
    /// `observability.enabled` in a program that cannot send anything.
    #[error("`observability.enabled` is set, but this program was built without the feature `otlp`")]
    BuiltWithout,
    /// Log lines cannot be written.
    #[error(transparent)]
    Logging(#[from] LoggingError),
}

impl Telemetry {
    /// Counts for `/metrics`, and sends nothing. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub fn silent(config: &Config) -> Result<Self, TelemetryError> {
        Ok(Self {
            metrics: Metrics::new(resource(config), |readers| readers)?,
            #[cfg(feature = "otlp")]
            traces: None,
        })
    }

    /// Counts, and sends what `observability` says where it says. It must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub fn sending(config: &Config) -> Result<Self, TelemetryError> {
        // OpenTelemetry's own switch (specification, general SDK configuration).
        let disabled = std::env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        if !config.observability.enabled || disabled {
            return Self::silent(config);
        }
        #[cfg(not(feature = "otlp"))]
        return Err(TelemetryError::BuiltWithout);
        #[cfg(feature = "otlp")]
        {
            let resource = resource(config);
            let observability = &config.observability;
            let reader = observability
                .metrics
                .enabled
                .then(|| exporters::metric_reader(&observability.metrics))
                .transpose()?;
            let metrics = Metrics::new(resource.clone(), |readers| match reader {
                Some(reader) => readers.with_reader(reader),
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

    /// As [`sending`](Self::sending), with log lines and traces of everything in this process: for a program of its own.
    ///
    /// # Errors
    /// See [`TelemetryError`].
    pub(crate) fn of_process(config: &Config) -> Result<Self, TelemetryError> {
        let telemetry = Self::sending(config)?;
        #[cfg(feature = "otlp")]
        {
            logging::start(&config.logging, telemetry.traces.as_ref().map(traces::Traces::layer))?;
            if config.observability.enabled {
                exporters::tell_ignored_variables();
            }
        }
        #[cfg(not(feature = "otlp"))]
        logging::start(&config.logging, None::<logging::NoLayer>)?;
        Ok(telemetry)
    }

    /// The metrics.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What stands around every request.
    #[cfg_attr(not(feature = "otlp"), expect(unused_variables, reason = "only traces need them"))]
    pub(crate) fn requests(&self, trusted_proxies: TrustedProxies) -> RequestTelemetry {
        RequestTelemetry {
            metrics: self.metrics.clone(),
            #[cfg(feature = "otlp")]
            sampler: self.traces.as_ref().map(traces::Traces::sampler),
            #[cfg(feature = "otlp")]
            trusted_proxies,
        }
    }

    /// Sends what was not sent yet, and ends. It takes as long as the exporters' own deadlines allow.
    pub(crate) async fn shutdown(&self) {
        let telemetry = self.clone();
        // The exporters wait in threads of their own, and this for them.
        let ended = tokio::task::spawn_blocking(move || {
            #[cfg(feature = "otlp")]
            if let Some(traces) = &telemetry.traces {
                traces.shutdown();
            }
            telemetry.metrics.shutdown()
        });
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = %error, "not all telemetry was sent"),
            Err(error) => tracing::debug!(error = %error, "telemetry did not end"),
        }
    }
}

/// Who all of it is about. `OTEL_RESOURCE_ATTRIBUTES` adds to it.
fn resource(config: &Config) -> Resource {
    let service = &config.observability.service;
    let version = service.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
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
