//! The resolver `cookie`: the tenant is in a cookie.

use async_trait::async_trait;
use http::header;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, MalformedReason, Plugin, RequestHead, Resolution, ResolveError, TenantLocation,
    TenantResolver,
};

use crate::one_value::one_value;

/// Reads the tenant from a cookie.
///
/// The cookie may be there twice with the same value; two different values are refused. A value in
/// double quotes is read without them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CookieConfig {
    /// The cookie's name.
    pub name: String,
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self {
            name: "tenant".to_owned(),
        }
    }
}

/// The resolver `cookie`.
#[derive(Debug)]
pub struct CookieResolver {
    name: String,
}

impl Plugin<dyn TenantResolver> for CookieResolver {
    const TYPE: &'static str = "cookie";
    const EXAMPLE: &'static str = "type: cookie\nname: tenant\n";
    type Config = CookieConfig;

    async fn build(config: CookieConfig, _: &BuildContext) -> Result<Self, BuildError> {
        if config.name.is_empty() || !config.name.bytes().all(is_token) {
            return Err(BuildError::key("name", "is not a cookie name"));
        }
        Ok(Self { name: config.name })
    }
}

/// What a cookie's name consists of (RFC 6265 §4.1.1, RFC 9110 §5.6.2).
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[async_trait]
impl TenantResolver for CookieResolver {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let malformed =
            |reason: MalformedReason| ResolveError::malformed(format!("the cookie `{}`", self.name), reason);
        // HTTP/2 may send each cookie in a line of its own (RFC 9113 §8.2.3).
        let lines = request.headers.get_all(header::COOKIE).iter();
        let pairs = lines.flat_map(|line| line.as_bytes().split(|b| *b == b';'));
        let values = pairs.filter_map(|pair| self.value(pair));
        let Some(value) = one_value(values).map_err(malformed)? else {
            return Ok(Resolution::Absent);
        };
        let raw = std::str::from_utf8(value).map_err(|_| malformed(MalformedReason::Unreadable))?;
        let tenant = request.tenant_id(raw).map_err(|error| malformed(error.into()))?;
        Ok(Resolution::found(tenant))
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Cookie {
            name: self.name.clone(),
        }
    }
}

impl CookieResolver {
    /// The value of one `name=value`, if it is this cookie (RFC 6265 §4.2.1). Other cookies are not
    /// checked, so a malformed one among them does no harm.
    fn value<'a>(&self, pair: &'a [u8]) -> Option<&'a [u8]> {
        let equals = pair.iter().position(|b| *b == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (name == self.name.as_bytes()).then(|| unquoted.unwrap_or(value))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use serde_json::json;
    use tenantry_core::{BuildContext, Registry, conformance::resolver::ResolverCase};

    use super::*;
    use crate::test_requests::{plain, with};

    fn cookies<const N: usize>(lines: [&[u8]; N]) -> Request<()> {
        with("cookie", lines).unwrap()
    }

    #[tokio::test]
    async fn it_keeps_what_every_resolver_keeps() {
        ResolverCase::new(json!({"type": "cookie", "name": "customer"}))
            .names(|raw| with("cookie", [[b"a=b; customer=", raw].concat()]))
            .names_two(|first, second| with("cookie", [format!("customer={first}; customer={second}")]))
            .names_none(plain())
            .names_none(cookies([
                b"Customer=tenant1; xcustomer=tenant1; customerx=tenant1; customer; =customer;;",
            ]))
            .finds(cookies([b"a=\xff\xfe; customer=tenant1;b=\"x y\""]), "tenant1")
            .finds(cookies([b"customer=\"tenant1\""]), "tenant1")
            .finds(cookies([b"a=b", b"customer=tenant1", b"customer=tenant1"]), "tenant1")
            .refuses(cookies([b"customer=tenant1", b"customer=tenant2"]))
            .refuses(cookies([b"customer=tenant1=tenant2"]))
            .refuses(cookies([b"customer=\"tenant1"]))
            .refuses(cookies([b"customer=\""]))
            .run::<CookieResolver>()
            .await;
    }

    #[tokio::test]
    async fn what_is_no_cookie_name_is_refused() {
        let context = BuildContext::for_tests(Registry::new());
        for name in ["", "a b", "a=b", "a;b", "ü"] {
            let config = CookieConfig { name: name.to_owned() };
            let error = CookieResolver::build(config, &context).await.unwrap_err();
            assert_eq!(error.to_string(), "`name` is not a cookie name");
        }
    }
}
