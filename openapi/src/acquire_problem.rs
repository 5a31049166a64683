//! The problem answer for a tenant with an unavailable database.

use std::time::Duration;

use tenantry_core::{ResolveError, TenantId, TenantLocation, engine::AcquireError};

use crate::{
    Fault, Problem, ProblemCode,
    database_problem::SECRET_INVALID,
    document::{challenge_scheme, describe_location, describe_place, needs_credential},
    problem::sentence,
};

impl Problem {
    /// 401 if every way to name the tenant there needs a token or a key, else 400 `tenant_missing`.
    pub(crate) fn tenant_missing(location: &TenantLocation) -> Self {
        let place = describe_location(location);
        if needs_credential(location) {
            let description = match location {
                TenantLocation::ApiKey { place, .. } => format!("an API key is expected in {}", describe_place(place)),
                _ => format!("the tenant is expected in {place}"),
            };
            return Self::challenge(challenge_scheme(location), None, description);
        }
        let detail = format!("The request names no tenant; it is expected in {place}.");
        Self::new(ProblemCode::TenantMissing, detail)
    }

    /// 404 `tenant_unknown`.
    pub(crate) fn tenant_unknown(tenant: &TenantId) -> Self {
        Self::new(ProblemCode::TenantUnknown, format!("No tenant is named \"{tenant}\"."))
    }

    /// 400 `tenant_malformed`, for an id in the parameter `name` of an operator's request.
    pub(crate) fn tenant_malformed(name: &str, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        Self::new(
            ProblemCode::TenantMalformed,
            format!("The tenant id in the parameter `{name}` {reason}."),
        )
        .with_faults(vec![Fault::parameter(name, reason)])
    }

    /// The problem for a tenant with an unavailable database.
    pub fn of_tenant(tenant: &TenantId, error: AcquireError) -> Self {
        match error {
            AcquireError::Unknown => Self::tenant_unknown(tenant),
            AcquireError::Suspended => Self::new(
                ProblemCode::TenantSuspended,
                format!("The tenant \"{tenant}\" is suspended."),
            ),
            AcquireError::Busy { retry_after } => Self::new(
                ProblemCode::TenantBusy,
                format!("The tenant \"{tenant}\" has too many requests running; try again later."),
            )
            .with_retry_after(retry_after),
            AcquireError::RateLimited { retry_after } => Self::new(
                ProblemCode::RateLimited,
                format!("The tenant \"{tenant}\" sends too many requests per second; try again later."),
            )
            .with_retry_after(retry_after),
            other => Self::of_all_tenants(other),
        }
    }

    /// The same for a request that does not concern one tenant.
    pub(crate) fn of_all_tenants(error: AcquireError) -> Self {
        match error {
            AcquireError::ProviderUnavailable { retry_after, .. } => Self::new(
                ProblemCode::ProviderUnavailable,
                "The secret provider is unavailable; try again later.",
            )
            .with_retry_after(retry_after),
            // Why it is wrong is for operators: a reason may repeat a name that the secret
            // holds, and so may the field.
            AcquireError::SecretInvalid { retry_after, source } => Self::new(
                ProblemCode::SecretInvalid,
                match source.public_field() {
                    // As a whole.
                    "secret" => SECRET_INVALID.to_owned(),
                    field => format!(
                        "The tenant's secret is not valid at `{field}`; an operator sees why in `/health/tenant/{{id}}`."
                    ),
                },
            )
            .with_retry_after(retry_after),
            AcquireError::Database(error) => error.into_db_err().into(),
            AcquireError::ShuttingDown => Self::new(ProblemCode::ShuttingDown, "The server is shutting down.")
                .with_retry_after(Duration::from_secs(1)),
            AcquireError::Unknown
            | AcquireError::Suspended
            | AcquireError::Busy { .. }
            | AcquireError::RateLimited { .. } => {
                tracing::error!(error = %error, "an answer that belongs to one tenant came where none is");
                Self::internal()
            }
        }
    }
}

