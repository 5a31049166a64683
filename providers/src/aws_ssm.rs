//! The provider `aws-ssm`: one SecureString parameter a tenant in the Parameter Store of AWS
//! Systems Manager, named `{prefix}/{tenant}/database`.
//!
//! The least policy that it needs, for the prefix `/tenantry/production`:
//!
//! ```json
//! {
//!   "Version": "2012-10-17",
//!   "Statement": [
//!     {
//!       "Effect": "Allow",
//!       "Action": "ssm:GetParameter",
//!       "Resource": "arn:aws:ssm:REGION:ACCOUNT:parameter/tenantry/production/*/database"
//!     },
//!     {
//!       "Effect": "Allow",
//!       "Action": "ssm:DescribeParameters",
//!       "Resource": "*"
//!     }
//!   ]
//! }
//! ```
//!
//! `DescribeParameters` knows no resource but `*`: it returns names and no values. Parameters under
//! a KMS key of one's own need `kms:Decrypt` on that key as well, and `role_arn` needs
//! `sts:AssumeRole` on that role.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_ssm::{
    Client,
    config::http::HttpResponse,
    error::{ProvideErrorMetadata as _, SdkError},
    operation::get_parameter::GetParameterError,
    types::{ParameterStringFilter, ParameterType},
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

/// The parameters of one answer of `DescribeParameters`: the most that AWS allows.
const PAGE: i32 = 50;
/// The most pages that a list may have: twice as many parameters as AWS allows in one account and
/// region.
const MAX_PAGES: usize = 4_400;
/// The service's own variable for its endpoint.
const ENDPOINT_VARIABLE: &str = "AWS_ENDPOINT_URL_SSM";
/// AWS Systems Manager API reference, PutParameter: 1,011 characters with the ARN before the name.
const NAME_RULE: NameRule = NameRule {
    marks: "/_.-",
    longest: 900,
};

/// One SecureString parameter a tenant in the Parameter Store of AWS Systems Manager, named
/// `{prefix}/{tenant}/database`.
///
/// Credentials come from the SDK's default chain: environment, profile, web identity, container,
/// instance. `AWS_REGION` and `AWS_ENDPOINT_URL` in the environment come before `region` and
/// `endpoint_url` here. A secret is a JSON object in the native form or that of AWS RDS, or a
/// database URL alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Config(pub Settings);

/// Reads each tenant's secret from the Parameter Store of AWS Systems Manager.
#[derive(Debug)]
pub struct AwsSsmProvider(Store<Client>);

impl Plugin<dyn SecretProvider> for AwsSsmProvider {
    const TYPE: &'static str = "aws-ssm";
    const EXAMPLE: &'static str = "\
type: aws-ssm
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

impl AwsSsmProvider {
    /// A provider with your own settings and credentials. `region`, `endpoint_url` and `role_arn`
    /// of `config` count, `profile` does not. No request is sent, so a service that is down is not
    /// an error.
    ///
    /// # Errors
    /// A key that can never work: no region, an endpoint that is no URL, a prefix that is no
    /// parameter's name, a role that is no ARN.
    pub async fn with_sdk_config(sdk: &SdkConfig, config: Config, context: &BuildContext) -> Result<Self, BuildError> {
        let client = |sdk: &SdkConfig, endpoint: Option<String>| {
            let mut service = aws_sdk_ssm::config::Builder::from(sdk);
            // Without one the builder has that of the environment, the service's own first.
            if endpoint.is_some() {
                service.set_endpoint_url(endpoint);
            }
            Client::from_conf(service.build())
        };
        let store = Store::open(sdk, config.0, &NAME_RULE, context, client).await?;
        if !store.names.prefix().starts_with('/') {
            let reason = "does not begin with `/`, as a parameter's name must that holds one";
            return Err(BuildError::key("prefix", reason));
        }
        Ok(Self(store))
    }
}

#[async_trait]
impl SecretProvider for AwsSsmProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let Self(store) = self;
        let name = store.names.of(tenant);
        let request = store.client.get_parameter().name(name).with_decryption(true);
        let answer = silenced(request.send()).await.map_err(of_get)?;
        let parameter = answer.parameter;
        let parameter = parameter.ok_or_else(|| ProviderError::Unavailable("its answer holds no parameter".into()))?;
        if parameter.r#type != Some(ParameterType::SecureString) {
            return Err(ProviderError::invalid("is no parameter of the type SecureString"));
        }
        let Some(text) = parameter.value else {
            return Err(ProviderError::invalid("holds no value"));
        };
        let value = store.complete(secret_text::parse(&Zeroizing::new(text))?);
        // The numbers start again after a parameter was deleted.
        let version = match parameter.last_modified_date {
            Some(date) => SecretVersion::new(format!("{} of {}", parameter.version, date.secs())),
            None => SecretVersion::of_content(&value),
        };
        Ok(SecretDocument::new(SecretValue::new(value), version))
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let Self(store) = self;
        let filter = |key: &str, option: &str, value: &str| {
            let filter = ParameterStringFilter::builder()
                .key(key)
                .option(option)
                .values(value)
                .build();
            filter.map_err(|error| ProviderError::Unavailable(error.into()))
        };
        let below_prefix = filter("Name", "BeginsWith", store.names.prefix())?;
        let secure = filter("Type", "Equals", "SecureString")?;
        let page = |next| {
            let request = store.client.describe_parameters();
            let request = request
                .parameter_filters(below_prefix.clone())
                .parameter_filters(secure.clone());
            let request = request.max_results(PAGE).set_next_token(next);
            async {
                let page = silenced(request.send()).await.map_err(failure::of_call)?;
                let parameters = page.parameters.unwrap_or_default().into_iter();
                Ok(Page {
                    names: parameters.filter_map(|parameter| parameter.name).collect(),
                    next: page.next_token.filter(|token| !token.is_empty()),
                })
            }
        };
        store.tenants("parameters", MAX_PAGES, page).await
    }
}

/// What a failed `GetParameter` means.
fn of_get(error: SdkError<GetParameterError, HttpResponse>) -> ProviderError {
    match error.code() {
        Some("ParameterNotFound") => ProviderError::NotFound,
        _ => failure::of_call(error),
    }
}

#[cfg(test)]
mod tests;
