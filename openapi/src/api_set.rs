//! APIs of poem-openapi, collected one by one and served as one.

use std::{
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    sync::Arc,
};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Method};
use poem::{
    Endpoint, EndpointExt, IntoEndpoint, PathPattern, Request, Response, Result, Route,
    endpoint::{BoxEndpoint, DynEndpoint, ToDynEndpoint, make_sync},
};
use poem_openapi::{
    OpenApi, OpenApiService,
    registry::{MetaApi, Registry},
};
use serde_json::Value;

use crate::{Problem, translate::PathNames};

type Routes = HashMap<String, HashMap<Method, BoxEndpoint<'static>>>;

/// Any number of poem-openapi's APIs. Its own way to put several together is a tuple, which has to be written where all are known.
#[derive(Default)]
pub struct ApiSet {
    apis: Vec<(Description, Routes)>,
}

impl ApiSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one API more. Those of its operations that take a [`Tenant`](crate::Tenant) are tenant-scoped, those that take an
    /// [`Operator`](crate::Operator) are for operators, and the others are for anyone.
    #[must_use]
    pub fn with<A: OpenApi + 'static>(mut self, api: A) -> Self {
        let mut routes = Routes::new();
        api.add_routes(&mut routes);
        self.apis.push((Description::of::<A>(), routes));
        self
    }

    /// What the APIs say of themselves.
    pub(crate) fn descriptions(&self) -> impl Iterator<Item = &Description> {
        self.apis.iter().map(|(description, _)| description)
    }

    /// Every route of the set, to be put together with others.
    pub(crate) fn into_routes(self) -> RouteTable {
        let mut table = RouteTable::default();
        for (description, routes) in self.apis {
            for (path, methods) in routes {
                let names = description.path_names(&path);
                let documented = names.documented(&path);
                table.documented.insert(path.clone(), documented.clone());
                for (method, inner) in methods {
                    let endpoint = Named {
                        inner,
                        names: names.clone(),
                        documented: documented.clone(),
                    };
                    table.insert(&path, method, endpoint);
                }
            }
        }
        table
    }
}

/// What one API says of itself, with no need of an instance.
#[derive(Debug)]
pub(crate) struct Description {
    /// Its own OpenAPI document, as poem-openapi writes it.
    pub(crate) spec: String,
    /// For each path as documented, its parameters in order.
    parameters: HashMap<String, PathNames>,
}

impl Description {
    pub(crate) fn of<A: OpenApi + 'static>() -> Self {
        let paths = A::meta().into_iter().flat_map(|api| api.paths);
        Self {
            spec: OpenApiService::new(Described::<A>(PhantomData), "", "").spec(),
            parameters: paths.map(|path| routed(&path.path)).collect(),
        }
    }

    fn path_names(&self, routed: &str) -> PathNames {
        let known = self.parameters.get(routed).cloned();
        known.unwrap_or_else(|| PathNames(Arc::from([])))
    }
}

/// `/users/{id}` as poem-openapi routes it, `/users/:param0`, and the names that this loses.
fn routed(documented: &str) -> (String, PathNames) {
    let mut names = Vec::new();
    let segments: Vec<String> = documented
        .split('/')
        .map(
            |segment| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) => {
                    names.push(name.to_owned());
                    format!(":param{}", names.len() - 1)
                }
                None => segment.to_owned(),
            },
        )
        .collect();
    (segments.join("/"), PathNames(names.into()))
}

/// An API without an instance: what it says of itself, and no routes.
struct Described<A>(PhantomData<fn() -> A>);

impl<A: OpenApi> OpenApi for Described<A> {
    fn meta() -> Vec<MetaApi> {
        A::meta()
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
    }

    fn add_routes(self, _: &mut Routes) {}
}

/// Gives the answers of an endpoint their route as it is documented, which poem then leaves as it is, and its errors the names of its path
/// parameters.
struct Named {
    inner: BoxEndpoint<'static>,
    names: PathNames,
    documented: Arc<str>,
}

impl DynEndpoint for Named {
    type Output = Response;

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response>> {
        let answer = DynEndpoint::call(&*self.inner, request);
        Box::pin(async move {
            match answer.await {
                Ok(mut response) => {
                    response.set_data(PathPattern(self.documented.clone()));
                    Ok(response)
                }
                Err(mut error) => {
                    error.set_data(self.names.clone());
                    Err(error)
                }
            }
        })
    }
}

