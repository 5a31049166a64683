//! The id that every request has, and what is noted of it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use poem::{Endpoint, IntoResponse, Middleware, Request, Response, Result};
use tenantry_core::engine::RequestTally;
use uuid::{Builder, Uuid};

/// The header that carries it, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LENGTH: usize = 128;

/// A request's id: the client's own where it sent a well-formed one, which is 1 to 128 of `A-Z a-z 0-9 . _ -`, else a new UUID
/// version 7. It is in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new one. It is no secret, so its random bits need no call of the system, which costs more than all else of it.
    pub fn generate() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        let id = Builder::from_unix_timestamp_millis(since_epoch.as_millis() as u64, &random).into_uuid();
        let mut buffer = Uuid::encode_buffer();
        Self(Arc::from(&*id.hyphenated().encode_lower(&mut buffer)))
    }

    /// The request's: the one in its extensions, else the client's or a new one, which it has there from now on.
    pub fn of(request: &mut Request) -> Self {
        if let Some(id) = request.data::<Self>() {
            return id.clone();
        }
        let id = Self::from_headers(request.headers()).unwrap_or_else(Self::generate);
        request.set_data(id.clone());
        id
    }

    /// The one in these headers. One that is malformed, or that is there twice, counts as none: it would reach the log.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(X_REQUEST_ID).iter();
        let (first, None) = (values.next()?, values.next()) else {
            return None;
        };
        let text = first.to_str().ok()?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let well_formed = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(allowed);
        well_formed.then(|| Self(text.into()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn to_header(&self) -> HeaderValue {
        // Every character that an id may have is one that a header may have.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

/// What is noted of a request while it runs: which tenant it is for, and what it asked of its database. What stands around the handler
/// (the access log) reads it. It is in the request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Noted(Arc<RequestTally>);

impl Noted {
    /// The request's: the one in its extensions, else a new one, which it has there from now on.
    pub fn of(request: &mut Request) -> Self {
        if let Some(noted) = request.data::<Self>() {
            return noted.clone();
        }
        let noted = Self::default();
        request.set_data(noted.clone());
        noted
    }

    /// What was noted so far.
    pub fn tally(&self) -> &Arc<RequestTally> {
        &self.0
    }
}

/// Gives every request its [`RequestId`] and [`Noted`], unless something further out did, and every answer its `X-Request-ID`.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestIds;

impl<E: Endpoint> Middleware<E> for RequestIds {
    type Output = RequestIdsEndpoint<E>;

    fn transform(&self, inner: E) -> Self::Output {
        RequestIdsEndpoint { inner }
    }
}

/// The endpoint of [`RequestIds`].
#[derive(Debug)]
pub struct RequestIdsEndpoint<E> {
    inner: E,
}

impl<E: Endpoint> Endpoint for RequestIdsEndpoint<E> {
    type Output = Response;

    fn call(&self, mut request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        let id = RequestId::of(&mut request);
        Noted::of(&mut request);
        let answer = self.inner.call(request);
        async move {
            let mut response = match answer.await {
                Ok(response) => response.into_response(),
                Err(error) => error.into_response(),
            };
            response.headers_mut().insert(X_REQUEST_ID, id.to_header());
            Ok(response)
        }
    }
}

#[cfg(test)]
mod tests {
    use poem::{EndpointExt, endpoint::make_sync, test::TestClient};

    use super::*;

    async fn id_for(inbound: &str) -> String {
        let client = TestClient::new(make_sync(|_| "x").with(RequestIds));
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
