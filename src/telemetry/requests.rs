//! What is told of each request: a log line, a measurement, and, where it is traced, the span that its trace is made around.

use std::{net::IpAddr, sync::Arc, time::Instant};

use futures_util::{FutureExt as _, future::Either};
use http::Method;
#[cfg(feature = "otlp")]
use http::{HeaderValue, StatusCode};
use poem::{Endpoint, IntoResponse, Middleware, PathPattern, Request, Response, Result};
#[cfg(feature = "otlp")]
use tenantry_core::TrustedProxies;
use tenantry_openapi::Noted;

use super::metrics::{Metrics, Route};

/// Tells of each request when it is answered: its route rather than its path, which a client may have put anything into, its status, how
/// long it took, its tenant, and what it asked of the database. Probes are left out. It stands outside of everything else, so that it
/// times all of it.
#[derive(Clone)]
pub struct RequestTelemetry {
    pub(super) metrics: Metrics,
    #[cfg(feature = "otlp")]
    pub(super) sampler: Option<super::traces::TraceSampler>,
    #[cfg(feature = "otlp")]
    pub(super) trusted_proxies: TrustedProxies,
}

impl<E: Endpoint> Middleware<E> for RequestTelemetry {
    type Output = RequestTelemetryEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        RequestTelemetryEndpoint {
            inner,
            telemetry: self.clone(),
        }
    }
}

/// The endpoint of [`RequestTelemetry`].
pub struct RequestTelemetryEndpoint<E> {
    inner: E,
    telemetry: RequestTelemetry,
}

impl<E: Endpoint> Endpoint for RequestTelemetryEndpoint<E> {
    type Output = Response;

    fn call(&self, mut request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let metrics = &self.telemetry.metrics;
        let path = request.original_uri().path();
        let (is_probe, is_scrape) = (is_probe(path), path == "/metrics");
        let told = (!is_probe).then(|| ToldRequest::begin(&mut request, metrics, is_scrape));
        // Probes and scrapes are never traced.
        let trace = told.as_ref().filter(|_| !is_scrape);
        let trace = trace.and_then(|_| self.telemetry.trace(&request));
        let answer = self.inner.call(request).map(|answer| match answer {
            Ok(response) => response.into_response(),
            Err(error) => error.into_response(),
        });
        // Nothing is awaited in an `async` block but in a trace: it would keep, and move, what it awaits once more.
        match (told, trace) {
            (None, _) => Either::Left(Either::Left(answer.map(Ok))),
            (Some(told), None) => Either::Left(Either::Right(answer.map(move |response| {
                told.end(&response, None);
                Ok(response)
            }))),
            (Some(told), Some(trace)) => Either::Right(Box::pin(async move {
                let (response, trace_id) = trace.around(answer, &told).await;
                told.end(&response, trace_id.as_deref());
                Ok(response)
            })),
        }
    }
}

/// What a request is told to have come to whose client went away before its answer, or that the stopping server had no more time for: nobody
/// sees it but the operator. nginx made this number known.
const GIVEN_UP: u16 = 499;

/// What is told of a request, from when it came: at its end, or when it is given up.
struct ToldRequest<'a> {
    started: Instant,
    noted: Noted,
    method: Method,
    peer: Option<IpAddr>,
    metrics: &'a Metrics,
    /// Whether it is reported only if it is refused: scrapes come every few seconds.
    refusal_only: bool,
    told: bool,
}

impl<'a> ToldRequest<'a> {
    fn begin(request: &mut Request, metrics: &'a Metrics, refusal_only: bool) -> Self {
        Self {
            started: Instant::now(),
            noted: Noted::of(request),
            method: request.method().clone(),
            peer: request.remote_addr().as_socket_addr().map(|address| address.ip()),
            metrics,
            refusal_only,
            told: false,
        }
    }

    fn end(mut self, response: &Response, trace_id: Option<&str>) {
        let route = response.data::<PathPattern>().map(|pattern| pattern.0.clone());
        self.tell(response.status().as_u16(), route, trace_id);
    }

    fn tell(&mut self, status: u16, route: Option<Arc<str>>, trace_id: Option<&str>) {
        self.told = true;
        if self.refusal_only && !(400..GIVEN_UP).contains(&status) {
            return;
        }
        let elapsed = self.started.elapsed();
        let tally = self.noted.tally();
        tally.answered(elapsed, status >= 500);
        let (tenant, statements) = (tally.tenant(), tally.statements());
        tracing::info!(
            target: "tenantry::access",
            method = self.method.as_str(),
            route = route.as_deref(),
            status,
            duration_ms = elapsed.as_secs_f64() * 1e3,
            database_ms = statements.time.as_secs_f64() * 1e3,
            statements = statements.count,
            tenant_id = tenant.as_ref().map(|tenant| tenant.as_str()),
            request_id = self.noted.id().as_str(),
            trace_id,
            peer = self.peer.map(tracing::field::display),
            "request"
        );
        self.metrics.answered(Route::new(&self.method, route, status), elapsed);
    }
}

