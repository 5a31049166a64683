//! Builds the endpoints that the server's listeners serve.

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

/// The parts that [`routes`] combines.
pub struct ApiParts {
    /// Resolves the tenant of a request and opens its database.
    pub gate: TenantGate,
    /// Decides which requests are an operator's.
    pub operator: OperatorGate,
    /// What `/health/ready` answers.
    pub readiness: Readiness,
    /// What `/metrics` answers.
    pub metrics: Arc<dyn MetricsSource>,
    /// Sets the log level.
    pub log: Arc<dyn LogControl>,
    /// The settings of the document. With [`operator_server`](DocumentSettings::operator_server),
    /// operators' operations are served on their own listener.
    pub document: DocumentSettings,
    /// Whether the document and its pages are served.
    pub docs: bool,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// The most bytes of a body.
    pub body_limit: u64,
}

/// The endpoints of the listeners, and the document.
pub struct Served {
    /// The main listener.
    pub main: BoxEndpoint<'static>,
    /// The operators' listener, if there is one.
    pub operator: Option<BoxEndpoint<'static>>,
    /// The document.
    pub document: ApiDocument,
}

/// Builds the document without a server, for `tenantry openapi`.
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

/// Builds the endpoints. From the outside in, a request passes these layers:
///
/// 1. [`RequestIds`] gives it an id, so that every answer has one.
/// 2. [`Problems`] enforces the time limit and turns errors into answers. It is outside of every
///    layer that can fail.
/// 3. [`BodyLimit`] bounds the body before anything reads it.
/// 4. `PathTenant` takes the tenant off the path, if the resolver reads it there.
/// 5. `Router` finds the operation, which then checks the tenant or the operator.
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

/// The checks that an operation asks before it runs. Each request's [`Noted`](crate::Noted) has
/// them.
pub(crate) struct Gates {
    pub(crate) tenant: TenantGate,
    pub(crate) operator: OperatorGate,
}

/// The layers around every router.
struct Outside {
    gates: Arc<Gates>,
    timeout: Duration,
    body_limit: u64,
}

impl Outside {
    /// Adds middleware between the layers and the router. Without middleware there is no additional
    /// box.
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

/// Takes `{prefix}/{tenant}` off a path. The resolver sees the whole path and reads the tenant from
/// it. Only the tenants' APIs are served below the prefix, so a proxy that forwards nothing but
/// `{prefix}/` exposes no operator's operation.
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

/// The target without prefix and tenant; `None` if it lacks one of them, or nothing follows.
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
