//! The resolver `host`: a map from host names to tenants.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, RequestHead, Resolution, ResolveError, TenantId, TenantLocation, TenantResolver,
};

use crate::host_name;

/// Reads the tenant from the whole host name, by a map from names to tenants.
///
/// A host that is not in the map names no tenant. Upper and lower case make no difference. A
/// forwarded host counts only from `server.trusted_proxies`, in the header that `server.forwarded`
/// names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// From whole host name, without a port, to tenant id.
    #[schemars(extend("minProperties" = 1))]
    pub hosts: BTreeMap<String, String>,
}

/// The resolver `host`.
#[derive(Debug)]
pub struct HostResolver {
    tenants: HashMap<String, TenantId>,
}

impl Plugin<dyn TenantResolver> for HostResolver {
    const TYPE: &'static str = "host";
    const EXAMPLE: &'static str = "type: host\nhosts:\n  shop.example.com: tenant1\n  example.org: tenant2\n";
    type Config = HostConfig;

    async fn build(config: HostConfig, context: &BuildContext) -> Result<Self, BuildError> {
        if config.hosts.is_empty() {
            return Err(BuildError::key("hosts", "is empty"));
        }
        let mut tenants = HashMap::with_capacity(config.hosts.len());
        for (written, tenant) in &config.hosts {
            let wrong = |reason: &str| BuildError::key(written, reason).below(["hosts"]);
            let host = host_name::checked(written).map_err(wrong)?;
            let tenant = context
                .id_pattern
                .parse(tenant)
                .map_err(|error| wrong(&error.to_string()))?;
            if tenants.insert(host, tenant).is_some() {
                return Err(wrong(
                    "is there twice, since host names do not tell upper from lower case",
                ));
            }
        }
        Ok(Self { tenants })
    }
}

#[async_trait]
impl TenantResolver for HostResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        host_name::tenant_of(request, |host| Ok(self.tenants.get(host).copied()))
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Host
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::json;
    use tenantry_core::{BuildContext, Registry, conformance::resolver::ResolverCase};

    use super::*;
    use crate::test_requests::{get, plain, with};

    fn host(host: &str) -> Request<()> {
        with("host", [host]).unwrap()
    }

    #[tokio::test]
    async fn it_keeps_what_every_resolver_keeps() {
        let hosts = json!({"Shop.example.com": "tenant1", "example.org": "tenant2", "[::1]": "tenant3"});
        ResolverCase::new(json!({"type": "host", "hosts": hosts}))
            .finds(host("shop.example.com"), "tenant1")
            .finds(host("SHOP.EXAMPLE.COM.:8080"), "tenant1")
            .finds(host("example.org:80"), "tenant2")
            .finds(host("[::1]:80"), "tenant3")
            .finds(host("[0:0:0:0:0:0:0:1]"), "tenant3")
            .finds(get("http://example.org/api").unwrap(), "tenant2")
            .finds(with("host", ["example.org", "example.org"]).unwrap(), "tenant2")
            .names_none(plain())
            .names_none(host("tenant1"))
            .names_none(host("example.com"))
            .names_none(host("x.example.org"))
            .names_none(host(""))
            .names_none(with("x-forwarded-host", ["example.org"]).unwrap())
            .refuses(with("host", ["shop.example.com", "example.org"]).unwrap())
            .refuses(host("x@example.org"))
            .refuses(host("example.org:x"))
            .refuses(with("host", [b"example.org\xff"]).unwrap())
            .run::<HostResolver>()
            .await;
    }

    #[tokio::test]
    async fn a_map_that_is_wrong_is_refused_at_its_key() {
        let context = BuildContext::for_tests(Registry::new());
        let build = async |hosts: &[(&str, &str)]| {
            let hosts = hosts
                .iter()
                .map(|(host, tenant)| ((*host).to_owned(), (*tenant).to_owned()))
                .collect();
            HostResolver::build(HostConfig { hosts }, &context).await.unwrap_err()
        };
        assert_eq!(build(&[]).await.to_string(), "`hosts` is empty");
        assert_eq!(build(&[("a.com:80", "tenant1")]).await.path, ["hosts", "a.com:80"]);
        assert_eq!(build(&[("a.com", "../x")]).await.path, ["hosts", "a.com"]);
        assert_eq!(
            build(&[("a.com", "tenant1"), ("A.com", "tenant2")]).await.path[0],
            "hosts"
        );
    }
}
