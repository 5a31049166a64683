//! One call of Vault's HTTP API, and what a failed one means.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{
    Certificate, Client, Method, StatusCode, Url,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::Deserialize;
use serde_json::Value;
use tenantry_core::{BuildContext, BuildError, ProviderError, http_url, is_this_machine};

use super::Config;
use crate::remote;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one call may take: the engine gives a fetch five seconds.
const CALL_TIMEOUT: Duration = Duration::from_millis(4_500);
/// The longest answer that is read, in bytes: a list of some hundred thousand names.
const MAX_ANSWER: usize = 16 << 20;
/// How much of Vault's own words an error repeats, in characters.
const MAX_WORDS: usize = 300;

/// Vault, as it is reached.
pub(super) struct Server {
    client: Client,
    address: Url,
}

/// What Vault answered; nothing of it may be printed.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    data: Option<Value>,
    lease_id: Option<String>,
    lease_duration: u64,
    renewable: bool,
    pub(super) auth: Option<Granted>,
}

/// A token that Vault granted or renewed.
#[derive(Deserialize)]
pub(super) struct Granted {
    pub(super) client_token: SecretString,
    pub(super) lease_duration: u64,
    pub(super) renewable: bool,
    /// How often it may be used; 0 for no limit.
    #[serde(default)]
    pub(super) num_uses: u64,
}

/// Why a call failed. It repeats Vault's words of failures, which name roles and mounts, and
/// nothing of an answer that may hold a secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(super) struct CallError {
    status: Option<StatusCode>,
    /// Vault's own words; `None` if it is not Vault that answered.
    words: Option<String>,
    retry_after: Option<Duration>,
    message: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// Whether a URL leads to this machine, as far as its name says.
fn is_here(address: &Url) -> bool {
    is_this_machine(address.host_str().unwrap_or_default())
}

impl Server {
    /// Reads `address`, `namespace` and `ca`. Nothing is sent.
    pub(super) fn new(config: &Config, context: &BuildContext) -> Result<Self, BuildError> {
        let address = http_url("address", &config.address)?;
        if address.query().is_some() {
            return Err(BuildError::key("address", "has a query: remove it"));
        }
        let mut headers = HeaderMap::new();
        // An agent or a proxy may be configured to refuse requests without it.
        headers.insert("X-Vault-Request", HeaderValue::from_static("true"));
        if let Some(namespace) = config.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
            let value = HeaderValue::from_str(namespace);
            let value =
                value.map_err(|error| BuildError::key("namespace", "is no text for a header").with_source(error))?;
            headers.insert("X-Vault-Namespace", value);
        }
        let mut client = Client::builder()
            .default_headers(headers)
            // A redirect could lead the token elsewhere.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT);
        if let Some(ca) = &config.ca {
            client = client.tls_certs_only(authorities(ca, context)?);
        }
        // Else a proxy of the environment would read the token of what is sent to this machine.
        if is_here(&address) {
            client = client.no_proxy();
        }
        let client = client
            .build()
            .map_err(|error| BuildError::new("its HTTP client cannot be made").with_source(error))?;
        Ok(Self { client, address })
    }

    /// Whether it is another machine that is spoken to without TLS, as far as its name says.
    pub(super) fn is_in_clear(&self) -> bool {
        self.address.scheme() == "http" && !is_here(&self.address)
    }

    /// Calls `/v1/` and `path`.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        list: bool,
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> Result<Answer, CallError> {
        let mut url = self.address.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .push("v1")
                .extend(path.iter().filter(|part| !part.is_empty()));
        }
        if list {
            url.set_query(Some("list=true"));
        }
        let mut request = self.client.request(method, url);
        if let Some(token) = token {
            // It is a text for a header: it was checked when it was read.
            let mut value = HeaderValue::from_str(token.expose_secret())
                .map_err(|_| CallError::new("the token is no text for a header"))?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut answer = request.send().await.map_err(|error| CallError::of_no_answer(&error))?;
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(remote::retry_after);
        let mut text = Zeroizing::new(Vec::new());
        while let Some(part) = answer.chunk().await.map_err(|error| CallError::of_no_answer(&error))? {
            if text.len() + part.len() > MAX_ANSWER {
                return Err(CallError::new("its answer is too long"));
            }
            text.extend_from_slice(&part);
        }
        if status == StatusCode::NO_CONTENT || (status == StatusCode::ACCEPTED && text.is_empty()) {
            return Ok(Answer::default());
        }
        if status.is_success() {
            // serde's own message can repeat the text.
            return serde_json::from_slice(&text).map_err(|_| CallError::new("its answer cannot be read"));
        }
        Err(CallError::of_answer(status, retry_after, &text))
    }
}

