//! Logins to Amazon RDS without a password: a token that is signed here, with the credentials of
//! AWS's default chain, for each login. It is valid for 15 minutes and only for logging in; open
//! sessions continue.

#[cfg(feature = "rds-iam")]
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use secrecy::SecretString;
use tenantry_core::{DatabaseConfig, DriverError, SecretInvalid};
#[cfg(feature = "rds-iam")]
use {
    aws_config::{BehaviorVersion, SdkConfig},
    aws_credential_types::{
        Credentials,
        provider::{ProvideCredentials as _, SharedCredentialsProvider},
    },
    aws_sigv4::{
        http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
        sign::v4::SigningParams,
    },
    tenantry_core::{BoxError, DriverErrorKind},
    tokio::{sync::Mutex, time::Instant},
    tracing::{Dispatch, instrument::WithSubscriber as _},
};

/// How long a token is valid: the longest time that RDS allows.
#[cfg(feature = "rds-iam")]
const LASTS: Duration = Duration::from_secs(15 * 60);
/// How long before their end credentials are renewed, since a token ends with them.
#[cfg(feature = "rds-iam")]
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// How long it may take to obtain credentials; and to obtain new ones while there are others.
#[cfg(feature = "rds-iam")]
const LOAD_TIMEOUT: Duration = Duration::from_secs(4);
#[cfg(feature = "rds-iam")]
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the chain is left alone after a renewal that failed.
#[cfg(feature = "rds-iam")]
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// Makes tokens. Clones share their credentials.
#[derive(Debug, Clone, Default)]
pub(crate) struct RdsIam {
    #[cfg(feature = "rds-iam")]
    chain: Arc<Mutex<Chain>>,
}

/// AWS's default chain, and what it gave last.
#[cfg(feature = "rds-iam")]
#[derive(Debug, Default)]
struct Chain {
    provider: Option<SharedCredentialsProvider>,
    credentials: Option<Credentials>,
    /// There after a renewal that failed: when to try again.
    renew_at: Option<Instant>,
}

#[cfg(not(feature = "rds-iam"))]
impl RdsIam {
    pub(crate) fn validate(config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        match config.rds_iam {
            Some(_) => Err(SecretInvalid::new(
                "auth",
                "is `rds-iam`, and this program is built without the feature of that name",
            )),
            None => Ok(()),
        }
    }

    pub(crate) async fn token(
        &self,
        _region: Option<&str>,
        _host: &str,
        _port: u16,
        _user: &str,
    ) -> Result<Option<SecretString>, DriverError> {
        Ok(None)
    }
}

#[cfg(feature = "rds-iam")]
impl RdsIam {
    /// Checks what a token needs of a secret.
    pub(crate) fn validate(config: &DatabaseConfig) -> Result<(), SecretInvalid> {
        let is_plain =
            |region: &str| !region.is_empty() && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match config.rds_iam.as_deref() {
            Some(region) if !is_plain(region) => Err(SecretInvalid::new("region", "is no region of AWS")),
            _ => Ok(()),
        }
    }

    /// A token for one login, if there is a region.
    pub(crate) async fn token(
        &self,
        region: Option<&str>,
        host: &str,
        port: u16,
        user: &str,
    ) -> Result<Option<SecretString>, DriverError> {
        let Some(region) = region else {
            return Ok(None);
        };
        let failed = |error: BoxError| DriverError::new(DriverErrorKind::Unreachable, error);
        let credentials = tokio::time::timeout(LOAD_TIMEOUT, self.credentials().with_subscriber(Dispatch::none()))
            .await
            .map_err(|_| failed("AWS gives no credentials for a token in time".into()))?
            .map_err(failed)?;
        let token = signed(credentials, region, host, port, user, SystemTime::now());
        token.map(Some).map_err(failed)
    }

    /// The credentials, which are renewed shortly before their end. Until then a renewal may fail.
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        let mut chain = self.chain.lock().await;
        let lasts = |credentials: &Credentials, time| {
            let end = credentials.expiry();
            end.is_none_or(|end| end > SystemTime::now() + time)
        };
        let kept = chain.credentials.clone().filter(|kept| lasts(kept, Duration::ZERO));
        let Some(kept) = kept else {
            return chain.load().await;
        };
        if lasts(&kept, AHEAD) || chain.renew_at.is_some_and(|at| Instant::now() < at) {
            return Ok(kept);
        }
        let renewed = tokio::time::timeout(RENEWAL_TIMEOUT, chain.load()).await;
        let failed = !matches!(renewed, Ok(Ok(_)));
        chain.renew_at = failed.then(|| Instant::now() + RENEWAL_PAUSE);
        Ok(renewed.ok().and_then(Result::ok).unwrap_or(kept))
    }
}

#[cfg(feature = "rds-iam")]
impl Chain {
    async fn load(&mut self) -> Result<Credentials, BoxError> {
        let provider = match &self.provider {
            Some(provider) => provider.clone(),
            None => {
                let sdk: SdkConfig = aws_config::load_defaults(BehaviorVersion::latest()).await;
                let provider = sdk.credentials_provider();
                self.provider
                    .insert(provider.ok_or("AWS has no chain of credentials")?)
                    .clone()
            }
        };
        // Its own words may repeat what it read.
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|_| "AWS gives no credentials for a token")?;
        Ok(self.credentials.insert(credentials).clone())
    }
}

