//! The resolver `chain`: several resolvers, asked in order. The first that finds a tenant decides,
//! or all must find the same one.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tenantry_core::{
    BuildContext, BuildError, Plugin, RequestHead, Resolution, ResolveError, TenantLocation, TenantResolver,
};

/// The most nested chains.
const MAX_DEPTH: usize = 8;

/// How many sets of credentials the OpenAPI document may have to offer for a chain.
const MAX_COMBINATIONS: usize = 64;

/// How many resolvers one chain may have.
const MAX_RESOLVERS: usize = 32;

/// Asks several resolvers in order. It uses the first answer, or demands the same answer from all.
///
/// A malformed name or a bad token refuses the request; the next resolver is not asked instead.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// The resolvers in their order, each a mapping with its `type`. A chain may hold another.
    #[schemars(length(min = 1, max = 32), extend("items" = {"x-tenantry-plugin": "resolver"}))]
    pub resolvers: Vec<Value>,
    /// Whether the first resolver that finds a tenant decides, or all of them must agree.
    #[serde(default)]
    pub agreement: Agreement,
}

/// How many resolvers must find the tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Agreement {
    /// The first resolver that finds a tenant decides. A client can omit what an earlier resolver
    /// reads, and then a later one decides: a token is no protection if a header comes after it.
    #[default]
    First,
    /// Every resolver must find a tenant, and all of them the same one. With a `jwt` among them, a
    /// request without a token is refused.
    All,
}

/// The resolver `chain`.
pub struct ChainResolver {
    resolvers: Vec<Arc<dyn TenantResolver>>,
    agreement: Agreement,
}

impl fmt::Debug for ChainResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainResolver")
            .field("location", &self.location())
            .finish()
    }
}

impl Plugin<dyn TenantResolver> for ChainResolver {
    const TYPE: &'static str = "chain";
    const EXAMPLE: &'static str = "\
type: chain
agreement: all
resolvers:
  - type: header
    name: X-Tenant-ID
  - type: subdomain
    domain: example.com
";
    type Config = ChainConfig;

    async fn build(config: ChainConfig, context: &BuildContext) -> Result<Self, BuildError> {
        if config.resolvers.is_empty() {
            return Err(BuildError::key("resolvers", "is empty"));
        }
        if config.resolvers.len() > MAX_RESOLVERS {
            return Err(BuildError::key("resolvers", format!("has more than {MAX_RESOLVERS}")));
        }
        if depth(&config.resolvers, MAX_DEPTH) >= MAX_DEPTH {
            return Err(BuildError::key(
                "resolvers",
                format!("has more than {MAX_DEPTH} chains within one another"),
            ));
        }
        let mut resolvers = Vec::with_capacity(config.resolvers.len());
        for (index, mapping) in config.resolvers.into_iter().enumerate() {
            let built = context.resolver(mapping).await;
            resolvers.push(built.map_err(|error| error.below(["resolvers".to_owned(), index.to_string()]))?);
        }
        let chain = Self {
            resolvers,
            agreement: config.agreement,
        };
        let location = chain.location();
        if paths(&location) > 1 {
            return Err(BuildError::key("resolvers", "has more than one that reads the path"));
        }
        if combinations(&location) > MAX_COMBINATIONS {
            let reason = format!("can be satisfied in more than {MAX_COMBINATIONS} ways");
            return Err(BuildError::key("resolvers", reason));
        }
        Ok(chain)
    }
}

/// The depth of nested chains below this one, counted up to `limit`.
fn depth(resolvers: &[Value], limit: usize) -> usize {
    if limit == 0 {
        return 0;
    }
    let chains = resolvers
        .iter()
        .filter(|mapping| mapping["type"] == ChainResolver::TYPE);
    let below = chains.filter_map(|mapping| mapping["resolvers"].as_array());
    below
        .map(|resolvers| 1 + depth(resolvers, limit - 1))
        .max()
        .unwrap_or(0)
}

/// The number of path prefixes. The router can take off only one.
fn paths(location: &TenantLocation) -> usize {
    match location {
        TenantLocation::Path { .. } => 1,
        TenantLocation::AnyOf(all) | TenantLocation::AllOf(all) => all.iter().map(paths).sum(),
        _ => 0,
    }
}

/// In how many ways a client can name its tenant: one location of each, or all of them together.
fn combinations(location: &TenantLocation) -> usize {
    match location {
        TenantLocation::AnyOf(all) => all.iter().map(combinations).fold(0, usize::saturating_add),
        TenantLocation::AllOf(all) => all.iter().map(combinations).fold(1, usize::saturating_mul),
        _ => 1,
    }
}

