//! The methods to log in to Vault.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{Method, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde_json::json;
use tenantry_core::{BuildContext, BuildError, SecretValue};
use tokio::io::AsyncReadExt as _;

use super::{
    Auth, LoginMethod,
    http::{Answer, CallError, Server},
    session::Session,
};

/// The path at which Kubernetes mounts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The longest token of a service account, in bytes.
const MAX_TOKEN: u64 = 64 << 10;

/// How to log in.
pub(super) enum How {
    Token(SecretString),
    AppRole {
        mount: String,
        role_id: String,
        secret_id: Option<SecretString>,
    },
    Kubernetes {
        mount: String,
        role: String,
        token_path: PathBuf,
    },
}

impl How {
    /// Reads `auth`. Nothing is sent.
    ///
    /// # Errors
    /// A key is missing, empty or of another method.
    pub(super) fn read(auth: Auth, context: &BuildContext) -> Result<Self, BuildError> {
        use LoginMethod::{Approle, Kubernetes, Token};
        let method = auth.method;
        let given = [
            ("token", auth.token.is_some(), &[Token][..]),
            ("mount", auth.mount.is_some(), &[Approle, Kubernetes]),
            ("role_id", auth.role_id.is_some(), &[Approle]),
            ("secret_id", auth.secret_id.is_some(), &[Approle]),
            ("role", auth.role.is_some(), &[Kubernetes]),
            ("token_path", auth.token_path.is_some(), &[Kubernetes]),
        ];
        let other = given
            .iter()
            .find(|(_, is_given, methods)| *is_given && !methods.contains(&method));
        if let Some((key, ..)) = other {
            return Err(BuildError::key(*key, "is not of this method"));
        }
        let missing = |key: &str| BuildError::key(key, "is missing or empty");
        let text = |key: &str, text: Option<String>| text.filter(|text| !text.is_empty()).ok_or_else(|| missing(key));
        let mount = |usual: &str| {
            let mount = auth.mount.as_deref().unwrap_or(usual).trim_matches('/');
            mount.to_owned()
        };
        Ok(match method {
            Token => {
                let token = auth.token.filter(|token| !token.expose_secret().is_empty());
                let token = token.ok_or_else(|| missing("token"))?;
                if HeaderValue::from_str(token.expose_secret()).is_err() {
                    return Err(BuildError::key("token", "is no text for a header"));
                }
                Self::Token(token)
            }
            Approle => Self::AppRole {
                mount: mount("approle"),
                role_id: text("role_id", auth.role_id)?,
                secret_id: auth.secret_id.filter(|id| !id.expose_secret().is_empty()),
            },
            Kubernetes => Self::Kubernetes {
                mount: mount("kubernetes"),
                role: text("role", auth.role)?,
                token_path: context.path(auth.token_path.unwrap_or_else(|| SERVICE_ACCOUNT_TOKEN.into())),
            },
        })
    }

    /// Asks for a token; one that is configured is looked up.
    pub(super) async fn log_in(&self, server: &Server, number: u64) -> Result<Session, CallError> {
        let (mount, body) = match self {
            Self::Token(token) => {
                let answer = look_up(server, token).await?;
                let data = answer.into_data();
                let lasts = data["ttl"].as_u64().unwrap_or_default();
                let renewable = data["renewable"].as_bool().unwrap_or_default();
                let mut session = Session::new(number, token.clone(), lasts, renewable);
                // What is left of it says nothing of how long it may be renewed for.
                let first = data["creation_ttl"].as_u64().filter(|_| renewable).unwrap_or_default();
                session.first = session.first.max(Duration::from_secs(first));
                return Ok(session);
            }
            Self::AppRole {
                mount,
                role_id,
                secret_id,
            } => {
                let secret_id = secret_id.as_ref().map(ExposeSecret::expose_secret);
                (
                    mount,
                    SecretValue::new(json!({"role_id": role_id, "secret_id": secret_id})),
                )
            }
            Self::Kubernetes {
                mount,
                role,
                token_path,
            } => {
                let jwt = read_token(token_path).await?;
                (mount, SecretValue::new(json!({"role": role, "jwt": &*jwt})))
            }
        };
        let path: Vec<&str> = ["auth"].into_iter().chain(mount.split('/')).chain(["login"]).collect();
        let answer = server
            .call(Method::POST, &path, false, None, Some(body.expose()))
            .await?;
        let granted = answer.auth.ok_or_else(|| CallError::new("its answer holds no token"))?;
        if granted.num_uses > 0 {
            tracing::warn!(
                num_uses = granted.num_uses,
                "the token of this login to Vault is good for a few calls only, and its leases end with it: set \
                 `token_num_uses` of its role to 0"
            );
        }
        let (lasts, renewable) = (granted.lease_duration, granted.renewable);
        Ok(Session::new(number, granted.client_token, lasts, renewable))
    }
}

/// What Vault says of a token.
pub(super) async fn look_up(server: &Server, token: &SecretString) -> Result<Answer, CallError> {
    let path = ["auth", "token", "lookup-self"];
    server.call(Method::GET, &path, false, Some(token), None).await
}

/// Reads the token of a pod's service account, which Kubernetes replaces now and then.
async fn read_token(path: &Path) -> Result<Zeroizing<String>, CallError> {
    let cannot = |_| CallError::new("the file at `auth.token_path` cannot be read");
    let mut text = Zeroizing::new(String::new());
    let file = tokio::fs::File::open(path).await.map_err(cannot)?;
    file.take(MAX_TOKEN).read_to_string(&mut text).await.map_err(cannot)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}
