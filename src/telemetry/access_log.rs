//! One line a request.

use std::time::Instant;

use poem::{Endpoint, IntoResponse, Middleware, PathPattern, Request, Response, Result};
use tenantry_openapi::{RequestId, ResolvedTenant};

/// Logs each request when it is answered: its route rather than its path, which a client may have put anything into, its status, how long
/// it took, and its tenant. Probes are not logged. It stands outside of everything else, so that it times all of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessLog;

impl<E: Endpoint> Middleware<E> for AccessLog {
    type Output = AccessLogEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        AccessLogEndpoint { inner }
    }
}

/// The endpoint of [`AccessLog`].
#[derive(Debug)]
pub struct AccessLogEndpoint<E> {
    inner: E,
}

impl<E: Endpoint> Endpoint for AccessLogEndpoint<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Self::Output> {
        if !tracing::enabled!(target: "tenantry::access", tracing::Level::INFO)
            || is_probe(request.original_uri().path())
        {
            return self.inner.call(request).await.map(IntoResponse::into_response);
        }
        let started = Instant::now();
        let method = request.method().clone();
        let peer = request.remote_addr().as_socket_addr().map(|address| address.ip());
        let response = match self.inner.call(request).await {
            Ok(response) => response.into_response(),
            Err(error) => error.into_response(),
        };
        let tenant = response.data::<ResolvedTenant>().and_then(ResolvedTenant::get);
        tracing::info!(
            target: "tenantry::access",
            method = method.as_str(),
            route = response.data::<PathPattern>().map(|pattern| &*pattern.0),
            status = response.status().as_u16(),
            duration_ms = started.elapsed().as_secs_f64() * 1e3,
            tenant_id = tenant.as_ref().map(|tenant| tenant.as_str()),
            request_id = response.data::<RequestId>().map(RequestId::as_str),
            peer = peer.map(tracing::field::display),
            "request"
        );
        Ok(response)
    }
}

fn is_probe(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready" | "/metrics")
}
