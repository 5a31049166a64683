//! Compresses answers for clients that ask for it. poem's own compression is not used: it also
//! encodes tiny answers, images and encoded answers, uses a coding that the client excludes with
//! `q=0`, and sends no `Vary`.

use std::{io, sync::Arc};

use async_compression::tokio::bufread::GzipEncoder;
use bytes::Bytes;
use futures_util::{FutureExt as _, future::Either};
use http::{HeaderMap, HeaderValue, Method, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, combinators::BoxBody};
use poem::{Body, Endpoint, IntoResponse, Middleware, Request, Response, Result};
use tenantry_openapi::{Gzipped, gzip};
use tokio::io::BufReader;

use super::unread_answers::HeldRoom;

/// Smaller answers do not become smaller enough to be worth it.
const SMALLEST: u64 = 1024;

/// Larger answers are encoded outside of the threads that serve requests.
const LARGE: usize = 64 * 1024;

/// Compresses answers with gzip if the client accepts it (RFC 9110 §12.5.3) and the answer is text
/// and not tiny.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gzip;

impl<E: Endpoint> Middleware<E> for Gzip {
    type Output = GzipEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        GzipEndpoint { inner }
    }
}

pub(crate) struct GzipEndpoint<E> {
    inner: E,
}

impl<E: Endpoint> Endpoint for GzipEndpoint<E> {
    type Output = Response;

    fn call(&self, request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let takes = Takes::of(&request);
        let answer = self.inner.call(request);
        answer.then(move |answer| match answer {
            Err(error) => Either::Left(std::future::ready(Err(error))),
            Ok(answer) => match encoding(answer.into_response(), &takes) {
                (response, false) => Either::Left(std::future::ready(Ok(response))),
                // Few answers are encoded, and no other is to keep what this needs.
                (response, true) => Either::Right(Box::pin(encoded(response).map(Ok))),
            },
        })
    }
}

/// The `Accept-Encoding` of a request, kept as it came. It is parsed only for an answer that can be
/// compressed, and most are too small.
enum Takes {
    /// As it is.
    Plain,
    /// Codings as `Accept-Encoding` names them.
    Named(HeaderValue),
    /// Codings in several such lines.
    Several(Vec<HeaderValue>),
}

impl Takes {
    fn of(request: &Request) -> Self {
        let mut lines = request.headers().get_all(header::ACCEPT_ENCODING).iter();
        match (lines.next(), lines.next()) {
            (Some(_), _) if request.method() == Method::HEAD => Self::Plain,
            (None, _) => Self::Plain,
            (Some(line), None) => Self::Named(line.clone()),
            (Some(first), Some(second)) => Self::Several([first, second].into_iter().chain(lines).cloned().collect()),
        }
    }

    fn gzip(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Named(line) => accepts_gzip(std::slice::from_ref(line)),
            Self::Several(lines) => accepts_gzip(lines),
        }
    }
}

/// The answer, and whether it is to be encoded.
fn encoding(mut response: Response, takes: &Takes) -> (Response, bool) {
    let body: BoxBody<Bytes, io::Error> = response.take_body().into();
    let is_small = body.size_hint().exact().is_some_and(|size| size < SMALLEST);
    response.set_body(Body::from(body));
    if is_small || !is_compressible(response.headers()) {
        return (response, false);
    }
    // The answer depends on this header, even if the client did not send it.
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    (response, takes.gzip())
}

/// The answer in gzip. One of a known size is encoded before it is sent: an encoder needs more
/// memory than most answers, and would keep it as long as the client takes to read.
async fn encoded(response: Response) -> Response {
    let prepared = response.data::<Gzipped>().map(|Gzipped(bytes)| bytes.clone());
    let room = response.data::<Arc<HeldRoom>>().cloned();
    let (mut parts, body) = response.into_parts();
    let body: BoxBody<Bytes, io::Error> = body.into();
    let body = match (prepared, body.size_hint().exact()) {
        (Some(prepared), _) => Body::from(prepared),
        (None, None) => {
            let body = Body::from(body).into_async_read();
            Body::from_async_read(GzipEncoder::new(BufReader::new(body)))
        }
        (None, Some(_)) => match at_once(body).await {
            Ok(bytes) => Body::from(match room {
                Some(room) => room.around(bytes),
                None => bytes,
            }),
            Err(error) => {
                // The client sees the answer cut off, as without compression.
                tracing::warn!(%error, "an answer could not be encoded");
                Body::from_bytes_stream(futures_util::stream::once(async { Err::<Bytes, _>(error) }))
            }
        },
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    let coding = HeaderValue::from_static("gzip");
    parts.headers.insert(header::CONTENT_ENCODING, coding);
    Response::from_parts(parts, body)
}

async fn at_once(body: BoxBody<Bytes, io::Error>) -> io::Result<Bytes> {
    let bytes = body.collect().await?.to_bytes();
    if bytes.len() < LARGE {
        return Ok(gzip(&bytes));
    }
    tokio::task::spawn_blocking(move || gzip(&bytes))
        .await
        .map_err(io::Error::other)
}

/// Whether `Accept-Encoding` names gzip, or everything, with a weight above 0.
fn accepts_gzip(lines: &[HeaderValue]) -> bool {
    let mut any = false;
    for coding in lines
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let wanted = weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0));
        if name.eq_ignore_ascii_case("gzip") {
            return wanted;
        }
        any |= name == "*" && wanted;
    }
    any
}

fn is_compressible(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_text = media_type.is_some_and(|media_type| {
        media_type.starts_with("text/") || media_type.contains("json") || media_type.contains("yaml")
    });
    is_text && !headers.contains_key(header::CONTENT_ENCODING)
}

#[cfg(test)]
mod tests {
    use poem::{EndpointExt, endpoint::make_sync, test::TestClient};

    use super::*;

    async fn coding(size: usize, media_type: &'static str, accept: &'static str) -> (Option<String>, bool) {
        let endpoint = make_sync(move |_| Response::builder().content_type(media_type).body("a".repeat(size)));
        let client = TestClient::new(endpoint.with(Gzip));
        let response = client.get("/").header("accept-encoding", accept).send().await.0;
        let coding = response.header("content-encoding").map(str::to_owned);
        let varies = response.header("vary") == Some("accept-encoding");
        let body = response.into_body().into_bytes().await.unwrap();
        assert_eq!(body.len() < size, coding.is_some());
        (coding, varies)
    }

    #[tokio::test]
    async fn what_is_large_and_text_is_encoded_for_who_takes_it() {
        let gzip = Some("gzip".to_owned());
        for accept in ["gzip", "br, gzip;q=0.5", "*", "GZIP"] {
            assert_eq!(
                coding(2_000, "application/json", accept).await,
                (gzip.clone(), true),
                "{accept}"
            );
        }
        for accept in ["", "br", "gzip;q=0", "*, gzip;q=0", "identity"] {
            assert_eq!(
                coding(2_000, "application/json", accept).await,
                (None, true),
                "{accept}"
            );
        }
        assert_eq!(coding(100, "application/json", "gzip").await, (None, false));
        assert_eq!(coding(2_000, "image/png", "gzip").await, (None, false));
    }
}
