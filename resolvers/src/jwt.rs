//! The resolver `jwt`: the tenant is a claim of a signed bearer token.

mod key;
mod key_set;
#[cfg(test)]
mod test_issuer;
#[cfg(test)]
mod tests;
mod texts;

use async_trait::async_trait;
use http::header;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value};
use tenantry_core::{
    BuildContext, BuildError, HumanDuration, MalformedReason, Plugin, RequestHead, Resolution, ResolveError,
    TenantLocation, TenantResolver, TlsConfig,
};
use tokio::io::AsyncReadExt;

use self::key::{Key, PUBLIC_KEY_ALGORITHMS, SECRET_ALGORITHMS};
use self::key_set::KeySet;
pub use self::texts::Texts;
use crate::one_value::one_value;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The longest `public_key` file that is read, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// The longest `leeway`, in seconds: RFC 7519 §4.1.4 allows "usually no more than a few minutes".
const MAX_LEEWAY_SECONDS: u64 = 600;

/// The output of SHA-256: RFC 7518 §3.2 demands a secret of at least that many bytes.
const ADVISED_SECRET_BYTES: usize = 32;

/// Reads the tenant from a claim of a signed token (a JWT) in `Authorization: Bearer`.
///
/// The signature is verified, `exp` must be there and in the future, `nbf` must not be in the future, and `iss` and `aud` must
/// be what is configured here. Exactly one of `secret`, `public_key` and `jwks_url` says whose signature is believed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// The claim that holds the tenant's id. Dots go deeper: `org.tenant` is the member `tenant` of the claim `org`, unless there is
    /// a claim whose name has these dots itself.
    pub claim: String,
    /// The signature algorithms that are accepted; without it, all that fit the key. With a `jwks_url`, a key that
    /// names its own algorithm is used with no other.
    pub algorithms: Option<Vec<JwtAlgorithm>>,
    /// The issuer that a token's `iss` must name: one text, or a list of which it must be one. Without it, `iss` is not looked at.
    pub issuer: Option<Texts>,
    /// The audience that a token's `aud` must name: one text, or a list of which one must be there. Without it, `aud` is
    /// not looked at, and a token that the issuer made for another service is accepted.
    pub audience: Option<Texts>,
    /// How far the clocks of issuer and server may be apart, for `exp` and `nbf`: whole seconds, at most 10 minutes.
    pub leeway: HumanDuration,
    /// The secret that issuer and server share, for HS256, HS384 and HS512; at least 32 bytes are advised.
    #[schemars(with = "Option<String>")]
    pub secret: Option<SecretString>,
    /// The issuer's public key: PEM text, or the path of a file that holds it. RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519.
    pub public_key: Option<String>,
    /// Where the issuer publishes its keys (a JWK Set, RFC 7517 §5). It is read at the first request, every 10 minutes, and when a
    /// token names an unknown key, for that at most every 10 seconds. The keys known last stay in use while it cannot be read.
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
    keys: Keys,
    /// One for each algorithm that is accepted. The library's own list in a `Validation` must be of one family, and it does not
    /// bind a key to an algorithm.
    validations: Vec<(Algorithm, Validation)>,
    warnings: Vec<String>,
}

/// Whose signature is believed.
#[derive(Debug)]
enum Keys {
    One(Key),
    Published(KeySet),
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

