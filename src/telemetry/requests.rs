//! What is told of each request: a log line, a measurement, and, where it is traced, the span that its trace is made around.

use std::time::Instant;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use poem::{Endpoint, IntoResponse, Middleware, PathPattern, Request, Response, Result};
use tenantry_openapi::{Noted, RequestId};

use super::metrics::{Metrics, Route};

/// Tells of each request when it is answered: its route rather than its path, which a client may have put anything into, its status, how
/// long it took, its tenant, and what it asked of the database. Probes are left out. It stands outside of everything else, so that it
/// times all of it.
#[derive(Clone)]
pub struct RequestTelemetry {
    pub(super) metrics: Metrics,
    #[cfg(feature = "otlp")]
    pub(super) sampler: Option<super::traces::TraceSampler>,
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

    async fn call(&self, request: Request) -> Result<Self::Output> {
        if is_probe(request.original_uri().path()) {
            return self.inner.call(request).await.map(IntoResponse::into_response);
        }
        let started = Instant::now();
        let method = request.method().clone();
        let peer = request.remote_addr().as_socket_addr().map(|address| address.ip());
        let (mut response, trace_id) = self.traced(request).await;
        let elapsed = started.elapsed();
        let status = response.status();
        let route = response.data::<PathPattern>().map(|pattern| pattern.0.clone());
        let noted = response.data::<Noted>();
        let (tenant, statements) = match noted {
            Some(noted) => {
                noted.tally().answered(elapsed, status.is_server_error());
                (noted.tally().tenant(), noted.tally().statements())
            }
            None => Default::default(),
        };
        tracing::info!(
            target: "tenantry::access",
            method = method.as_str(),
            route = route.as_deref(),
            status = status.as_u16(),
            duration_ms = elapsed.as_secs_f64() * 1e3,
            database_ms = statements.time.as_secs_f64() * 1e3,
            statements = statements.count,
            tenant_id = tenant.as_ref().map(|tenant| tenant.as_str()),
            request_id = response.data::<RequestId>().map(RequestId::as_str),
            trace_id,
            peer = peer.map(tracing::field::display),
            "request"
        );
        self.telemetry
            .metrics
            .answered(Route::new(&method, route, status.as_u16()), elapsed);
        // Nobody further out asks for it, and it holds on to the tenant.
        response.extensions_mut().remove::<Noted>();
        Ok(response)
    }
}

#[cfg(feature = "otlp")]
impl<E: Endpoint> RequestTelemetryEndpoint<E> {
    /// Answers the request, in a span where it is traced; with the id of its trace.
    async fn traced(&self, request: Request) -> (Response, Option<String>) {
        use tracing::Instrument as _;
        let Some(sampler) = self.telemetry.sampler else {
            return (answer(&self.inner, request).await, None);
        };
        let start = sampler.start(request.headers());
        if !start.sampled {
            return (answer(&self.inner, request).await, start.into_trace_id());
        }
        let method = request.method().clone();
        let path = request.original_uri().path().to_owned();
        let span = request_span(&request);
        let ids = start.enter(&span);
        let mut response = answer(&self.inner, request).instrument(span.clone()).await;
        finish_span(&span, &method, &path, &response);
        if let Ok(traceparent) = HeaderValue::from_str(&ids.traceparent) {
            response.headers_mut().insert(TRACEPARENT, traceparent);
        }
        (response, Some(ids.trace_id))
    }
}

#[cfg(not(feature = "otlp"))]
impl<E: Endpoint> RequestTelemetryEndpoint<E> {
    async fn traced(&self, request: Request) -> (Response, Option<String>) {
        (answer(&self.inner, request).await, None)
    }
}

async fn answer<E: Endpoint>(inner: &E, request: Request) -> Response {
    match inner.call(request).await {
        Ok(response) => response.into_response(),
        Err(error) => error.into_response(),
    }
}

/// The longest path that a span holds.
#[cfg(feature = "otlp")]
const LONGEST_PATH: usize = 256;
/// How a trace is named to whoever goes on with it.
#[cfg(feature = "otlp")]
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

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
fn finish_span(span: &tracing::Span, method: &Method, path: &str, response: &Response) {
    let status = response.status();
    if let Some(PathPattern(route)) = response.data::<PathPattern>() {
        super::traces::rename(span, format!("{} {route}", super::metrics::method_name(method)));
        span.record("http.route", &**route);
        span.record("url.path", path.get(..LONGEST_PATH).unwrap_or(path));
    }
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if let Some(id) = response.data::<RequestId>() {
        span.record("request.id", id.as_str());
    }
    if let Some(tenant) = response.data::<Noted>().and_then(|noted| noted.tally().tenant()) {
        span.record("tenant.id", tenant.as_str());
    }
    if status.is_server_error() {
        span.record("error.type", StatusCode::as_str(&status));
        span.record("otel.status_code", "ERROR");
    }
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready" | "/metrics")
}