/// An endpoint that can stand in two routers. As a [`DynEndpoint`] it hands on what it shares, where poem's own way from an `Arc` to a box
/// takes one box and one move of the request more.
#[derive(Clone)]
struct SharedEndpoint(Arc<dyn DynEndpoint<Output = Response>>);

impl DynEndpoint for SharedEndpoint {
    type Output = Response;

    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response>> {
        DynEndpoint::call(&*self.0, request)
    }
}

/// Endpoints by path and method.
#[derive(Clone, Default)]
pub(crate) struct RouteTable {
    paths: BTreeMap<String, HashMap<Method, SharedEndpoint>>,
    /// Each path as poem routes it, and as it is documented.
    documented: HashMap<String, Arc<str>>,
}

impl RouteTable {
    pub(crate) fn add<E>(&mut self, path: &str, method: Method, endpoint: E)
    where
        E: Endpoint<Output = Response> + 'static,
    {
        self.insert(path, method, ToDynEndpoint(endpoint));
    }

    fn insert(&mut self, path: &str, method: Method, endpoint: impl DynEndpoint<Output = Response> + 'static) {
        let methods = self.paths.entry(path.to_owned()).or_default();
        methods.insert(method, SharedEndpoint(Arc::new(endpoint)));
    }

    /// Adds an endpoint where there is none yet.
    pub(crate) fn add_new<E>(&mut self, path: &str, method: Method, endpoint: E)
    where
        E: Endpoint<Output = Response> + 'static,
    {
        let taken = self
            .paths
            .get(path)
            .is_some_and(|methods| methods.contains_key(&method));
        if !taken {
            self.add(path, method, endpoint);
        }
    }

    /// With the routes of another, which are known to be none of these.
    pub(crate) fn extend(&mut self, other: Self) {
        self.documented.extend(other.documented);
        for (path, methods) in other.paths {
            self.paths.entry(path).or_default().extend(methods);
        }
    }

    /// One router for all. A method that a path has not is 405 with `Allow` (RFC 9110 §15.5.6); `HEAD` is answered as `GET` is, less
    /// the body.
    ///
    /// # Errors
    /// A path that poem cannot route.
    pub(crate) fn into_router(self) -> Result<Router, poem::error::RouteError> {
        let mut refusals = Route::new();
        let mut routes = Routes::new();
        for (path, mut methods) in self.paths {
            let refusal = make_sync({
                let allow = allow(&methods);
                move |_| Err::<(), poem::Error>(Problem::method_not_allowed(allow.clone()).into())
            });
            let refusal = SharedEndpoint(Arc::new(ToDynEndpoint(refusal.map_to_response())));
            for method in STANDARD {
                // poem answers HEAD from GET by itself.
                if method != Method::HEAD {
                    methods.entry(method).or_insert_with(|| refusal.clone());
                }
            }
            let boxed = |endpoint: SharedEndpoint| -> BoxEndpoint<'static> { Box::new(endpoint) };
            refusals = refusals.try_at(&path, boxed(refusal))?;
            let methods = methods.into_iter().map(|(method, endpoint)| (method, boxed(endpoint)));
            routes.insert(path, methods.collect());
        }
        Ok(Router {
            routes: OpenApiService::new(Merged(routes), "", "").into_endpoint(),
            refusals: refusals.boxed(),
            documented: self.documented,
        })
    }
}

/// The methods of RFC 9110 §9 and RFC 5789.
const STANDARD: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

