//! All of it together: what the server's listeners serve.

use std::{sync::Arc, time::Duration};

use http::{Uri, uri::PathAndQuery};
use poem::{Endpoint, EndpointExt, Request, Response, Result, endpoint::BoxEndpoint};

use crate::{
    AdminApi, ApiSet, BodyLimit, HealthApi, LogControl, MetricsSource, OperatorGate, Problem, Problems, Readiness,
    RequestIds, TenantApi, TenantGate, TenantStatsApi, UsersApi,
    api_set::{Around, Description, RouteTable},
    document::{self, ApiConflict, ApiDocument, DocumentSettings},
    fleet_page, pages,
    router::Router,
    tenant::Target,
};

/// What the interfaces are made of.
pub struct ApiParts {
    /// From a request to its tenant's database.
    pub gate: TenantGate,
    /// Who is an operator.
    pub operator: OperatorGate,
    /// What `/health/ready` answers.
    pub readiness: Readiness,
    /// What `/metrics` answers.
    pub metrics: Arc<dyn MetricsSource>,
    /// How much is logged.
    pub log: Arc<dyn LogControl>,
    /// What the document depends on. With [`operator_server`](DocumentSettings::operator_server) set, operators' operations are served
    /// apart.
    pub document: DocumentSettings,
    /// Whether the document and its pages are served.
    pub docs: bool,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// The most bytes of a body.
    pub body_limit: u64,
}

/// What the listeners serve.
pub struct Served {
    /// On the main one.
    pub main: BoxEndpoint<'static>,
    /// On the operators', where they have their own.
    pub operator: Option<BoxEndpoint<'static>>,
    /// The document.
    pub document: ApiDocument,
}

/// The document of these settings, with no server: `tenantry openapi`.
///
/// # Errors
/// Two of the APIs cannot be served as one.
pub fn document(settings: &DocumentSettings, extra: &ApiSet) -> Result<ApiDocument, ApiConflict> {
    let mut ours = vec![Description::of::<TenantApi>()];
    if extra.has_users() {
        ours.extend([Description::of::<TenantStatsApi>(), Description::of::<UsersApi>()]);
    }
    let operators = [Description::of::<HealthApi>(), Description::of::<AdminApi>()];
    document::build(settings, ours.iter().chain(extra.descriptions()).chain(&operators))
}

/// Puts everything together. From the outside in, a request passes: its id; what makes problems of errors and keeps the time; the body's
/// limit; the tenant in the path; the router; and last, in the operation, the tenant or the operator.
///
/// # Errors
/// Two of the APIs cannot be served as one.
pub fn routes(parts: ApiParts, mut extra: ApiSet) -> Result<Served, ApiConflict> {
    let document = document(&parts.document, &extra)?;
    let tenants = parts.gate.tenants.clone();
    let id_pattern = parts.gate.id_pattern.clone();
    let location = parts.document.location.clone();
    let mut ours = ApiSet::new().with(TenantApi {
        resolver_type: parts.gate.resolver_type.clone(),
        provider_type: tenants.provider_type().to_owned(),
    });
    if extra.has_users() {
        ours = ours.with(TenantStatsApi).with(UsersApi);
    }
    let own = extra.take_middleware();
    let mut below_prefix = ours.into_routes();
    below_prefix.extend(extra.into_checked_routes());
    let mut operator = ApiSet::new()
        .with(HealthApi {
            tenants: tenants.clone(),
            readiness: parts.readiness.clone(),
            id_pattern: id_pattern.clone(),
            metrics: parts.metrics,
        })
        .with(AdminApi {
            tenants,
            id_pattern,
            log: parts.log,
        })
        .into_routes();
    fleet_page::add_route(&mut operator, parts.operator.token.is_some());

    let apart = parts.document.operator_server.is_some();
    let mut main = below_prefix.clone();
    if !apart {
        main.extend(operator.clone());
    }
    if parts.docs {
        pages::add_routes(&mut main, &document, &location);
    }
    let outside = Outside {
        gates: Arc::new(Gates {
            tenant: parts.gate,
            operator: parts.operator,
        }),
        timeout: parts.request_timeout,
        body_limit: parts.body_limit,
    };
    let main = router(main)?;
    let main = match location.path_prefix() {
        Some(prefix) => outside.around_with(
            PathTenant {
                prefix: format!("{}/", prefix.trim_end_matches('/')),
                below: router(below_prefix)?,
                plain: main,
            },
            own,
        ),
        None => outside.around_with(main, own),
    };
    let operator = if apart {
        Some(outside.around(router(operator)?))
    } else {
        None
    };
    Ok(Served {
        main,
        operator,
        document,
    })
}

