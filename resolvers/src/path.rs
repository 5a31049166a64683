//! The resolver `path`: the tenant is a segment at the beginning of the path.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, RequestHead, Resolution, ResolveError, TenantIdError, TenantLocation,
    TenantResolver,
};

/// Reads the tenant from the path, as in `/t/tenant1/api/v1/tenant/info`; the rest is routed as if
/// the prefix were absent.
///
/// The path is compared as sent, without decoding. An encoded character or a dot segment in the
/// tenant's place is refused.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PathConfig {
    /// The path before the tenant: one or more segments, each with its slash in front.
    #[schemars(regex(pattern = r"^(/[A-Za-z0-9._~-]+)+$"))]
    pub prefix: String,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            prefix: "/t".to_owned(),
        }
    }
}

/// The resolver `path`.
#[derive(Debug)]
pub struct PathResolver {
    prefix: String,
}

impl Plugin<dyn TenantResolver> for PathResolver {
    const TYPE: &'static str = "path";
    const EXAMPLE: &'static str = "type: path\nprefix: /t\n";
    type Config = PathConfig;

    async fn build(config: PathConfig, _: &BuildContext) -> Result<Self, BuildError> {
        let refuse = |reason| Err(BuildError::key("prefix", reason));
        let Some(segments) = config.prefix.strip_prefix('/') else {
            return refuse("does not begin with a slash");
        };
        let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        for segment in segments.split('/') {
            if segment.is_empty() {
                return refuse("has an empty segment, or a slash at its end");
            }
            if is_dot_segment(segment) || !segment.bytes().all(unreserved) {
                return refuse("has a segment with other characters than letters, digits, `-`, `.`, `_` and `~`");
            }
        }
        Ok(Self { prefix: config.prefix })
    }
}

#[async_trait]
impl TenantResolver for PathResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let malformed = |error: TenantIdError| ResolveError::malformed("the path", error);
        let Some(rest) = request.uri.path().strip_prefix(self.prefix.as_str()) else {
            return Ok(Resolution::Absent);
        };
        let Some(rest) = rest.strip_prefix('/') else {
            return Ok(Resolution::Absent);
        };
        let (raw, behind) = rest.split_once('/').unwrap_or((rest, ""));
        // A proxy in front may have read `/t/tenant1/../tenant2/` as the path of the other tenant.
        if behind.split('/').any(is_dot_segment) {
            return Err(malformed(TenantIdError::ForbiddenCharacter));
        }
        request.tenant_id(raw).map(Resolution::found).map_err(malformed)
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Path {
            prefix: self.prefix.clone(),
        }
    }
}

/// Whether a segment is `.` or `..`, written out or percent-encoded (RFC 3986 §5.2.4, WHATWG URL
/// §4.1).
fn is_dot_segment(segment: &str) -> bool {
    let mut rest = segment.as_bytes();
    let mut dots = 0;
    while let Some((first, others)) = rest.split_first() {
        rest = match (first, others) {
            (b'.', others) => others,
            (b'%', [b'2', b'e' | b'E', others @ ..]) => others,
            _ => return false,
        };
        dots += 1;
    }
    dots == 1 || dots == 2
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::json;
    use tenantry_core::{BuildContext, Registry, conformance::resolver::ResolverCase};

    use super::*;
    use crate::test_requests::get;

    fn path(path: &str) -> Request<()> {
        get(path).unwrap()
    }

    #[tokio::test]
    async fn it_keeps_what_every_resolver_keeps() {
        ResolverCase::new(json!({"type": "path", "prefix": "/by/tenant"}))
            // A slash ends the segment: what is before it is the name.
            .names(|raw| get([b"/by/tenant/", raw, b"/api/v1/tenant/info"].concat()).filter(|_| !raw.contains(&b'/')))
            .names_none(path("/api/v1/tenant/info"))
            .names_none(path("/"))
            .names_none(path("/by/tenant"))
            .names_none(path("/by/tenants/tenant1/api"))
            .names_none(path("/BY/TENANT/tenant1/api"))
            .names_none(path("/x/by/tenant/tenant1/api"))
            .names_none(path("/by%2Ftenant/tenant1/api"))
            .names_none(path("//by/tenant/tenant1/api"))
            .names_none(path("/api?x=/by/tenant/tenant1"))
            .finds(path("/by/tenant/tenant1"), "tenant1")
            .finds(path("/by/tenant/tenant1/"), "tenant1")
            .finds(path("/by/tenant/tenant1?x=/../y"), "tenant1")
            .finds(path("/by/tenant/tenant1/files/a..b/...%2fx"), "tenant1")
            .finds(path("http://example.com/by/tenant/tenant1/api"), "tenant1")
            .refuses(path("/by/tenant/"))
            .refuses(path("/by/tenant//api"))
            .refuses(path("/by/tenant/tenant1%2Fapi"))
            .refuses(path("/by/tenant/tenant1%5Capi"))
            .refuses(path("/by/tenant/../api"))
            .refuses(path("/by/tenant/%2E%2e/api"))
            .refuses(path("/by/tenant/tenant1/../tenant2/api"))
            .refuses(path("/by/tenant/tenant1/.%2e/tenant2/api"))
            .refuses(path("/by/tenant/tenant1/api/."))
            .refuses(path("/by/tenant/tenant1/%2E"))
            .run::<PathResolver>()
            .await;
    }

    #[tokio::test]
    async fn a_prefix_that_no_request_can_have_is_refused() {
        let context = BuildContext::for_tests(Registry::new());
        for prefix in [
            "",
            "/",
            "t",
            "/t/",
            "//t",
            "/a//b",
            "/..",
            "/a/./b",
            "/a b",
            "/ü",
            "/%74",
            "/t?x",
            "/{tenant}",
        ] {
            let config = PathConfig {
                prefix: prefix.to_owned(),
            };
            let error = PathResolver::build(config, &context).await.unwrap_err();
            assert!(error.to_string().starts_with("`prefix` "), "{error}");
        }
    }
}
