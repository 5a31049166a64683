//! Refuses query parameters that an operation of the built-in APIs does not have: a misspelt
//! `limit` would otherwise mean the default, and a misspelt `tenant` of an operator's all tenants.

use std::sync::Arc;

use poem::{Endpoint, Request, Result};
use serde_json::Value;

use crate::{Fault, Problem};

/// The query parameters of the operation of a request.
#[derive(Debug, Clone)]
struct KnownQuery(Arc<[String]>);

/// Lets [`check`] know the query parameters of an operation.
pub(crate) struct OnlyKnownQuery<E> {
    endpoint: E,
    known: KnownQuery,
}

impl<E> OnlyKnownQuery<E> {
    /// Takes the parameters from the operation in the document; `others` are those of all
    /// operations.
    pub(crate) fn new(endpoint: E, operation: &Value, others: &[String]) -> Self {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let of_query = parameters.filter(|parameter| parameter["in"] == "query");
        let known = of_query.filter_map(|parameter| Some(parameter["name"].as_str()?.to_owned()));
        let known = KnownQuery(known.chain(others.iter().cloned()).collect());
        Self { endpoint, known }
    }
}

impl<E: Endpoint> Endpoint for OnlyKnownQuery<E> {
    type Output = E::Output;

    fn call(&self, mut request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        request.set_data(self.known.clone());
        self.endpoint.call(request)
    }
}

/// The longest name of an unknown parameter that an answer repeats, in bytes.
const LONGEST_NAME: usize = 100;

/// Refuses a request with a query parameter that its operation does not have. It is called once the
/// operator or the tenant is admitted.
pub(crate) fn check(request: &Request) -> Result<()> {
    let Some(KnownQuery(known)) = request.data() else {
        return Ok(());
    };
    let query: Vec<(String, String)> = request.params()?;
    let mut names = query.into_iter().map(|(name, _)| name);
    let unknown = names.find(|name| !known.contains(name));
    let Some(name) = unknown else {
        return Ok(());
    };
    let detail = match &**known {
        [] => "is not known; this operation has no query parameter".to_owned(),
        known => format!("is not known; this operation has `{}`", known.join("`, `")),
    };
    let name = Some(name).filter(|name| name.len() <= LONGEST_NAME).unwrap_or_default();
    Err(Problem::invalid(vec![Fault::parameter(name, detail)]).into())
}
