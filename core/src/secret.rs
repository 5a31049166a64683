//! A tenant's secret as its provider holds it.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde_json::Value;
use zeroize::Zeroize;

/// JSON that holds secrets: it prints as `[REDACTED]` and its texts are overwritten when it is
/// dropped.
#[derive(Clone, Default, PartialEq)]
pub struct SecretValue(Value);

impl SecretValue {
    /// Takes charge of `value`.
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// Its content. No part of it may be printed.
    pub fn expose(&self) -> &Value {
        &self.0
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        overwrite(&mut self.0);
    }
}

fn overwrite(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(overwrite),
        Value::Object(members) => members.values_mut().for_each(overwrite),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// Identifies one version of a secret, by the provider's own version id if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretVersion(Arc<str>);

impl SecretVersion {
    /// The provider's own version id.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// For a provider without version ids: a hash of the content with a random key of this process.
    /// The key keeps readers of `/health` from guessing the content.
    pub fn of_content(content: &Value) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(format!("{:016x}", KEY.hash_one(content)).into())
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One tenant's secret, a JSON object in one of the documented forms, and its version.
#[derive(Debug, Clone)]
pub struct SecretDocument {
    /// The document, not checked yet.
    pub value: SecretValue,
    /// Its version.
    pub version: SecretVersion,
    /// For a secret that expires: its lease.
    pub lease: Option<Lease>,
    /// For a secret that the provider changes at a known time, such as a password that it rotates:
    /// how long from now. The engine reads it again then.
    pub changes_in: Option<Duration>,
}

/// The right to use a secret for a limited time, such as a lease of Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The provider's own id of the lease. It is no secret, but names one; it is logged if the
    /// lease cannot be released.
    pub id: Arc<str>,
    /// How long the secret may be used, counted from its request.
    pub duration: Duration,
    /// Whether [`SecretProvider::renew`](crate::SecretProvider::renew) can extend it.
    pub renewable: bool,
    /// A number for the provider's own use, such as that of the login that the lease belongs to.
    pub series: u64,
}

impl SecretDocument {
    /// A document with its provider's version. It does not expire.
    pub fn new(value: SecretValue, version: SecretVersion) -> Self {
        Self {
            value,
            version,
            lease: None,
            changes_in: None,
        }
    }

    /// A document with a hash of its content as the version.
    pub fn from_value(value: Value) -> Self {
        let version = SecretVersion::of_content(&value);
        Self::new(SecretValue::new(value), version)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_prints_nothing_of_its_content() {
        let document = SecretDocument::from_value(json!({"password": "canary"}));
        assert!(!format!("{document:?}").contains("canary"));
    }

    #[test]
    fn the_same_content_has_the_same_version() {
        let version = |v: Value| SecretDocument::from_value(v).version;
        assert_eq!(version(json!({"a": 1})), version(json!({"a": 1})));
        assert_ne!(version(json!({"a": 1})), version(json!({"a": 2})));
    }
}
