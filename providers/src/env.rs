//! The provider `env`: secrets in environment variables.

use std::{ffi::OsString, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, TenantId, TenantIdPattern,
};

use crate::secret_text;

const SUFFIX: &str = "_DATABASE";

/// Secrets in environment variables, one a tenant: `TENANT_TENANT1_DATABASE` holds a JSON object or
/// a database URL.
///
/// The middle of the name is the tenant id in upper case, with two underscores for each hyphen:
/// `TENANT_ACME__EU_DATABASE` is the secret of `acme-eu`, `TENANT_ACME_EU_DATABASE` that of
/// `acme_eu`. An id that holds capitals, two underscores in a row or an underscore next to a hyphen
/// has no name of its own, so this provider never finds it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What the variables' names begin with. Not empty.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

fn default_prefix() -> String {
    "TENANT_".to_owned()
}

/// The source of variables: the process, or a test.
trait Variables: Send + Sync {
    fn value(&self, name: &str) -> Option<OsString>;
    fn names(&self) -> Vec<OsString>;
}

struct ProcessVariables;

impl Variables for ProcessVariables {
    fn value(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<OsString> {
        std::env::vars_os().map(|(name, _)| name).collect()
    }
}

/// Reads secrets from the environment of the process, at each fetch.
pub struct EnvProvider {
    prefix: String,
    id_pattern: TenantIdPattern,
    variables: Arc<dyn Variables>,
}

impl std::fmt::Debug for EnvProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvProvider")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl EnvProvider {
    fn new(config: Config, context: &BuildContext, variables: Arc<dyn Variables>) -> Result<Self, BuildError> {
        let prefix = config.prefix;
        if prefix.is_empty() {
            return Err(BuildError::key("prefix", "is empty"));
        }
        if prefix.contains(['=', '\0']) {
            return Err(BuildError::key(
                "prefix",
                "holds a character that no variable's name may hold",
            ));
        }
        let id_pattern = context.id_pattern.clone();
        Ok(Self {
            prefix,
            id_pattern,
            variables,
        })
    }

    /// The variable with this tenant's secret, or `None` if its name would also belong to another
    /// tenant.
    fn variable_of(&self, tenant: &TenantId) -> Option<String> {
        let middle = tenant.as_str().to_ascii_uppercase().replace('-', "__");
        let is_its_own = tenant_in(&middle).as_deref() == Some(tenant.as_str());
        is_its_own.then(|| format!("{}{middle}{SUFFIX}", self.prefix))
    }
}

