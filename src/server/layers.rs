//! The layers between a listener and the router: all that a request passes before its operation,
//! and its answer after it.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::future::{Either, ready};
use http::{Version, header};
use poem::{
    Endpoint, EndpointExt, Middleware, Request, Response, Result,
    endpoint::{BoxEndpoint, DynEndpoint},
};
use tenantry_core::TrustedProxies;
use tenantry_openapi::{
    BodyLimit, BodyLimitEndpoint, Gates, Problem, ProblemCode, Problems, ProblemsEndpoint, RequestIds,
    RequestIdsEndpoint,
};

use super::{
    compression::{Gzip, GzipEndpoint},
    shutdown::{CloseWhenDraining, CloseWhenDrainingEndpoint},
    unread_answers::{UnreadAnswers, UnreadAnswersEndpoint},
};
use crate::telemetry::{RequestTelemetryEndpoint, Telemetry};

/// What the layers need.
pub(super) struct Layers {
    /// Admits requests to tenants and to operators' routes.
    pub(super) gates: Arc<Gates>,
    /// Whether the server is stopping.
    pub(super) draining: Arc<AtomicBool>,
    pub(super) telemetry: Telemetry,
    /// The proxies that may set forwarded headers.
    pub(super) trusted_proxies: TrustedProxies,
    /// How long a request may take.
    pub(super) request_timeout: Duration,
    /// The path of the declared tables.
    pub(super) tables: Option<Arc<str>>,
    /// The most bytes of a body.
    pub(super) body_limit: u64,
    /// Bounds what clients leave unread.
    pub(super) unread_answers: UnreadAnswers,
}

/// A router with all layers around it, the innermost last.
pub(super) type Layered = RequestTelemetryEndpoint<
    CloseWhenDrainingEndpoint<
        GzipEndpoint<
            RequestIdsEndpoint<ProblemsEndpoint<UnreadAnswersEndpoint<OneHostEndpoint<BodyLimitEndpoint<Router>>>>>,
        >,
    >,
>;

impl Layers {
    /// Puts the layers around a router. A request passes them from the last line to the first:
    /// telemetry measures all of them, and sees the answer that the client gets.
    pub(super) fn around(&self, router: BoxEndpoint<'static>) -> Layered {
        Router(router)
            // Bounds the body before anything reads it.
            .with(BodyLimit { bytes: self.body_limit })
            // Refuses an HTTP/1.1 request without exactly one `Host`. Whether target and `Host`
            // agree is checked by the readers of the host: `RequestHead::own_host`, `is_local`.
            .with(OneHost)
            // Refuses a large answer while too many wait for their clients. Inside the compression,
            // which keeps the answer's room with the bytes that it makes.
            .with(self.unread_answers.clone())
            // Ends a request that takes too long, and turns errors into problems: around every
            // layer that can fail.
            .with(Problems {
                timeout: Some(self.request_timeout),
                tables: self.tables.clone(),
            })
            // Adds to the request's context what admits it. (Telemetry made the context; a probe's
            // is made here.) Gives each answer the id and the headers for browsers and caches: also
            // the problems.
            .with(RequestIds::with_gates(self.gates.clone()))
            // Compresses what the client accepts, the problems too.
            .with(Gzip)
            // Asks the clients of a server that stops for a new connection.
            .with(CloseWhenDraining(self.draining.clone()))
            .with(
                self.telemetry
                    .requests(self.trusted_proxies.clone(), self.request_timeout),
            )
    }
}

/// The innermost endpoint. A box of poem's called in its own way stores the request once more for
/// each layer around it.
pub(super) struct Router(BoxEndpoint<'static>);

impl Endpoint for Router {
    type Output = Response;

    fn call(&self, request: Request) -> impl Future<Output = Result<Response>> + Send {
        DynEndpoint::call(&*self.0, request)
    }
}

/// Refuses a request of HTTP/1.1 that has not exactly one `Host` (RFC 9112 §3.2).
struct OneHost;

impl<E: Endpoint> Middleware<E> for OneHost {
    type Output = OneHostEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        OneHostEndpoint(inner)
    }
}

/// The endpoint of [`OneHost`].
pub(super) struct OneHostEndpoint<E>(E);

impl<E: Endpoint> Endpoint for OneHostEndpoint<E> {
    type Output = E::Output;

    fn call(&self, request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let hosts = request.headers().get_all(header::HOST).iter().count();
        if request.version() == Version::HTTP_11 && hosts != 1 {
            let detail = "A request of HTTP/1.1 has exactly one `Host`.";
            return Either::Left(ready(Err(Problem::new(ProblemCode::RequestInvalid, detail).into())));
        }
        Either::Right(self.0.call(request))
    }
}
