//! An answer with a streamed body. The request lasts until the body ends.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use poem::{Body, Response};
use sea_orm::DbErr;
use tenantry_core::{DatabaseError, DatabaseErrorKind};
use tenantry_openapi::CurrentRequest;
use tokio::time::Sleep;
use tracing::Span;

use super::{
    metrics::Metrics,
    requests::{Answered, Cut, RequestRecord},
};

/// Takes the body out of `response` if it is streamed. A body of known size is already complete.
pub(super) fn take_streamed(response: &mut Response) -> Option<BoxBody<Bytes, io::Error>> {
    let body: BoxBody<Bytes, io::Error> = response.take_body().into();
    if body.size_hint().exact().is_some() {
        response.set_body(Body::from(body));
        return None;
    }
    Some(body)
}

/// A part of a body, or why the body ended in the middle.
type Part = Result<Frame<Bytes>, (Cut, io::Error)>;

/// The rest of a request: reports its end when the body ends.
///
/// The deadline is looked at when the connection asks for the next part. A client that reads
/// nothing is ended by the connection's own limits, which may be later.
pub(super) struct Streamed {
    /// `None` once it ended.
    body: Option<BoxBody<Bytes, io::Error>>,
    current: Option<CurrentRequest>,
    /// `None` once the end was reported.
    record: Option<(RequestRecord, Answered)>,
    metrics: Metrics,
    deadline: Pin<Box<Sleep>>,
    /// The span of the request, which ends with the body.
    span: Option<Span>,
}

impl Streamed {
    pub(super) fn new(
        body: BoxBody<Bytes, io::Error>,
        record: RequestRecord,
        answered: Answered,
        metrics: Metrics,
        longest: Duration,
        span: Option<Span>,
    ) -> Self {
        let left = longest.saturating_sub(record.started().elapsed());
        Self {
            body: Some(body),
            current: CurrentRequest::take(),
            record: Some((record, answered)),
            metrics,
            deadline: Box::pin(tokio::time::sleep_until((Instant::now() + left).into())),
            span,
        }
    }

    /// Reports the end of the request.
    fn end(&mut self, cut: Option<Cut>) {
        let Some((record, answered)) = self.record.take() else {
            return;
        };
        let (body, metrics) = (self.body.take(), &self.metrics);
        CurrentRequest::within(&mut self.current, || {
            // First, so that a statement that it was in the middle of is counted.
            drop(body);
            record.report(answered, cut, metrics);
        });
        self.span = None;
    }

    fn frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Part>> {
        if self.deadline.poll_unpin(cx).is_ready() {
            let error = "the answer took longer than `server.request_timeout`";
            let error = io::Error::new(io::ErrorKind::TimedOut, error);
            return Poll::Ready(Some(Err((Cut::Time, error))));
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let entered = self.span.as_ref().map(Span::enter);
        let frame = Pin::new(body).poll_frame(cx);
        drop(entered);
        frame.map_err(|error| (Cut::Error, error))
    }
}

/// Logs why a body ended in the middle.
fn log(cut: Cut, error: &io::Error) {
    let database = database_error(error);
    let kind = database.map(DatabaseErrorKind::of).map(DatabaseErrorKind::as_str);
    let code = database.and_then(|error| DatabaseError::find(error)?.code.as_deref());
    tracing::error!(reason = cut.as_str(), kind, code, "an answer ended early");
}

/// The database's error that caused `error`, if one did.
fn database_error(error: &io::Error) -> Option<&DbErr> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.get_ref()?);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if this.record.is_none() {
            return Poll::Ready(None);
        }
        let mut current = this.current.take();
        let frame = CurrentRequest::within(&mut current, || {
            let frame = this.frame(cx);
            if let Poll::Ready(Some(Err((cut, error)))) = &frame {
                log(*cut, error);
            }
            frame
        });
        this.current = current;
        match &frame {
            Poll::Ready(None) => this.end(None),
            Poll::Ready(Some(Err((cut, _)))) => this.end(Some(*cut)),
            _ => {}
        }
        frame.map_err(|(_, error)| error)
    }

    fn is_end_stream(&self) -> bool {
        self.record.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.end(Some(Cut::Client));
    }
}