fn allow(methods: &HashMap<Method, SharedEndpoint>) -> HeaderValue {
    let mut names: Vec<&str> = methods.keys().map(Method::as_str).collect();
    if methods.contains_key(&Method::GET) && !methods.contains_key(&Method::HEAD) {
        names.push("HEAD");
    }
    names.sort_unstable();
    // Names of methods are tokens, which a header may have.
    HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Routes that exist already, as an API, so that poem-openapi does around them what it does around its own.
struct Merged(Routes);

impl OpenApi for Merged {
    fn meta() -> Vec<MetaApi> {
        Vec::new()
    }

    fn register(_: &mut Registry) {}

    fn add_routes(self, table: &mut Routes) {
        table.extend(self.0);
    }
}

/// Where a request goes.
pub(crate) struct Router {
    routes: BoxEndpoint<'static>,
    /// For methods that nobody has heard of.
    refusals: BoxEndpoint<'static>,
    documented: HashMap<String, Arc<str>>,
}

impl Router {
    /// The route as it is documented, for logs and traces: `/users/{id}` where poem says `/users/:param0`.
    fn documented(&self, routed: Option<&PathPattern>) -> Option<PathPattern> {
        self.documented.get(&*routed?.0).cloned().map(PathPattern)
    }
}

impl Endpoint for Router {
    type Output = Response;

    fn call(&self, request: Request) -> impl Future<Output = Result<Response>> + Send {
        let endpoint = if STANDARD.contains(request.method()) {
            &self.routes
        } else {
            &self.refusals
        };
        let answer = DynEndpoint::call(&**endpoint, request);
        async move {
            answer.await.map_err(|mut error| {
                if let Some(pattern) = self.documented(error.data()) {
                    error.set_data(pattern);
                }
                error
            })
        }
    }
}

/// `spec` read back.
pub(crate) fn parse(spec: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(spec)
}

#[cfg(test)]
mod tests {
    use poem::test::TestClient;
    use poem_openapi::{param::Path, payload::PlainText};

    use super::*;
    use crate::{Problems, RequestIds};

    struct Colours;

    #[OpenApi]
    impl Colours {
        #[oai(path = "/colours/:name/shades/:number", method = "get", operation_id = "getShade")]
        async fn shade(&self, name: Path<String>, number: Path<u32>) -> PlainText<String> {
            PlainText(format!("{} {}", name.0, number.0))
        }
    }

    struct Sounds;

    #[OpenApi]
    impl Sounds {
        #[oai(path = "/sounds", method = "post", method = "delete")]
        async fn make(&self) -> PlainText<String> {
            PlainText("moo".to_owned())
        }
    }

    fn client() -> TestClient<impl Endpoint> {
        let set = ApiSet::new().with(Colours).with(Sounds);
        let router = set.into_routes().into_router().unwrap();
        TestClient::new(router.with(Problems::default()).with(RequestIds))
    }

    #[tokio::test]
    async fn every_api_of_the_set_is_served() {
        client()
            .get("/colours/red/shades/2")
            .send()
            .await
            .assert_text("red 2")
            .await;
        client().post("/sounds").send().await.assert_text("moo").await;
        client()
            .get("/silence")
            .send()
            .await
            .assert_status(http::StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_wrong_method_is_told_the_right_ones_even_an_unheard_of_one() {
        for (method, path, allow) in [
            ("PUT", "/sounds", "DELETE, POST"),
            ("GET", "/sounds", "DELETE, POST"),
            ("HEAD", "/sounds", "DELETE, POST"),
            ("OPTIONS", "/colours/red/shades/2", "GET, HEAD"),
            ("BREW", "/colours/red/shades/2", "GET, HEAD"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let response = client().request(method, path).send().await.0;
            assert_eq!(response.status(), 405);
            assert_eq!(response.header("allow"), Some(allow));
            assert_eq!(response.content_type(), Some("application/problem+json"));
        }
        let head = client().request(Method::HEAD, "/colours/red/shades/2").send().await.0;
        assert_eq!(head.status(), 200);
        let brew = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(client().request(brew, "/silence").send().await.0.status(), 404);
    }

    #[tokio::test]
    async fn the_route_of_an_answer_is_the_documented_one() {
        for path in ["/colours/red/shades/2", "/colours/red/shades/many"] {
            let response = client().get(path).send().await.0;
            let route = response.data::<PathPattern>().unwrap();
            assert_eq!(&*route.0, "/colours/{name}/shades/{number}");
        }
    }

    #[tokio::test]
    async fn a_bad_path_parameter_is_named_as_documented() {
        let response = client().get("/colours/red/shades/many").send().await.0;
        let body = response.into_body().into_string().await.unwrap();
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["code"], "request_invalid");
        assert_eq!(problem["errors"][0]["parameter"], "number");
    }
}
