//! Builds the endpoints that the server's listeners serve.

use std::{collections::HashSet, sync::Arc};

use http::{Method, Uri, uri::PathAndQuery};
use poem::{Endpoint, EndpointExt, Request, Response, Result, Route, endpoint::BoxEndpoint};

use crate::{
    AdminApi, ApiSet, HealthApi, LogControl, MetricsSource, OperatorGate, Problem, Readiness, TenantApi, TenantGate,
    TenantStatsApi, UsersApi,
    api_set::{Description, RouteTable},
    document::{self, ApiConflict, ApiDocument, DocumentSettings},
    fleet_page, pages,
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
}

/// The endpoints of the listeners, and the document.
pub struct Served {
    /// The main listener.
    pub main: BoxEndpoint<'static>,
    /// The operators' listener, if there is one.
    pub operator: Option<BoxEndpoint<'static>>,
    /// What admits the requests of both.
    pub gates: Arc<Gates>,
    /// The document.
    pub document: ApiDocument,
}

/// Builds the document without a server, for `tenantry openapi`.
///
/// # Errors
/// Two of the APIs cannot be served as one.
pub fn document(settings: &DocumentSettings, extra: &ApiSet) -> Result<ApiDocument, ApiConflict> {
    if let Some((method, path)) = repeated_operation(extra) {
        let method = method.to_string();
        return Err(ApiConflict::Operation { method, path });
    }
    let [ours, operators] = built_in(extra);
    document::build(settings, ours.iter().chain(extra.descriptions()), &operators)
}

/// An operation that two of the APIs have, the built-in ones included: one would silently take the
/// place of the other.
pub fn repeated_operation(extra: &ApiSet) -> Option<(Method, String)> {
    let [ours, operators] = built_in(extra);
    let mut known = HashSet::new();
    let all = ours.iter().chain(&operators).chain(extra.descriptions());
    let mut operations = all.flat_map(|description| &description.operations);
    let repeated = operations.find(|(method, path)| !known.insert((method.clone(), shape(path))));
    repeated.cloned()
}

/// The path without the names of its parameters.
fn shape(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.as_bytes() {
        [b':', ..] | [b'{', ..] => ":",
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The built-in APIs beside `extra`: the tenants', and the operators'.
fn built_in(extra: &ApiSet) -> [Vec<Description>; 2] {
    let mut ours = vec![Description::of::<TenantApi>()];
    if extra.has_users() {
        ours.extend([Description::of::<TenantStatsApi>(), Description::of::<UsersApi>()]);
    }
    [
        ours,
        vec![Description::of::<HealthApi>(), Description::of::<AdminApi>()],
    ]
}

/// Builds the endpoints of the listeners. A request passes first the middleware of `extra`, then
/// what takes the tenant off its path, if the resolver reads it there, then the router. The
/// operation that is found admits the tenant or the operator, by the [`Gates`] in the request's
/// [`RequestContext`](crate::RequestContext).
///
/// The caller puts [`RequestIds`](crate::RequestIds) with [`gates`](Served::gates),
/// [`Problems`](crate::Problems) and [`BodyLimit`](crate::BodyLimit) around each endpoint.
///
/// # Errors
/// Two of the APIs cannot be served as one.
pub fn routes(parts: ApiParts, mut extra: ApiSet) -> Result<Served, ApiConflict> {
    let document = document(&parts.document, &extra)?;
    let location = parts.document.location.clone();
    let middleware = extra.take_middleware();
    let documents = extra.take_documents();
    let mut below_prefix = tenants_routes(&parts, extra.has_users());
    let mut operators = operators_routes(&parts);
    let mut added = extra.into_checked_routes();
    operators.extend(added.take_operators());
    below_prefix.extend(added.clone());

    let apart = parts.document.operator_server.is_some();
    let mut main = below_prefix.clone();
    if !apart {
        main.extend(operators.clone());
        // Those that are hidden from the document, which may be operators'.
        main.extend(added.for_operators());
    }
    if parts.docs {
        pages::add_routes(&mut main, &document, &location);
        for path in &documents {
            pages::add_document(&mut main, path, &document);
        }
    }
    let asks = parts.operator.token.is_some();
    fleet_page::add_route(if apart { &mut operators } else { &mut main }, asks);

    let main = router(main)?;
    let main = match location.path_prefix() {
        Some(prefix) => PathTenant {
            prefix: format!("{}/", prefix.trim_end_matches('/')),
            below: router(below_prefix)?,
            plain: main,
        }
        .boxed(),
        None => main.boxed(),
    };
    Ok(Served {
        main: middleware.into_iter().fold(main, |inner, layer| layer(inner)),
        operator: if apart { Some(router(operators)?.boxed()) } else { None },
        gates: Arc::new(Gates {
            tenant: parts.gate,
            operator: parts.operator,
        }),
        document,
    })
}

/// The built-in operations of tenants.
fn tenants_routes(parts: &ApiParts, has_users: bool) -> RouteTable {
    let mut apis = ApiSet::new().with(TenantApi {
        resolver_type: parts.gate.resolver_type.clone(),
        provider_type: parts.gate.tenants.provider_type().to_owned(),
    });
    if has_users {
        apis = apis.with(TenantStatsApi).with(UsersApi);
    }
    apis.into_routes(&parts.document.location.query_parameters())
}

/// The built-in operations of operators, and the probes.
fn operators_routes(parts: &ApiParts) -> RouteTable {
    let apis = ApiSet::new()
        .with(HealthApi {
            tenants: parts.gate.tenants.clone(),
            readiness: parts.readiness.clone(),
            id_pattern: parts.gate.id_pattern.clone(),
            metrics: parts.metrics.clone(),
        })
        .with(AdminApi {
            tenants: parts.gate.tenants.clone(),
            id_pattern: parts.gate.id_pattern.clone(),
            log: parts.log.clone(),
        });
    let mut probes = apis.into_routes(&[]);
    let mut operators = probes.take_operators();
    operators.extend(probes);
    operators
}

fn router(table: RouteTable) -> Result<Route, ApiConflict> {
    table.into_router().map_err(|error| ApiConflict::Route(error.into()))
}

/// Admits requests: an operation asks it for the tenant's database, or whether the client is an
/// operator. [`RequestIds`](crate::RequestIds) gives it to each request.
pub struct Gates {
    pub(crate) tenant: TenantGate,
    pub(crate) operator: OperatorGate,
}

/// Takes `{prefix}/{tenant}` off a path. The resolver sees the whole path and reads the tenant from
/// it. No operator's operation is served below the prefix, so a proxy that forwards nothing but
/// `{prefix}/` exposes none.
struct PathTenant {
    /// With a slash at its end.
    prefix: String,
    below: Route,
    plain: Route,
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