    async fn build(config: JwtConfig, context: &BuildContext) -> Result<Self, BuildError> {
        check_claim(&config.claim)?;
        let leeway = leeway(config.leeway)?;
        let accepted = config
            .algorithms
            .map(|names| names.into_iter().map(Algorithm::from).collect());
        let mut warnings = Vec::new();
        for (key, configured, risk) in [
            ("audience", config.audience.is_some(), "for other services"),
            (
                "issuer",
                config.issuer.is_some(),
                "of other issuers that have the same key",
            ),
        ] {
            if !configured {
                warnings.push(format!(
                    "the resolver `jwt` has no `{key}`: it also accepts tokens {risk}"
                ));
            }
        }
        let (keys, accepted) = match (config.secret, config.public_key, config.jwks_url) {
            (Some(secret), None, None) => {
                let accepted = narrowed(accepted, SECRET_ALGORITHMS, "secret")?;
                (Keys::One(secret_key(&secret, &mut warnings)?), accepted)
            }
            (None, Some(written), None) => {
                let key = public_key(&written, context).await?;
                let accepted = narrowed(accepted, &key.algorithms, "public_key")?;
                (Keys::One(key), accepted)
            }
            (None, None, Some(url)) => {
                let accepted = narrowed(accepted, PUBLIC_KEY_ALGORITHMS, "jwks_url")?;
                (Keys::Published(KeySet::new(&url, accepted.clone()).await?), accepted)
            }
            (None, None, None) => return Err(BuildError::new("needs one of `secret`, `public_key` and `jwks_url`")),
            _ => {
                return Err(BuildError::new(
                    "has more than one of `secret`, `public_key` and `jwks_url`",
                ));
            }
        };
        let validation = validation(leeway, config.issuer.as_ref(), config.audience.as_ref())?;
        let validations = accepted
            .into_iter()
            .map(|algorithm| {
                let mut validation = validation.clone();
                validation.algorithms = vec![algorithm];
                (algorithm, validation)
            })
            .collect();
        Ok(Self {
            claim: config.claim,
            keys,
            validations,
            warnings,
        })
    }
}

/// The claim's name goes into `WWW-Authenticate`, whose quoted texts hold these characters only (RFC 6750 §3).
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

/// The leeway in seconds, which is what the library counts in.
fn leeway(leeway: HumanDuration) -> Result<u64, BuildError> {
    let seconds = leeway.0.as_secs();
    if leeway.0.subsec_nanos() != 0 {
        return Err(BuildError::key("leeway", "is not of whole seconds, such as `30s`"));
    }
    if seconds > MAX_LEEWAY_SECONDS {
        return Err(BuildError::key("leeway", "is more than 10 minutes"));
    }
    Ok(seconds)
}

/// The algorithms that are accepted: those that are configured, each of which must fit the key; without any, all that fit.
fn narrowed(
    configured: Option<Vec<Algorithm>>,
    fitting: &[Algorithm],
    key: &str,
) -> Result<Vec<Algorithm>, BuildError> {
    let Some(configured) = configured else {
        return Ok(fitting.to_vec());
    };
    if configured.is_empty() {
        return Err(BuildError::key("algorithms", "is empty"));
    }
    match configured.iter().find(|algorithm| !fitting.contains(algorithm)) {
        Some(algorithm) => Err(BuildError::key(
            "algorithms",
            format!("has `{algorithm:?}`, which does not fit `{key}`"),
        )),
        None => Ok(configured),
    }
}

fn secret_key(secret: &SecretString, warnings: &mut Vec<String>) -> Result<Key, BuildError> {
    let secret = secret.expose_secret().as_bytes();
    if secret.is_empty() {
        return Err(BuildError::key("secret", "is empty"));
    }
    if secret.len() < ADVISED_SECRET_BYTES {
        warnings.push(format!(
            "the resolver `jwt` has a `secret` of less than {ADVISED_SECRET_BYTES} bytes, which can be guessed"
        ));
    }
    Ok(Key {
        id: None,
        algorithms: SECRET_ALGORITHMS.to_vec(),
        decoding: DecodingKey::from_secret(secret),
    })
}

/// Reads `public_key`: PEM text, or the path of a file that holds it.
async fn public_key(written: &str, context: &BuildContext) -> Result<Key, BuildError> {
    let from_pem = |pem: &str| {
        Key::from_pem(pem).ok_or_else(|| {
            let reason = "is not a public key in PEM (RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519)";
            BuildError::key("public_key", reason)
        })
    };
    if TlsConfig::is_pem(written) {
        return from_pem(written);
    }
    let unreadable = |error: std::io::Error| {
        BuildError::key(
            "public_key",
            "is neither PEM text nor the path of a file that can be read",
        )
        .with_source(error)
    };
    let file = tokio::fs::File::open(context.path(written)).await.map_err(unreadable)?;
    let mut pem = String::new();
    file.take(MAX_KEY_FILE_BYTES)
        .read_to_string(&mut pem)
        .await
        .map_err(unreadable)?;
    from_pem(&pem)
}

