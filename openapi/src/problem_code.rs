//! Every kind of problem that an answer may name.

use http::StatusCode;
use strum::IntoStaticStr;

/// The kinds of problems: what a client may act on. Each has one status, one `code` and one title.
///
/// A new kind also needs its operations in `document/answers.rs` (`codes`, which no compiler
/// checks) and a row in `docs/operators.md` if an operator acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ProblemCode {
    /// 400: no tenant is named in the request.
    TenantMissing,
    /// 400: a tenant is named, but not by a valid id.
    TenantMalformed,
    /// 400: bad JSON, path, query or body.
    RequestInvalid,
    /// 401: a bad or missing token.
    Unauthenticated,
    /// 403: the request names different tenants.
    TenantMismatch,
    /// 403: an operator suspended the tenant.
    TenantSuspended,
    /// 404: the provider has no secret for this tenant.
    TenantUnknown,
    /// 404: no such thing or route.
    NotFound,
    /// 405: the route has no such method.
    MethodNotAllowed,
    /// 409: a unique value is taken.
    Conflict,
    /// 413: the body is longer than the server accepts.
    BodyTooLarge,
    /// 415: the operation does not take the body's `Content-Type` or `Content-Encoding`.
    UnsupportedMediaType,
    /// 429: too many requests of this tenant run at once, or its clients leave too much unread.
    TenantBusy,
    /// 429: too many requests of this tenant in a second.
    RateLimited,
    /// 500: a defect.
    Internal,
    /// 503: the secret provider or the key server does not answer.
    ProviderUnavailable,
    /// 503: the tenant's database does not answer.
    DatabaseUnavailable,
    /// 503: the tenant's secret cannot be used.
    SecretInvalid,
    /// 503: the tenant's database is still being migrated.
    TenantMigrating,
    /// 503: the tenant's database is below the version that is served.
    TenantSchemaBehind,
    /// 503: the server is being stopped.
    ShuttingDown,
    /// 503: a write or a commit may have happened. The connection was lost, the request's time ran
    /// out, the server stopped, or the answer had no room.
    OutcomeUnknown,
    /// 504: no connection became free in time.
    PoolTimeout,
    /// 504: the time of the request, or of one of its statements, ran out.
    RequestTimeout,
    /// Any other error status. The code is the status's reason phrase in snake case.
    Other(StatusCode),
}

impl ProblemCode {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        self.status_and_title().0
    }

    /// The word in the answer's `code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other(status) => other_word(status),
            code => code.into(),
        }
    }

    /// The title of the answer: the same for every problem of this kind (RFC 9457 §3.1.3).
    pub fn title(self) -> &'static str {
        self.status_and_title().1
    }

    fn status_and_title(self) -> (StatusCode, &'static str) {
        match self {
            Self::TenantMissing => (StatusCode::BAD_REQUEST, "No tenant named"),
            Self::TenantMalformed => (StatusCode::BAD_REQUEST, "Malformed tenant id"),
            Self::RequestInvalid => (StatusCode::BAD_REQUEST, "Invalid request"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "Not authenticated"),
            Self::TenantMismatch => (StatusCode::FORBIDDEN, "Different tenants named"),
            Self::TenantSuspended => (StatusCode::FORBIDDEN, "Tenant suspended"),
            Self::TenantUnknown => (StatusCode::NOT_FOUND, "Unknown tenant"),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            Self::Conflict => (StatusCode::CONFLICT, "Conflict"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Body too large"),
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
            Self::TenantBusy => (StatusCode::TOO_MANY_REQUESTS, "Tenant busy"),
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "Rate limited"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
            Self::ProviderUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Secret provider unavailable"),
            Self::DatabaseUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Database unavailable"),
            Self::SecretInvalid => (StatusCode::SERVICE_UNAVAILABLE, "Secret invalid"),
            Self::TenantMigrating => (StatusCode::SERVICE_UNAVAILABLE, "Tenant is being migrated"),
            Self::TenantSchemaBehind => (StatusCode::SERVICE_UNAVAILABLE, "Tenant schema behind"),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "Shutting down"),
            Self::OutcomeUnknown => (StatusCode::SERVICE_UNAVAILABLE, "Outcome unknown"),
            Self::PoolTimeout => (StatusCode::GATEWAY_TIMEOUT, "No connection in time"),
            Self::RequestTimeout => (StatusCode::GATEWAY_TIMEOUT, "Request timed out"),
            Self::Other(status) => (status, status.canonical_reason().unwrap_or("Error")),
        }
    }

    /// The kind for an error of which nothing but the status is known.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::RequestInvalid,
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PAYLOAD_TOO_LARGE => Self::BodyTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited,
            StatusCode::INTERNAL_SERVER_ERROR => Self::Internal,
            StatusCode::GATEWAY_TIMEOUT => Self::RequestTimeout,
            other => Self::Other(other),
        }
    }
}

/// The word for a status that no kind of its own has.
fn other_word(status: StatusCode) -> &'static str {
    match status {
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::NOT_ACCEPTABLE => "not_acceptable",
        StatusCode::GONE => "gone",
        StatusCode::PRECONDITION_FAILED => "precondition_failed",
        StatusCode::UNPROCESSABLE_ENTITY => "unprocessable_entity",
        StatusCode::NOT_IMPLEMENTED => "not_implemented",
        StatusCode::BAD_GATEWAY => "bad_gateway",
        StatusCode::SERVICE_UNAVAILABLE => "service_unavailable",
        _ if status.is_client_error() => "request_refused",
        _ => "server_error",
    }
}