/// A URL that is signed by AWS Signature Version 4, without its scheme.
#[cfg(feature = "rds-iam")]
fn signed(
    credentials: Credentials,
    region: &str,
    host: &str,
    port: u16,
    user: &str,
    now: SystemTime,
) -> Result<SecretString, BoxError> {
    const SCHEME: &str = "https://";
    let mut url = url::Url::parse(&format!("{SCHEME}{host}:{port}/"))?;
    url.query_pairs_mut()
        .append_pair("Action", "connect")
        .append_pair("DBUser", user);
    // A form writes a space as `+`, which is not how it is signed.
    url.set_query(url.query().map(|query| query.replace('+', "%20")).as_deref());
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(LASTS);
    settings.signature_location = SignatureLocation::QueryParams;
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()?;
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))?;
    // It logs what it signs.
    let unheard = Dispatch::none();
    let signed = tracing::dispatcher::with_default(&unheard, || sign(request, &params.into()));
    let (instructions, _) = signed?.into_parts();
    for (name, value) in instructions.params() {
        url.query_pairs_mut().append_pair(name, value);
    }
    let mut token = String::from(url);
    Ok(SecretString::from(token.split_off(SCHEME.len())))
}

#[cfg(test)]
#[cfg(feature = "rds-iam")]
mod tests {
    use aws_credential_types::provider::{error::CredentialsError, future};
    use secrecy::ExposeSecret as _;

    use super::*;

    fn token(session: Option<&str>, at: u64) -> String {
        let credentials = Credentials::new("AKIDEXAMPLE", "canary-key", session.map(str::to_owned), None, "tests");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        let token = signed(credentials, "eu-central-1", "db.example", 5432, "app user", now).unwrap();
        token.expose_secret().to_owned()
    }

    #[test]
    fn a_token_names_host_user_time_and_its_fifteen_minutes() {
        let token = token(None, 1_767_323_045);
        for part in [
            "db.example:5432/?Action=connect&DBUser=app%20user&",
            "X-Amz-Date=20260102T030405Z",
            "X-Amz-Expires=900",
            "X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Feu-central-1%2Frds-db%2Faws4_request",
            "X-Amz-Signature=",
        ] {
            assert!(token.contains(part), "{part}");
        }
        assert!(!token.contains("canary-key"));
    }

    #[test]
    fn each_moment_has_a_token_of_its_own() {
        assert_ne!(token(None, 1), token(None, 2));
        assert!(token(Some("session-token"), 1).contains("X-Amz-Security-Token=session-token"));
    }

    /// AWS's chain when nothing is behind it: it fails, or it hangs.
    #[derive(Debug)]
    struct Down {
        hangs: bool,
    }

    impl aws_credential_types::provider::ProvideCredentials for Down {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                if self.hangs {
                    std::future::pending::<()>().await;
                }
                Err(CredentialsError::not_loaded("down"))
            })
        }
    }

    async fn token_of(lasts: Duration, hangs: bool) -> Result<Option<SecretString>, DriverError> {
        let end = SystemTime::now() + lasts;
        let credentials = Credentials::new("AKID", "canary-key", None, Some(end), "tests");
        let chain = Chain {
            provider: Some(SharedCredentialsProvider::new(Down { hangs })),
            credentials: Some(credentials),
            ..Chain::default()
        };
        let made = RdsIam {
            chain: Arc::new(Mutex::new(chain)),
        };
        let tokens = (0..3).map(|_| made.token(Some("eu-central-1"), "db.example", 5432, "app"));
        futures_util::future::join_all(tokens).await.pop().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_used_until_their_end_if_there_are_no_others() {
        for hangs in [false, true] {
            assert!(token_of(Duration::from_secs(60), hangs).await.is_ok(), "hangs: {hangs}");
            assert!(token_of(Duration::ZERO, hangs).await.is_err(), "hangs: {hangs}");
        }
    }

    #[tokio::test]
    async fn neither_token_nor_credentials_are_in_debug_output() {
        let credentials = Credentials::new("AKID", "canary-key", Some("canary-session".into()), None, "tests");
        let chain = Chain {
            credentials: Some(credentials),
            ..Chain::default()
        };
        let made = RdsIam {
            chain: Arc::new(Mutex::new(chain)),
        };
        let token = made.token(Some("eu-central-1"), "db.example", 5432, "app").await;
        let token = token.unwrap().unwrap();
        assert!(token.expose_secret().contains("canary-session"));
        for shown in [format!("{made:?}"), format!("{token:?}")] {
            assert!(!shown.contains("canary") && !shown.contains("X-Amz"), "{shown}");
        }
    }
}

#[cfg(test)]
#[cfg(not(feature = "rds-iam"))]
mod tests {
    use serde_json::json;
    use tenantry_core::SecretValue;

    use super::*;

    #[test]
    fn a_secret_with_tokens_is_refused_at_its_key() {
        let validate = |secret| RdsIam::validate(&DatabaseConfig::parse(&SecretValue::new(secret)).unwrap());
        let url = "postgres://app@db.example/app";
        let error = validate(json!({"url": url, "auth": "rds-iam", "region": "eu-central-1"}));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("`auth`") && error.contains("`rds-iam`"), "{error}");
        assert!(validate(json!({"url": url})).is_ok());
    }
}
