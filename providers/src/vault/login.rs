//! The login to Vault: one token for all calls. It is renewed in time, since its leases end with it,
//! and replaced by another login when it cannot be renewed any further.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use reqwest::{Method, header::HeaderValue};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde_json::{Value, json};
use tenantry_core::{BuildContext, BuildError, SecretValue};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use super::{
    Auth, LoginMethod,
    http::{Answer, CallError, Server},
};

/// Where Kubernetes mounts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// The longest token of a service account, in bytes.
const MAX_TOKEN: u64 = 64 << 10;
/// How often it is looked whether the token is still good while leases depend on it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often at most, after calls that were forbidden.
const LOOK_AT_MOST: Duration = Duration::from_secs(2);
/// How long a token that could not be renewed is left alone.
const RENEW_AGAIN: Duration = Duration::from_secs(1);
/// How long no login is tried after a failure; doubling to 32 times as long.
const LOG_IN_AGAIN: Duration = Duration::from_secs(1);
/// Which part of its time is over when a token is renewed.
const RENEW_AT: f64 = 2.0 / 3.0;
/// A token is at its maximum if it is renewed for less than this part of what it had at first.
const WORTHWHILE: f64 = 0.9;
/// A token that has more than this part of its time is not renewed for the sake of a lease.
const FULL: f64 = 0.95;
/// No token lasts longer as far as this is concerned.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How to log in.
enum How {
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

/// The login to Vault.
pub(super) struct Login {
    server: Server,
    how: How,
    state: Mutex<State>,
    /// Moves each time that a token was lost, and with it its leases.
    lost: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    session: Option<Arc<Session>>,
    logins: u64,
    looked_at: Option<Instant>,
    /// Until when no login is tried after failures, how many there were, and the last.
    failed: Option<(Instant, u32, CallError)>,
}

/// One token, as it was when it was granted or renewed.
#[derive(Clone)]
pub(super) struct Session {
    /// Which login it is. A token that is renewed stays the same.
    pub(super) number: u64,
    token: SecretString,
    /// For how long it was granted at first; zero for one that does not end.
    first: Duration,
    ends_at: Option<Instant>,
    /// When it is renewed, or replaced by another login.
    renew_at: Option<Instant>,
    renewable: bool,
    /// When it was granted or renewed, or that was tried in vain.
    tried_at: Instant,
}

impl Session {
    /// A token that was granted just now for so many seconds; 0 for one that does not end.
    fn new(number: u64, token: SecretString, seconds: u64, renewable: bool) -> Self {
        let now = Instant::now();
        let lasts = Duration::from_secs(seconds).min(LONGEST);
        let ends = !lasts.is_zero();
        Self {
            number,
            token,
            first: lasts,
            ends_at: ends.then(|| now + lasts),
            renew_at: ends.then(|| now + lasts.mul_f64(RENEW_AT)),
            renewable,
            tried_at: now,
        }
    }

    /// `lasts`, but no longer than the token: a lease ends with it.
    pub(super) fn clip(&self, lasts: Duration) -> Duration {
        lasts.min(self.left())
    }

    fn left(&self) -> Duration {
        let left = |ends_at: Instant| ends_at.saturating_duration_since(Instant::now());
        self.ends_at.map_or(Duration::MAX, left)
    }

    fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Whether it is to be renewed now: its time has come, or a lease that is `wanted` is longer than
    /// what is left of it.
    fn is_due(&self, wanted: Option<Duration>) -> bool {
        let Some(renew_at) = self.renew_at.filter(|_| self.tried_at.elapsed() >= RENEW_AGAIN) else {
            return false;
        };
        let left = self.left();
        let is_short = wanted.is_some_and(|wanted| wanted > left) && left < self.first.mul_f64(FULL);
        renew_at <= Instant::now() || (is_short && self.renewable)
    }
}

impl Login {
    /// Reads `auth`. Nothing is sent.
    pub(super) fn new(server: Server, auth: Auth, context: &BuildContext) -> Result<Arc<Self>, BuildError> {
        let how = How::read(auth, context).map_err(|error| error.below(["auth".to_owned()]))?;
        Ok(Arc::new(Self {
            server,
            how,
            state: Mutex::default(),
            lost: watch::Sender::new(0),
        }))
    }

