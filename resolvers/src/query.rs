//! The resolver `query`: the tenant is in a query parameter.

use std::borrow::Cow;

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, MalformedReason, Plugin, RequestHead, Resolution, ResolveError, TenantLocation,
    TenantResolver,
};

use crate::one_value::one_value;

/// Reads the tenant from a query parameter.
///
/// Its name and value are percent-decoded once. It may be there twice with the same value; two
/// different values are refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// The parameter's name.
    pub name: String,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            name: "tenant".to_owned(),
        }
    }
}

/// The resolver `query`.
#[derive(Debug)]
pub struct QueryResolver {
    name: String,
}

impl Plugin<dyn TenantResolver> for QueryResolver {
    const TYPE: &'static str = "query";
    const EXAMPLE: &'static str = "type: query\nname: tenant\n";
    type Config = QueryConfig;

    async fn build(config: QueryConfig, _: &BuildContext) -> Result<Self, BuildError> {
        if config.name.is_empty() {
            return Err(BuildError::key("name", "is empty"));
        }
        Ok(Self { name: config.name })
    }
}

#[async_trait]
impl TenantResolver for QueryResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let malformed =
            |reason: MalformedReason| ResolveError::malformed(format!("the query parameter `{}`", self.name), reason);
        let pairs = request.uri.query().unwrap_or_default().split('&');
        let values = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A name that is not UTF-8 is not the configured one.
            (decoded(name).ok()? == self.name).then(|| decoded(value))
        });
        let Some(raw) = one_value(values).map_err(malformed)? else {
            return Ok(Resolution::Absent);
        };
        let tenant = request
            .tenant_id(&raw.map_err(malformed)?)
            .map_err(|error| malformed(error.into()))?;
        Ok(Resolution::found(tenant))
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Query {
            name: self.name.clone(),
        }
    }
}

/// A name or value as `application/x-www-form-urlencoded` has it (WHATWG URL §5.1): `+` is a space.
fn decoded(raw: &str) -> Result<Cow<'_, str>, MalformedReason> {
    let unreadable = |_| MalformedReason::Unreadable;
    if raw.contains('+') {
        let spaced = raw.replace('+', " ");
        let decoded = percent_decode_str(&spaced).decode_utf8().map_err(unreadable)?;
        return Ok(Cow::Owned(decoded.into_owned()));
    }
    percent_decode_str(raw).decode_utf8().map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
    use serde_json::json;
    use tenantry_core::{BuildContext, Registry, conformance::resolver::ResolverCase};

    use super::*;
    use crate::test_requests::{get, plain};

    fn query(query: &str) -> Request<()> {
        get(format!("/api/v1/tenant/users?{query}")).unwrap()
    }

    #[tokio::test]
    async fn it_keeps_what_every_resolver_keeps() {
        ResolverCase::new(json!({"type": "query", "name": "customer"}))
            .names(|raw| {
                Some(query(&format!(
                    "limit=1&customer={}",
                    percent_encode(raw, NON_ALPHANUMERIC)
                )))
            })
            .names_two(|first, second| Some(query(&format!("customer={first}&x=y&customer={second}"))))
            .names_none(plain())
            .names_none(query("limit=1&Customer=tenant1&xcustomer=tenant1&%ff=tenant1&&="))
            .finds(query("c%75stomer=tenant1"), "tenant1")
            .finds(query("customer=tenant1&customer=tenant%31"), "tenant1")
            .refuses(query("customer"))
            .refuses(query("customer=a&customer"))
            .refuses(query("customer=a&c%75stomer=b"))
            .refuses(query("customer=%252e"))
            .refuses(query("customer=%zz"))
            .refuses(query("customer=a+b"))
            .refuses(query("customer=%ff&customer=%ff"))
            .run::<QueryResolver>()
            .await;
    }

    #[tokio::test]
    async fn an_empty_name_is_refused() {
        let context = BuildContext::for_tests(Registry::new());
        let config = QueryConfig { name: String::new() };
        assert!(QueryResolver::build(config, &context).await.is_err());
    }
}