impl ChainResolver {
    async fn first(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        for resolver in &self.resolvers {
            let found = resolver.resolve(request).await?;
            if found != Resolution::Absent {
                return Ok(found);
            }
        }
        Ok(Resolution::Absent)
    }

    /// A tenant only if every resolver finds it. A request in which none finds one is absent, so
    /// that a chain around this one can go on; one that names its tenant in some of the places is
    /// refused.
    async fn all(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let mut agreed = Resolution::Absent;
        let mut missing = Vec::new();
        for resolver in &self.resolvers {
            let found = resolver.resolve(request).await?;
            agreed = match (agreed, found) {
                (agreed, Resolution::Absent) => {
                    missing.push(resolver.location());
                    agreed
                }
                (Resolution::Absent, found) => found,
                (
                    Resolution::Found { tenant, claims },
                    Resolution::Found {
                        tenant: same,
                        claims: more,
                    },
                ) if tenant == same => {
                    let claims = claims.or(more);
                    Resolution::Found { tenant, claims }
                }
                _ => return Err(ResolveError::Mismatch),
            };
        }
        if agreed == Resolution::Absent || missing.is_empty() {
            return Ok(agreed);
        }
        Err(ResolveError::Incomplete {
            missing: TenantLocation::AllOf(missing),
        })
    }
}