/// What holds whatever the algorithm is.
fn validation(leeway: u64, issuer: Option<&Texts>, audience: Option<&Texts>) -> Result<Validation, BuildError> {
    let mut validation = Validation::default();
    let mut required = vec!["exp"];
    validation.leeway = leeway;
    validation.validate_nbf = true;
    // RFC 7519 §4.1.4: not "on or after" that second, where the library alone would still accept the token on it.
    validation.reject_tokens_expiring_in_less_than = 1;
    validation.validate_aud = audience.is_some();
    let empty = |texts: &Texts| texts.0.is_empty() || texts.0.iter().any(String::is_empty);
    if let Some(issuer) = issuer {
        if empty(issuer) {
            return Err(BuildError::key("issuer", "is empty"));
        }
        validation.set_issuer(&issuer.0);
        required.push("iss");
    }
    if let Some(audience) = audience {
        if empty(audience) {
            return Err(BuildError::key("audience", "is empty"));
        }
        validation.set_audience(&audience.0);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    Ok(validation)
}

#[async_trait]
impl TenantResolver for JwtResolver {
    /// Without an `Authorization` header of the scheme `Bearer` the tenant is absent, so that a chain goes on to its next
    /// resolver. With one, whatever is wrong with the token refuses the request.
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let Some(token) = bearer(request)? else {
            return Ok(Resolution::Absent);
        };
        let claims = self.verified(token).await?;
        let tenant = match find(&claims, &self.claim) {
            Some(Value::String(tenant)) => tenant,
            Some(_) => return Err(refused(format!("the token's claim `{}` is not a string", self.claim))),
            None => return Err(refused(format!("the token has no claim `{}`", self.claim))),
        };
        let malformed = |error| ResolveError::malformed(format!("the token's claim `{}`", self.claim), error);
        let tenant = request
            .tenant_id(tenant)
            .map_err(|error| malformed(MalformedReason::Id(error)))?;
        Ok(Resolution::Found(tenant))
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
    /// The claims of a token whose signature and times are right.
    async fn verified(&self, token: &str) -> Result<Map<String, Value>, ResolveError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("the token is longer than 16 KiB"));
        }
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| refused("the token is not a signed JWT with an algorithm that is known"))?;
        // RFC 7515 §4.1.11: what is critical must be understood, and no extension is. The library does not look at it.
        if header.crit.is_some() {
            return Err(refused(
                "the token has critical header parameters that are not understood",
            ));
        }
        let accepted = self.validations.iter().find(|(algorithm, _)| *algorithm == header.alg);
        let Some((algorithm, validation)) = accepted else {
            return Err(refused("the token is signed with an algorithm that is not accepted"));
        };
        let published;
        let key = match &self.keys {
            Keys::One(key) => key,
            Keys::Published(keys) => {
                published = keys.find(header.kid.as_deref(), *algorithm).await?;
                &*published
            }
        };
        jsonwebtoken::decode(token, &key.decoding, validation)
            .map(|data| data.claims)
            .map_err(|error| refused(reason(error.kind())))
    }
}

/// A token that is there and not good (RFC 6750 §3.1).
fn refused(description: impl Into<String>) -> ResolveError {
    ResolveError::Unauthenticated {
        error: Some("invalid_token"),
        description: description.into(),
    }
}

/// Which check failed, without any part of the token.
fn reason(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
        ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not valid yet".to_owned(),
        ErrorKind::InvalidIssuer => "the token is from another issuer".to_owned(),
        ErrorKind::InvalidAudience => "the token is for another audience".to_owned(),
        // The name is one of `exp`, `nbf`, `iss` and `aud`.
        ErrorKind::MissingRequiredClaim(claim) => format!("the token has no `{claim}` that can be read"),
        ErrorKind::InvalidClaimFormat(claim) => format!("the token's `{claim}` cannot be read"),
        _ => "the token is not a JWT that can be read".to_owned(),
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); `None` without that header, or with another scheme in it.
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

/// The claim of that name; a part of the name before a dot may be an object that holds the rest. A name that is there as a whole
/// goes first, since names such as `https://example.com/tenant` have dots themselves.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let inner = claims.get(&name[..dot])?.as_object()?;
            find(inner, &name[dot + 1..])
        })
    })
}
