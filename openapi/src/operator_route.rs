//! The routes that admit operators, and what the log says about them.

use std::sync::Arc;

use poem::{Endpoint, Request, Result};
use serde_json::Value;

use crate::{
    document::{Scope, scope_of},
    operator_input::TENANT_ID_FORMAT,
    translate::PathNames,
};

/// The clients that an operation is for.
#[derive(Debug, Clone)]
pub(crate) enum Audience {
    /// Tenants, or everyone.
    Public,
    /// Operators.
    Operators(Arc<OperatorRoute>),
    /// Not known: the operation is hidden from the document.
    Unknown(Arc<OperatorRoute>),
}

impl Audience {
    /// The audience of an operation by its description in the document, which is null if the
    /// operation is hidden.
    pub(crate) fn of(described: &Value, documented: &Arc<str>, names: &PathNames) -> Self {
        let route = || Arc::new(OperatorRoute::new(described, documented.clone(), names));
        match scope_of(described) {
            Scope::Operator => Self::Operators(route()),
            _ if described.is_null() => Self::Unknown(route()),
            Scope::Tenant | Scope::Anyone => Self::Public,
        }
    }

    /// The route on which an operator is admitted, if the operation may be an operator's.
    pub(crate) fn operator_route(&self) -> Option<&Arc<OperatorRoute>> {
        match self {
            Self::Public => None,
            Self::Operators(route) | Self::Unknown(route) => Some(route),
        }
    }

    /// Whether the operation may be served to others than operators.
    pub(crate) fn may_be_public(&self) -> bool {
        !matches!(self, Self::Operators(_))
    }
}

/// The route of an operator's operation. A request has it only on such a route, and an
/// [`Operator`](crate::Operator) is admitted on no other.
#[derive(Debug)]
pub(crate) struct OperatorRoute {
    /// The documented path.
    pub(crate) documented: Arc<str>,
    /// The parameter that is a tenant's id, if there is one.
    tenant: Option<TenantParameter>,
}

#[derive(Debug)]
enum TenantParameter {
    /// In the path, by the name that it has in the router.
    Path(String),
    Query(String),
}

impl OperatorRoute {
    fn new(described: &Value, documented: Arc<str>, names: &PathNames) -> Self {
        let mut parameters = described["parameters"].as_array().into_iter().flatten();
        let tenant = parameters.find_map(|parameter| {
            if parameter["schema"]["format"] != TENANT_ID_FORMAT {
                return None;
            }
            let name = parameter["name"].as_str()?;
            match parameter["in"].as_str()? {
                "path" => names.routed(name).map(TenantParameter::Path),
                "query" => Some(TenantParameter::Query(name.to_owned())),
                _ => None,
            }
        });
        Self { documented, tenant }
    }

    /// What the client wrote for a tenant's id.
    pub(crate) fn tenant(&self, request: &Request) -> Option<String> {
        match self.tenant.as_ref()? {
            TenantParameter::Path(name) => request.raw_path_param(name).map(str::to_owned),
            TenantParameter::Query(name) => {
                let query: Vec<(String, String)> = request.params().ok()?;
                query
                    .into_iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value)
            }
        }
    }
}

/// Serves an operation on the route of operators.
pub(crate) struct OnOperatorRoute<E> {
    pub(crate) endpoint: E,
    pub(crate) route: Arc<OperatorRoute>,
}

impl<E: Endpoint> Endpoint for OnOperatorRoute<E> {
    type Output = E::Output;

    fn call(&self, mut request: Request) -> impl Future<Output = Result<Self::Output>> + Send {
        request.set_data(self.route.clone());
        self.endpoint.call(request)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(parameters: &Value) -> OperatorRoute {
        let names = PathNames(Arc::from(["name".to_owned(), "run".to_owned()]));
        let described = json!({"security": [{"Operator": []}], "parameters": parameters});
        OperatorRoute::new(&described, "/jobs/{name}/runs/{run}".into(), &names)
    }

    fn parameter(place: &str, name: &str, format: &str) -> Value {
        json!({"in": place, "name": name, "schema": {"type": "string", "format": format}})
    }

    #[test]
    fn only_a_parameter_that_is_a_tenant_s_id_is_one() {
        let asked = Request::builder()
            .uri_str("/jobs/a/runs/b?tenant=acme&of=other")
            .finish();
        let of = |parameters: Value| route(&parameters).tenant(&asked);
        let path = parameter("path", "name", "uuid");
        assert_eq!(of(json!([path, parameter("query", "tenant", "uuid")])), None);
        let other = parameter("query", "of", TENANT_ID_FORMAT);
        assert_eq!(of(json!([path, other])).as_deref(), Some("other"));
        let second = route(&json!([parameter("path", "run", TENANT_ID_FORMAT)])).tenant;
        assert!(matches!(second, Some(TenantParameter::Path(name)) if name == "param1"));
    }

    #[test]
    fn a_hidden_operation_may_be_anyone_s() {
        let names = PathNames(Arc::from([]));
        let of = |described: Value| Audience::of(&described, &"/x".into(), &names);
        let unknown = of(Value::Null);
        assert!(unknown.operator_route().is_some() && unknown.may_be_public());
        let operators = of(json!({"security": [{"Operator": []}]}));
        assert!(operators.operator_route().is_some() && !operators.may_be_public());
        let tenants = of(json!({"security": [{"Tenant": []}]}));
        assert!(tenants.operator_route().is_none() && tenants.may_be_public());
    }
}
