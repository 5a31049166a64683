//! A resolver and a secret provider of your own, chosen in `config.yaml` like the built-in ones:
//!
//! ```yaml
//! tenancy:
//!   resolver: { type: api-key, keys: { "k-1234567890": tenant1 } }
//!   provider: { type: one-folder, path: data }
//! ```

use std::{collections::HashMap, path::PathBuf, process::ExitCode};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tenantry::{
    App,
    core::{
        BuildContext, BuildError, Plugin, ProviderError, RequestHead, Resolution, ResolveError, SecretDocument,
        SecretProvider, TenantId, TenantLocation, TenantResolver,
    },
};

/// Knows each tenant by the key its programs send in `X-Api-Key`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApiKeyConfig {
    /// The tenant that each key stands for.
    keys: HashMap<String, String>,
}

struct ApiKey {
    keys: HashMap<String, TenantId>,
}

impl Plugin<dyn TenantResolver> for ApiKey {
    const TYPE: &'static str = "api-key";
    const EXAMPLE: &'static str = "{ type: api-key, keys: { k-1234567890: tenant1 } }";
    type Config = ApiKeyConfig;

    async fn build(config: ApiKeyConfig, context: &BuildContext) -> Result<Self, BuildError> {
        let parse = |(key, tenant): (String, String)| match context.id_pattern.parse(&tenant) {
            Ok(tenant) => Ok((key, tenant)),
            // A key is a secret, so the message does not name it.
            Err(error) => Err(BuildError::key("keys", format!("holds a tenant id that {error}"))),
        };
        let keys = config.keys.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }
}

#[async_trait]
impl TenantResolver for ApiKey {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let Some(key) = request.headers.get("x-api-key") else {
            return Ok(Resolution::Absent);
        };
        let tenant = key.to_str().ok().and_then(|key| self.keys.get(key));
        let unknown = || ResolveError::Unauthenticated {
            error: Some("invalid_token"),
            description: "the API key is not known".to_owned(),
        };
        tenant.copied().map(Resolution::found).ok_or_else(unknown)
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::api_key("X-Api-Key", "The key that the tenant was given for its programs.")
    }
}

/// Gives each tenant the SQLite file of its name, for those that have one in a folder.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OneFolderConfig {
    /// The folder, below the one that `config.yaml` is in.
    path: PathBuf,
}

struct OneFolder {
    path: PathBuf,
}

impl Plugin<dyn SecretProvider> for OneFolder {
    const TYPE: &'static str = "one-folder";
    const EXAMPLE: &'static str = "{ type: one-folder, path: data }";
    type Config = OneFolderConfig;

    async fn build(config: OneFolderConfig, context: &BuildContext) -> Result<Self, BuildError> {
        Ok(Self {
            path: context.path(config.path),
        })
    }
}

#[async_trait]
impl SecretProvider for OneFolder {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        // An id holds no `/` and no `.`, so this stays in the folder.
        let file = self.path.join(format!("{tenant}.db"));
        match tokio::fs::try_exists(file).await {
            Ok(true) => Ok(SecretDocument::from_value(
                json!({"type": "sqlite", "path": format!("{tenant}.db")}),
            )),
            Ok(false) => Err(ProviderError::NotFound),
            Err(error) => Err(ProviderError::Unavailable(error.into())),
        }
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let unavailable = |error: std::io::Error| ProviderError::Unavailable(error.into());
        let mut files = tokio::fs::read_dir(&self.path).await.map_err(unavailable)?;
        let mut tenants = Vec::new();
        while let Some(file) = files.next_entry().await.map_err(unavailable)? {
            let name = file.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".db"));
            tenants.extend(id.and_then(|id| id.parse::<TenantId>().ok()));
        }
        Ok(tenants)
    }
}

fn app() -> App {
    App::new().plugins(|registry| {
        registry.resolver::<ApiKey>();
        registry.provider::<OneFolder>();
    })
}

fn main() -> ExitCode {
    app().main()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_reaches_its_tenant_and_an_unknown_one_none() {
        let folder = tempfile::tempdir().unwrap();
        tokio::fs::create_dir(folder.path().join("data")).await.unwrap();
        tokio::fs::write(folder.path().join("data/tenant1.db"), "")
            .await
            .unwrap();
        let file = folder.path().join("config.yaml");
        let config = "
server: { listen: \"127.0.0.1:0\" }
tenancy:
  resolver: { type: api-key, keys: { k-1234567890: tenant1, k-0987654321: tenant2 } }
  provider: { type: one-folder, path: data }
migrations: { on_connect: true }
";
        tokio::fs::write(&file, config).await.unwrap();
        let server = app().start(&file).await.unwrap();
        let status = |key: &'static str| {
            let request = reqwest::Client::new().get(format!("http://{}/api/v1/tenant/users", server.address()));
            async move { request.header("X-Api-Key", key).send().await.unwrap().status().as_u16() }
        };
        assert_eq!(status("k-1234567890").await, 200);
        assert_eq!(status("k-0987654321").await, 404, "it has no file");
        assert_eq!(status("k-made-up").await, 401);
        let document = reqwest::get(format!("http://{}/openapi.json", server.address())).await;
        let document: serde_json::Value = document.unwrap().json().await.unwrap();
        let scheme = &document["components"]["securitySchemes"]["TenantApiKey"];
        assert_eq!(scheme["name"], "X-Api-Key");
        assert_eq!(
            scheme["description"],
            "The key that the tenant was given for its programs."
        );
        let answers = &document["paths"]["/api/v1/tenant/users"]["get"]["responses"];
        assert!(answers["401"].is_object(), "{answers}");
        server.stop().await.unwrap();
    }
}
