//! One issuer of tokens: the keys that verify its signatures, and the claims that its tokens must
//! have.

use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use tenantry_core::{BuildContext, BuildError, HumanDuration, ResolveError, TenantId, TlsConfig};
use tokio::io::AsyncReadExt;

use super::{
    IssuerConfig, Texts, check_claim,
    key::{Key, PUBLIC_KEY_ALGORITHMS, SECRET_ALGORITHMS},
    key_set::KeySet,
    refused,
};

/// The longest `public_key` file that is read, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// The longest `leeway`, in seconds: RFC 7519 §4.1.4 allows "usually no more than a few minutes".
const MAX_LEEWAY_SECONDS: u64 = 600;

/// The output of SHA-256: RFC 7518 §3.2 demands a secret of at least that many bytes.
const ADVISED_SECRET_BYTES: usize = 32;

/// One issuer.
#[derive(Debug)]
pub(super) struct Issuer {
    /// The accepted values of `iss`; empty if `iss` is not checked.
    names: Vec<String>,
    /// The only tenant that its tokens can name.
    pub(super) tenant: Option<TenantId>,
    pub(super) claim: String,
    keys: Keys,
    /// One for each algorithm that is accepted. The library's own list in a `Validation` must be of
    /// one family, and it does not bind a key to an algorithm.
    validations: Vec<(Algorithm, Validation)>,
}

/// The keys that verify signatures.
#[derive(Debug)]
enum Keys {
    One(Key),
    Published(KeySet),
}

impl Keys {
    /// Reads the keys of the one of `secret`, `public_key` and `jwks_url` that is set, and the
    /// algorithms of `accepted` that suit them.
    async fn build(
        sources: (Option<SecretString>, Option<String>, Option<String>),
        accepted: Option<Vec<Algorithm>>,
        context: &BuildContext,
        warnings: &mut Vec<String>,
    ) -> Result<(Self, Vec<Algorithm>), BuildError> {
        match sources {
            (Some(secret), None, None) => {
                let accepted = narrowed(accepted, SECRET_ALGORITHMS, "secret")?;
                Ok((Self::One(secret_key(&secret, warnings)?), accepted))
            }
            (None, Some(written), None) => {
                let key = public_key(&written, context).await?;
                let accepted = narrowed(accepted, &key.algorithms, "public_key")?;
                Ok((Self::One(key), accepted))
            }
            (None, None, Some(url)) => {
                let accepted = narrowed(accepted, PUBLIC_KEY_ALGORITHMS, "jwks_url")?;
                Ok((Self::Published(KeySet::new(&url, accepted.clone()).await?), accepted))
            }
            (None, None, None) => Err(BuildError::new("needs one of `secret`, `public_key` and `jwks_url`")),
            _ => Err(BuildError::new(
                "has more than one of `secret`, `public_key` and `jwks_url`",
            )),
        }
    }
}

impl Issuer {
    /// Builds an issuer; `is_chosen` is whether its name chooses it among several.
    pub(super) async fn build(
        config: IssuerConfig,
        is_chosen: bool,
        context: &BuildContext,
        warnings: &mut Vec<String>,
    ) -> Result<Self, BuildError> {
        let claim = config.claim.unwrap_or_default();
        check_claim(&claim)?;
        if is_chosen && config.issuer.is_none() {
            return Err(BuildError::key(
                "issuer",
                "is missing: it chooses the issuer of a token",
            ));
        }
        let tenant = config
            .tenant
            .map(|tenant| context.id_pattern.parse(&tenant))
            .transpose();
        let tenant = tenant.map_err(|error| BuildError::key("tenant", error.to_string()))?;
        let mut warn_without = |key, risk| {
            warnings.push(format!(
                "the resolver `jwt` has no `{key}`: it also accepts tokens {risk}"
            ));
        };
        if config.audience.is_none() {
            warn_without("audience", "for other services");
        }
        if config.issuer.is_none() {
            warn_without("issuer", "of other issuers that have the same key");
        }
        let leeway = leeway_seconds(config.leeway.unwrap_or_default())?;
        let accepted = config
            .algorithms
            .map(|names| names.into_iter().map(Algorithm::from).collect());
        let sources = (config.secret, config.public_key, config.jwks_url);
        let (keys, accepted) = Keys::build(sources, accepted, context, warnings).await?;
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
            names: config.issuer.map(|names| names.0).unwrap_or_default(),
            tenant,
            claim,
            keys,
            validations,
        })
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Returns an error for a value that this issuer and another one must not share.
    pub(super) fn conflict(&self, other: &Self) -> Option<BuildError> {
        let shares_name = other.names.iter().any(|name| self.is_named(name));
        let shares_tenant = self.tenant.is_some() && self.tenant == other.tenant;
        let (key, _) = [("issuer", shares_name), ("tenant", shares_tenant)]
            .into_iter()
            .find(|(_, shared)| *shared)?;
        Some(BuildError::key(key, "is that of another issuer in the list"))
    }

    /// Returns the claims of a token after verifying its signature, issuer, audience and times.
    pub(super) async fn verified(&self, token: &str) -> Result<Map<String, Value>, ResolveError> {
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| refused("the token is not a JWT signed with a supported algorithm"))?;
        // RFC 7515 §4.1.11: what is critical must be understood, and no extension is. The library
        // does not look at it.
        if header.crit.is_some() {
            return Err(refused(
                "the token has critical header parameters that are not understood",
            ));
        }
        let accepted = self.validations.iter().find(|(algorithm, _)| *algorithm == header.alg);
        let Some((algorithm, validation)) = accepted else {
            return Err(refused("the token is signed with an algorithm that is not accepted"));
        };
        let verify = |key: &Key| match jsonwebtoken::decode(token, &key.decoding, validation) {
            Ok(data) => Ok(Some(data.claims)),
            Err(error) if *error.kind() == ErrorKind::InvalidSignature => Ok(None),
            Err(error) => Err(refused(reason(error.kind()))),
        };
        match &self.keys {
            Keys::One(key) => verify(key)?.ok_or_else(|| refused(WRONG_SIGNATURE)),
            Keys::Published(keys) => keys.verify(header.kid.as_deref(), *algorithm, verify).await,
        }
    }
}

/// The reason for refusing a token that no known key has signed.
pub(super) const WRONG_SIGNATURE: &str = "the token's signature is wrong";

/// The leeway in seconds, which is what the library counts in.
fn leeway_seconds(leeway: HumanDuration) -> Result<u64, BuildError> {
    let seconds = leeway.0.as_secs();
    if leeway.0.subsec_nanos() != 0 {
        return Err(BuildError::key("leeway", "is not of whole seconds, such as `30s`"));
    }
    if seconds > MAX_LEEWAY_SECONDS {
        return Err(BuildError::key("leeway", "is more than 10 minutes"));
    }
    Ok(seconds)
}

/// The algorithms that are accepted: those that are configured, each of which must fit the key;
/// without any, all that fit.
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

/// The checks that do not depend on the algorithm.
fn validation(leeway: u64, issuer: Option<&Texts>, audience: Option<&Texts>) -> Result<Validation, BuildError> {
    let mut validation = Validation::default();
    let mut required = vec!["exp"];
    validation.leeway = leeway;
    validation.validate_nbf = true;
    // RFC 7519 §4.1.4: a token is invalid "on or after" that second. The library alone would still
    // accept it during that second.
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

/// Which check failed, without any part of the token.
fn reason(kind: &ErrorKind) -> String {
    match kind {
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
