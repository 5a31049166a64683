//! Traces: which requests are traced, and how their spans leave the program.

use std::{ops::Range, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{
        BatchSpanProcessor, Sampler as SdkSampler, SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use tenantry_core::TRACE_TARGET;
use tenantry_openapi::CurrentRequest;
use tracing::{Level, Metadata, Span, Subscriber, level_filters::LevelFilter, subscriber::Interest};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    Layer,
    layer::{Context as LayerContext, Filter},
    registry::LookupSpan,
};

use super::{
    exporters::{Delivery, ExporterError, SpanSender, span_exporter},
    logging::TRACED,
    span_queue::SpanQueue,
};
use crate::config::Trace;

/// The header that passes a trace on (W3C Trace Context §3.2).
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The name of the span around a request, from which traces begin.
pub(super) const REQUEST: &str = "request";

/// What makes traces and sends them. Clones share it.
#[derive(Clone)]
pub(super) struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sampler: TraceSampler,
}

impl Traces {
    /// It must be called within a tokio runtime.
    pub(super) fn start(settings: &Trace, resource: Resource) -> Result<Self, ExporterError> {
        let queue = SpanQueue::start();
        let (processor, delivery) = match span_exporter(settings)? {
            SpanSender::Stdout(exporter) => (batches(exporter, &queue), None),
            SpanSender::Otlp(watched) => {
                let delivery = watched.delivery.clone();
                (batches(watched, &queue), Some(delivery))
            }
        };
        let sampler = TraceSampler {
            rate: settings.sample.rate,
            delivery,
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // Spans are created only for sampled requests, so every created span is sent.
            .with_sampler(SdkSampler::AlwaysOn)
            .with_span_processor(RequestSpans { processor, queue })
            .build();
        Ok(Self {
            tracer: provider.tracer("tenantry"),
            provider,
            sampler,
        })
    }

    /// The sampler that decides which requests are traced.
    pub(super) fn sampler(&self) -> TraceSampler {
        self.sampler.clone()
    }

    /// Makes traces of `tracing`'s spans.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(InTrace)
    }

    pub(super) fn shutdown(&self) -> OTelSdkResult {
        self.provider.shutdown()
    }
}

/// Sends spans from a thread of its own. Spans that come while the queue is full are dropped, so no
/// request waits for the collector.
fn batches(exporter: impl SpanExporter + 'static, queue: &Arc<SpanQueue>) -> BatchSpanProcessor {
    let queue = queue.clone();
    BatchSpanProcessor::builder(Taking { exporter, queue }).build()
}

/// Adds to each span which request and which tenant it belongs to, unless it says so itself. Drops
/// it if the queue is full.
#[derive(Debug)]
struct RequestSpans {
    processor: BatchSpanProcessor,
    queue: Arc<SpanQueue>,
}

impl SpanProcessor for RequestSpans {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, mut span: SpanData) {
        if !self.queue.admits() {
            return;
        }
        CurrentRequest::read(|current| {
            let mut add = |key: &'static str, value: &str| {
                if !span.attributes.iter().any(|known| known.key.as_str() == key) {
                    span.attributes.push(KeyValue::new(key, value.to_owned()));
                }
            };
            add("request.id", current.context().id().as_str());
            if let Some(tenant) = current.context().tally().tenant() {
                add("tenant.id", tenant.as_str());
            }
        });
        self.processor.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let ended = self.processor.shutdown_with_timeout(timeout);
        self.queue.report();
        ended
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Takes spans from the queue, and sends them.
#[derive(Debug)]
struct Taking<E> {
    exporter: E,
    queue: Arc<SpanQueue>,
}

impl<E: SpanExporter> SpanExporter for Taking<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.queue.took(batch.len());
        self.exporter.export(batch).await
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Selects the spans of traces: a traced request and the spans inside it. For a request that is not
/// traced, this check is the only cost. Spans of the program and of added APIs count, at `info` and
/// above; log lines do not.
struct InTrace;

impl InTrace {
    fn may_be(metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target() == TRACE_TARGET;
        metadata.is_span() && *metadata.level() <= Level::INFO && (is_ours || TRACED(metadata.target()))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for InTrace {
    fn enabled(&self, metadata: &Metadata<'_>, context: &LayerContext<'_, S>) -> bool {
        // In this order, since nearly all that ask are in requests that are not traced.
        (is_request(metadata) || context.lookup_current().is_some()) && Self::may_be(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::may_be(metadata) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}

fn is_request(metadata: &Metadata<'_>) -> bool {
    metadata.name() == REQUEST && metadata.target() == TRACE_TARGET
}

/// Decides for each request whether it is traced: as its caller did if the caller says so (W3C
/// Trace Context), else at random. A caller that is not a trusted proxy can only turn tracing off;
/// otherwise it could force it for all its requests. While the collector is unreachable, requests
/// are traced only now and then to notice when it is back, since an undelivered trace costs as much
/// as any other.
#[derive(Clone)]
pub(super) struct TraceSampler {
    rate: f64,
    delivery: Option<Arc<Delivery>>,
}

/// What is known of a request's trace before it runs.
pub(super) struct TraceStart {
    /// The caller's context; without one the trace begins here.
    remote: Option<Context>,
    pub(super) sampled: bool,
}

impl TraceSampler {
    pub(super) fn start(&self, headers: &HeaderMap, is_trusted: bool) -> TraceStart {
        // Most requests say nothing of a trace, and nothing is made for them.
        let remote = headers.contains_key(TRACEPARENT).then(|| {
            let propagator = TraceContextPropagator::new();
            propagator.extract_with_context(&Context::new(), &Headers(headers))
        });
        let remote = remote.filter(|remote| remote.span().span_context().is_valid());
        let at_random = || fastrand::f64() < self.rate;
        let wanted = match &remote {
            Some(remote) => remote.span().span_context().is_sampled() && (is_trusted || at_random()),
            None => at_random(),
        };
        let sampled = wanted && !self.delivery.as_ref().is_some_and(|delivery| delivery.is_paused());
        TraceStart { remote, sampled }
    }
}

impl TraceStart {
    /// The id of the caller's trace, if the request has one.
    pub(super) fn into_trace_id(self) -> Option<String> {
        let remote = self.remote?;
        Some(remote.span().span_context().trace_id().to_string())
    }

    /// Puts `span` into the caller's trace, or begins one. Returns its ids.
    pub(super) fn enter(self, span: &Span) -> TraceIds {
        if let Some(remote) = self.remote
            && let Err(error) = span.set_parent(remote)
        {
            tracing::debug!(error = %error, "the caller's trace cannot be continued");
        }
        let context = span.context();
        let ids = context.span().span_context().clone();
        TraceIds {
            traceparent: format!(
                "00-{}-{}-{:02x}",
                ids.trace_id(),
                ids.span_id(),
                ids.trace_flags().to_u8()
            ),
        }
    }
}

/// Calls a span that has begun by another name.
pub(super) fn rename(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// What a trace and its place in it are called.
pub(super) struct TraceIds {
    /// The header that passes the trace on (W3C Trace Context §3.2).
    pub(super) traceparent: String,
}

impl TraceIds {
    /// What the trace is called.
    pub(super) fn trace_id(&self) -> &str {
        self.traceparent.get(TRACE_ID).unwrap_or_default()
    }
}

/// The position of the trace id in the header.
const TRACE_ID: Range<usize> = 3..35;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        // Two of them are none (W3C Trace Context §3.2.1).
        let mut values = self.0.get_all(key).iter();
        let (first, None) = (values.next()?, values.next()) else {
            return None;
        };
        first.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
