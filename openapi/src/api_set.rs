//! Combines poem-openapi APIs, added one by one.

use std::{
    collections::{BTreeMap, HashMap},
    marker::PhantomData,
    sync::Arc,
};

use http::Method;
use poem::{
    Endpoint, EndpointExt as _, IntoResponse, Middleware, Response, Result, Route,
    endpoint::{BoxEndpoint, DynEndpoint, ToDynEndpoint},
};
use poem_openapi::{
    OpenApi, OpenApiService,
    registry::{MetaApi, MetaOperation, Registry},
};
use serde_json::Value;

use crate::{
    known_query::OnlyKnownQuery,
    operator_route::{Audience, OnOperatorRoute},
    router::Methods,
    translate::PathNames,
    validation::{Checked, Rules},
};

/// An operation that two routers can share.
type SharedEndpoint = Arc<dyn DynEndpoint<Output = Response>>;

type Routes = HashMap<String, HashMap<Method, BoxEndpoint<'static>>>;

/// Any number of poem-openapi APIs. poem-openapi itself combines APIs in a tuple, so all of them
/// must be known in one place.
#[derive(Default)]
pub struct ApiSet {
    apis: Vec<(Description, Routes)>,
    middleware: Vec<Layer>,
    without_users: bool,
    documents: Vec<String>,
}

/// Puts a middleware around routes.
pub(crate) type Layer = Box<dyn FnOnce(BoxEndpoint<'static>) -> BoxEndpoint<'static> + Send>;

impl ApiSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an API. Those of its operations that take a [`Tenant`](crate::Tenant) are
    /// tenant-scoped, and those that take an [`Operator`](crate::Operator) are for operators: they
    /// are served where the built-in ones are. The others are open to everyone.
    ///
    /// The set does not know what an operation takes that is hidden from the document. Such an
    /// operation is never on the operators' listener. If it takes an `Operator`, it is 404 if there
    /// is such a listener, and below tenants' paths.
    #[must_use]
    pub fn with<A: OpenApi + 'static>(mut self, api: A) -> Self {
        let mut routes = Routes::new();
        api.add_routes(&mut routes);
        self.apis.push((Description::of::<A>().with_hidden(&routes), routes));
        self
    }

    /// Leaves out the built-in users API, and the statistics that count users.
    #[must_use]
    pub fn without_users(mut self) -> Self {
        self.without_users = true;
        self
    }

    /// Adds a middleware around the routes of the main listener, so not around those of operators
    /// if these have a listener of their own. The last one added is the outermost.
    #[must_use]
    pub fn middleware<M, E>(mut self, middleware: M) -> Self
    where
        M: Middleware<BoxEndpoint<'static>, Output = E> + Send + 'static,
        E: Endpoint + 'static,
        E::Output: IntoResponse,
    {
        let around = move |inner| middleware.transform(inner).map_to_response().boxed();
        self.middleware.push(Box::new(around));
        self
    }

    /// Serves the OpenAPI document at this path too, unless the documentation is turned off.
    #[must_use]
    pub fn with_document_at(mut self, path: impl Into<String>) -> Self {
        self.documents.push(path.into());
        self
    }

    /// The paths of the document besides its own.
    pub(crate) fn take_documents(&mut self) -> Vec<String> {
        std::mem::take(&mut self.documents)
    }

    /// Whether the built-in users are served.
    pub(crate) fn has_users(&self) -> bool {
        !self.without_users
    }

    /// The middleware around the routes of the main listener, from the inside out.
    pub(crate) fn take_middleware(&mut self) -> Vec<Layer> {
        std::mem::take(&mut self.middleware)
    }

    /// Adds routes that do not come from a poem-openapi API, and the OpenAPI document that
    /// describes them. An operation whose `security` is `[{"Tenant": []}]` is tenant-scoped: its
    /// endpoint takes a [`Tenant`](crate::Tenant) by [`of_request`](crate::Tenant::of_request).
    #[must_use]
    pub fn with_described(mut self, spec: String, routes: Vec<DescribedRoute>) -> Self {
        let operation = |route: &DescribedRoute| (route.method.clone(), route.path.clone());
        let operations = routes.iter().map(operation).collect();
        let mut table = Routes::new();
        for route in routes {
            table
                .entry(route.path)
                .or_default()
                .insert(route.method, route.endpoint);
        }
        let description = Description {
            spec,
            parameters: HashMap::new(),
            operations,
            is_poems: false,
        };
        self.apis.push((description, table));
        self
    }

    /// The descriptions of the APIs.
    pub(crate) fn descriptions(&self) -> impl Iterator<Item = &Description> {
        self.apis.iter().map(|(description, _)| description)
    }

    /// All routes of the set. Operations refuse query parameters that they do not have; `others`
    /// are known to all of them.
    pub(crate) fn into_routes(self, others: &[String]) -> RouteTable {
        self.into_table(|document, (path, method), operation| {
            let described = &document["paths"][path][method.as_str().to_ascii_lowercase()];
            Arc::new(ToDynEndpoint(OnlyKnownQuery::new(
                operation.endpoint,
                described,
                others,
            )))
        })
    }

    /// All routes of the set. A bad request is answered with all its faults.
    pub(crate) fn into_checked_routes(self) -> RouteTable {
        self.into_table(|document, (path, method), operation| {
            let rules = Rules::of(document, path, &method.as_str().to_ascii_lowercase());
            match rules.filter(|_| operation.is_poems) {
                Some(rules) => Arc::new(ToDynEndpoint(Checked {
                    endpoint: operation.endpoint,
                    rules,
                    names: operation.names,
                })),
                None => operation.endpoint,
            }
        })
    }

    fn into_table(self, wrap: impl Fn(&Value, (&str, &Method), Operation) -> SharedEndpoint) -> RouteTable {
        let mut table = RouteTable::default();
        for (description, routes) in self.apis {
            // `routes` has put it into the document before, so it can be read.
            let document = parse(&description.spec).unwrap_or_default();
            for (path, methods) in routes {
                let names = description.path_names(&path);
                let documented = names.documented(&path);
                for (method, endpoint) in methods {
                    let described = &document["paths"][&*documented][method.as_str().to_ascii_lowercase()];
                    let mut operation = Operation {
                        endpoint: endpoint.into(),
                        names: names.clone(),
                        documented: documented.clone(),
                        is_poems: description.is_poems,
                        // What the document of `with_described` leaves out is no operator's.
                        audience: match description.is_poems || !described.is_null() {
                            true => Audience::of(described, &documented, &names),
                            false => Audience::Public,
                        },
                    };
                    operation.endpoint = wrap(&document, (&documented, &method), operation.clone());
                    table.insert(&path, method, operation);
                }
            }
        }
        table
    }
}

