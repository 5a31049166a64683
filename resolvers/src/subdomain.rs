//! The resolver `subdomain`: the tenant is the first label of the host name.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, RequestHead, Resolution, ResolveError, TenantLocation, TenantResolver,
};

use crate::host_name;

/// Reads the tenant from the host name, as in `tenant1.example.com`.
///
/// Exactly one label must precede the domain. The label is converted to lower case, since host
/// names ignore case. The domain itself and any other domain name no tenant. A forwarded host
/// counts only from `server.trusted_proxies`, in the header that `server.forwarded` names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubdomainConfig {
    /// The domain below which each tenant has a label, such as `example.com`; without a port.
    pub domain: String,
}

/// The resolver `subdomain`.
#[derive(Debug)]
pub struct SubdomainResolver {
    domain: String,
}

impl Plugin<dyn TenantResolver> for SubdomainResolver {
    const TYPE: &'static str = "subdomain";
    const EXAMPLE: &'static str = "type: subdomain\ndomain: example.com\n";
    type Config = SubdomainConfig;

    async fn build(config: SubdomainConfig, _: &BuildContext) -> Result<Self, BuildError> {
        let domain = host_name::checked(&config.domain).map_err(|reason| BuildError::key("domain", reason))?;
        if domain.starts_with('[') || domain.parse::<std::net::Ipv4Addr>().is_ok() {
            return Err(BuildError::key(
                "domain",
                "is an address, before which no label can stand",
            ));
        }
        Ok(Self { domain })
    }
}

#[async_trait]
impl TenantResolver for SubdomainResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        host_name::tenant_of(request, |host| {
            let label = host
                .strip_suffix(self.domain.as_str())
                .and_then(|before| before.strip_suffix('.'));
            let tenant = label.map(|label| request.tenant_id(label)).transpose();
            tenant.map_err(|error| ResolveError::malformed("the host name", error))
        })
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Subdomain {
            domain: self.domain.clone(),
        }
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
        ResolverCase::new(json!({"type": "subdomain", "domain": "Example.com"}))
            .names(|raw| with("host", [[raw, b".example.com:8080"].concat()]))
            .names_two(|first, second| with("host", [first, second].map(|name| format!("{name}.example.com"))))
            .ignores_case()
            .names_none(plain())
            .names_none(host("example.com"))
            .names_none(host("example.com:443"))
            .names_none(host("EXAMPLE.com."))
            .names_none(host("tenant1.example.org"))
            .names_none(host("tenant1.example.com.evil.org"))
            .names_none(host("tenant1-example.com"))
            .names_none(host("tenant1xexample.com"))
            .names_none(host("[::1]:8080"))
            .names_none(host("localhost"))
            .names_none(with("x-forwarded-host", ["tenant1.example.com"]).unwrap())
            .finds(host("tenant1.EXAMPLE.com."), "tenant1")
            .finds(get("http://tenant1.example.com/api").unwrap(), "tenant1")
            .refuses(host("a.b.example.com"))
            .refuses(host(".example.com"))
            .refuses(host("tenant1.example.com:80@example.com"))
            .refuses(host("tenant1@tenant2.example.com"))
            .run::<SubdomainResolver>()
            .await;
    }

    #[tokio::test]
    async fn what_is_no_domain_is_refused() {
        let context = BuildContext::for_tests(Registry::new());
        for domain in [
            "",
            ".example.com",
            "example.com:80",
            "http://example.com",
            "[::1]",
            "127.0.0.1",
            "*.example.com",
        ] {
            let config = SubdomainConfig {
                domain: domain.to_owned(),
            };
            let error = SubdomainResolver::build(config, &context).await.unwrap_err();
            assert!(error.to_string().starts_with("`domain` "), "{error}");
        }
    }
}
