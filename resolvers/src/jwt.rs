//! The resolver `jwt`: the tenant is a claim of a signed bearer token.

mod issuer;
mod key;
mod key_set;
#[cfg(test)]
mod published_keys_tests;
#[cfg(test)]
mod test_issuer;
#[cfg(test)]
mod tests;
mod texts;

use async_trait::async_trait;
use http::header;
use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value};
use tenantry_core::{
    BuildContext, BuildError, Claims, HumanDuration, MalformedReason, Plugin, RequestHead, Resolution, ResolveError,
    TenantLocation, TenantResolver,
};

use self::issuer::Issuer;
pub use self::texts::Texts;
use crate::one_value::one_value;

/// The longest token that is accepted, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Reads the tenant from a claim of a signed token (a JWT) in `Authorization: Bearer`.
///
/// The signature is verified, `exp` must be there and in the future, `nbf` must not be in the
/// future, and `iss` and `aud` must be what is configured here. Exactly one of `secret`,
/// `public_key` and `jwks_url` gives the key that verifies signatures. Or `issuers` lists several
/// issuers with their own keys, and a token's `iss` chooses one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// The claim that holds the tenant's id. Dots go deeper: `org.tenant` is the member `tenant` of
    /// the claim `org`, unless a claim is itself named `org.tenant`.
    pub claim: String,
    /// The signature algorithms that are accepted; without it, all that fit the key. With a
    /// `jwks_url`, a key that names its own algorithm is used with no other.
    pub algorithms: Option<Vec<JwtAlgorithm>>,
    /// The issuer that a token's `iss` must name: one text, or a list of allowed ones. Without it,
    /// `iss` is not checked.
    pub issuer: Option<Texts>,
    /// The audience that a token's `aud` must name: one text, or a list of allowed ones. Without
    /// it, `aud` is not checked, and a token that the issuer made for another service is accepted.
    pub audience: Option<Texts>,
    /// How far the clocks of issuer and server may be apart, for `exp` and `nbf`: whole seconds, at
    /// most 10 minutes.
    pub leeway: HumanDuration,
    /// The secret that issuer and server share, for HS256, HS384 and HS512; at least 32 bytes are
    /// advised.
    #[schemars(with = "Option<String>")]
    pub secret: Option<SecretString>,
    /// The issuer's public key: PEM text, or the path of a file that holds it. RSA of 2048 to 8192
    /// bits, P-256, P-384 or Ed25519.
    pub public_key: Option<String>,
    /// The URL at which the issuer publishes its keys (a JWK Set, RFC 7517 §5). Tenantry reads it
    /// at the first request, then every 10 minutes, and also if no known key has signed a token,
    /// but for that at most every 10 seconds. While it cannot be read, the last known keys stay in
    /// use for up to 24 hours. Plain `http` is allowed for loopback addresses only.
    pub jwks_url: Option<String>,
    /// Several issuers, such as one for each customer. Then `claim` and `leeway` outside the list
    /// are the defaults for the issuers in it, and all other keys are in the list.
    pub issuers: Option<Vec<IssuerConfig>>,
}

