//! How a request names its tenant.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::{RequestHead, TenantId, TenantIdError};

/// Finds which tenant a request belongs to.
///
/// What every resolver keeps, and `conformance::resolver` checks:
/// * a name that is present but breaks the rule for tenant ids is [`ResolveError::Malformed`],
///   never [`Resolution::Absent`];
/// * two different names in one request are [`ResolveError::Malformed`];
/// * it reads nothing but the request's head, and neither panics nor waits without a deadline,
///   whatever is in it.
#[async_trait]
pub trait TenantResolver: Send + Sync {
    /// Reads the tenant from a request.
    ///
    /// # Errors
    /// When a tenant is named, but not one that may be used: see [`ResolveError`].
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError>;

    /// How a client names the tenant. The OpenAPI document shows it, and the router takes a path
    /// prefix off.
    fn location(&self) -> TenantLocation;

    /// Whether a request must prove that it belongs to the tenant that it names. By default a
    /// resolver that reads a verified token or an API key demands a proof, and any other one does
    /// not.
    fn authenticates(&self) -> bool {
        self.location().is_token()
    }

    /// Warnings about valid but unsafe settings of this resolver, one sentence each. The server
    /// logs them when it starts, and `tenantry check` prints them.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The outcome of a resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The request has no tenant in the place that this resolver reads.
    Absent,
    /// The request names this tenant.
    Found {
        /// The tenant.
        tenant: TenantId,
        /// The claims of a verified token, if the resolver reads one.
        claims: Option<Claims>,
    },
}

impl Resolution {
    /// A tenant that was found without a token.
    pub fn found(tenant: TenantId) -> Self {
        Self::Found { tenant, claims: None }
    }
}

/// The claims of a token that was verified. They may hold personal data, so they print nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims(Arc<Map<String, Value>>);

impl Claims {
    /// The claims of a token that was verified, and of no other.
    pub fn verified(claims: Map<String, Value>) -> Self {
        Self(Arc::new(claims))
    }

    /// Every claim by its name.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

/// The place in which a client names its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TenantLocation {
    /// In a request header of this name.
    Header {
        /// The header's name, as documented.
        name: String,
    },
    /// In a query parameter of this name.
    Query {
        /// The parameter's name.
        name: String,
    },
    /// In a cookie of this name.
    Cookie {
        /// The cookie's name.
        name: String,
    },
    /// By an API key, which is a secret and not the tenant's id.
    ApiKey {
        /// The place of the key.
        place: ApiKeyPlace,
        /// A sentence for the OpenAPI document: what the key is, and how a client obtains it.
        description: String,
    },
    /// In a bearer token's claim.
    Bearer {
        /// The claim, dots going deeper.
        claim: String,
    },
    /// The label before this domain in the host name.
    Subdomain {
        /// The domain, such as `example.com`.
        domain: String,
    },
    /// By the whole host name. Which names there are is not said: they are the names of customers.
    Host,
    /// In the path, before everything else: `{prefix}/{tenant}/...`. The router takes both off.
    Path {
        /// The prefix, with its leading and without a trailing slash, such as `/t`.
        prefix: String,
    },
    /// Nowhere: every request has the same tenant.
    Fixed,
    /// In any one of these, the first that is present.
    AnyOf(Vec<TenantLocation>),
    /// In every one of these, all agreeing.
    AllOf(Vec<TenantLocation>),
}

/// The place of an API key in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeyPlace {
    /// In the header of this name.
    Header(String),
    /// In the query parameter of this name. Proxies log queries; prefer a header.
    Query(String),
    /// In the cookie of this name.
    Cookie(String),
}

impl TenantLocation {
    /// An API key in the header `name`.
    pub fn api_key(name: impl Into<String>, description: impl Into<String>) -> Self {
        Self::ApiKey {
            place: ApiKeyPlace::Header(name.into()),
            description: description.into(),
        }
    }

    /// Whether a request can name its tenant in a token or a key alone.
    fn is_token(&self) -> bool {
        match self {
            Self::Bearer { .. } | Self::ApiKey { .. } => true,
            Self::AnyOf(all) => all.iter().all(Self::is_token),
            Self::AllOf(all) => all.iter().any(Self::is_token),
            _ => false,
        }
    }

    /// The query parameters in which a client names its tenant.
    pub fn query_parameters(&self) -> Vec<String> {
        match self {
            Self::Query { name } => vec![name.clone()],
            Self::AnyOf(all) | Self::AllOf(all) => all.iter().flat_map(Self::query_parameters).collect(),
            _ => Vec::new(),
        }
    }

    /// The prefix that the router takes off a path, if one of the locations is the path.
    pub fn path_prefix(&self) -> Option<&str> {
        match self {
            Self::Path { prefix } => Some(prefix),
            Self::AnyOf(all) | Self::AllOf(all) => all.iter().find_map(Self::path_prefix),
            _ => None,
        }
    }
}

/// Why a request's tenant is refused.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The request has a name that is not a tenant id. Answered 400 `tenant_malformed`.
    #[error("the tenant id in {place} {reason}")]
    Malformed {
        /// The place in which it was found, in words for a client: "the header `X-Tenant-ID`".
        place: String,
        /// The fault, without the name itself.
        reason: MalformedReason,
    },
    /// The credential that carries the tenant is missing or bad. Answered 401 with
    /// `WWW-Authenticate`.
    #[error("{description}")]
    Unauthenticated {
        /// The error code of RFC 6750 §3.1; `None` when no credential was sent at all.
        error: Option<&'static str>,
        /// The fault, for the client's developer; never a part of the credential.
        description: String,
    },
    /// Every one of several resolvers must find the tenant, and one of them did not. Answered 401
    /// with `WWW-Authenticate` if it reads a token, else 400 `tenant_missing`.
    #[error("the request does not name its tenant in every place that the configuration demands")]
    Incomplete {
        /// The place in which no tenant was found.
        missing: TenantLocation,
    },
    /// Two resolvers found different tenants. Answered 403 `tenant_mismatch`.
    #[error("the request names more than one tenant")]
    Mismatch,
    /// Something that the resolver needs, such as a key set, is not available now. Answered 503
    /// `provider_unavailable`.
    #[error("the tenant cannot be determined now")]
    Unavailable {
        /// When asking again may help.
        retry_after: std::time::Duration,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The fault of a tenant's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReason {
    /// It breaks the rule for ids.
    #[error("{0}")]
    Id(#[from] TenantIdError),
    /// The request has two that differ.
    #[error("is given more than once, with different values")]
    Ambiguous,
    /// It is not readable text, or not encoded as its place demands.
    #[error("is not readable text")]
    Unreadable,
}

impl ResolveError {
    /// A malformed name at `place`.
    pub fn malformed(place: impl Into<String>, reason: impl Into<MalformedReason>) -> Self {
        Self::Malformed {
            place: place.into(),
            reason: reason.into(),
        }
    }
}
