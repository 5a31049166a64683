//! Requests for tests.

use http::{HeaderName, HeaderValue, Request, Uri};

/// A request for `target`; `None` if a request line cannot contain it.
pub(crate) fn get(target: impl AsRef<[u8]>) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.uri_mut() = Uri::try_from(target.as_ref()).ok()?;
    Some(request)
}

/// A request with these headers; `None` if a header cannot contain one of the values.
pub(crate) fn with<V: AsRef<[u8]>>(name: &str, values: impl IntoIterator<Item = V>) -> Option<Request<()>> {
    let name: HeaderName = name.parse().ok()?;
    let mut request = get("/api/v1/tenant/info")?;
    for value in values {
        let value = HeaderValue::from_bytes(value.as_ref()).ok()?;
        request.headers_mut().append(name.clone(), value);
    }
    Some(request)
}

/// A request with nothing that could name a tenant.
pub(crate) fn plain() -> Request<()> {
    with("accept", ["*/*"]).unwrap()
}
