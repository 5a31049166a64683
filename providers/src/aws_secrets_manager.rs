//! The provider `aws-secrets-manager`: one secret a tenant in AWS Secrets Manager, named `{prefix}/{tenant}/database`.
//!
//! The least policy that it needs, for the prefix `/tenantry/production`:
//!
//! ```json
//! {
//!   "Version": "2012-10-17",
//!   "Statement": [
//!     {
//!       "Effect": "Allow",
//!       "Action": "secretsmanager:GetSecretValue",
//!       "Resource": "arn:aws:secretsmanager:REGION:ACCOUNT:secret:/tenantry/production/*/database-??????"
//!     },
//!     {
//!       "Effect": "Allow",
//!       "Action": "secretsmanager:ListSecrets",
//!       "Resource": "*"
//!     }
//!   ]
//! }
//! ```
//!
//! `ListSecrets` knows no resource but `*`: it tells the names of all secrets in the account, none of their values, and only
//! those below the prefix are asked for. The six question marks stand for what AWS adds to a secret's name in its ARN. Secrets
//! under a KMS key of one's own need `kms:Decrypt` on that key as well, and `role_arn` needs `sts:AssumeRole` on that role.

mod failure;

use std::{collections::BTreeSet, fmt, time::Duration};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider};
use aws_sdk_secretsmanager::{
    Client,
    config::{SharedCredentialsProvider, retry::RetryConfig, timeout::TimeoutConfig},
    types::{Filter, FilterNameStringType},
};
use schemars::JsonSchema;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::Value;
use tenantry_core::{
    BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, SecretValue, SecretVersion,
    TenantId, TenantIdPattern,
};
use tokio::time::timeout;
use tracing::{Dispatch, instrument::WithSubscriber};

use crate::{defaults, secret_text};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
const ATTEMPTS: u32 = 3;

/// The secrets of one answer of `ListSecrets`: the most that AWS allows.
const PAGE: i32 = 100;

/// The most pages that a list may have, which is twice as many secrets as AWS allows in one account and region.
const MAX_PAGES: usize = 10_000;

/// The longest that a list may take, over all its pages.
const LIST_TIMEOUT: Duration = Duration::from_secs(120);

/// The longest time to find out region and settings at the start. Without a region in sight, the SDK asks the machine's metadata
/// service for it.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

const SUFFIX: &str = "/database";

/// One secret a tenant in AWS Secrets Manager, named `{prefix}/{tenant}/database`.
///
/// Credentials come from the SDK's default chain: environment, profile, web identity, container, instance. `AWS_REGION` and
/// `AWS_ENDPOINT_URL` in the environment come before `region` and `endpoint_url` here. A secret is a string or UTF-8 bytes:
/// a JSON object in the native form or that of AWS RDS, or a database URL alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The region. Without it, that of the environment, of the profile or of the machine counts.
    pub region: Option<String>,
    /// Where Secrets Manager is, in place of the region's public endpoint: a VPC endpoint, or a server for tests. It does not
    /// move STS; `AWS_ENDPOINT_URL_STS` does.
    pub endpoint_url: Option<String>,
    /// What the secrets' names begin with; `{environment}` stands for `app.environment`. Default: `/tenantry/{environment}`.
    pub prefix: Option<String>,
    /// A secret that completes every tenant's: what a secret does not say is taken from here. It makes whole what RDS manages,
    /// which holds only `username` and `password`.
    #[schemars(with = "Option<std::collections::BTreeMap<String, Value>>")]
    #[serde(deserialize_with = "defaults::deserialize")]
    pub defaults: Option<SecretValue>,
    /// The profile in the shared configuration files of AWS that credentials and region are taken from.
    pub profile: Option<String>,
    /// A role that is assumed with the credentials found, such as `arn:aws:iam::123456789012:role/tenantry`.
    pub role_arn: Option<String>,
}

/// Reads each tenant's secret from AWS Secrets Manager.
pub struct AwsSecretsManagerProvider {
    client: Client,
    prefix: String,
    defaults: SecretValue,
    id_pattern: TenantIdPattern,
}