    /// A channel that moves when a token was lost, and with it its leases.
    pub(super) fn lost(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    /// Keeps the token alive though nothing is asked. If `has_leases`, it is also looked whether the
    /// token was revoked.
    pub(super) fn watch(self: &Arc<Self>, has_leases: bool) {
        tokio::spawn(keep_alive(Arc::downgrade(self), has_leases));
    }

    /// The token, renewed or replaced if that is due; `wanted` is how long a lease is to last that
    /// depends on it.
    pub(super) async fn session(&self, wanted: Option<Duration>) -> Result<Arc<Session>, CallError> {
        let mut state = self.state.lock().await;
        let Some(session) = state.session.clone() else {
            return self.log_in(&mut state).await;
        };
        if session.is_over() {
            return self.log_in_anew(&mut state).await;
        }
        if !session.is_due(wanted) {
            return Ok(session);
        }
        if session.renewable {
            match self.renew(&session).await {
                Ok(renewed) => {
                    let is_worthwhile = renewed.left() >= renewed.first.mul_f64(WORTHWHILE);
                    let renewed = state.session.insert(Arc::new(renewed)).clone();
                    if is_worthwhile {
                        return Ok(renewed);
                    }
                }
                Err(error) if error.is_outage() => return Ok(state.postpone(&session, session.renew_at)),
                Err(error) => {
                    tracing::warn!(%error, "the login to Vault is lost");
                    return self.log_in_anew(&mut state).await;
                }
            }
        }
        self.replace(&mut state).await
    }

    /// Replaces a token that cannot be renewed any further. Its leases end with it, and are replaced one
    /// by one before.
    async fn replace(&self, state: &mut State) -> Result<Arc<Session>, CallError> {
        let Some(session) = state.session.clone() else {
            return self.log_in(state).await;
        };
        if matches!(self.how, How::Token(_)) {
            let left_s = session.left().as_secs();
            tracing::warn!(
                left_s,
                "the token for Vault cannot be renewed any further: configure another one"
            );
            return Ok(state.postpone(&session, None));
        }
        match self.log_in(state).await {
            Ok(session) => Ok(session),
            Err(error) => {
                tracing::warn!(%error, "another login to Vault failed; the one before is used to its end");
                Ok(state.postpone(&session, session.renew_at))
            }
        }
    }

    /// Logs in. After a failure it is tried ever more rarely, for all tenants together: Vault may lock a
    /// role after some logins that it refused.
    async fn log_in(&self, state: &mut State) -> Result<Arc<Session>, CallError> {
        let (until, failures, last) = match state.failed.take() {
            Some((until, failures, last)) => (Some(until), failures, Some(last)),
            None => (None, 0, None),
        };
        if let (Some(until), Some(last)) = (until.filter(|until| Instant::now() < *until), last) {
            state.failed = Some((until, failures, last.clone()));
            return Err(last);
        }
        let granted = self.granted(state.logins + 1).await;
        let session = granted.inspect_err(|error| {
            let pause = LOG_IN_AGAIN.saturating_mul(1 << failures.min(5));
            state.failed = Some((Instant::now() + pause, failures + 1, error.clone()));
        })?;
        state.logins += 1;
        tracing::info!(
            login = state.logins,
            lasts_s = session.first.as_secs(),
            "logged in to Vault"
        );
        Ok(state.session.insert(Arc::new(session)).clone())
    }

    /// Logs in after a token was lost, and its leases with it.
    async fn log_in_anew(&self, state: &mut State) -> Result<Arc<Session>, CallError> {
        state.session = None;
        let session = self.log_in(state).await?;
        self.lost.send_modify(|number| *number += 1);
        Ok(session)
    }

    /// Asks for a token; one that is configured is looked up.
    async fn granted(&self, number: u64) -> Result<Session, CallError> {
        let (mount, body) = match &self.how {
            How::Token(token) => {
                let answer = self.look_up(token).await?;
                let data = answer.into_data();
                let lasts = data["ttl"].as_u64().unwrap_or_default();
                let renewable = data["renewable"].as_bool().unwrap_or_default();
                let mut session = Session::new(number, token.clone(), lasts, renewable);
                // What is left of it says nothing of how long it may be renewed for.
                let first = data["creation_ttl"].as_u64().filter(|_| renewable).unwrap_or_default();
                session.first = session.first.max(Duration::from_secs(first));
                return Ok(session);
            }
            How::AppRole {
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
            How::Kubernetes {
                mount,
                role,
                token_path,
            } => {
                let jwt = read_token(token_path).await?;
                (mount, SecretValue::new(json!({"role": role, "jwt": &*jwt})))
            }
        };
        let path: Vec<&str> = ["auth"].into_iter().chain(mount.split('/')).chain(["login"]).collect();
        let answer = self
            .server
            .call(Method::POST, &path, false, None, Some(body.expose()))
            .await?;
        let granted = answer.auth.ok_or_else(|| CallError::new("its answer holds no token"))?;
        let (lasts, renewable) = (granted.lease_duration, granted.renewable);
        Ok(Session::new(number, granted.client_token, lasts, renewable))
    }

    async fn renew(&self, session: &Session) -> Result<Session, CallError> {
        let path = ["auth", "token", "renew-self"];
        let body = json!({"increment": session.first.as_secs()});
        let asked_at = Instant::now();
        let answer = self
            .server
            .call(Method::POST, &path, false, Some(&session.token), Some(&body))
            .await?;
        let granted = answer.auth.ok_or_else(|| CallError::new("its answer holds no token"))?;
        let mut renewed = Session::new(
            session.number,
            granted.client_token,
            granted.lease_duration,
            granted.renewable,
        );
        renewed.first = session.first;
        renewed.ends_at = renewed.ends_at.map(|ends_at| ends_at - asked_at.elapsed());
        Ok(renewed)
    }

    async fn look_up(&self, token: &SecretString) -> Result<Answer, CallError> {
        let path = ["auth", "token", "lookup-self"];
        self.server.call(Method::GET, &path, false, Some(token), None).await
    }

    /// Lists what is below a path.
    pub(super) async fn list(&self, path: &[&str]) -> Result<Answer, CallError> {
        // Not every proxy knows the method LIST.
        Ok(self.call_as(None, Method::GET, path, true, None).await?.0)
    }

    /// Calls Vault; `wanted` is how long a lease is to last that depends on the token. Returns the login
    /// too.
    pub(super) async fn call(
        &self,
        wanted: Option<Duration>,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<(Answer, Arc<Session>), CallError> {
        self.call_as(wanted, method, path, false, body).await
    }

    /// Calls Vault with the token. If the token turns out to be lost, it logs in anew and calls once
    /// more.
    async fn call_as(
        &self,
        wanted: Option<Duration>,
        method: Method,
        path: &[&str],
        list: bool,
        body: Option<&Value>,
    ) -> Result<(Answer, Arc<Session>), CallError> {
        let call = |session: Arc<Session>| {
            let method = method.clone();
            async move {
                let answer = self.server.call(method, path, list, Some(&session.token), body).await;
                answer.map(|answer| (answer, session))
            }
        };
        let session = self.session(wanted).await?;
        match call(session.clone()).await {
            Err(error) if error.is_forbidden() && self.is_lost(session.number).await? => {
                call(self.session(wanted).await?).await
            }
            answer => answer,
        }
    }

    /// Whether the token of a login is no longer good; then the next call logs in anew. After a look
    /// nothing is asked for a while.
    async fn is_lost(&self, number: u64) -> Result<bool, CallError> {
        let mut state = self.state.lock().await;
        let Some(session) = state.session.clone().filter(|session| session.number == number) else {
            // Another call has found it out.
            return Ok(true);
        };
        if state.looked_at.is_some_and(|at| at.elapsed() < LOOK_AT_MOST) {
            return Ok(false);
        }
        state.looked_at = Some(Instant::now());
        match self.look_up(&session.token).await {
            Err(error) if error.is_forbidden() => {
                tracing::warn!(%error, "the login to Vault is lost");
                self.log_in_anew(&mut state).await?;
                Ok(true)
            }
            // It is looked again at the next call.
            Err(_) | Ok(_) => Ok(false),
        }
    }
}

impl State {
    /// Notes that a token could not be renewed or replaced; that is tried again unless there is no
    /// `renew_at`.
    fn postpone(&mut self, session: &Session, renew_at: Option<Instant>) -> Arc<Session> {
        let session = Session {
            renew_at,
            tried_at: Instant::now(),
            ..session.clone()
        };
        self.session.insert(Arc::new(session)).clone()
    }
}

async fn keep_alive(login: Weak<Login>, has_leases: bool) {
    loop {
        let Some(login) = login.upgrade() else { return };
        let session = login.state.lock().await.session.clone();
        let mut pause = LOOK_AGAIN;
        if let Some(session) = session {
            let kept = login.session(None).await;
            let looked = match kept {
                Ok(session) if has_leases => login.is_lost(session.number).await.map(drop),
                kept => kept.map(drop),
            };
            if let Err(error) = looked {
                tracing::debug!(%error, "the login to Vault could not be looked after");
            }
            let due = session
                .renew_at
                .map_or(LOOK_AGAIN, |at| at.saturating_duration_since(Instant::now()));
            pause = due.clamp(RENEW_AGAIN, LOOK_AGAIN);
        }
        drop(login);
        sleep(pause).await;
    }
}

/// Reads the token of a pod's service account, which Kubernetes replaces now and then.
async fn read_token(path: &Path) -> Result<Zeroizing<String>, CallError> {
    let cannot = |_| CallError::new("the file at `auth.token_path` cannot be read");
    let mut text = Zeroizing::new(String::new());
    let file = tokio::fs::File::open(path).await.map_err(cannot)?;
    file.take(MAX_TOKEN).read_to_string(&mut text).await.map_err(cannot)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

impl How {
    fn read(auth: Auth, context: &BuildContext) -> Result<Self, BuildError> {
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
}