/// The only id that the middle of a variable's name can mean. A name with two meanings could give a
/// request another tenant's rows, so each run of underscores is either a single `_`, or an even
/// number that means hyphens.
fn tenant_in(middle: &str) -> Option<String> {
    let mut id = String::with_capacity(middle.len());
    let mut rest = middle;
    while let Some(first) = rest.chars().next() {
        if first == '_' {
            let after = rest.trim_start_matches('_');
            match rest.len() - after.len() {
                1 => id.push('_'),
                run if run % 2 == 0 => id.extend(std::iter::repeat_n('-', run / 2)),
                _ => return None,
            }
            rest = after;
        } else {
            if first.is_ascii_lowercase() {
                return None;
            }
            id.push(first.to_ascii_lowercase());
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(id)
}

impl Plugin<dyn SecretProvider> for EnvProvider {
    const TYPE: &'static str = "env";
    const EXAMPLE: &'static str = "\
type: env
prefix: TENANT_
";
    type Config = Config;

    async fn build(config: Self::Config, context: &BuildContext) -> Result<Self, BuildError> {
        Self::new(config, context, Arc::new(ProcessVariables))
    }
}

#[async_trait]
impl SecretProvider for EnvProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let value = self
            .variable_of(tenant)
            .and_then(|name| self.variables.value(&name))
            .ok_or(ProviderError::NotFound)?;
        let text = Zeroizing::new(value.into_encoded_bytes());
        secret_text::parse_bytes(&text).map(SecretDocument::from_value)
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let names = self.variables.names();
        let tenant_of = |name: &OsString| {
            let middle = name.to_str()?.strip_prefix(&self.prefix)?.strip_suffix(SUFFIX)?;
            self.id_pattern.parse(&tenant_in(middle)?).ok()
        };
        let mut tenants: Vec<TenantId> = names.iter().filter_map(tenant_of).collect();
        tenants.sort_unstable();
        Ok(tenants)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, HashMap},
        sync::Mutex,
    };

    use serde_json::{Value, json};
    use tenantry_core::{
        Registry,
        conformance::provider::{ProviderFixture, check},
    };

    use super::*;

    #[derive(Default)]
    struct MadeUp(Mutex<BTreeMap<String, OsString>>);

    impl Variables for MadeUp {
        fn value(&self, name: &str) -> Option<OsString> {
            self.0.lock().unwrap().get(name).cloned()
        }

        fn names(&self) -> Vec<OsString> {
            self.0.lock().unwrap().keys().map(OsString::from).collect()
        }
    }

    fn provider(variables: Arc<MadeUp>, prefix: &str) -> Result<EnvProvider, BuildError> {
        let config = serde_json::from_value(json!({"prefix": prefix})).unwrap();
        EnvProvider::new(config, &BuildContext::for_tests(Registry::new()), variables)
    }

    #[derive(Default)]
    struct Fixture(Arc<MadeUp>);

    impl Fixture {
        fn set(&self, tenant: &TenantId, text: &str) {
            // Written out by hand, so that the test does not lean on the rule it tests.
            let middle: String = tenant
                .as_str()
                .chars()
                .map(|c| {
                    if c == '-' {
                        "__".to_owned()
                    } else {
                        c.to_ascii_uppercase().to_string()
                    }
                })
                .collect();
            let name = format!("TENANT_{middle}_DATABASE");
            self.0.0.lock().unwrap().insert(name, text.into());
        }
    }

    #[async_trait]
    impl ProviderFixture for Fixture {
        async fn provider(&self) -> Arc<dyn SecretProvider> {
            Arc::new(provider(Arc::clone(&self.0), "TENANT_").unwrap())
        }

        async fn put(&self, tenant: &TenantId, secret: &Value) {
            self.set(tenant, &secret.to_string());
        }

        async fn remove(&self, tenant: &TenantId) {
            let suffix = format!(
                "TENANT_{}_DATABASE",
                tenant.as_str().to_ascii_uppercase().replace('-', "__")
            );
            self.0.0.lock().unwrap().remove(&suffix);
        }

        async fn put_text(&self, tenant: &TenantId, text: &str) -> bool {
            self.set(tenant, text);
            true
        }

        async fn put_strays(&self) -> bool {
            for name in [
                "TENANT__DATABASE",
                "TENANT_a_DATABASE",
                "TENANT_A B_DATABASE",
                "TENANT_A___B_DATABASE",
                "TENANT_../X_DATABASE",
                "TENANT_X",
                "TENANTRY__APP__NAME",
                "OTHER_X_DATABASE",
            ] {
                self.0.0.lock().unwrap().insert(name.to_owned(), "{}".into());
            }
            true
        }
    }

    #[tokio::test]
    async fn it_is_a_provider() {
        check(&Fixture::default()).await;
    }

    #[tokio::test]
    async fn the_example_builds() {
        let mut registry = Registry::new();
        registry.provider::<EnvProvider>();
        let mapping = serde_saphyr::from_str(EnvProvider::EXAMPLE).unwrap();
        let provider = registry
            .build_provider(mapping, &BuildContext::for_tests(Registry::new()))
            .await
            .unwrap();
        provider.list().await.unwrap();
    }

    #[tokio::test]
    async fn the_environment_of_the_process_is_read() {
        let config = serde_json::from_value(json!({"prefix": "TENANTRY_NOT_SET_"})).unwrap();
        let provider = EnvProvider::build(config, &BuildContext::for_tests(Registry::new()))
            .await
            .unwrap();
        let error = provider.fetch(&"tenant1".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, ProviderError::NotFound));
        assert!(ProcessVariables.names().iter().any(|name| name == "PATH"));
        assert_eq!(ProcessVariables.value("PATH"), std::env::var_os("PATH"));
    }

    #[test]
    fn no_two_tenants_share_a_variable() {
        let provider = provider(Arc::default(), "TENANT_").unwrap();
        let pattern = TenantIdPattern::new("[A-Ba-b_-]*").unwrap();
        let mut ids: Vec<String> = vec![String::new()];
        let mut seen: HashMap<String, String> = HashMap::new();
        for _ in 0..6 {
            ids = ids
                .iter()
                .flat_map(|id| ["a", "B", "_", "-"].map(|c| format!("{id}{c}")))
                .collect();
            for id in &ids {
                let Some(variable) = provider.variable_of(&pattern.parse(id).unwrap()) else {
                    continue;
                };
                assert_eq!(seen.insert(variable.clone(), id.clone()), None, "{variable} of {id}");
            }
        }
        assert!(seen.len() > 100);
    }

    #[tokio::test]
    async fn an_id_without_a_name_of_its_own_is_not_found() {
        let fixture = Fixture::default();
        fixture.set(&"a-b".parse().unwrap(), "{}");
        let provider = fixture.provider().await;
        let error = provider.fetch(&"a__b".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, ProviderError::NotFound));
    }

    #[tokio::test]
    async fn a_url_alone_is_a_secret() {
        let fixture = Fixture::default();
        fixture.set(&"tenant1".parse().unwrap(), "postgres://u:p@h/d");
        let document = fixture
            .provider()
            .await
            .fetch(&"tenant1".parse().unwrap())
            .await
            .unwrap();
        assert_eq!(*document.value.expose(), json!({"url": "postgres://u:p@h/d"}));
    }

    #[test]
    fn a_prefix_that_names_everything_or_nothing_is_refused() {
        for prefix in ["", "A=B", "A\0"] {
            assert_eq!(provider(Arc::default(), prefix).unwrap_err().path, ["prefix"]);
        }
    }
}