impl fmt::Debug for AwsSecretsManagerProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsSecretsManagerProvider")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Plugin<dyn SecretProvider> for AwsSecretsManagerProvider {
    const TYPE: &'static str = "aws-secrets-manager";
    const EXAMPLE: &'static str = "\
type: aws-secrets-manager
region: eu-central-1
prefix: /tenantry/production
defaults: { engine: postgres, host: db.example.com, port: 5432, dbname: app, tls: { mode: verify-full } }
";
    type Config = Config;

    async fn build(mut config: Self::Config, context: &BuildContext) -> Result<Self, BuildError> {
        prefer_environment(&mut config, |name| {
            std::env::var_os(name).is_some_and(|value| !value.is_empty())
        });
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts());
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        let sdk = timeout(LOAD_TIMEOUT, silenced(loader.load()))
            .await
            .map_err(|_| BuildError::key("region", "is not set, and the machine does not tell its own in time"))?;
        Self::with_sdk_config(&sdk, config, context).await
    }
}

impl AwsSecretsManagerProvider {
    /// A provider on settings and credentials of one's own. `region`, `endpoint_url` and `role_arn` of `config` count, `profile` does
    /// not. Nothing is sent: a service that is down is no reason to fail.
    ///
    /// # Errors
    /// A key that can never work: no region, an endpoint that is no URL, a prefix that is no secret's name, a role that is no ARN.
    pub async fn with_sdk_config(sdk: &SdkConfig, config: Config, context: &BuildContext) -> Result<Self, BuildError> {
        let mut sdk = sdk.to_builder();
        if let Some(region) = config.region {
            sdk = sdk.region(Region::new(region));
        }
        let mut sdk = sdk.build();
        if sdk.region().is_none_or(|region| region.as_ref().is_empty()) {
            let reason = "is not set, and neither `AWS_REGION`, the profile nor the machine names one";
            return Err(BuildError::key("region", reason));
        }
        if let Some(role) = config.role_arn {
            sdk = assume(sdk, &role).await?;
        }
        let mut service = aws_sdk_secretsmanager::config::Builder::from(&sdk)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts());
        if let Some(endpoint) = config.endpoint_url {
            if !is_endpoint(&endpoint) {
                return Err(BuildError::key(
                    "endpoint_url",
                    "is not an `http` or `https` URL without user and password",
                ));
            }
            service = service.endpoint_url(endpoint);
        }
        let prefix = config.prefix.as_deref().unwrap_or("/tenantry/{environment}");
        Ok(Self {
            client: Client::from_conf(service.build()),
            prefix: name_prefix(prefix, &context.environment)?,
            defaults: config.defaults.unwrap_or_default(),
            id_pattern: context.id_pattern.clone(),
        })
    }

    fn secret_name(&self, tenant: &TenantId) -> String {
        format!("{}{tenant}{SUFFIX}", self.prefix)
    }

    fn tenant_in(&self, secret_name: &str) -> Option<TenantId> {
        let id = secret_name.strip_prefix(&self.prefix)?.strip_suffix(SUFFIX)?;
        self.id_pattern.parse(id).ok()
    }

    async fn list_all(&self) -> Result<BTreeSet<TenantId>, ProviderError> {
        let below_prefix = Filter::builder()
            .key(FilterNameStringType::Name)
            .values(&self.prefix)
            .build();
        let mut tenants = BTreeSet::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let request = self
                .client
                .list_secrets()
                .filters(below_prefix.clone())
                .max_results(PAGE)
                .set_next_token(next.take());
            let page = silenced(request.send()).await.map_err(failure::of_list)?;
            let names = page.secret_list().iter().filter_map(|secret| secret.name());
            tenants.extend(names.filter_map(|name| self.tenant_in(name)));
            next = page.next_token;
            if next.is_none() {
                return Ok(tenants);
            }
        }
        let reason = format!("the list of secrets does not end after {MAX_PAGES} pages");
        Err(ProviderError::Unavailable(reason.into()))
    }
}

