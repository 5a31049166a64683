//! The provider `static`: secrets in the configuration itself.

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use tenantry_core::{
    BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, SecretValue, SecretVersion,
    TenantId,
};

/// Secrets in the configuration itself, for development and for a few tenants.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// From tenant id to secret. A secret has the keys that it has everywhere: `type`, `host`,
    /// `database`, `username`, `password` and so on, or `url`.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, Value>>")]
    pub tenants: BTreeMap<String, SecretMapping>,
}

/// One secret in the configuration. It prints as `[REDACTED]`.
#[derive(Debug)]
pub struct SecretMapping(SecretValue);

impl SecretMapping {
    /// What it holds.
    pub fn into_inner(self) -> SecretValue {
        self.0
    }
}

impl<'de> Deserialize<'de> for SecretMapping {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as any JSON first, since serde's message for a wrong type repeats the value.
        let value = SecretValue::new(Value::deserialize(deserializer)?);
        if value.expose().is_object() {
            Ok(Self(value))
        } else {
            Err(D::Error::custom("is not a mapping"))
        }
    }
}

/// Holds the secrets that the configuration names.
#[derive(Debug)]
pub struct StaticProvider {
    tenants: BTreeMap<TenantId, SecretDocument>,
}

impl Plugin<dyn SecretProvider> for StaticProvider {
    const TYPE: &'static str = "static";
    const EXAMPLE: &'static str = "\
type: static
tenants:
  tenant1: { type: sqlite, path: tenant1.db }
  tenant2: { type: postgresql, host: localhost, database: tenant2_db, username: tenant2, password: change-me }
";
    type Config = Config;

    async fn build(config: Self::Config, context: &BuildContext) -> Result<Self, BuildError> {
        let mut tenants = BTreeMap::new();
        for (name, secret) in config.tenants {
            let id = context
                .id_pattern
                .parse(&name)
                .map_err(|error| BuildError::key(name, error.to_string()).below(["tenants"]))?;
            let value = secret.into_inner();
            let version = SecretVersion::of_content(value.expose());
            tenants.insert(id, SecretDocument::new(value, version));
        }
        Ok(Self { tenants })
    }
}

#[async_trait]
impl SecretProvider for StaticProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        self.tenants.get(tenant).cloned().ok_or(ProviderError::NotFound)
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        Ok(self.tenants.keys().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tenantry_core::{
        Registry,
        conformance::provider::{ProviderFixture, check},
    };

    use super::*;

    async fn build(mapping: Value) -> Result<Arc<dyn SecretProvider>, BuildError> {
        let mut registry = Registry::new();
        registry.provider::<StaticProvider>();
        registry
            .build_provider(mapping, &BuildContext::for_tests(Registry::new()))
            .await
    }

    /// A configuration cannot change under a running provider, so each change builds another.
    #[derive(Default)]
    struct Fixture(Mutex<BTreeMap<TenantId, Value>>);

    #[async_trait]
    impl ProviderFixture for Fixture {
        async fn provider(&self) -> Arc<dyn SecretProvider> {
            let tenants = serde_json::to_value(&*self.0.lock().unwrap()).unwrap();
            build(json!({"type": "static", "tenants": tenants})).await.unwrap()
        }

        async fn put(&self, tenant: &TenantId, secret: &Value) {
            self.0.lock().unwrap().insert(*tenant, secret.clone());
        }

        async fn remove(&self, tenant: &TenantId) {
            self.0.lock().unwrap().remove(tenant);
        }
    }

    #[tokio::test]
    async fn it_is_a_provider() {
        check(&Fixture::default()).await;
    }

    #[tokio::test]
    async fn the_example_builds() {
        let mapping = serde_saphyr::from_str(StaticProvider::EXAMPLE).unwrap();
        assert_eq!(build(mapping).await.unwrap().list().await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_bad_tenant_id_is_an_error_that_names_the_key() {
        let error = build(json!({"type": "static", "tenants": {"Bad Id": {"password": "canary"}}}))
            .await
            .err()
            .unwrap();
        assert_eq!(error.path, ["tenants", "Bad Id"]);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[tokio::test]
    async fn a_secret_that_is_no_mapping_is_not_repeated() {
        for secret in [json!("canary"), json!(["canary"]), json!(4711)] {
            let error = build(json!({"type": "static", "tenants": {"tenant1": secret}}))
                .await
                .err()
                .unwrap();
            assert_eq!(error.path, ["tenants", "tenant1"]);
            assert!(error.reason.contains("is not a mapping"), "{error}");
            assert!(!format!("{error} {error:?}").contains("canary") && !error.to_string().contains("4711"));
        }
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        let config: Config = serde_json::from_value(json!({"tenants": {"tenant1": {"password": "canary"}}})).unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }
}
