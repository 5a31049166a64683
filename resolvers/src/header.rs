//! The resolver `header`: the tenant is in a request header.

use async_trait::async_trait;
use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, MalformedReason, Plugin, RequestHead, Resolution, ResolveError, TenantLocation,
    TenantResolver,
};

use crate::one_value::one_value;

/// Reads the tenant from a request header.
///
/// The header may be there twice with the same value; two different values are refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderConfig {
    /// The header's name.
    pub name: String,
}

impl Default for HeaderConfig {
    fn default() -> Self {
        Self {
            name: "X-Tenant-ID".to_owned(),
        }
    }
}

/// The resolver `header`.
#[derive(Debug)]
pub struct HeaderResolver {
    name: HeaderName,
    written: String,
}

impl Plugin<dyn TenantResolver> for HeaderResolver {
    const TYPE: &'static str = "header";
    const EXAMPLE: &'static str = "type: header\nname: X-Tenant-ID\n";
    type Config = HeaderConfig;

    async fn build(config: HeaderConfig, _: &BuildContext) -> Result<Self, BuildError> {
        let name = config.name.parse().map_err(|error: http::header::InvalidHeaderName| {
            BuildError::key("name", "is not a header name").with_source(error)
        })?;
        Ok(Self {
            name,
            written: config.name,
        })
    }
}

#[async_trait]
impl TenantResolver for HeaderResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let malformed =
            |reason: MalformedReason| ResolveError::malformed(format!("the header `{}`", self.written), reason);
        let Some(value) = one_value(request.headers.get_all(&self.name)).map_err(malformed)? else {
            return Ok(Resolution::Absent);
        };
        let raw = value.to_str().map_err(|_| malformed(MalformedReason::Unreadable))?;
        let tenant = request.tenant_id(raw).map_err(|error| malformed(error.into()))?;
        Ok(Resolution::found(tenant))
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Header {
            name: self.written.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenantry_core::{BuildContext, Registry, conformance::resolver::ResolverCase};

    use super::*;
    use crate::test_requests::{plain, with};

    #[tokio::test]
    async fn it_keeps_what_every_resolver_keeps() {
        ResolverCase::new(json!({"type": "header", "name": "X-Customer"}))
            .names(|raw| with("x-customer", [raw]))
            .names_two(|first, second| with("X-CUSTOMER", [first, second]))
            .names_none(plain())
            .names_none(with("x-tenant-id", ["tenant1"]).unwrap())
            .run::<HeaderResolver>()
            .await;
    }

    #[tokio::test]
    async fn the_name_is_shown_as_it_is_written() {
        let context = BuildContext::for_tests(Registry::new());
        let resolver = HeaderResolver::build(HeaderConfig::default(), &context).await.unwrap();
        let name = "X-Tenant-ID".to_owned();
        assert_eq!(resolver.location(), TenantLocation::Header { name });
    }

    #[tokio::test]
    async fn what_is_no_header_name_is_refused() {
        let context = BuildContext::for_tests(Registry::new());
        for name in ["", "X Tenant", "X-Tenant:", "Mandant-Ü"] {
            let config = HeaderConfig { name: name.to_owned() };
            let error = HeaderResolver::build(config, &context).await.unwrap_err();
            assert_eq!(error.to_string(), "`name` is not a header name", "{name}");
        }
    }
}