impl Drop for ToldRequest<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.tell(GIVEN_UP, None, None);
        }
    }
}

#[cfg(feature = "otlp")]
impl RequestTelemetry {
    /// The trace that the request is part of: `None` where there is none.
    fn trace(&self, request: &Request) -> Option<Box<RequestTrace>> {
        let sampler = self.sampler.as_ref()?;
        let peer = request.remote_addr().as_socket_addr();
        let is_trusted = peer.is_some_and(|peer| self.trusted_proxies.contains(peer.ip()));
        let start = sampler.start(request.headers(), is_trusted);
        if !start.sampled {
            let trace_id = start.into_trace_id()?;
            return Some(Box::new(RequestTrace::Elsewhere { trace_id }));
        }
        let span = request_span(request);
        Some(Box::new(RequestTrace::Here {
            path: request.original_uri().path().to_owned(),
            ids: start.enter(&span),
            span,
        }))
    }
}

/// A trace that a request is part of.
#[cfg(feature = "otlp")]
enum RequestTrace {
    /// Its caller has one, and wants nothing of it here but the name in the log.
    Elsewhere { trace_id: String },
    /// What happens here belongs in it.
    Here {
        span: tracing::Span,
        ids: super::traces::TraceIds,
        path: String,
    },
}

#[cfg(feature = "otlp")]
impl RequestTrace {
    /// Answers the request, in its span where it has one; with the id of its trace.
    async fn around(
        self: Box<Self>,
        answer: impl Future<Output = Response>,
        told: &ToldRequest<'_>,
    ) -> (Response, Option<String>) {
        use tracing::Instrument as _;
        match *self {
            Self::Elsewhere { trace_id } => (answer.await, Some(trace_id)),
            Self::Here { span, ids, path } => {
                // Its span is left in it: each clone of one is a look-up of its own.
                let mut answer = std::pin::pin!(answer.instrument(span));
                let mut response = answer.as_mut().await;
                finish_span(answer.span(), told, &path, &response);
                let (traceparent, trace_id) = (HeaderValue::from_str(&ids.traceparent), ids.trace_id());
                if let Ok(traceparent) = traceparent {
                    response.headers_mut().insert(super::traces::TRACEPARENT, traceparent);
                }
                (response, Some(trace_id.to_owned()))
            }
        }
    }
}

#[cfg(not(feature = "otlp"))]
impl RequestTelemetry {
    fn trace(&self, _: &Request) -> Option<RequestTrace> {
        None
    }
}

/// A program that sends nothing has no traces.
#[cfg(not(feature = "otlp"))]
enum RequestTrace {}

#[cfg(not(feature = "otlp"))]
impl RequestTrace {
    async fn around(self, _: impl Future<Output = Response>, _: &ToldRequest) -> (Response, Option<String>) {
        match self {}
    }
}

/// The longest path that a span holds.
#[cfg(feature = "otlp")]
const LONGEST_PATH: usize = 256;

/// The span around a request (semantic conventions for HTTP server spans).
#[cfg(feature = "otlp")]
fn request_span(request: &Request) -> tracing::Span {
    use tracing::field::Empty;
    let method = super::metrics::method_name(request.method());
    tracing::info_span!(
        target: tenantry_core::TRACE_TARGET,
        parent: None,
        "request",
        otel.name = method,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = Empty,
        http.response.status_code = Empty,
        url.scheme = request.scheme().as_str(),
        url.path = Empty,
        client.address = request.remote_addr().as_socket_addr().map(|address| tracing::field::display(address.ip())),
        network.protocol.version = protocol_version(request.version()),
        error.type = Empty,
        request.id = Empty,
        tenant.id = Empty,
    )
}

#[cfg(feature = "otlp")]
fn protocol_version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// Notes in a request's span what it turned out to be. The path is told where a route is known for it: what a client puts elsewhere is
/// nobody's business.
#[cfg(feature = "otlp")]
fn finish_span(span: &tracing::Span, told: &ToldRequest<'_>, path: &str, response: &Response) {
    let status = response.status();
    let route = response.data::<PathPattern>().map(|PathPattern(route)| &**route);
    if let Some(route) = route {
        super::traces::rename(span, [super::metrics::method_name(&told.method), route].join(" "));
    }
    let failed = status.is_server_error();
    let tenant = told.noted.tally().tenant();
    // All at once, since each time the span is looked up by every layer.
    tracing::record_all!(
        span,
        http.route = route,
        url.path = route.map(|_| path.get(..LONGEST_PATH).unwrap_or(path)),
        http.response.status_code = i64::from(status.as_u16()),
        request.id = told.noted.id().as_str(),
        tenant.id = tenant.as_ref().map(|tenant| tenant.as_str()),
        error.type = failed.then(|| StatusCode::as_str(&status)),
        otel.status_code = failed.then_some("ERROR"),
    );
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready")
}