#[async_trait]
impl TenantResolver for ChainResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        match self.agreement {
            Agreement::First => self.first(request).await,
            Agreement::All => self.all(request).await,
        }
    }

    fn location(&self) -> TenantLocation {
        let all = self.resolvers.iter().map(|resolver| resolver.location()).collect();
        match self.agreement {
            Agreement::First => TenantLocation::AnyOf(all),
            Agreement::All => TenantLocation::AllOf(all),
        }
    }

    fn authenticates(&self) -> bool {
        let mut each = self.resolvers.iter().map(|resolver| resolver.authenticates());
        match self.agreement {
            Agreement::First => each.all(|authenticates| authenticates),
            Agreement::All => each.any(|authenticates| authenticates),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.resolvers.iter().flat_map(|resolver| resolver.warnings()).collect()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::json;
    use tenantry_core::{Registry, TenantIdPattern, TrustedProxies, conformance::resolver::ResolverCase};

    use super::*;
    use crate::{
        CookieResolver, HeaderResolver, PathResolver, StaticResolver, SubdomainResolver,
        test_requests::{plain, with},
    };

    fn others(registry: &mut Registry) {
        registry.resolver::<HeaderResolver>();
        registry.resolver::<CookieResolver>();
        registry.resolver::<PathResolver>();
        registry.resolver::<StaticResolver>();
        registry.resolver::<SubdomainResolver>();
    }

    fn mapping(agreement: &str) -> Value {
        let nested = json!({"type": "chain", "resolvers": [
            {"type": "cookie"},
            {"type": "subdomain", "domain": "example.com"},
        ]});
        json!({"type": "chain", "agreement": agreement, "resolvers": [{"type": "header"}, nested]})
    }

    async fn build(mapping: Value) -> Result<Arc<dyn TenantResolver>, BuildError> {
        let mut registry = Registry::new();
        others(&mut registry);
        registry.resolver::<ChainResolver>();
        BuildContext::for_tests(registry).resolver(mapping).await
    }

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = plain();
        for (name, value) in headers {
            request
                .headers_mut()
                .extend(with(name, [value]).unwrap().headers().clone());
        }
        request
    }

    async fn resolve(agreement: &str, headers: &[(&str, &str)]) -> Result<Resolution, ResolveError> {
        let request = request(headers);
        let head = RequestHead {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            peer: None,
            trusted_proxies: &TrustedProxies::default(),
            id_pattern: &TenantIdPattern::default(),
        };
        build(mapping(agreement)).await.unwrap().resolve(&head).await
    }

    const HEADER: (&str, &str) = ("x-tenant-id", "tenant1");
    const COOKIE: (&str, &str) = ("cookie", "tenant=tenant2");
    const HOST: (&str, &str) = ("host", "tenant1.example.com");

    #[tokio::test]
    async fn it_keeps_what_every_resolver_keeps() {
        ResolverCase::new(mapping("first"))
            .with(others)
            .names(|raw| with("x-tenant-id", [raw]))
            .names_two(|first, second| with("x-tenant-id", [first, second]))
            .names_none(plain())
            .finds(request(&[COOKIE]), "tenant2")
            .finds(request(&[HOST]), "tenant1")
            .finds(request(&[HEADER, HOST]), "tenant1")
            .refuses(request(&[("cookie", "tenant=../x"), HOST]))
            .run::<ChainResolver>()
            .await;
        ResolverCase::new(mapping("all"))
            .with(others)
            .names_none(plain())
            .finds(request(&[HEADER, HOST]), "tenant1")
            .refuses(request(&[HEADER, ("cookie", "tenant=../x")]))
            .run::<ChainResolver>()
            .await;
    }

    #[tokio::test]
    async fn the_first_that_finds_a_tenant_decides() {
        let found = resolve("first", &[HEADER, COOKIE]).await.unwrap();
        assert_eq!(found, Resolution::found("tenant1".parse().unwrap()));
        let unread = resolve("first", &[HEADER, ("cookie", "tenant=../x")]).await.unwrap();
        assert_eq!(unread, found);
    }

    #[tokio::test]
    async fn every_one_must_find_the_same_tenant() {
        let mismatch = resolve("all", &[HEADER, COOKIE]).await;
        assert!(matches!(mismatch, Err(ResolveError::Mismatch)), "{mismatch:?}");
        let malformed = resolve("all", &[HEADER, ("cookie", "tenant=../x")]).await;
        assert!(
            matches!(malformed, Err(ResolveError::Malformed { .. })),
            "{malformed:?}"
        );
        let found = resolve("all", &[HEADER, HOST]).await.unwrap();
        assert_eq!(found, Resolution::found("tenant1".parse().unwrap()));
        for (present, absent) in [(HEADER, "AnyOf"), (HOST, "Header"), (COOKIE, "Header")] {
            match resolve("all", &[present]).await {
                Err(ResolveError::Incomplete {
                    missing: TenantLocation::AllOf(missing),
                }) => assert!(format!("{missing:?}").starts_with(&format!("[{absent}")), "{missing:?}"),
                other => panic!("{present:?}: {other:?}"),
            }
        }
        assert_eq!(resolve("all", &[]).await.unwrap(), Resolution::Absent);
    }

    #[tokio::test]
    async fn a_malformed_name_never_falls_through_to_the_next() {
        for agreement in ["first", "all"] {
            let malformed = resolve(agreement, &[("x-tenant-id", "Tenant 1"), HOST]).await;
            assert!(
                matches!(malformed, Err(ResolveError::Malformed { .. })),
                "{malformed:?}"
            );
        }
    }

    #[tokio::test]
    async fn the_location_has_the_parts_in_order() {
        let TenantLocation::AllOf(parts) = build(mapping("all")).await.unwrap().location() else {
            panic!("not all of them");
        };
        assert!(
            matches!(parts.as_slice(), [TenantLocation::Header { .. }, TenantLocation::AnyOf(nested)] if nested.len() == 2)
        );
    }

    #[tokio::test]
    async fn a_chain_that_cannot_work_is_refused() {
        let refused = async |mapping| build(mapping).await.err().unwrap();
        assert_eq!(
            refused(json!({"type": "chain", "resolvers": []})).await.to_string(),
            "`resolvers` is empty"
        );
        let nested = json!({"type": "chain", "resolvers": [{"type": "header"}, {"type": "static", "tenant": "../x"}]});
        assert_eq!(refused(nested).await.path, ["resolvers", "1", "tenant"]);
        let paths = json!({"type": "chain", "resolvers": [{"type": "path"}, {"type": "path", "prefix": "/by"}]});
        assert!(refused(paths).await.to_string().contains("path"));
        let many = vec![json!({"type": "header"}); MAX_RESOLVERS + 1];
        assert_eq!(
            refused(json!({"type": "chain", "resolvers": many})).await.path,
            ["resolvers"]
        );
        assert_eq!(
            refused(json!({"type": "chain", "resolvers": ["header"]})).await.path,
            ["resolvers", "0"]
        );
    }

    #[tokio::test]
    async fn chains_within_one_another_are_bounded() {
        let nested = |levels| {
            (0..levels).fold(
                json!({"type": "header"}),
                |inner, _| json!({"type": "chain", "resolvers": [inner]}),
            )
        };
        assert!(build(nested(MAX_DEPTH)).await.is_ok());
        assert_eq!(build(nested(MAX_DEPTH + 1)).await.err().unwrap().path, ["resolvers"]);
        assert!(build(nested(60)).await.is_err());
        let either = json!({"type": "chain", "resolvers": [{"type": "header"}, {"type": "cookie"}]});
        let all = |of| json!({"type": "chain", "agreement": "all", "resolvers": vec![either.clone(); of]});
        assert!(build(all(6)).await.is_ok());
        assert_eq!(build(all(7)).await.err().unwrap().path, ["resolvers"]);
    }
}