fn router(table: RouteTable) -> Result<Router, ApiConflict> {
    table.into_router().map_err(|error| ApiConflict::Route(error.into()))
}

/// What the operations of tenants and of operators ask whether they may run. It is in what is noted of every request.
pub(crate) struct Gates {
    pub(crate) tenant: TenantGate,
    pub(crate) operator: OperatorGate,
}

/// What stands around every router.
struct Outside {
    gates: Arc<Gates>,
    timeout: Duration,
    body_limit: u64,
}

impl Outside {
    /// With middleware in between. Without any, a request passes no box more.
    fn around_with<E>(&self, inner: E, middleware: Vec<Around>) -> BoxEndpoint<'static>
    where
        E: Endpoint<Output = Response> + 'static,
    {
        if middleware.is_empty() {
            return self.around(inner);
        }
        let inner = middleware
            .into_iter()
            .fold(inner.boxed(), |inner, around| around(inner));
        self.around(inner)
    }

    fn around<E: Endpoint + 'static>(&self, inner: E) -> BoxEndpoint<'static> {
        inner
            .with(BodyLimit { bytes: self.body_limit })
            .with(Problems {
                timeout: Some(self.timeout),
            })
            .with(RequestIds::with_gates(self.gates.clone()))
            .boxed()
    }
}

/// Takes `{prefix}/{tenant}` off a path. What is found there is the resolver's business, which sees the path as it came; below it there are
/// the APIs alone, so that who lets nothing but `{prefix}/` through to this server lets no operator's operation through.
struct PathTenant {
    /// With a slash at its end.
    prefix: String,
    below: Router,
    plain: Router,
}

impl Endpoint for PathTenant {
    type Output = Response;

    fn call(&self, mut request: Request) -> impl Future<Output = Result<Response>> + Send {
        let router = match without_tenant(request.uri(), &self.prefix) {
            Some(Ok(uri)) => {
                let target = std::mem::replace(request.uri_mut(), uri);
                request.set_data(Target(target));
                Ok(&self.below)
            }
            Some(Err(problem)) => Err(problem),
            None => Ok(&self.plain),
        };
        let answer = router.map(|router| router.call(request));
        async move { answer?.await }
    }
}

/// The target less prefix and tenant; `None` where it has not both, and something after them.
fn without_tenant(uri: &Uri, prefix: &str) -> Option<Result<Uri, Problem>> {
    let after = uri.path().strip_prefix(prefix)?;
    let tenant = after.find('/')?;
    let target = uri.path_and_query()?.as_str();
    let rest = target.get(prefix.len() + tenant..)?.parse::<PathAndQuery>();
    let mut parts = uri.clone().into_parts();
    let moved = rest.map_err(http::Error::from).and_then(|rest| {
        parts.path_and_query = Some(rest);
        Ok(Uri::from_parts(parts)?)
    });
    Some(moved.map_err(|_| Problem::not_found("There is no such route.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_and_tenant_are_taken_off_a_path() {
        let rest = |uri: &str| {
            let uri: Uri = uri.parse().unwrap();
            without_tenant(&uri, "/t/").map(|moved| moved.unwrap().to_string())
        };
        assert_eq!(rest("/t/acme/api/v1?x=1").as_deref(), Some("/api/v1?x=1"));
        assert_eq!(rest("http://h/t/acme/api").as_deref(), Some("http://h/api"));
        assert_eq!(rest("/t/%2e%2e/").as_deref(), Some("/"));
        assert_eq!(rest("/t//api").as_deref(), Some("/api"));
        for plain in ["/t/acme", "/t", "/tt/acme/api", "/api/t/acme", "/"] {
            assert_eq!(rest(plain), None, "{plain}");
        }
    }
}