#[async_trait]
impl SecretProvider for AwsSecretsManagerProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let request = self
            .client
            .get_secret_value()
            .secret_id(self.secret_name(tenant))
            .version_stage("AWSCURRENT");
        let answer = silenced(request.send()).await.map_err(failure::of_get)?;
        let value = match (answer.secret_string, answer.secret_binary) {
            (Some(text), _) => secret_text::parse(&Zeroizing::new(text))?,
            (None, Some(bytes)) => secret_text::parse_bytes(&Zeroizing::new(bytes.into_inner()))?,
            (None, None) => return Err(ProviderError::invalid("it holds neither a string nor bytes")),
        };
        let value = defaults::complete(value, &self.defaults);
        Ok(match answer.version_id {
            Some(version) => SecretDocument::new(SecretValue::new(value), SecretVersion::new(version)),
            None => SecretDocument::from_value(value),
        })
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let tenants = timeout(LIST_TIMEOUT, self.list_all()).await;
        let late =
            |_| ProviderError::Unavailable(format!("the list of secrets took longer than {LIST_TIMEOUT:?}").into());
        Ok(tenants.map_err(late)??.into_iter().collect())
    }
}

/// Runs a call of the SDK unheard by logs and traces. With `LOG_SENSITIVE_BODIES` set in the environment it writes secrets at TRACE,
/// and always the command line that gave credentials. What failed is in the error.
fn silenced<T>(call: impl Future<Output = T>) -> impl Future<Output = T> {
    call.with_subscriber(Dispatch::none())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// The SDK lets what a program sets win over its environment; for an operator the environment comes first.
fn prefer_environment(config: &mut Config, is_set: impl Fn(&str) -> bool) {
    if is_set("AWS_REGION") {
        config.region = None;
    }
    if is_set("AWS_ENDPOINT_URL") || is_set("AWS_ENDPOINT_URL_SECRETS_MANAGER") {
        config.endpoint_url = None;
    }
}

fn is_endpoint(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        let has_user = !url.username().is_empty() || url.password().is_some();
        matches!(url.scheme(), "http" | "https") && url.has_host() && !has_user
    })
}

async fn assume(sdk: SdkConfig, role: &str) -> Result<SdkConfig, BuildError> {
    let mut parts = role.split(':');
    let is_role = parts.next() == Some("arn") && parts.nth(1) == Some("iam") && role.contains(":role/");
    if !is_role {
        return Err(BuildError::key(
            "role_arn",
            "is not the ARN of a role, such as `arn:aws:iam::123456789012:role/name`",
        ));
    }
    // The SDK panics where settings made by hand have none.
    if sdk.time_source().is_none() {
        return Err(BuildError::key("role_arn", "needs settings that have a time source"));
    }
    let role = AssumeRoleProvider::builder(role)
        .configure(&sdk)
        .session_name("tenantry")
        .build()
        .await;
    let credentials = SharedCredentialsProvider::new(role);
    Ok(sdk.into_builder().credentials_provider(credentials).build())
}

/// `configured` with the environment filled in and a `/` at its end. A name is made of letters, digits and `/_+=.@-` (AWS Secrets
/// Manager API reference, CreateSecret).
fn name_prefix(configured: &str, environment: &str) -> Result<String, BuildError> {
    let prefix = configured.replace("{environment}", environment);
    let prefix = prefix.trim_end_matches('/');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    if prefix.is_empty() {
        return Err(BuildError::key("prefix", "is empty"));
    }
    if !prefix.chars().all(allowed) {
        let reason =
            "with its environment holds a character that no secret's name may hold (only letters, digits, `/_+=.@-`)";
        return Err(BuildError::key("prefix", reason));
    }
    // A name has at most 512 characters.
    if prefix.len() + 1 + tenantry_core::MAX_TENANT_ID_BYTES + SUFFIX.len() > 512 {
        return Err(BuildError::key("prefix", "is too long"));
    }
    Ok(format!("{prefix}/"))
}

#[cfg(test)]
mod tests;
