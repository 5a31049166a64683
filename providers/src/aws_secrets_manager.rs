//! The provider `aws-secrets-manager`: one secret a tenant in AWS Secrets Manager, named
//! `{prefix}/{tenant}/database`.
//!
//! The least policy that it needs, for the prefix `/tenantry/production`:
//!
//! ```json
//! {
//!   "Version": "2012-10-17",
//!   "Statement": [{
//!     "Effect": "Allow",
//!     "Action": "secretsmanager:GetSecretValue",
//!     "Resource":
//!       "arn:aws:secretsmanager:REGION:ACCOUNT:secret:/tenantry/production/*/database-??????"
//!   }, {
//!     "Effect": "Allow",
//!     "Action": "secretsmanager:ListSecrets",
//!     "Resource": "*"
//!   }]
//! }
//! ```
//!
//! `ListSecrets` allows no resource but `*`: it can read the names of all secrets in the account,
//! but no values. Tenantry requests only the names below the prefix. The six question marks stand
//! for what AWS adds to a secret's name in its ARN. Secrets under a KMS key of one's own need
//! `kms:Decrypt` on that key as well, and `role_arn` needs `sts:AssumeRole` on that role.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_secretsmanager::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata as _, SdkError},
    operation::get_secret_value::GetSecretValueError,
    types::{Filter, FilterNameStringType},
};
use schemars::JsonSchema;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use tenantry_core::{
    BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, SecretValue, SecretVersion,
    TenantId,
};

pub use crate::aws::Settings;
use crate::{
    aws::{self, NameRule, Page, Store, failure},
    remote::silenced,
    secret_text,
};

/// The secrets of one answer of `ListSecrets`: the most that AWS allows.
const PAGE: i32 = 100;

/// The most pages that a list may have, which is twice as many secrets as AWS allows in one account
/// and region.
const MAX_PAGES: usize = 10_000;

/// The service's own variable for its endpoint.
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_SECRETS_MANAGER";

/// AWS Secrets Manager API reference, CreateSecret.
const NAME_RULE: NameRule = NameRule {
    marks: "/_+=.@-",
    longest: 512,
};

/// One secret a tenant in AWS Secrets Manager, named `{prefix}/{tenant}/database`.
///
/// Credentials come from the SDK's default chain: environment, profile, web identity, container,
/// instance. `AWS_REGION` and `AWS_ENDPOINT_URL` in the environment come before `region` and
/// `endpoint_url` here. A secret is a JSON object in the native form or that of AWS RDS, or a
/// database URL alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// Reads each tenant's secret from AWS Secrets Manager.
#[derive(Debug)]
pub struct AwsSecretsManagerProvider(Store<Client>);

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
        let sdk = aws::load(&mut config.0, ENDPOINT_VARIABLE).await?;
        Self::with_sdk_config(&sdk, config, context).await
    }
}

impl AwsSecretsManagerProvider {
    /// A provider with your own settings and credentials. `region`, `endpoint_url` and `role_arn`
    /// of `config` count, `profile` does not. No request is sent, so a service that is down is not
    /// an error.
    ///
    /// # Errors
    /// A key that can never work: no region, an endpoint that is no URL, a prefix that is no
    /// secret's name, a role that is no ARN.
    pub async fn with_sdk_config(sdk: &SdkConfig, config: Config, context: &BuildContext) -> Result<Self, BuildError> {
        let client = |sdk: &SdkConfig, endpoint: Option<String>| {
            let mut service = aws_sdk_secretsmanager::config::Builder::from(sdk);
            // Without one the builder has that of the environment, the service's own first.
            if endpoint.is_some() {
                service.set_endpoint_url(endpoint);
            }
            Client::from_conf(service.build())
        };
        Ok(Self(Store::open(sdk, config.0, &NAME_RULE, context, client).await?))
    }
}

#[async_trait]
impl SecretProvider for AwsSecretsManagerProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let Self(store) = self;
        let request = store
            .client
            .get_secret_value()
            .secret_id(store.names.of(tenant))
            .version_stage("AWSCURRENT");
        let answer = silenced(request.send()).await.map_err(of_get)?;
        let value = match (answer.secret_string, answer.secret_binary) {
            (Some(text), _) => secret_text::parse(&Zeroizing::new(text))?,
            (None, Some(bytes)) => secret_text::parse_bytes(&Zeroizing::new(bytes.into_inner()))?,
            (None, None) => return Err(ProviderError::invalid("holds neither a string nor bytes")),
        };
        let value = store.complete(value);
        Ok(match answer.version_id {
            Some(version) => SecretDocument::new(SecretValue::new(value), SecretVersion::new(version)),
            None => SecretDocument::from_value(value),
        })
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let Self(store) = self;
        let below_prefix = Filter::builder()
            .key(FilterNameStringType::Name)
            .values(store.names.prefix())
            .build();
        let page = |next| {
            let request = store.client.list_secrets().filters(below_prefix.clone());
            let request = request.max_results(PAGE).set_next_token(next);
            async {
                let page = silenced(request.send()).await.map_err(failure::of_call)?;
                let secrets = page.secret_list.unwrap_or_default().into_iter();
                Ok(Page {
                    names: secrets.filter_map(|secret| secret.name).collect(),
                    next: page.next_token,
                })
            }
        };
        store.tenants("secrets", MAX_PAGES, page).await
    }
}

/// AWS's messages for a secret that is scheduled for deletion. Other messages with the same code do
/// not mean that the secret is absent.
const DELETED: [&str; 3] = ["marked for deletion", "marked deleted", "scheduled for deletion"];

/// What a failed `GetSecretValue` means.
fn of_get(error: SdkError<GetSecretValueError, HttpResponse>) -> ProviderError {
    let says_deleted = |message: &str| DELETED.iter().any(|words| message.contains(words));
    match (error.code(), error.message()) {
        (Some("ResourceNotFoundException"), _) => ProviderError::NotFound,
        (Some("InvalidRequestException"), Some(message)) if says_deleted(message) => ProviderError::NotFound,
        _ => failure::of_call(error),
    }
}

#[cfg(test)]
mod tests;