/// A route that does not come from a poem-openapi API.
pub struct DescribedRoute {
    /// The path as poem routes it: `/files/:name`.
    pub path: String,
    /// The method.
    pub method: Method,
    /// The handler.
    pub endpoint: BoxEndpoint<'static>,
}

/// The description of one API, made without an instance.
#[derive(Debug)]
pub(crate) struct Description {
    /// Its own OpenAPI document, as poem-openapi writes it.
    pub(crate) spec: String,
    /// The path parameters in order, by the path as poem routes it: `/users/:param0`.
    parameters: HashMap<String, PathNames>,
    /// What it serves, whether `spec` has it or not: methods and paths.
    pub(crate) operations: Vec<(Method, String)>,
    /// Whether poem-openapi reads the requests.
    is_poems: bool,
}

impl Description {
    pub(crate) fn of<A: OpenApi + 'static>() -> Self {
        let paths: Vec<_> = A::meta().into_iter().flat_map(|api| api.paths).collect();
        let operations = paths.iter().flat_map(|path| {
            let operation = |operation: &MetaOperation| (operation.method.clone(), path.path.clone());
            path.operations.iter().map(operation)
        });
        Self {
            spec: OpenApiService::new(Described::<A>(PhantomData), "", "").spec(),
            operations: operations.collect(),
            parameters: paths.iter().map(|path| routed(&path.path)).collect(),
            is_poems: true,
        }
    }

    /// Adds the operations among `routes` that are hidden from the document.
    fn with_hidden(mut self, routes: &Routes) -> Self {
        let mut hidden = Vec::new();
        for (path, methods) in routes {
            let is_described = |method: &Method| {
                let mut operations = self.operations.iter();
                operations.any(|(known, at)| known == method && routed(at).0 == *path)
            };
            let documented = self.path_names(path).documented(path);
            let others = methods.keys().filter(|method| !is_described(method));
            hidden.extend(others.map(|method| (method.clone(), documented.to_string())));
        }
        hidden.sort_by_cached_key(|(method, path)| (path.clone(), method.to_string()));
        self.operations.append(&mut hidden);
        self
    }

    /// Whether it has this operation; `method` is in the document's lower case.
    pub(crate) fn has(&self, method: &str, path: &str) -> bool {
        let mut operations = self.operations.iter();
        operations.any(|(known, at)| at == path && known.as_str().eq_ignore_ascii_case(method))
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

/// An API without an instance: only its description, no routes.
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

/// The operation of one method of a path. Two routers can share it.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) endpoint: Arc<dyn DynEndpoint<Output = Response>>,
    /// Its path parameters.
    pub(crate) names: PathNames,
    /// The documented path, for logs and traces: `/users/{id}`, which poem calls `/users/:param0`.
    pub(crate) documented: Arc<str>,
    /// Whether poem-openapi reads its requests.
    pub(crate) is_poems: bool,
    audience: Audience,
}

