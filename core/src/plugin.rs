//! The trait that a plugin implements for the registry, and the context that it is built in.

use std::{fmt, future::Future, path::PathBuf, sync::Arc};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{BoxError, Registry, TenantIdPattern, TenantResolver};

/// A resolver, provider or driver that configuration can choose by its `TYPE`. `T` is the family:
/// [`dyn TenantResolver`](crate::TenantResolver), [`dyn SecretProvider`](crate::SecretProvider) or
/// [`dyn DatabaseDriver`](crate::DatabaseDriver).
pub trait Plugin<T: ?Sized>: Sized + Send + Sync + 'static {
    /// The word after `type:` in configuration (for a driver: in a secret). Also the name of its
    /// file.
    const TYPE: &'static str;

    /// A complete YAML mapping that chooses this plugin. Tests build it; the README and `tenantry
    /// plugins` show it.
    const EXAMPLE: &'static str;

    /// Its settings. Document each one: the documentation reaches the schema and `tenantry
    /// plugins`.
    type Config: DeserializeOwned + JsonSchema + Send;

    /// Builds the plugin. It fails if the configuration can never work, such as for an unreadable
    /// key. A passing problem, such as a host that is down, is not an error here.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    fn build(config: Self::Config, context: &BuildContext) -> impl Future<Output = Result<Self, BuildError>> + Send;
}

/// The context that a plugin is built in.
#[derive(Clone)]
pub struct BuildContext {
    /// The folder that relative paths in configuration are taken from.
    pub base_dir: PathBuf,
    /// `app.environment`.
    pub environment: String,
    /// The rule for tenant ids.
    pub id_pattern: TenantIdPattern,
    /// All plugins, for a plugin that contains others.
    pub registry: Arc<Registry>,
}

impl BuildContext {
    /// A context for tests: the working directory, the environment `test`, the default rule for
    /// ids, and `registry`.
    pub fn for_tests(registry: Registry) -> Self {
        Self {
            base_dir: PathBuf::from("."),
            environment: "test".to_owned(),
            id_pattern: TenantIdPattern::default(),
            registry: Arc::new(registry),
        }
    }

    /// `path` if it is absolute, else `path` below [`base_dir`](Self::base_dir).
    pub fn path(&self, path: impl Into<PathBuf>) -> PathBuf {
        self.base_dir.join(path.into())
    }

    /// Builds a resolver from its flat mapping, for a resolver that contains others.
    ///
    /// # Errors
    /// As [`Registry::build_resolver`].
    pub async fn resolver(&self, mapping: Value) -> Result<Arc<dyn TenantResolver>, BuildError> {
        self.registry.build_resolver(mapping, self).await
    }
}

impl fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildContext")
            .field("base_dir", &self.base_dir)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

/// Why a plugin could not be built: the key, and what is wrong with it. The caller adds the file
/// and the line. It never repeats a value.
#[derive(Debug, thiserror::Error)]
#[error("{}{reason}", KeyPath(.path))]
pub struct BuildError {
    /// The key below the plugin's mapping, its steps from outside in; empty for the mapping itself.
    pub path: Vec<String>,
    /// What is wrong.
    pub reason: String,
    /// What caused it.
    #[source]
    pub source: Option<BoxError>,
}

struct KeyPath<'a>(&'a [String]);

impl fmt::Display for KeyPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, "`{}` ", self.0.join("."))
        }
    }
}

impl BuildError {
    /// An error in one key of the plugin. For a key that is deeper, `keys.acme`:
    /// `BuildError::key("acme", "is no key").below(["keys"])`.
    pub fn key(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            path: vec![key.into()],
            reason: reason.into(),
            source: None,
        }
    }

    /// An error in the plugin as a whole.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            reason: reason.into(),
            source: None,
        }
    }

    /// With what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same, seen from the mapping that holds the failed one under `steps`.
    #[must_use]
    pub fn below(mut self, steps: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut path: Vec<String> = steps.into_iter().map(Into::into).collect();
        path.append(&mut self.path);
        self.path = path;
        self
    }
}
