//! The extractor that makes an operation a tenant's.

use std::{ops::Deref, pin::pin, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Uri;
use poem::{Body, Request, RequestBody, Result, error::ReadBodyError};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use tenantry_core::{
    Claims, RequestHead, Resolution, ResolveError, TRACE_TARGET, TenantIdPattern, TenantResolver, TrustedProxies,
    engine::{TenantDatabase, Tenants},
    is_traced,
};
use tracing::{Instrument as _, field::Empty};

use crate::{Problem, RequestContext, known_query, translate::unreadable_body};

/// The placeholder scheme with which the extractor marks operations. The document replaces it by
/// the configured resolver's scheme.
pub(crate) const TENANT_SCHEME: &str = "Tenant";

/// The target of a request before the router took the tenant off its path.
#[derive(Debug, Clone)]
pub(crate) struct Target(pub(crate) Uri);

/// The target of a request as the client wrote it. (poem's own `original_uri` is known for requests
/// from a socket alone.)
pub fn target_of(request: &Request) -> &Uri {
    request.data::<Target>().map_or(request.uri(), |target| &target.0)
}

/// Resolves the tenant of a request and opens its database.
pub struct TenantGate {
    /// Finds the tenant.
    pub resolver: Arc<dyn TenantResolver>,
    /// The resolver's `type`, for `TenantInfo` and for traces.
    pub resolver_type: Arc<str>,
    /// The engine with the tenants' databases.
    pub tenants: Tenants,
    /// The peers that may set forwarded headers.
    pub trusted_proxies: TrustedProxies,
    /// The rule for tenant ids.
    pub id_pattern: TenantIdPattern,
}

impl TenantGate {
    async fn resolve_in_span(&self, head: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let span = tracing::info_span!(
            target: TRACE_TARGET,
            "resolve tenant",
            otel.status_code = Empty,
            tenant.resolver = &*self.resolver_type,
            tenant.id = Empty,
        );
        let mut resolving = pin!(self.resolver.resolve(head).instrument(span));
        let resolved = resolving.as_mut().await;
        let span = resolving.span();
        match &resolved {
            Ok(Resolution::Found { tenant, .. }) => span.record("tenant.id", tenant.as_str()),
            Ok(Resolution::Absent) | Err(_) => span.record("otel.status_code", "ERROR"),
        };
        resolved
    }

    async fn admit(
        &self,
        request: &Request,
        body: &mut RequestBody,
        context: &RequestContext,
    ) -> Result<Tenant, Problem> {
        let head = RequestHead {
            method: request.method(),
            uri: target_of(request),
            headers: request.headers(),
            peer: request.remote_addr().as_socket_addr().map(|address| address.ip()),
            trusted_proxies: &self.trusted_proxies,
            id_pattern: &self.id_pattern,
        };
        let resolved = if is_traced() {
            self.resolve_in_span(&head).await
        } else {
            self.resolver.resolve(&head).await
        };
        let resolved = resolved.map_err(|error| Problem::of_resolver(&self.resolver.location(), error));
        let (tenant, claims) = match resolved? {
            Resolution::Found { tenant, claims } => (tenant, claims),
            Resolution::Absent => return Err(Problem::tenant_missing(&self.resolver.location())),
        };
        context.tally().set_tenant(tenant);
        if let Ok(taken) = body.take() {
            let arrived = match taken.is_empty() {
                // The usual case.
                true => taken,
                false => Box::pin(arrived(taken))
                    .await
                    .map_err(|error| unreadable_body(&error))?,
            };
            *body = RequestBody::new(arrived);
        }
        let acquired = self.tenants.acquire_for(&tenant, Some(context.tally().clone())).await;
        let database = acquired.map_err(|error| Problem::of_tenant(&tenant, error))?;
        Ok(Tenant { database, claims })
    }
}

/// The database of the request's tenant. A parameter of this type makes an operation tenant-scoped:
/// it runs only if the tenant is resolved and its database is available, and the document shows how
/// a client names the tenant. Put it before the other parameters, so that a missing tenant is
/// reported first.
///
/// It dereferences to a [`TenantDatabase`], so SeaORM's queries run on `&*tenant`.
pub struct Tenant {
    database: TenantDatabase,
    claims: Option<Claims>,
}

impl Tenant {
    /// The tenant of a request that no operation of poem-openapi takes.
    ///
    /// # Errors
    /// The problem that a tenant's operation would answer.
    pub async fn of_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
        let context = request.data::<RequestContext>();
        let Some((context, gates)) = context.and_then(|context| Some((context, context.gates()?))) else {
            tracing::error!("a tenant's operation is served without a `TenantGate`");
            return Err(Problem::internal().into());
        };
        let tenant = gates.tenant.admit(request, body, context).await?;
        known_query::check(request)?;
        Ok(tenant)
    }

    /// The claims of the request's verified token, if its resolver reads one.
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }
}

impl Deref for Tenant {
    type Target = TenantDatabase;

    fn deref(&self) -> &Self::Target {
        &self.database
    }
}

impl<'a> ApiExtractor<'a> for Tenant {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(TENANT_SCHEME, placeholder());
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![TENANT_SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> Result<Self> {
        Self::of_request(request, body).await
    }
}

/// The most bytes of a body that are awaited.
const AWAITED: usize = 1024 * 1024;

/// The body once it has arrived, or as much of it as is awaited. A client that sends nothing more
/// would otherwise hold one of the requests that its tenant may run at once.
async fn arrived(body: Body) -> Result<Body, ReadBodyError> {
    let mut rest = body.into_bytes_stream();
    let (mut arrived, mut size) = (Vec::new(), 0);
    while size < AWAITED {
        match rest.try_next().await.map_err(ReadBodyError::Io)? {
            Some(bytes) => {
                size += bytes.len();
                arrived.push(Ok(bytes));
            }
            None => break,
        }
    }
    Ok(Body::from_bytes_stream(stream::iter(arrived).chain(rest)))
}

/// A scheme that is replaced before anyone sees it.
pub(crate) fn placeholder() -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: None,
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    }
}
