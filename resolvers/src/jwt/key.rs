//! A key that verifies tokens, and the algorithms it may be used with.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// The algorithms for a shared secret.
pub(super) const SECRET_ALGORITHMS: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

/// The algorithms for a pair of a private and a public key.
pub(super) const PUBLIC_KEY_ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

const RSA_ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The PEM labels of public keys (RFC 7468 §13, and PKCS#1's own).
const PEM_LABELS: [&str; 2] = ["-----BEGIN PUBLIC KEY-----", "-----BEGIN RSA PUBLIC KEY-----"];

/// A key that verifies tokens. It prints nothing of itself.
#[derive(Debug)]
pub(super) struct Key {
    /// Its `kid`, if it comes from a published set.
    pub(super) id: Option<String>,
    /// The algorithms that it may be used with. A signature by any other algorithm proves nothing
    /// (RFC 8725 §3.1).
    pub(super) algorithms: Vec<Algorithm>,
    /// The key itself.
    pub(super) decoding: DecodingKey,
}

impl Key {
    /// The public key in PEM text; `None` if there is no usable one. A private key or a certificate
    /// is not usable.
    pub(super) fn from_pem(pem: &str) -> Option<Self> {
        let pem = pem.trim();
        if !PEM_LABELS.iter().any(|label| pem.starts_with(label)) {
            return None;
        }
        let read = [
            DecodingKey::from_rsa_pem,
            DecodingKey::from_ec_pem,
            DecodingKey::from_ed_pem,
        ];
        let key = read.iter().find_map(|read| read(pem.as_bytes()).ok())?;
        Self::from_jwk(&Jwk::from_decoding_key(&key, None).ok()?)
    }

    /// A published public key; `None` for an unusable one: another purpose, algorithm or size, or a
    /// shared secret, which is no longer secret once it is published.
    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let is_for_signatures = match (&jwk.common.public_key_use, &jwk.common.key_operations) {
            (Some(purpose), _) => *purpose == PublicKeyUse::Signature,
            (None, Some(operations)) => operations.contains(&KeyOperations::Verify),
            (None, None) => true,
        };
        if !is_for_signatures {
            return None;
        }
        let fitting: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA_ALGORITHMS,
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => &[Algorithm::ES256],
                EllipticCurve::P384 => &[Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => return None,
        };
        let algorithms = match jwk.common.key_algorithm {
            Some(named) => vec![
                *fitting
                    .iter()
                    .find(|algorithm| Algorithm::try_from(named).as_ref() == Ok(algorithm))?,
            ],
            None => fitting.to_vec(),
        };
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        has_usable_size(&decoding, fitting).then(|| Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            decoding,
        })
    }

    /// The usable keys of a JWK Set. Unknown kinds of keys are skipped, as RFC 7517 §5 says.
    ///
    /// # Errors
    /// The JSON is not a JWK Set.
    pub(super) fn set_from_json(json: &[u8]) -> serde_json::Result<Vec<Self>> {
        #[derive(Deserialize)]
        struct JwkSet {
            keys: Vec<Value>,
        }
        let set: JwkSet = serde_json::from_slice(json)?;
        let keys = set.keys.into_iter().filter_map(|jwk| serde_json::from_value(jwk).ok());
        Ok(keys.filter_map(|jwk| Self::from_jwk(&jwk)).collect())
    }
}

/// Whether the cryptography library supports the key's size. With another size it would report
/// every signature as wrong.
fn has_usable_size(key: &DecodingKey, fitting: &[Algorithm]) -> bool {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    match (key.kind(), fitting) {
        (RsaModulusExponent { n, .. }, _) => {
            let bits = n
                .iter()
                .position(|byte| *byte != 0)
                .map_or(0, |zeros| (n.len() - zeros) * 8 - n[zeros].leading_zeros() as usize);
            (2048..=8192).contains(&bits)
        }
        // An uncompressed point (SEC 1 §2.3.3): 4, x and y.
        (SecretOrDer(bytes), [Algorithm::ES256]) => bytes.len() == 65,
        (SecretOrDer(bytes), [Algorithm::ES384]) => bytes.len() == 97,
        (SecretOrDer(bytes), _) => bytes.len() == 32,
    }
}
