//! Finds the operation of a request.

use std::collections::HashMap;

use futures_util::{
    FutureExt as _,
    future::{Either, ready},
};
use http::{HeaderValue, Method};
use poem::{Endpoint, PathPattern, Request, Response, Result, endpoint::DynEndpoint};
// Hidden, since only the code that poem-openapi's macros generate uses it. This router replaces
// some of that code.
use poem_openapi::__private::UrlQuery;
use std::sync::Arc;

use crate::{Problem, api_set::Operation};

/// The operations of one path, by method. poem-openapi's `OpenApiService` does the same for one
/// API, with three more boxed futures for each request.
pub(crate) struct Methods {
    operations: Vec<(Method, Operation)>,
    /// The path as the first operation documents it.
    documented: Arc<str>,
    allow: HeaderValue,
}

impl Methods {
    pub(crate) fn of(operations: HashMap<Method, Operation>) -> Self {
        let mut operations: Vec<_> = operations.into_iter().collect();
        operations.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let has = |method| operations.iter().any(|(known, _)| *known == method);
        let mut names: Vec<&str> = operations.iter().map(|(method, _)| method.as_str()).collect();
        if has(Method::GET) && !has(Method::HEAD) {
            names.push("HEAD");
        }
        names.sort_unstable();
        Self {
            // Names of methods are tokens, so they are valid in a header.
            allow: HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static("")),
            documented: operations
                .first()
                .map(|(_, operation)| operation.documented.clone())
                .unwrap_or_default(),
            operations,
        }
    }

    fn find(&self, method: &Method) -> Option<&Operation> {
        let mut operations = self.operations.iter();
        operations
            .find(|(known, _)| known == method)
            .map(|(_, operation)| operation)
    }

    fn refusal(&self) -> poem::Error {
        let mut refusal: poem::Error = Problem::method_not_allowed(self.allow.clone()).into();
        refusal.set_data(PathPattern(self.documented.clone()));
        refusal
    }
}

impl Endpoint for Methods {
    type Output = Response;

    // Not an `async fn`: its future would store the request a second time.
    fn call(&self, mut request: Request) -> impl Future<Output = Result<Response>> + Send {
        let method = request.method();
        let without_body = *method == Method::HEAD && self.find(method).is_none();
        if without_body {
            request.set_method(Method::GET);
        }
        let Some(operation) = self.find(request.method()) else {
            return Either::Left(ready(Err(self.refusal())));
        };
        if operation.is_poems {
            // poem-openapi reads its parameters from this. A query that cannot be parsed has none.
            let query = match request.uri().query() {
                None | Some("") => Vec::new(),
                Some(_) => request.params().unwrap_or_default(),
            };
            request.set_data(UrlQuery(query));
        }
        let answer = DynEndpoint::call(&*operation.endpoint, request);
        Either::Right(answer.map(move |answer| {
            let route = PathPattern(operation.documented.clone());
            match answer {
                Ok(mut response) => {
                    // poem does not overwrite a route that is already set.
                    response.set_data(route);
                    if without_body {
                        response.set_body(());
                    }
                    Ok(response)
                }
                Err(mut error) => {
                    error.set_data(route);
                    error.set_data(operation.names.clone());
                    Err(error)
                }
            }
        }))
    }
}