/// One of several issuers.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IssuerConfig {
    /// The `iss` of its tokens: one text, or a list. No two issuers have one in common.
    pub issuer: Option<Texts>,
    /// The only tenant that its tokens can name. A token without the claim names it too. The tokens
    /// of other issuers cannot name it.
    pub tenant: Option<String>,
    /// The claim that holds the tenant's id.
    pub claim: Option<String>,
    /// The signature algorithms that are accepted; without it, all that fit the key.
    pub algorithms: Option<Vec<JwtAlgorithm>>,
    /// The audience that a token's `aud` must name: one text, or a list of allowed ones.
    pub audience: Option<Texts>,
    /// How far the clocks of issuer and server may be apart.
    pub leeway: Option<HumanDuration>,
    /// The secret that issuer and server share.
    #[schemars(with = "Option<String>")]
    pub secret: Option<SecretString>,
    /// The issuer's public key: PEM text, or the path of a file that holds it.
    pub public_key: Option<String>,
    /// The URL at which the issuer publishes its keys.
    pub jwks_url: Option<String>,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            claim: "tenant".to_owned(),
            algorithms: None,
            issuer: None,
            audience: None,
            leeway: HumanDuration::from_secs(5),
            secret: None,
            public_key: None,
            jwks_url: None,
            issuers: None,
        }
    }
}

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). There is no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum JwtAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl From<JwtAlgorithm> for Algorithm {
    fn from(algorithm: JwtAlgorithm) -> Self {
        match algorithm {
            JwtAlgorithm::HS256 => Self::HS256,
            JwtAlgorithm::HS384 => Self::HS384,
            JwtAlgorithm::HS512 => Self::HS512,
            JwtAlgorithm::RS256 => Self::RS256,
            JwtAlgorithm::RS384 => Self::RS384,
            JwtAlgorithm::RS512 => Self::RS512,
            JwtAlgorithm::PS256 => Self::PS256,
            JwtAlgorithm::PS384 => Self::PS384,
            JwtAlgorithm::PS512 => Self::PS512,
            JwtAlgorithm::ES256 => Self::ES256,
            JwtAlgorithm::ES384 => Self::ES384,
            JwtAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// The resolver `jwt`.
#[derive(Debug)]
pub struct JwtResolver {
    claim: String,
    issuers: Vec<Issuer>,
    warnings: Vec<String>,
}

impl Plugin<dyn TenantResolver> for JwtResolver {
    const TYPE: &'static str = "jwt";
    const EXAMPLE: &'static str = "\
type: jwt
claim: tenant
issuer: https://login.example.com/
audience: https://api.example.com/
algorithms: [RS256, ES256]
jwks_url: https://login.example.com/.well-known/jwks.json
";
    type Config = JwtConfig;

    async fn build(mut config: JwtConfig, context: &BuildContext) -> Result<Self, BuildError> {
        check_claim(&config.claim)?;
        let mut warnings = Vec::new();
        let mut issuers: Vec<Issuer> = Vec::new();
        let (listed, one) = config.listed()?;
        for (index, issuer) in listed.into_iter().enumerate() {
            let below = |error: BuildError| match one {
                true => error,
                false => error.below(["issuers".to_owned(), index.to_string()]),
            };
            let is_chosen_by_name = !one;
            let built = Issuer::build(issuer, is_chosen_by_name, context, &mut warnings).await;
            let built = built.map_err(below)?;
            if let Some(error) = issuers.iter().find_map(|other| other.conflict(&built)) {
                return Err(below(error));
            }
            issuers.push(built);
        }
        if issuers.is_empty() {
            return Err(BuildError::key("issuers", "is empty"));
        }
        Ok(Self {
            claim: config.claim,
            issuers,
            warnings,
        })
    }
}

impl JwtConfig {
    /// The issuers, each with its complete settings, and whether `issuers` was left out.
    fn listed(&mut self) -> Result<(Vec<IssuerConfig>, bool), BuildError> {
        let own = IssuerConfig {
            issuer: self.issuer.take(),
            tenant: None,
            claim: None,
            algorithms: self.algorithms.take(),
            audience: self.audience.take(),
            leeway: None,
            secret: self.secret.take(),
            public_key: self.public_key.take(),
            jwks_url: self.jwks_url.take(),
        };
        let (mut issuers, one) = match self.issuers.take() {
            None => (vec![own], true),
            Some(issuers) => match own.key_beside_a_list() {
                None => (issuers, false),
                Some(key) => return Err(BuildError::key(key, "is beside `issuers`, and belongs into the list")),
            },
        };
        for issuer in &mut issuers {
            issuer.claim.get_or_insert_with(|| self.claim.clone());
            issuer.leeway.get_or_insert(self.leeway);
        }
        Ok((issuers, one))
    }
}

impl IssuerConfig {
    /// The first of the keys that is set.
    fn key_beside_a_list(&self) -> Option<&'static str> {
        let keys = [
            ("issuer", self.issuer.is_some()),
            ("algorithms", self.algorithms.is_some()),
            ("audience", self.audience.is_some()),
            ("secret", self.secret.is_some()),
            ("public_key", self.public_key.is_some()),
            ("jwks_url", self.jwks_url.is_some()),
        ];
        keys.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }
}

/// The claim's name goes into `WWW-Authenticate`, and a quoted text there allows these characters
/// only (RFC 6750 §3).
fn check_claim(claim: &str) -> Result<(), BuildError> {
    let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\');
    match claim {
        "" => Err(BuildError::key("claim", "is empty")),
        _ if claim.len() > 256 => Err(BuildError::key("claim", "is longer than 256 bytes")),
        _ if !claim.bytes().all(allowed) => Err(BuildError::key(
            "claim",
            "has a character that a claim's name cannot have here",
        )),
        _ => Ok(()),
    }
}

#[async_trait]
impl TenantResolver for JwtResolver {
    /// Without an `Authorization` header of the scheme `Bearer` the tenant is absent, and a chain
    /// continues with its next resolver. With one, any fault of the token refuses the request.
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let Some(token) = bearer(request)? else {
            return Ok(Resolution::Absent);
        };
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("the token is longer than 16 KiB"));
        }
        let issuer = self.issuer_of(token)?;
        let claims = issuer.verified(token).await?;
        let tenant = match (find(&claims, &issuer.claim), &issuer.tenant) {
            (Some(Value::String(tenant)), _) => {
                let malformed = |error| {
                    let place = format!("the token's claim `{}`", issuer.claim);
                    ResolveError::malformed(place, MalformedReason::Id(error))
                };
                request.tenant_id(tenant).map_err(malformed)?
            }
            (Some(_), _) => return Err(refused(format!("the token's claim `{}` is not a string", issuer.claim))),
            (None, Some(bound)) => *bound,
            (None, None) => return Err(refused(format!("the token has no claim `{}`", issuer.claim))),
        };
        let is_bound_to_another = |other: &Issuer| other.tenant == Some(tenant) && issuer.tenant != Some(tenant);
        if issuer.tenant.is_some_and(|bound| bound != tenant) || self.issuers.iter().any(is_bound_to_another) {
            return Err(refused("the token names a tenant that its issuer may not name"));
        }
        let claims = Some(Claims::verified(claims));
        Ok(Resolution::Found { tenant, claims })
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::Bearer {
            claim: self.claim.clone(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

impl JwtResolver {
    /// The issuer that a token names. The token is not verified yet; that issuer's keys then verify
    /// it, its `iss` included.
    fn issuer_of(&self, token: &str) -> Result<&Issuer, ResolveError> {
        match &*self.issuers {
            [only] => Ok(only),
            several => {
                let claims: Map<String, Value> = jsonwebtoken::dangerous::insecure_decode_claims(token)
                    .map_err(|_| refused("the token is not a JWT that can be read"))?;
                let Some(name) = claims.get("iss").and_then(Value::as_str) else {
                    return Err(refused("the token has no `iss` that can be read"));
                };
                let named = several.iter().find(|issuer| issuer.is_named(name));
                named.ok_or_else(|| refused("the token is from another issuer"))
            }
        }
    }
}

/// Refuses an invalid token (RFC 6750 §3.1).
fn refused(description: impl Into<String>) -> ResolveError {
    ResolveError::Unauthenticated {
        error: Some("invalid_token"),
        description: description.into(),
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); `None` without that header, or with
/// another scheme in it.
fn bearer<'a>(request: &RequestHead<'a>) -> Result<Option<&'a str>, ResolveError> {
    let lines = request.headers.get_all(header::AUTHORIZATION);
    let line = one_value(lines).map_err(|reason| ResolveError::malformed("the header `Authorization`", reason))?;
    let Some(line) = line.map(http::HeaderValue::as_bytes) else {
        return Ok(None);
    };
    let (scheme, token) = line.split_at(line.iter().position(|b| *b == b' ').unwrap_or(line.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    match std::str::from_utf8(token.trim_ascii()) {
        Ok("") => Err(refused("the token is empty")),
        Ok(token) => Ok(Some(token)),
        Err(_) => Err(refused("the token is not readable text")),
    }
}

/// The claim of that name. A dot leads into a nested object. A claim with the whole name takes
/// precedence, since names such as `https://example.com/tenant` contain dots.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let inner = claims.get(&name[..dot])?.as_object()?;
            find(inner, &name[dot + 1..])
        })
    })
}