/// The authorities in PEM text, or in a file.
fn authorities(ca: &str, context: &BuildContext) -> Result<Vec<Certificate>, BuildError> {
    let wrong = |reason: &str| BuildError::key("ca", reason);
    let pem = if ca.trim_start().starts_with("-----BEGIN") {
        ca.as_bytes().to_vec()
    } else {
        std::fs::read(context.path(ca))
            .map_err(|error| wrong("is neither PEM text nor a file that can be read").with_source(error))?
    };
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(wrong("holds no certificate")),
        Err(error) => Err(wrong("holds no certificate that can be read").with_source(error)),
    }
}

impl Answer {
    pub(super) fn into_data(self) -> Value {
        self.data.unwrap_or_default()
    }

    pub(super) fn lease_id(&self) -> Option<Arc<str>> {
        self.lease_id.as_deref().filter(|id| !id.is_empty()).map(Into::into)
    }

    pub(super) fn lease_duration(&self) -> Duration {
        Duration::from_secs(self.lease_duration)
    }

    pub(super) fn renewable(&self) -> bool {
        self.renewable
    }

    /// The names of a list.
    pub(super) fn keys(self) -> Result<Vec<String>, ProviderError> {
        let keys = self
            .data
            .and_then(|mut data| serde_json::from_value(data["keys"].take()).ok());
        keys.ok_or_else(|| CallError::new("its answer cannot be read").into())
    }
}

impl CallError {
    /// A failure that is not Vault's answer.
    pub(super) fn new(message: &str) -> Self {
        Self {
            status: None,
            words: None,
            retry_after: None,
            message: message.to_owned(),
        }
    }

    fn of_no_answer(error: &reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::new("it did not answer in time");
        }
        // The causes name the host at most; the outermost would name the whole URL.
        let mut message = "it cannot be reached".to_owned();
        let mut cause = std::error::Error::source(error);
        while let Some(at) = cause {
            message = format!("{message}: {at}");
            cause = at.source();
        }
        Self::new(&message)
    }

    fn of_answer(status: StatusCode, retry_after: Option<Duration>, text: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct ErrorBody {
            errors: Option<Vec<String>>,
            data: Option<Value>,
        }
        let words = serde_json::from_slice(text)
            .ok()
            .and_then(|body: ErrorBody| match body {
                ErrorBody {
                    errors: Some(errors), ..
                } => Some(errors.join(", ")),
                // A KV 2 secret that was deleted: its metadata is still there.
                ErrorBody { data: Some(data), .. } if data["metadata"].is_object() => Some(String::new()),
                ErrorBody { .. } => None,
            });
        let words = words.map(|words| {
            let printable = words.chars().map(|c| if c.is_control() { ' ' } else { c });
            printable.take(MAX_WORDS).collect::<String>()
        });
        let mut message = format!("it answered HTTP {}", status.as_u16());
        if let Some(words) = words.as_deref().filter(|words| !words.is_empty()) {
            message = format!("{message}: {words}");
        }
        Self {
            status: Some(status),
            words,
            retry_after,
            message,
        }
    }

    /// Whether Vault itself says that there is nothing at this path. A mount that is not there, and
    /// another program at its address, are faults and no absence.
    pub(super) fn is_absent(&self) -> bool {
        self.status == Some(StatusCode::NOT_FOUND) && self.words.as_deref().is_some_and(str::is_empty)
    }

    /// Whether Vault refused the request with these words.
    pub(super) fn says(&self, words: &str) -> bool {
        let is_refused = self.status.is_some_and(|status| status.is_client_error());
        is_refused && self.words.as_deref().is_some_and(|said| said.contains(words))
    }

    /// Whether asking again later may help.
    pub(super) fn is_outage(&self) -> bool {
        // What Vault itself refuses stays refused until policy, role or mount is mended.
        !(self.is_refused() && self.words.is_some())
    }

    /// Whether Vault, or a program before it, refused the request. 412 is a standby that is behind.
    pub(super) fn is_refused(&self) -> bool {
        let is_passing = |status: &StatusCode| matches!(status.as_u16(), 412 | 429);
        self.status
            .is_some_and(|status| status.is_client_error() && !is_passing(&status))
    }

    /// Whether a standby answered that has not caught up yet. The call had no effect.
    pub(super) fn is_behind(&self) -> bool {
        self.status == Some(StatusCode::PRECONDITION_FAILED)
    }

    /// Whether the token may be no longer good, or the policy forbids it.
    pub(super) fn is_forbidden(&self) -> bool {
        self.status == Some(StatusCode::FORBIDDEN)
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        if error.status == Some(StatusCode::TOO_MANY_REQUESTS) {
            return Self::Throttled {
                retry_after: error.retry_after,
                source: error.into(),
            };
        }
        match error.is_outage() {
            true => Self::Unavailable(error.into()),
            false => Self::Denied(error.into()),
        }
    }
}
