//! The resolver `api-key`: a program of a tenant shows its key in `X-Api-Key`.

use std::collections::HashMap;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tenantry::core::{
    BuildContext, BuildError, Plugin, RequestHead, Resolution, ResolveError, TenantId, TenantLocation, TenantResolver,
};

/// Knows each tenant by the key that its programs send in `X-Api-Key`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The tenant that each key stands for.
    keys: HashMap<String, String>,
}

pub struct ApiKey {
    keys: HashMap<String, TenantId>,
}

impl Plugin<dyn TenantResolver> for ApiKey {
    const TYPE: &'static str = "api-key";
    const EXAMPLE: &'static str = "{ type: api-key, keys: { k-1234567890: acme } }";
    type Config = Config;

    async fn build(config: Config, context: &BuildContext) -> Result<Self, BuildError> {
        let parse = |(key, tenant): (String, String)| match context.id_pattern.parse(&tenant) {
            Ok(tenant) => Ok((key, tenant)),
            // A key is a secret, so the message does not say which one.
            Err(error) => Err(BuildError::key("keys", format!("holds a tenant id that {error}"))),
        };
        let keys = config.keys.into_iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }
}

#[async_trait]
impl TenantResolver for ApiKey {
    async fn resolve(&self, request: &RequestHead<'_>) -> Result<Resolution, ResolveError> {
        let mut keys = request.headers.get_all("x-api-key").iter();
        let Some(key) = keys.next() else {
            return Ok(Resolution::Absent);
        };
        let tenant = key.to_str().ok().and_then(|key| self.keys.get(key));
        match tenant {
            Some(tenant) if keys.next().is_none() => Ok(Resolution::found(*tenant)),
            _ => Err(ResolveError::Unauthenticated {
                error: Some("invalid_token"),
                description: "the API key is not known".to_owned(),
            }),
        }
    }

    fn location(&self) -> TenantLocation {
        TenantLocation::api_key("X-Api-Key", "The key that you find in your account's settings.")
    }
}
