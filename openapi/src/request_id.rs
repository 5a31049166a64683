//! The id of a request, and the layer that gives it one.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arrayvec::ArrayString;
use futures_util::FutureExt as _;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};
use poem::{Endpoint, FromRequest, IntoResponse, Middleware, Request, RequestBody, Response, Result};
use uuid::{Builder, fmt::Hyphenated};

use crate::{Gates, Problem, RequestContext};

/// The header for the id, in requests and answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LENGTH: usize = 128;

/// A request's id: the client's own if it is well-formed (1 to 128 of `A-Z a-z 0-9 . _ -`), else a
/// new UUID version 7. A handler gets it as a parameter of this type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Text);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `Made` ids, the usual case, need no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Text {
    Made(ArrayString<{ Hyphenated::LENGTH }>),
    Client(Arc<str>),
}

impl RequestId {
    /// Makes a new id. It is no secret, so its random bits come from a fast generator; a system
    /// call would cost more than the rest of this function.
    pub fn generate() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let id = Builder::from_unix_timestamp_millis(since_epoch.as_millis() as u64, &random).into_uuid();
        let mut text = [0; Hyphenated::LENGTH];
        let text = &*id.hyphenated().encode_lower(&mut text);
        Self(Text::Made(ArrayString::from(text).unwrap_or_default()))
    }

    /// Returns the id of a request within [`RequestIds`].
    pub fn of(request: &Request) -> Option<&Self> {
        request.data::<RequestContext>().map(RequestContext::id)
    }

    /// Returns the id in these headers. A malformed or repeated one counts as none, since it would
    /// reach the log.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(X_REQUEST_ID).iter();
        let (first, None) = (values.next()?, values.next()) else {
            return None;
        };
        let text = first.to_str().ok()?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let well_formed = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(allowed);
        well_formed.then(|| Self(Text::Client(text.into())))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Made(text) => text,
            Text::Client(text) => text,
        }
    }

    fn to_header(&self) -> HeaderValue {
        // A header may contain every character of an id.
        HeaderValue::from_str(self.as_str()).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

impl<'a> FromRequest<'a> for RequestId {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let served_without = || {
            tracing::error!("a handler reads the request's id outside of `RequestIds`");
            Problem::internal()
        };
        Ok(Self::of(request).ok_or_else(served_without)?.clone())
    }
}

/// Adds a [`RequestContext`] to each request that has none, and `X-Request-ID` and the headers for
/// browsers and caches to each answer.
#[derive(Clone, Default)]
pub struct RequestIds {
    gates: Option<Arc<Gates>>,
}

impl RequestIds {
    /// With these checks for the operations inside.
    pub fn with_gates(gates: Arc<Gates>) -> Self {
        Self { gates: Some(gates) }
    }
}

impl<E: Endpoint> Middleware<E> for RequestIds {
    type Output = RequestIdsEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        RequestIdsEndpoint {
            inner,
            gates: self.gates.clone(),
        }
    }
}

/// The endpoint of [`RequestIds`].
pub struct RequestIdsEndpoint<E> {
    inner: E,
    gates: Option<Arc<Gates>>,
}

impl<E: Endpoint> Endpoint for RequestIdsEndpoint<E> {
    type Output = Response;

    fn call(&self, mut request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let id = RequestContext::with_gates(&mut request, self.gates.as_ref());
        self.inner.call(request).map(move |answer| {
            let mut response = match answer {
                Ok(response) => response.into_response(),
                Err(error) => error.into_response(),
            };
            protect(response.headers_mut());
            response.headers_mut().insert(X_REQUEST_ID, id.to_header());
            Ok(response)
        })
    }
}

/// Adds the headers for browsers and caches. `nosniff` keeps a browser from guessing another type.
/// An answer is not stored unless its handler allows it: a cache does not distinguish tenants, and
/// the next request for the same URL may be another tenant's.
fn protect(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Entry::Vacant(none) = headers.entry(header::CACHE_CONTROL) {
        none.insert(HeaderValue::from_static("no-store"));
    }
}

#[cfg(test)]
mod tests {
    use poem::{EndpointExt, endpoint::make_sync, test::TestClient};

    use uuid::Uuid;

    use super::*;

    async fn id_for(inbound: &str) -> String {
        let client = TestClient::new(make_sync(|_| "x").with(RequestIds::default()));
        let response = client.get("/").header(X_REQUEST_ID, inbound).send().await;
        response.0.header(X_REQUEST_ID).unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_well_formed_id_is_kept() {
        assert_eq!(id_for("a.B_9-").await, "a.B_9-");
        assert_eq!(id_for(&"x".repeat(128)).await, "x".repeat(128));
    }

    #[tokio::test]
    async fn a_malformed_id_is_replaced_by_a_uuid() {
        for inbound in ["", "a b", "a\"b", "ä", &"x".repeat(129)] {
            let id = id_for(inbound).await;
            assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 7, "{inbound:?}");
        }
    }

    #[test]
    fn two_ids_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(X_REQUEST_ID, HeaderValue::from_static("a"));
        headers.append(X_REQUEST_ID, HeaderValue::from_static("a"));
        assert_eq!(RequestId::from_headers(&headers), None);
    }
}
