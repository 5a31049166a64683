//! Tests of the whole way from a file and an environment to a configuration or its faults. The
//! plugins are small ones of their own, so that what is tested here does not change with those that
//! are built in.

mod built_in;
mod environment;
mod faults;
mod features;
mod files;
mod schema;

use std::{collections::BTreeMap, path::Path};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tenantry_core::{
    BuildContext, BuildError, Connection, DatabaseConfig, DatabaseDriver, DriverError, DriverErrorKind, MigrationLock,
    Plugin, ProviderError, Registry, RequestHead, Resolution, ResolveError, SecretDocument, SecretInvalid,
    SecretProvider, TenantId, TenantLocation, TenantResolver,
};

use super::{Environment, Faults, Loaded, load_in};

/// What must never be shown.
const CANARY: &str = "canary";

macro_rules! resolver {
    ($name:ident, $config:ty, $type:literal) => {
        struct $name;

        impl Plugin<dyn TenantResolver> for $name {
            const TYPE: &'static str = $type;
            const EXAMPLE: &'static str = concat!("type: ", $type, "\n");
            type Config = $config;

            async fn build(_: $config, _: &BuildContext) -> Result<Self, BuildError> {
                Ok(Self)
            }
        }

        #[async_trait]
        impl TenantResolver for $name {
            async fn resolve(&self, _: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
                Ok(Resolution::Absent)
            }

            fn location(&self) -> TenantLocation {
                TenantLocation::Fixed
            }
        }
    };
}

/// Reads a header.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema matters")]
struct HeaderConfig {
    /// The header's name.
    #[serde(default)]
    name: String,
}

/// Names one tenant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema matters")]
struct FixedConfig {
    /// The tenant.
    tenant: String,
}

/// Asks others.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema matters")]
struct ChainConfig {
    /// The others.
    #[schemars(extend("items" = {"x-tenantry-plugin": "resolver"}))]
    resolvers: Vec<Value>,
}

resolver!(Header, HeaderConfig, "header");
resolver!(Fixed, FixedConfig, "static");
resolver!(Chain, ChainConfig, "chain");

macro_rules! provider {
    ($name:ident, $config:ty, $type:literal) => {
        struct $name;

        impl Plugin<dyn SecretProvider> for $name {
            const TYPE: &'static str = $type;
            const EXAMPLE: &'static str = concat!("type: ", $type, "\n");
            type Config = $config;

            async fn build(_: $config, _: &BuildContext) -> Result<Self, BuildError> {
                Ok(Self)
            }
        }

        #[async_trait]
        impl SecretProvider for $name {
            async fn fetch(&self, _: &TenantId) -> Result<SecretDocument, ProviderError> {
                Err(ProviderError::NotFound)
            }

            async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
                Ok(Vec::new())
            }
        }
    };
}

/// Holds secrets itself.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema matters")]
struct StaticConfig {
    /// From tenant to secret.
    tenants: BTreeMap<String, BTreeMap<String, Value>>,
}

/// Asks AWS.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct AwsConfig {
    /// The region.
    region: Option<String>,
    /// Another address.
    endpoint_url: Option<String>,
    /// What names begin with.
    prefix: Option<String>,
}

provider!(Static, StaticConfig, "static");
provider!(Aws, AwsConfig, "aws-secrets-manager");

/// Opens files.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct FilesConfig {
    /// The folder they are in.
    root: String,
}

struct Files;

impl Plugin<dyn DatabaseDriver> for Files {
    const TYPE: &'static str = "sqlite";
    const EXAMPLE: &'static str = "type: sqlite\n";
    type Config = FilesConfig;

    async fn build(_: FilesConfig, _: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self)
    }
}

#[async_trait]
impl DatabaseDriver for Files {
    fn validate(&self, _: &DatabaseConfig) -> Result<(), SecretInvalid> {
        Ok(())
    }

    async fn connect(&self, _: &DatabaseConfig) -> Result<Box<dyn Connection>, DriverError> {
        Err(DriverError::new(DriverErrorKind::Unsupported, "it opens nothing"))
    }

    fn backend(&self) -> sea_orm::DbBackend {
        sea_orm::DbBackend::Sqlite
    }

    fn migration_dialect(&self) -> &str {
        "sqlite"
    }

    fn migration_lock(&self, _config: &DatabaseConfig) -> MigrationLock {
        MigrationLock::Transaction
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.resolver::<Header>().resolver::<Fixed>().resolver::<Chain>();
    registry.provider::<Static>().provider::<Aws>();
    registry.driver::<Files>();
    registry
}

/// Loads `yaml` as `config.yaml` of a folder of its own.
fn load_text(yaml: &str, environment: impl Into<Environment>) -> Result<Loaded, Faults> {
    let folder = TempDir::new().expect("a folder");
    std::fs::write(folder.path().join("config.yaml"), yaml).expect("a file");
    load_from(folder.path(), None, environment)
}

fn load_from(folder: &Path, source: Option<&str>, environment: impl Into<Environment>) -> Result<Loaded, Faults> {
    load_in(folder, source.map(Path::new), &environment.into(), &registry())
}

const NOTHING: [(&str, &str); 0] = [];

/// The least that a file must say.
const LEAST: &str = "tenancy:\n  provider: { type: static, tenants: {} }\n";

/// The faults of `yaml`, one to a line; none of them may show the canary.
fn faults_of(yaml: &str, environment: impl Into<Environment>) -> Vec<String> {
    let faults = load_text(yaml, environment).expect_err("it has faults");
    let shown = format!("{faults}\n{faults:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    faults.iter().map(ToString::to_string).collect()
}
