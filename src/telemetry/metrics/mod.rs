//! What the program counts, for `/metrics` and for a collector: one set of instruments, read by
//! both.

mod engine;
mod histograms;
mod tenant_labels;

use std::sync::Arc;

use opentelemetry::{
    InstrumentationScope, KeyValue,
    metrics::{Counter, Meter, MeterProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    metrics::{MeterProviderBuilder, SdkMeterProvider},
};
use prometheus::{Registry, TextEncoder};
use tenantry_core::{
    BoxError,
    engine::{EngineObserver, Tenants},
};
use tenantry_openapi::MetricsSource;

use crate::product::Product;

use engine::EngineGauges;
use histograms::Histograms;
pub(crate) use histograms::Route;
#[cfg(feature = "otlp")]
pub(crate) use histograms::method_name;

/// The name of everything that is measured by this program itself.
const METER: &str = "tenantry";

/// Every instrument. Clones share them.
#[derive(Clone)]
pub(crate) struct Metrics {
    provider: SdkMeterProvider,
    registry: Registry,
    histograms: Arc<Histograms>,
    engine: Arc<EngineGauges>,
    migrations: Counter<u64>,
}

/// The instruments cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be set up")]
pub struct MetricsError(#[source] pub(super) BoxError);

impl Metrics {
    /// Creates the metrics for `/metrics` and for each reader that `readers` adds.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub(super) fn new(
        resource: Resource,
        readers: impl FnOnce(MeterProviderBuilder) -> MeterProviderBuilder,
    ) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .map_err(|error| MetricsError(error.into()))?;
        let provider = readers(SdkMeterProvider::builder())
            .with_resource(resource)
            .with_reader(prometheus)
            .build();
        let meter = provider.meter(METER);
        Ok(Self {
            histograms: Arc::new(Histograms::new(&meter)),
            engine: EngineGauges::register(&meter),
            migrations: meter
                .u64_counter("tenantry.migrations")
                .with_description("Files that were applied on a tenant's first connection, and runs that failed.")
                .build(),
            provider,
            registry,
        })
    }

    /// Makes instruments for a program of one's own.
    pub(crate) fn meter_of(&self, product: &Product) -> Meter {
        let scope = InstrumentationScope::builder(product.name.clone()).with_version(product.version.clone());
        self.provider.meter_with_scope(scope.build())
    }

    /// Reads the engine's counters from now on.
    pub(crate) fn watch(&self, tenants: &Tenants) {
        self.engine.watch(tenants);
    }

    /// The observer that the engine reports to.
    pub(crate) fn observer(&self) -> Arc<dyn EngineObserver> {
        self.histograms.clone()
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: Route, took: std::time::Duration) {
        self.histograms.answered(route, took);
    }

    /// A tenant's migrations ended on its first connection.
    pub(crate) fn migrated(&self, applied: usize, is_failed: bool) {
        let outcome = |outcome: &'static str| [KeyValue::new("outcome", outcome)];
        self.migrations.add(applied as u64, &outcome("applied"));
        self.migrations.add(u64::from(is_failed), &outcome("failed"));
    }

    /// Sends what there is and ends.
    pub(super) fn shutdown(&self) -> OTelSdkResult {
        self.provider.shutdown()
    }
}

impl MetricsSource for Metrics {
    fn text(&self) -> Result<String, BoxError> {
        self.engine.forget();
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}
