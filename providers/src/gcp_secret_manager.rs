//! The provider `gcp-secret-manager`: one secret a tenant in Google Cloud's Secret Manager, named
//! `{prefix}-{tenant}-database`.
//!
//! The least that its service account needs is `secretmanager.versions.access` on these secrets
//! (the role `roles/secretmanager.secretAccessor`, with the condition
//! `resource.name.extract("secrets/{name}").startsWith("tenantry-production-")`) and
//! `secretmanager.secrets.list` on the project, which returns names and no values (a role of your
//! own with that one permission; `roles/secretmanager.viewer` has it too).

use std::{collections::BTreeSet, error::Error as _, fmt, time::Duration};

use async_trait::async_trait;
use google_cloud_auth::credentials::{Builder as CredentialsBuilder, Credentials};
use google_cloud_gax::{
    error::{Error, rpc::Code},
    options::RequestOptionsBuilder as _,
    paginator::Paginator as _,
    retry_policy::NeverRetry,
};
use google_cloud_secretmanager_v1::client::SecretManagerService;
use schemars::JsonSchema;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::Value;
use tenantry_core::{
    BuildContext, BuildError, Plugin, ProviderError, SecretDocument, SecretProvider, SecretValue, SecretVersion,
    TenantId, TenantIdPattern, http_url, is_this_machine,
};
use tokio::time::timeout;

use crate::{
    defaults,
    remote::{retry_after, silenced},
    secret_text,
};

/// How long one call may take: the engine gives a fetch five seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest that a list may take, over all its pages. The engine waits for 30 seconds only.
const LIST_TIMEOUT: Duration = Duration::from_secs(120);
/// The secrets of one answer of a list.
const PAGE: i32 = 1_000;
/// The most pages that a list may have.
const MAX_PAGES: usize = 1_000;
/// A secret's name has at most 255 characters (Secret Manager API reference, CreateSecret).
const LONGEST_NAME: usize = 255;
const SUFFIX: &str = "-database";

/// One secret a tenant in Google Cloud's Secret Manager, named `{prefix}-{tenant}-database`.
///
/// Credentials are Google's application default credentials: the file that
/// `GOOGLE_APPLICATION_CREDENTIALS` names, the login of `gcloud`, or the machine's or the pod's
/// service account. A secret's latest version counts: a JSON object in the native form or that of
/// AWS RDS, or a database URL alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The project's id.
    pub project: String,
    /// What the secrets' names begin with, a `-` after it; `{environment}` stands for
    /// `app.environment`. Default: `tenantry-{environment}`. No environment's prefix may be the
    /// beginning of another's.
    #[serde(default)]
    pub prefix: Option<String>,
    /// The URL of the service, in place of the public endpoint: a private or regional one, or a
    /// server for tests. A server on this machine with an `http` URL gets no credentials.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// A secret that completes every tenant's: what a secret does not say is taken from here.
    #[schemars(with = "Option<std::collections::BTreeMap<String, Value>>")]
    #[serde(default, deserialize_with = "defaults::deserialize")]
    pub defaults: Option<SecretValue>,
}

/// Reads each tenant's secret from Google Cloud's Secret Manager.
pub struct GcpSecretManagerProvider {
    client: SecretManagerService,
    project: String,
    prefix: String,
    defaults: SecretValue,
    id_pattern: TenantIdPattern,
}

impl fmt::Debug for GcpSecretManagerProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpSecretManagerProvider")
            .field("project", &self.project)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Plugin<dyn SecretProvider> for GcpSecretManagerProvider {
    const TYPE: &'static str = "gcp-secret-manager";
    const EXAMPLE: &'static str = "\
type: gcp-secret-manager
project: my-project
prefix: tenantry-production
defaults: { type: postgresql, host: db.example.com, database: app, tls: { mode: verify-full } }
";
    type Config = Config;

    async fn build(config: Self::Config, context: &BuildContext) -> Result<Self, BuildError> {
        let project = config.project;
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-:.".contains(c));
        if project.is_empty() || !is_plain(&project) {
            return Err(BuildError::key("project", "is no project's id"));
        }
        let prefix = name_prefix(config.prefix.as_deref(), &context.environment)?;
        let mut client = SecretManagerService::builder().with_retry_policy(NeverRetry);
        let mut is_local = false;
        if let Some(endpoint) = config.endpoint_url {
            is_local = is_local_endpoint(&endpoint)?;
            client = client.with_endpoint(endpoint);
        }
        let credentials = if is_local {
            google_cloud_auth::credentials::anonymous::Builder::new().build()
        } else {
            silenced(async { default_credentials() }).await?
        };
        let client = silenced(client.with_credentials(credentials).build()).await;
        let client = client.map_err(|_| BuildError::new("its client cannot be made"))?;
        Ok(Self {
            client,
            project,
            prefix,
            defaults: config.defaults.unwrap_or_default(),
            id_pattern: context.id_pattern.clone(),
        })
    }
}

/// The application default credentials. The library's own words may repeat a file.
fn default_credentials() -> Result<Credentials, BuildError> {
    let reason = "no application default credentials of Google Cloud can be used: set `GOOGLE_APPLICATION_CREDENTIALS`";
    CredentialsBuilder::default()
        .build()
        .map_err(|_| BuildError::new(reason))
}

/// Whether an endpoint is a server of this machine without TLS.
fn is_local_endpoint(text: &str) -> Result<bool, BuildError> {
    let url = http_url("endpoint_url", text)?;
    if url.scheme() == "http" && !is_this_machine(url.host_str().unwrap_or_default()) {
        let reason = "is `http` on another machine, where the credentials could be read on the way: use `https`";
        return Err(BuildError::key("endpoint_url", reason));
    }
    Ok(url.scheme() == "http")
}

