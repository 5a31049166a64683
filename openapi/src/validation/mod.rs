//! Everything that is wrong with a request to an added API. poem-openapi ends a request at its
//! first fault; what the operation documents says what the others are.

mod rules;
mod schema;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, Uri};
use parking_lot::Mutex;
use poem::{Body, Endpoint, Request, Response, Result, endpoint::DynEndpoint};
use poem_openapi::error::{ParseParamError, ParsePathError, ParseRequestPayloadError};

pub(crate) use rules::Rules;

use crate::{
    Fault, Problem,
    input::is_json,
    translate::{PathNames, problem_of},
};

/// A request's body on its way to the handler, and what of it has passed.
#[derive(Clone)]
struct Tee(Arc<Mutex<TeeState>>);

struct TeeState {
    rest: BoxStream<'static, std::io::Result<Bytes>>,
    passed: Vec<Bytes>,
}

impl Stream for Tee {
    type Item = std::io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.lock();
        let next = state.rest.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            state.passed.push(bytes.clone());
        }
        next
    }
}

impl Tee {
    fn around(body: Body) -> (Self, Body) {
        let state = TeeState {
            rest: Box::pin(body.into_bytes_stream()),
            passed: Vec::new(),
        };
        let tee = Self(Arc::new(Mutex::new(state)));
        let body = Body::from_bytes_stream(tee.clone());
        (tee, body)
    }

    /// The whole body; `None` if it cannot be read to its end.
    async fn whole(mut self) -> Option<Vec<u8>> {
        while let Some(bytes) = self.next().await {
            bytes.ok()?;
        }
        let passed = std::mem::take(&mut self.0.lock().passed);
        Some(passed.concat())
    }
}

/// An operation that answers a bad request with all its faults.
pub(crate) struct Checked {
    pub(crate) endpoint: Arc<dyn DynEndpoint<Output = Response>>,
    pub(crate) rules: Rules,
    pub(crate) names: PathNames,
}

impl Endpoint for Checked {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        let has_body = self.rules.body.is_some() && request.content_type().is_some_and(is_json);
        let tee = has_body.then(|| {
            let (tee, body) = Tee::around(request.take_body());
            request.set_body(body);
            tee
        });
        match self.endpoint.call(request).await {
            Err(error) if is_of_request(&error) => Err(self.all(error, &uri, &headers, tee).await),
            answer => answer,
        }
    }
}

impl Checked {
    /// The error with every other fault of its request.
    async fn all(&self, mut error: poem::Error, uri: &Uri, headers: &HeaderMap, tee: Option<Tee>) -> poem::Error {
        let mut faults = Vec::new();
        self.rules.parameter_faults(uri, headers, &mut faults);
        if let Some(body) = match tee {
            Some(tee) => tee.whole().await,
            None => None,
        } {
            self.rules.body_faults(&body, &mut faults);
        }
        error.set_data(self.names.clone());
        // What the document does not show, such as a validator of one's own.
        for own in problem_of(&error).faults() {
            let is_known = |fault: &Fault| match (&own.pointer, &fault.pointer) {
                (Some(own), Some(fault)) => own.is_empty() || own == fault,
                _ => own.parameter.is_some() && own.parameter == fault.parameter,
            };
            if !faults.iter().any(is_known) {
                faults.push(own.clone());
            }
        }
        Problem::invalid(faults).into()
    }
}

/// Whether poem-openapi refused the request for what it holds.
fn is_of_request(error: &poem::Error) -> bool {
    error.is::<ParseParamError>() || error.is::<ParsePathError>() || error.is::<ParseRequestPayloadError>()
}

#[cfg(test)]
mod tests;