impl Problem {
    /// The problem for a request that the resolver of `location` refused.
    pub(crate) fn of_resolver(location: &TenantLocation, error: ResolveError) -> Self {
        match error {
            ResolveError::Unauthenticated { error, description } => {
                Self::challenge(challenge_scheme(location), error, description)
            }
            other => other.into(),
        }
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Malformed { .. } => Self::new(ProblemCode::TenantMalformed, sentence(&error.to_string())),
            ResolveError::Unauthenticated { error, description } => Self::unauthenticated(error, description),
            ResolveError::Incomplete { missing } => Self::tenant_missing(&missing),
            ResolveError::Mismatch => Self::new(ProblemCode::TenantMismatch, sentence(&error.to_string())),
            ResolveError::Unavailable { retry_after, source } => {
                tracing::warn!(error = %source, "the tenant of a request cannot be determined");
                Self::new(
                    ProblemCode::ProviderUnavailable,
                    "The request's credential cannot be verified at the moment; try again later.",
                )
                .with_retry_after(retry_after)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tenantry_core::{MalformedReason, ProviderError, SecretInvalid, TenantIdError};

    use super::*;

    #[test]
    fn each_reason_has_the_answer_of_the_contract() {
        let tenant: TenantId = "acme".parse().unwrap();
        let retry_after = Duration::from_secs(7);
        let of = |error| {
            let problem = Problem::of_tenant(&tenant, error);
            assert!(!format!("{problem:?}").contains("canary"));
            (problem.code().status().as_u16(), problem.code().as_str())
        };
        assert_eq!(of(AcquireError::Unknown), (404, "tenant_unknown"));
        assert_eq!(of(AcquireError::Suspended), (403, "tenant_suspended"));
        assert_eq!(of(AcquireError::Busy { retry_after }), (429, "tenant_busy"));
        assert_eq!(of(AcquireError::RateLimited { retry_after }), (429, "rate_limited"));
        assert_eq!(of(AcquireError::ShuttingDown), (503, "shutting_down"));
        let source = Arc::new(ProviderError::Denied("canary".into()));
        assert_eq!(
            of(AcquireError::ProviderUnavailable { retry_after, source }),
            (503, "provider_unavailable")
        );
        let source = SecretInvalid::new("port", "canary");
        assert_eq!(
            of(AcquireError::SecretInvalid { retry_after, source }),
            (503, "secret_invalid")
        );
        for (field, begin) in [
            ("port", "The tenant's secret is not valid at `port`; an operator"),
            ("tls.canary", "The tenant's secret is not valid at `tls`; an operator"),
            ("secret", "The tenant's secret is not valid; an operator"),
        ] {
            let source = SecretInvalid::new(field, "canary");
            let problem = Problem::of_tenant(&tenant, AcquireError::SecretInvalid { retry_after, source });
            assert!(problem.to_string().starts_with(begin), "{problem}");
        }
        let unknown = Problem::of_tenant(&tenant, AcquireError::Unknown);
        assert_eq!(unknown.to_string(), "No tenant is named \"acme\".");
    }

    #[test]
    fn a_resolver_s_refusals_have_theirs() {
        let of = |error: ResolveError| {
            let problem = Problem::from(error);
            (
                problem.code().status().as_u16(),
                problem.code().as_str(),
                problem.to_string(),
            )
        };
        let malformed = ResolveError::malformed("the header `X-Tenant-ID`", MalformedReason::Id(TenantIdError::Empty));
        let detail = "The tenant id in the header `X-Tenant-ID` is empty.".to_owned();
        assert_eq!(of(malformed), (400, "tenant_malformed", detail));
        let mismatch = of(ResolveError::Mismatch);
        assert_eq!((mismatch.0, mismatch.1), (403, "tenant_mismatch"));
        let bad = of(ResolveError::Unauthenticated {
            error: Some("invalid_token"),
            description: "it is over".to_owned(),
        });
        assert_eq!((bad.0, bad.1), (401, "unauthenticated"));
    }
}