impl Operation {
    /// The operation as operators are served it, if it may be theirs.
    fn for_operators(&self) -> Option<Self> {
        let route = self.audience.operator_route()?.clone();
        let endpoint = self.endpoint.clone();
        Some(Self {
            endpoint: Arc::new(ToDynEndpoint(OnOperatorRoute { endpoint, route })),
            ..self.clone()
        })
    }
}

/// Operations by path and method.
#[derive(Clone, Default)]
pub(crate) struct RouteTable(BTreeMap<String, HashMap<Method, Operation>>);

impl RouteTable {
    pub(crate) fn add<E>(&mut self, path: &str, method: Method, endpoint: E)
    where
        E: Endpoint<Output = Response> + 'static,
    {
        let operation = Operation {
            endpoint: Arc::new(ToDynEndpoint(endpoint)),
            names: PathNames(Arc::from([])),
            documented: path.into(),
            is_poems: false,
            audience: Audience::Public,
        };
        self.insert(path, method, operation);
    }

    fn insert(&mut self, path: &str, method: Method, operation: Operation) {
        self.0.entry(path.to_owned()).or_default().insert(method, operation);
    }

    /// Adds an endpoint unless the path and method have one.
    pub(crate) fn add_new<E>(&mut self, path: &str, method: Method, endpoint: E)
    where
        E: Endpoint<Output = Response> + 'static,
    {
        let taken = self.0.get(path).is_some_and(|methods| methods.contains_key(&method));
        if !taken {
            self.add(path, method, endpoint);
        }
    }

    /// Moves the operators' operations to a table of their own.
    pub(crate) fn take_operators(&mut self) -> Self {
        let mut operators = self.for_operators();
        for (path, methods) in &mut self.0 {
            methods.retain(|_, operation| operation.audience.may_be_public());
            if let Some(taken) = operators.0.get_mut(path) {
                taken.retain(|method, _| !methods.contains_key(method));
            }
        }
        self.0.retain(|_, methods| !methods.is_empty());
        operators.0.retain(|_, methods| !methods.is_empty());
        operators
    }

    /// The operations that may be operators', as these are served them.
    pub(crate) fn for_operators(&self) -> Self {
        let mut operators = Self::default();
        for (path, methods) in &self.0 {
            for (method, operation) in methods {
                if let Some(operation) = operation.for_operators() {
                    operators.insert(path, method.clone(), operation);
                }
            }
        }
        operators
    }

    /// Adds the routes of another table. They take the place of the same ones in this table.
    pub(crate) fn extend(&mut self, other: Self) {
        for (path, methods) in other.0 {
            self.0.entry(path).or_default().extend(methods);
        }
    }

    /// Builds one router for all. A method that a path does not have is 405 with `Allow` (RFC 9110
    /// §15.5.6). `HEAD` gets the answer of `GET` without the body.
    ///
    /// # Errors
    /// A path that poem cannot route.
    pub(crate) fn into_router(self) -> Result<Route, poem::error::RouteError> {
        let mut routes = Route::new();
        for (path, operations) in self.0 {
            routes = routes.try_at(path, Methods::of(operations))?;
        }
        Ok(routes)
    }
}

/// Parses `spec`.
pub(crate) fn parse(spec: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(spec)
}

#[cfg(test)]
mod tests {
    use poem::{PathPattern, test::TestClient};
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
        let router = set.into_routes(&[]).into_router().unwrap();
        TestClient::new(router.with(Problems::default()).with(RequestIds::default()))
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
