//! The resolver `static`: every request has the same tenant.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, RequestHead, Resolution, ResolveError, TenantId, TenantLocation, TenantResolver,
};

/// Gives every request the same tenant, for a server that has only one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticConfig {
    /// The tenant's id.
    pub tenant: String,
}

/// The resolver `static`.
#[derive(Debug)]
pub struct StaticResolver {
    tenant: TenantId,
}

impl Plugin<dyn TenantResolver> for StaticResolver {
    const TYPE: &'static str = "static";
    const EXAMPLE: &'static str = "type: static\ntenant: tenant1\n";
    type Config = StaticConfig;

    async fn build(config: StaticConfig, context: &BuildContext) -> Result<Self, BuildError> {
        let tenant = context
            .id_pattern
            .parse(&config.tenant)
            .map_err(|error| BuildError::key("tenant", error.to_string()))?;
        Ok(Self { tenant })
    }
}

#[async_trait]
impl TenantResolver for StaticResolver {
    async fn resolve(&self, _: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        Ok(Resolution::found(self.tenant))
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Fixed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenantry_core::{BuildContext, Registry, TenantIdPattern, conformance::resolver::ResolverCase};

    use super::*;
    use crate::test_requests::{plain, with};

    #[tokio::test]
    async fn it_keeps_what_every_resolver_keeps() {
        ResolverCase::new(json!({"type": "static", "tenant": "tenant1"}))
            .finds(plain(), "tenant1")
            .finds(with("x-tenant-id", ["tenant2"]).unwrap(), "tenant1")
            .run::<StaticResolver>()
            .await;
    }

    #[tokio::test]
    async fn a_tenant_that_breaks_the_rule_is_refused_when_it_is_built() {
        let mut context = BuildContext::for_tests(Registry::new());
        let build = async |tenant: &str, context: &BuildContext| {
            let tenant = tenant.to_owned();
            StaticResolver::build(StaticConfig { tenant }, context)
                .await
                .map(|_| ())
        };
        for tenant in ["", "../x", "Tenant1"] {
            let error = build(tenant, &context).await.unwrap_err();
            assert!(error.to_string().starts_with("`tenant` "), "{error}");
        }
        context.id_pattern = TenantIdPattern::new("T[0-9]+").unwrap();
        assert!(build("tenant1", &context).await.is_err());
        assert!(build("T1", &context).await.is_ok());
    }
}
