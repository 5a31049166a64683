//! Reports each request: in a log line, in the metrics, and in a span if it is traced.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::Either};
use http::Method;
#[cfg(feature = "otlp")]
use http::{HeaderValue, StatusCode};
use http_body_util::combinators::BoxBody;
use poem::{Body, Endpoint, IntoResponse, Middleware, PathPattern, Request, Response, Result};
#[cfg(feature = "otlp")]
use tenantry_core::TrustedProxies;
use tenantry_core::milliseconds;
#[cfg(feature = "otlp")]
use tenantry_openapi::RequestId;
use tenantry_openapi::{CurrentRequest, RequestContext};

use super::{
    metrics::{Metrics, Route},
    streamed::{Streamed, take_streamed},
};

/// The log target of the line for each request.
pub(super) const ACCESS_TARGET: &str = "tenantry::access";

/// Reports each request after its answer: its route, status, duration, tenant, and its statements.
/// It reports the route and not the path, since the path is the client's own text. Probes are not
/// reported. It is the outermost layer, so that it times all others.
#[derive(Clone)]
pub(crate) struct RequestTelemetry {
    pub(super) metrics: Metrics,
    /// How long a request may take, the body of its answer included.
    pub(super) request_timeout: Duration,
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
pub(crate) struct RequestTelemetryEndpoint<E> {
    inner: E,
    telemetry: RequestTelemetry,
}

impl<E: Endpoint> Endpoint for RequestTelemetryEndpoint<E> {
    type Output = Response;

    fn call(&self, mut request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let telemetry = &self.telemetry;
        let path = request.original_uri().path();
        let (is_probe, is_scrape) = (is_probe(path), path == "/metrics");
        let context = (!is_probe).then(|| RequestContext::of(&mut request));
        let open = (!is_probe).then(|| OpenRequest::begin(&request, telemetry, is_scrape));
        // Probes and scrapes are never traced.
        let trace = open.as_ref().filter(|_| !is_scrape);
        let trace = trace.and_then(|_| telemetry.trace(&request));
        let answer = self.inner.call(request).map(|answer| match answer {
            Ok(response) => response.into_response(),
            Err(error) => error.into_response(),
        });
        // Only a traced request uses an `async` block, since such a block stores and moves the
        // future once more.
        let answer = match (open, trace) {
            (None, _) => Either::Left(Either::Left(answer.map(Ok))),
            (Some(open), None) => Either::Left(Either::Right(
                answer.map(move |response| Ok(open.end(response, None, None))),
            )),
            (Some(open), Some(trace)) => Either::Right(Box::pin(async move {
                let (response, trace_id, span) = trace.around(answer, &open).await;
                Ok(open.end(response, trace_id, span))
            })),
        };
        match context {
            Some(context) => Either::Left(CurrentRequest::scope(context, answer)),
            None => Either::Right(answer),
        }
    }
}

/// The status in the log for a request without an answer: its client disconnected, or the server
/// stopped. No client sees it. The number is nginx's.
const GIVEN_UP: u16 = 499;

/// Why the body of an answer ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The client went away, or the server stopped.
    Client,
    /// The source of the body failed.
    Error,
    /// The request's time ran out.
    Time,
}

impl Cut {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Error => "error",
            Self::Time => "timeout",
        }
    }
}

/// How a request was answered.
pub(super) struct Answered {
    status: u16,
    route: Option<Arc<str>>,
    trace_id: Option<String>,
}

/// The facts of a request from its start, until its end is reported. The report happens within its
/// [`CurrentRequest`].
pub(super) struct RequestRecord {
    started: Instant,
    method: Method,
    peer: Option<IpAddr>,
    /// Whether it is reported only if it failed or was refused: scrapes come every few seconds.
    is_scrape: bool,
}

impl RequestRecord {
    /// When the request came.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Reports the end of the request.
    pub(super) fn report(self, answered: Answered, cut: Option<Cut>, metrics: &Metrics) {
        let Answered {
            status,
            route,
            trace_id,
        } = answered;
        let is_failed = status >= 500 || matches!(cut, Some(Cut::Error | Cut::Time));
        let is_refused = (400..GIVEN_UP).contains(&status);
        if self.is_scrape && !is_failed && !is_refused {
            return;
        }
        let elapsed = self.started.elapsed();
        CurrentRequest::read(|current| {
            let tally = current.context().tally();
            tally.answered(elapsed, is_failed);
            let (tenant, statements) = (tally.tenant(), tally.statements());
            tracing::info!(
                target: ACCESS_TARGET,
                method = self.method.as_str(),
                route = route.as_deref(),
                status,
                cut = cut.map(Cut::as_str),
                duration_ms = milliseconds(elapsed),
                database_ms = milliseconds(statements.time),
                statements = statements.count,
                tenant_id = tenant.as_ref().map(|tenant| tenant.as_str()),
                request_id = current.context().id().as_str(),
                trace_id,
                peer = self.peer.map(tracing::field::display),
                "request"
            );
        });
        metrics.answered(Route::new(&self.method, route, status), elapsed);
    }
}

