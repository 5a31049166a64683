//! The most bytes that a body may have.

use std::{error::Error as StdError, io};

use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use http::header;
use poem::{Body, Endpoint, Middleware, Request, Result};

use crate::body_coding::decoded;

/// Limits the bytes that a handler can read from a body, after its `Content-Encoding` is decoded.
/// It does not matter whether the body's length was announced. Reading more is an error, answered
/// with 413. The limit is checked only when a handler reads the body, so a request without the
/// right to the operation is refused first.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit {
    /// The most bytes.
    pub bytes: u64,
}

/// The error of reading past the limit, inside an [`io::Error`].
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body is longer than {limit} bytes")]
pub(crate) struct BodyTooLarge {
    pub(crate) limit: u64,
}

/// Finds an error of this type among the causes of a failed read; poem wraps errors several times.
pub(crate) fn cause_of<E: StdError + Copy + 'static>(error: &io::Error) -> Option<E> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(*found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

impl<E: Endpoint> Middleware<E> for BodyLimit {
    type Output = BodyLimitEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        BodyLimitEndpoint { inner, limit: *self }
    }
}

/// The endpoint of [`BodyLimit`].
#[derive(Debug)]
pub struct BodyLimitEndpoint<E> {
    inner: E,
    limit: BodyLimit,
}

impl<E: Endpoint> Endpoint for BodyLimitEndpoint<E> {
    type Output = E::Output;

    // Not an `async fn`, so that the future does not store the request while the inner endpoint
    // runs.
    fn call(&self, mut request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let body = request.take_body();
        // Most requests have no body and need no look-up of headers.
        if !body.is_empty() {
            let body = match announced(&request) {
                // hyper reads no more than the announced length, so such a body needs no wrapping.
                Some(length) if length <= self.limit.bytes => body,
                Some(_) => {
                    let limit = self.limit.bytes;
                    Body::from_bytes_stream(stream::once(async move { Err::<Bytes, _>(too_large(limit)) }))
                }
                None => limited(body, self.limit.bytes),
            };
            let body = match request.headers().contains_key(header::CONTENT_ENCODING) {
                true => decoded(&mut request, body, self.limit.bytes),
                false => body,
            };
            request.set_body(body);
        }
        self.inner.call(request)
    }
}

fn announced(request: &Request) -> Option<u64> {
    request.header(header::CONTENT_LENGTH)?.parse().ok()
}

pub(crate) fn too_large(limit: u64) -> io::Error {
    io::Error::other(BodyTooLarge { limit })
}

fn limited(body: Body, limit: u64) -> Body {
    let mut left = limit;
    Body::from_bytes_stream(body.into_bytes_stream().and_then(move |chunk| {
        let taken = left.checked_sub(chunk.len() as u64);
        left = taken.unwrap_or(0);
        async move { taken.map(|_| chunk).ok_or_else(|| too_large(limit)) }
    }))
}

#[cfg(test)]
mod tests {
    use poem::{EndpointExt, endpoint::make, test::TestClient};

    use super::*;
    use crate::{Problems, RequestIds};

    async fn status(body: Body, length: Option<u64>) -> u16 {
        let read = make(|request: Request| async move { Ok::<_, poem::Error>(request.into_body().into_vec().await?) });
        let endpoint = read
            .with(BodyLimit { bytes: 10 })
            .with(Problems::default())
            .with(RequestIds::default());
        let client = TestClient::new(endpoint);
        let request = client.post("/").body(body);
        let request = match length {
            Some(length) => request.header(header::CONTENT_LENGTH, length),
            None => request.header(header::TRANSFER_ENCODING, "chunked"),
        };
        request.send().await.0.status().as_u16()
    }

    fn in_pieces(count: usize) -> Body {
        Body::from_bytes_stream(stream::iter(
            (0..count).map(|_| Ok::<_, io::Error>(Bytes::from_static(b"12345"))),
        ))
    }

    #[tokio::test]
    async fn a_body_up_to_the_limit_is_read() {
        assert_eq!(status(Body::from("1234567890"), Some(10)).await, 200);
        assert_eq!(status(in_pieces(2), None).await, 200);
        assert_eq!(status(Body::empty(), None).await, 200);
    }

    #[tokio::test]
    async fn a_longer_one_is_413_announced_or_not() {
        assert_eq!(status(Body::from("12345678901"), Some(11)).await, 413);
        assert_eq!(status(in_pieces(3), None).await, 413);
    }
}
