//! What the providers on AWS have in common: settings, credentials, lists, and what a failed call
//! means.

pub(crate) mod failure;
mod profile;
mod store;

use std::time::Duration;

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
pub(crate) use store::{Page, Store};
use tenantry_core::{BuildContext, BuildError, SecretValue, TenantId, TenantIdPattern, http_url};
use tokio::time::timeout;

use crate::{defaults, remote::silenced};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
const ATTEMPTS: u32 = 3;

/// The longest time to find out region and settings at the start. Without a region in sight, the
/// SDK asks the machine's metadata service for it.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

const SUFFIX: &str = "/database";

/// The keys that the providers on AWS have in common.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The region. Without it, that of the environment, of the profile or of the machine counts.
    pub region: Option<String>,
    /// The URL of the service, in place of the region's public endpoint: a VPC endpoint, or a
    /// server for tests. It does not apply to STS; `AWS_ENDPOINT_URL_STS` does.
    pub endpoint_url: Option<String>,
    /// What the secrets' names begin with; `{environment}` stands for `app.environment`. Default:
    /// `/tenantry/{environment}`.
    pub prefix: Option<String>,
    /// A secret that completes every tenant's: what a secret does not say is taken from here. It
    /// makes whole what RDS manages, which holds only `username` and `password`.
    #[schemars(with = "Option<std::collections::BTreeMap<String, Value>>")]
    #[serde(deserialize_with = "defaults::deserialize")]
    pub defaults: Option<SecretValue>,
    /// The profile in the shared configuration files of AWS that credentials and region are taken
    /// from. Its credentials go before those of the environment; without any, the usual sources
    /// count.
    pub profile: Option<String>,
    /// A role that is assumed with the credentials found, such as
    /// `arn:aws:iam::123456789012:role/tenantry`.
    pub role_arn: Option<String>,
}

/// The names of the tenants' secrets.
pub(crate) struct Names {
    prefix: String,
    id_pattern: TenantIdPattern,
}

impl Names {
    /// What each name begins with, up to the tenant's id.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn of(&self, tenant: &TenantId) -> String {
        format!("{}{tenant}{SUFFIX}", self.prefix)
    }

    fn tenant_in(&self, name: &str) -> Option<TenantId> {
        let id = name.strip_prefix(&self.prefix)?.strip_suffix(SUFFIX)?;
        self.id_pattern.parse(id).ok()
    }
}

/// What names a service allows.
pub(crate) struct NameRule {
    /// Which characters beside letters and digits.
    pub(crate) marks: &'static str,
    /// How many characters at most.
    pub(crate) longest: usize,
}

/// The SDK's settings for a service, from the environment and these keys. `variable` is the
/// service's own for its endpoint.
pub(crate) async fn load(config: &mut Settings, variable: &str) -> Result<SdkConfig, BuildError> {
    prefer_environment(config, variable, |name| {
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
    Ok(match &config.profile {
        Some(profile) => profile::prefer(sdk, profile).await,
        None => sdk,
    })
}

/// `sdk` with these keys, but for the endpoint, which is returned beside it. Nothing is sent.
async fn settle(sdk: &SdkConfig, config: &mut Settings) -> Result<(SdkConfig, Option<String>), BuildError> {
    let mut sdk = sdk.to_builder();
    if let Some(region) = config.region.take() {
        sdk = sdk.region(Region::new(region));
    }
    let mut sdk = sdk.build();
    if sdk.region().is_none_or(|region| region.as_ref().is_empty()) {
        let reason = "is not set, and neither `AWS_REGION`, the profile nor the machine names one";
        return Err(BuildError::key("region", reason));
    }
    if let Some(role) = config.role_arn.take() {
        sdk = assume(sdk, &role).await?;
    }
    let endpoint = config.endpoint_url.take();
    if let Some(endpoint) = &endpoint {
        http_url("endpoint_url", endpoint)?;
    }
    let sdk = sdk
        .into_builder()
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
    Ok((sdk.timeout_config(timeouts()).build(), endpoint))
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build()
}

/// The SDK lets what a program sets win over its environment; for an operator the environment comes
/// first.
fn prefer_environment(config: &mut Settings, variable: &str, is_set: impl Fn(&str) -> bool) {
    if is_set("AWS_REGION") {
        config.region = None;
    }
    if is_set("AWS_ENDPOINT_URL") || is_set(variable) {
        config.endpoint_url = None;
    }
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
    // The SDK panics if hand-made settings have none.
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

/// The names below `configured`, with the environment filled in.
fn names(configured: Option<&str>, rule: &NameRule, context: &BuildContext) -> Result<Names, BuildError> {
    let configured = configured.unwrap_or("/tenantry/{environment}");
    let prefix = configured.replace("{environment}", &context.environment);
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        return Err(BuildError::key("prefix", "is empty"));
    }
    if !prefix
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || rule.marks.contains(c))
    {
        let reason = format!(
            "with its environment holds a character that no name may hold (only letters, digits, `{}`)",
            rule.marks
        );
        return Err(BuildError::key("prefix", reason));
    }
    if prefix.len() + 1 + tenantry_core::MAX_TENANT_ID_BYTES + SUFFIX.len() > rule.longest {
        return Err(BuildError::key("prefix", "is too long"));
    }
    Ok(Names {
        prefix: format!("{prefix}/"),
        id_pattern: context.id_pattern.clone(),
    })
}

#[cfg(test)]
mod tests {
    use tenantry_core::Registry;

    use super::*;

    fn prefix(configured: &str, environment: &str) -> Result<String, BuildError> {
        let mut context = BuildContext::for_tests(Registry::new());
        context.environment = environment.to_owned();
        let rule = NameRule {
            marks: "/_+=.@-",
            longest: 512,
        };
        names(Some(configured), &rule, &context).map(|names| names.prefix)
    }

    #[test]
    fn the_prefix_takes_the_environment_in() {
        assert_eq!(
            prefix("/tenantry/{environment}", "production").unwrap(),
            "/tenantry/production/"
        );
        assert_eq!(prefix("acme/db/", "production").unwrap(), "acme/db/");
        assert_eq!(
            prefix("/tenantry/{environment}", "my env").unwrap_err().path,
            ["prefix"]
        );
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let config = || Settings {
            region: Some("file".to_owned()),
            endpoint_url: Some("http://file".to_owned()),
            ..Settings::default()
        };
        let cases = [
            ("AWS_REGION", true, false),
            ("AWS_ENDPOINT_URL", false, true),
            ("AWS_ENDPOINT_URL_SSM", false, true),
        ];
        for (variable, region_gone, endpoint_gone) in cases {
            let mut config = config();
            prefer_environment(&mut config, "AWS_ENDPOINT_URL_SSM", |name| name == variable);
            assert_eq!(
                (config.region.is_none(), config.endpoint_url.is_none()),
                (region_gone, endpoint_gone),
                "{variable}"
            );
        }
        let mut untouched = config();
        prefer_environment(&mut untouched, "AWS_ENDPOINT_URL_SSM", |_| false);
        assert!(untouched.region.is_some() && untouched.endpoint_url.is_some());
    }
}