/// `configured` with the environment filled in and a `-` at its end.
fn name_prefix(configured: Option<&str>, environment: &str) -> Result<String, BuildError> {
    let prefix = configured
        .unwrap_or("tenantry-{environment}")
        .replace("{environment}", environment);
    let prefix = prefix.trim_end_matches('-');
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    if prefix.is_empty() {
        return Err(BuildError::key("prefix", "is empty"));
    }
    if !prefix.chars().all(allowed) {
        let reason =
            "with its environment holds a character that no secret's name may hold (only letters, digits, `-_`)";
        return Err(BuildError::key("prefix", reason));
    }
    if prefix.len() + 1 + tenantry_core::MAX_TENANT_ID_BYTES + SUFFIX.len() > LONGEST_NAME {
        return Err(BuildError::key("prefix", "is too long"));
    }
    Ok(format!("{prefix}-"))
}

impl GcpSecretManagerProvider {
    fn tenant_in(&self, resource: &str) -> Option<TenantId> {
        let (_, name) = resource.rsplit_once('/')?;
        let id = name.strip_prefix(&self.prefix)?.strip_suffix(SUFFIX)?;
        self.id_pattern.parse(id).ok()
    }

    async fn list_all(&self) -> Result<BTreeSet<TenantId>, ProviderError> {
        let mut pages = self
            .client
            .list_secrets()
            .set_parent(format!("projects/{}", self.project))
            .set_filter(format!("name:{}", self.prefix))
            .set_page_size(PAGE)
            .with_attempt_timeout(CALL_TIMEOUT)
            .by_page();
        let mut tenants = BTreeSet::new();
        for _ in 0..MAX_PAGES {
            match silenced(pages.next()).await {
                None => return Ok(tenants),
                Some(page) => {
                    let page = page.map_err(of_call)?;
                    tenants.extend(page.secrets.iter().filter_map(|secret| self.tenant_in(&secret.name)));
                }
            }
        }
        let reason = format!("the list of secrets does not end after {MAX_PAGES} pages");
        Err(ProviderError::Unavailable(reason.into()))
    }
}

#[async_trait]
impl SecretProvider for GcpSecretManagerProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let (project, prefix) = (&self.project, &self.prefix);
        let request = self
            .client
            .access_secret_version()
            .set_name(format!(
                "projects/{project}/secrets/{prefix}{tenant}{SUFFIX}/versions/latest"
            ))
            .with_attempt_timeout(CALL_TIMEOUT);
        let answer = silenced(request.send()).await.map_err(of_get)?;
        let Some(payload) = answer.payload else {
            return Err(ProviderError::invalid("holds no value"));
        };
        let value = secret_text::parse_bytes(&Zeroizing::new(payload.data.to_vec()))?;
        let value = defaults::complete(value, &self.defaults);
        // The numbers start again after a secret was deleted, so the version includes the content.
        let number = answer.name.rsplit_once('/').map_or("", |(_, number)| number);
        let version = SecretVersion::new(format!("{number} of {}", SecretVersion::of_content(&value)));
        Ok(SecretDocument::new(SecretValue::new(value), version))
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        let tenants = timeout(LIST_TIMEOUT, self.list_all()).await;
        let late =
            |_| ProviderError::Unavailable(format!("the list of secrets took longer than {LIST_TIMEOUT:?}").into());
        Ok(tenants.map_err(late)??.into_iter().collect())
    }
}

/// What failed. The library's own error is not kept: it holds the whole answer, which may be a
/// secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

/// What a failed access of a secret means.
fn of_get(error: Error) -> ProviderError {
    let is_absent = error.status().is_some_and(|status| status.code == Code::NotFound);
    match is_absent {
        true => ProviderError::NotFound,
        false => of_call(error),
    }
}

/// What a failed call means.
fn of_call(error: Error) -> ProviderError {
    let failure = |told: String| Box::new(Failure(told));
    let http = error.http_status_code();
    let Some(status) = error.status() else {
        return match http {
            Some(429) => throttled(&error, failure("it answered HTTP 429".to_owned())),
            // Not the service's own answer.
            Some(code) if code >= 300 => ProviderError::Unavailable(failure(format!("it answered HTTP {code}"))),
            _ if error.is_authentication() => {
                let is_transient = error
                    .source()
                    .and_then(|source| source.downcast_ref::<google_cloud_gax::error::CredentialsError>())
                    .is_some_and(google_cloud_gax::error::CredentialsError::is_transient);
                let failure = failure("Google Cloud gives no token for the credentials".to_owned());
                match is_transient {
                    true => ProviderError::Unavailable(failure),
                    false => ProviderError::Denied(failure),
                }
            }
            _ if error.is_timeout() || error.is_exhausted() => {
                ProviderError::Unavailable(failure("it did not answer in time".to_owned()))
            }
            _ if error.is_connect() || error.is_io() => {
                ProviderError::Unavailable(failure("it cannot be reached, or its answer ended early".to_owned()))
            }
            _ => ProviderError::Unavailable(failure("its answer cannot be read".to_owned())),
        };
    };
    let told = failure(format!("it answered {}: {}", status.code.name(), status.message));
    match status.code {
        Code::ResourceExhausted => throttled(&error, told),
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::NotFound => ProviderError::Denied(told),
        _ => ProviderError::Unavailable(told),
    }
}

fn throttled(error: &Error, source: Box<Failure>) -> ProviderError {
    let value = error.http_headers().and_then(|headers| headers.get("retry-after"));
    ProviderError::Throttled {
        retry_after: value.and_then(|value| retry_after(value.to_str().ok()?)),
        source,
    }
}

#[cfg(test)]
mod tests;
