//! Every kind of problem that an answer may name.

use http::StatusCode;

/// The kinds of problems: what a client may act on. Each has one status, one `code` and one title.
///
/// A new kind also needs its operations in `document/answers.rs` (`codes`, which no compiler
/// checks) and a row in `docs/operators.md` if an operator acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// 415: the body is not JSON.
    UnsupportedMediaType,
    /// 429: too many requests of this tenant run at once.
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
    /// 503: the connection was lost while a write or a commit was under way, which may have
    /// happened.
    OutcomeUnknown,
    /// 504: no connection became free in time.
    PoolTimeout,
    /// 504: the request's time ran out.
    RequestTimeout,
    /// Any other error status. The code is the status's reason phrase in snake case.
    Other(StatusCode),
}

impl ProblemCode {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TenantMissing | Self::TenantMalformed | Self::RequestInvalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::TenantMismatch | Self::TenantSuspended => StatusCode::FORBIDDEN,
            Self::TenantUnknown | Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TenantBusy | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ProviderUnavailable
            | Self::DatabaseUnavailable
            | Self::SecretInvalid
            | Self::TenantMigrating
            | Self::TenantSchemaBehind
            | Self::ShuttingDown
            | Self::OutcomeUnknown => StatusCode::SERVICE_UNAVAILABLE,
            Self::PoolTimeout | Self::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Other(status) => status,
        }
    }

    /// The word in the answer's `code`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantMissing => "tenant_missing",
            Self::TenantMalformed => "tenant_malformed",
            Self::RequestInvalid => "request_invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::TenantMismatch => "tenant_mismatch",
            Self::TenantSuspended => "tenant_suspended",
            Self::TenantUnknown => "tenant_unknown",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::TenantBusy => "tenant_busy",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::DatabaseUnavailable => "database_unavailable",
            Self::SecretInvalid => "secret_invalid",
            Self::TenantMigrating => "tenant_migrating",
            Self::TenantSchemaBehind => "tenant_schema_behind",
            Self::ShuttingDown => "shutting_down",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::PoolTimeout => "pool_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::Other(status) => match status {
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
            },
        }
    }

    /// The title of the answer: the same for every problem of this kind (RFC 9457 §3.1.3).
    pub fn title(self) -> &'static str {
        match self {
            Self::TenantMissing => "No tenant named",
            Self::TenantMalformed => "Malformed tenant id",
            Self::RequestInvalid => "Invalid request",
            Self::Unauthenticated => "Not authenticated",
            Self::TenantMismatch => "Different tenants named",
            Self::TenantSuspended => "Tenant suspended",
            Self::TenantUnknown => "Unknown tenant",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "Conflict",
            Self::BodyTooLarge => "Body too large",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::TenantBusy => "Tenant busy",
            Self::RateLimited => "Rate limited",
            Self::Internal => "Internal error",
            Self::ProviderUnavailable => "Secret provider unavailable",
            Self::DatabaseUnavailable => "Database unavailable",
            Self::SecretInvalid => "Secret invalid",
            Self::TenantMigrating => "Tenant is being migrated",
            Self::TenantSchemaBehind => "Tenant schema behind",
            Self::ShuttingDown => "Shutting down",
            Self::OutcomeUnknown => "Outcome unknown",
            Self::PoolTimeout => "No connection in time",
            Self::RequestTimeout => "Request timed out",
            Self::Other(status) => status.canonical_reason().unwrap_or("Error"),
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