/// A request until its answer begins. Then its end is reported, or its body is watched to the end.
/// If it is dropped earlier, it is reported as given up.
struct OpenRequest<'a> {
    record: Option<RequestRecord>,
    telemetry: &'a RequestTelemetry,
}

impl<'a> OpenRequest<'a> {
    fn begin(request: &Request, telemetry: &'a RequestTelemetry, is_scrape: bool) -> Self {
        let record = RequestRecord {
            started: Instant::now(),
            method: request.method().clone(),
            peer: request.remote_addr().as_socket_addr().map(|address| address.ip()),
            is_scrape,
        };
        Self {
            record: Some(record),
            telemetry,
        }
    }

    #[cfg(feature = "otlp")]
    fn method_name(&self) -> &'static str {
        self.record
            .as_ref()
            .map_or("_OTHER", |record| super::metrics::method_name(&record.method))
    }

    fn end(mut self, mut response: Response, trace_id: Option<String>, span: Option<tracing::Span>) -> Response {
        let answered = Answered {
            status: response.status().as_u16(),
            route: response.data::<PathPattern>().map(|pattern| pattern.0.clone()),
            trace_id,
        };
        let Some(record) = self.record.take() else {
            return response;
        };
        let (metrics, longest) = (&self.telemetry.metrics, self.telemetry.request_timeout);
        match take_streamed(&mut response) {
            None => record.report(answered, None, metrics),
            Some(body) => {
                let body = Streamed::new(body, record, answered, metrics.clone(), longest, span);
                response.set_body(Body::from(BoxBody::new(body)));
            }
        }
        response
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let given_up = Answered {
            status: GIVEN_UP,
            route: None,
            trace_id: None,
        };
        if let Some(record) = self.record.take() {
            record.report(given_up, None, &self.telemetry.metrics);
        }
    }
}

#[cfg(feature = "otlp")]
impl RequestTelemetry {
    /// The trace that the request is part of, if there is one.
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
    /// The caller has a trace that is not sampled here; only its id goes into the log.
    Elsewhere { trace_id: String },
    /// The request is traced here.
    Here {
        span: tracing::Span,
        ids: super::traces::TraceIds,
        path: String,
    },
}

#[cfg(feature = "otlp")]
impl RequestTrace {
    /// Runs the request, in its span if it has one. Returns the response and the id of its trace.
    async fn around(
        self: Box<Self>,
        answer: impl Future<Output = Response>,
        open: &OpenRequest<'_>,
    ) -> (Response, Option<String>, Option<tracing::Span>) {
        use tracing::Instrument as _;
        match *self {
            Self::Elsewhere { trace_id } => (answer.await, Some(trace_id), None),
            Self::Here { span, ids, path } => {
                // The span stays inside the future, since each clone of a span costs a look-up.
                let mut answer = std::pin::pin!(answer.instrument(span));
                let mut response = answer.as_mut().await;
                finish_span(answer.span(), open, &path, &response);
                let (traceparent, trace_id) = (HeaderValue::from_str(&ids.traceparent), ids.trace_id());
                if let Ok(traceparent) = traceparent {
                    response.headers_mut().insert(super::traces::TRACEPARENT, traceparent);
                }
                let span = answer.span().clone();
                (response, Some(trace_id.to_owned()), Some(span))
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

/// A program without the feature `otlp` has no traces.
#[cfg(not(feature = "otlp"))]
enum RequestTrace {}

#[cfg(not(feature = "otlp"))]
impl RequestTrace {
    async fn around(
        self,
        _: impl Future<Output = Response>,
        _: &OpenRequest<'_>,
    ) -> (Response, Option<String>, Option<tracing::Span>) {
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
        super::traces::REQUEST,
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

/// Records the outcome in the request's span. The path is recorded only if it matched a route; any
/// other path is the client's own text.
#[cfg(feature = "otlp")]
fn finish_span(span: &tracing::Span, open: &OpenRequest<'_>, path: &str, response: &Response) {
    let status = response.status();
    let route = response.data::<PathPattern>().map(|PathPattern(route)| &**route);
    if let Some(route) = route {
        super::traces::rename(span, [open.method_name(), route].join(" "));
    }
    let failed = status.is_server_error();
    let (id, tenant) = CurrentRequest::read(|current| {
        let context = current.context();
        (Some(context.id().clone()), context.tally().tenant())
    })
    .unwrap_or_default();
    // All fields at once, since every layer looks up the span for each call.
    tracing::record_all!(
        span,
        http.route = route,
        url.path = route.map(|_| path.get(..LONGEST_PATH).unwrap_or(path)),
        http.response.status_code = i64::from(status.as_u16()),
        request.id = id.as_ref().map(RequestId::as_str),
        tenant.id = tenant.as_ref().map(|tenant| tenant.as_str()),
        error.type = failed.then(|| StatusCode::as_str(&status)),
        otel.status_code = failed.then_some("ERROR"),
    );
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready")
}
