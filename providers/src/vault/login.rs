//! The login to Vault: one token for all calls. It is renewed in time, since its leases end with
//! it, and replaced by another login when it cannot be renewed any further.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};
use tenantry_core::{BuildContext, BuildError};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep},
};

use super::{
    Auth,
    http::{Answer, CallError, Server},
    method::{How, look_up},
    session::{RENEW_AGAIN, Session},
};

/// How often it is looked whether the token is still good while leases depend on it.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How often at most, after calls that were forbidden.
const LOOK_AT_MOST: Duration = Duration::from_secs(2);
/// The same for a login that may not look itself up, and for trying another login in its place.
const DOUBT_AT_MOST: Duration = Duration::from_secs(60);
/// The pauses before a call is repeated that a standby answered before it had caught up.
const BEHIND: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
/// How long no login is tried after a failure; doubling to 32 times as long.
const LOG_IN_AGAIN: Duration = Duration::from_secs(1);

/// What a look at a token says.
enum Looked {
    /// It is good, as far as its policy lets it be seen.
    Good,
    /// It was lost; this is the next login.
    Lost(Arc<Session>),
    /// There is no answer.
    Unknown,
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
    /// Whether a token was lost, and no login since.
    is_lost: bool,
    looked_at: Option<Instant>,
    /// Whether the policy of the login forbids the look itself.
    looks_denied: bool,
    /// When another login was tried last, to find out whether this one is lost.
    doubted_at: Option<Instant>,
    /// Until when no login is tried after failures, how many there were, and the last.
    failed: Option<(Instant, u32, CallError)>,
}

impl Login {
    /// Reads `auth`. Nothing is sent.
    pub(super) fn new(server: Server, auth: Auth, context: &BuildContext) -> Result<Arc<Self>, BuildError> {
        let how = How::read(auth, context).map_err(|error| error.below(["auth"]))?;
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

    /// Keeps the token alive though nothing is asked. If `has_leases`, it is also looked whether
    /// the token was revoked.
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
                    let is_worthwhile = renewed.is_worthwhile();
                    let renewed = state.session.insert(Arc::new(renewed)).clone();
                    if is_worthwhile {
                        return Ok(renewed);
                    }
                }
                Err(error) if error.is_outage() => return Ok(state.postpone(&session, session.renew_at)),
                // A policy may forbid the renewal of a token that is good.
                Err(_) => match self.look(&mut state, &session).await? {
                    Looked::Good if state.looks_denied => return self.replace_unseen(&mut state, &session).await,
                    Looked::Good => {}
                    Looked::Lost(next) => return Ok(next),
                    Looked::Unknown => return Ok(state.postpone(&session, session.renew_at)),
                },
            }
        }
        self.replace(&mut state).await
    }

    /// Replaces a token that cannot be renewed any further. Its leases end with it, and are
    /// replaced one by one before.
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

    /// Replaces a token whose renewal was refused, and that may not be looked at. If the next one
    /// may renew itself, the policy does not forbid that, so this one was lost.
    async fn replace_unseen(&self, state: &mut State, session: &Session) -> Result<Arc<Session>, CallError> {
        let next = self.replace(state).await?;
        if next.number != session.number && self.renew(&next).await.is_ok() {
            tracing::warn!("the login to Vault is lost: another one may be renewed");
            self.lost.send_modify(|number| *number += 1);
        }
        Ok(next)
    }

    /// Logs in. After a failure it is tried ever more rarely, for all tenants together: Vault may
    /// lock a role after some logins that it refused.
    async fn log_in(&self, state: &mut State) -> Result<Arc<Session>, CallError> {
        let failures = match &state.failed {
            Some((until, _, last)) if Instant::now() < *until => return Err(last.clone()),
            failed => failed.as_ref().map_or(0, |(_, failures, _)| *failures),
        };
        let failed = |error| {
            let pause = LOG_IN_AGAIN.saturating_mul(1 << failures.min(5));
            Some((Instant::now() + pause, failures + 1, error))
        };
        // It counts as failed if the caller goes away in the middle.
        state.failed = failed(CallError::new("a login got no answer in time"));
        let granted = self.how.log_in(&self.server, state.logins + 1).await;
        let session = granted.inspect_err(|error| state.failed = failed(error.clone()))?;
        state.failed = None;
        state.logins += 1;
        tracing::info!(
            login = state.logins,
            lasts_s = session.first.as_secs(),
            "logged in to Vault"
        );
        if std::mem::take(&mut state.is_lost) {
            self.lost.send_modify(|number| *number += 1);
        }
        Ok(state.session.insert(Arc::new(session)).clone())
    }

    /// Logs in after a token was lost, and its leases with it. If that fails, the next login that
    /// succeeds says that they were lost.
    async fn log_in_anew(&self, state: &mut State) -> Result<Arc<Session>, CallError> {
        state.session = None;
        state.is_lost = true;
        self.log_in(state).await
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
        Ok(session.renewed(granted, asked_at.elapsed()))
    }

    /// Lists what is below a path.
    pub(super) async fn list(&self, path: &[&str]) -> Result<Answer, CallError> {
        // Not every proxy knows the method LIST.
        Ok(self.call_as(None, Method::GET, path, true, None).await?.0)
    }

    /// Calls Vault; `wanted` is how long a lease is to last that depends on the token. Returns the
    /// login too.
    pub(super) async fn call(
        &self,
        wanted: Option<Duration>,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<(Answer, Arc<Session>), CallError> {
        self.call_as(wanted, method, path, false, body).await
    }

    /// Calls Vault with the token. If the token turns out to be lost, it logs in anew and calls
    /// once more. If the token may not look itself up, the call of another login shows whether it
    /// is lost.
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
                let answer = self.call_with(&session.token, method, path, list, body).await;
                answer.map(|answer| (answer, session))
            }
        };
        let session = self.session(wanted).await?;
        let refused = match call(session.clone()).await {
            Err(error) if error.is_forbidden() => error,
            answer => return answer,
        };
        if self.is_lost(session.number).await? {
            return call(self.session(wanted).await?).await;
        }
        let Some(other) = self.other_login(session.number).await else {
            return Err(refused);
        };
        match call(other.clone()).await {
            Err(error) if error.is_forbidden() || error.is_outage() => {
                self.give_back(&other).await;
                Err(refused)
            }
            answer => {
                self.take_over(session.number, other).await;
                answer
            }
        }
    }

    /// Calls Vault. A standby may not know the token yet, or what was written just now: then it
    /// is called again.
    async fn call_with(
        &self,
        token: &SecretString,
        method: Method,
        path: &[&str],
        list: bool,
        body: Option<&Value>,
    ) -> Result<Answer, CallError> {
        for pause in BEHIND {
            let answer = self.server.call(method.clone(), path, list, Some(token), body).await;
            if !answer.as_ref().is_err_and(CallError::is_behind) {
                return answer;
            }
            sleep(pause).await;
        }
        self.server.call(method, path, list, Some(token), body).await
    }

    /// Another login, if the one of this number is still in use and may not look itself up.
    async fn other_login(&self, number: u64) -> Option<Arc<Session>> {
        let mut state = self.state.lock().await;
        let is_used = state.session.as_ref().is_some_and(|session| session.number == number);
        let is_too_soon = state.doubted_at.is_some_and(|at| at.elapsed() < DOUBT_AT_MOST);
        if !state.looks_denied || !is_used || is_too_soon {
            return None;
        }
        state.doubted_at = Some(Instant::now());
        // A number is used once, also if this login is given up.
        state.logins += 1;
        let number = state.logins;
        // Other calls go on meanwhile.
        drop(state);
        self.how.log_in(&self.server, number).await.ok().map(Arc::new)
    }

    /// Revokes a login that is not used.
    async fn give_back(&self, unused: &Session) {
        let path = ["auth", "token", "revoke-self"];
        let revoked = self.server.call(Method::POST, &path, false, Some(&unused.token), None);
        if let Err(error) = revoked.await {
            tracing::debug!(%error, "a login that is not used was not revoked: it ends by itself");
        }
    }

    /// Uses another login in place of the one of this number, which is lost.
    async fn take_over(&self, number: u64, other: Arc<Session>) {
        let mut state = self.state.lock().await;
        if state.session.as_ref().is_some_and(|session| session.number == number) {
            tracing::warn!("the login to Vault is lost: another one may do what it may not");
            state.session = Some(other);
            self.lost.send_modify(|number| *number += 1);
        }
    }

    /// Whether the token of a login is no longer good; then the next call logs in anew. After a
    /// look nothing is asked for a while.
    async fn is_lost(&self, number: u64) -> Result<bool, CallError> {
        let mut state = self.state.lock().await;
        let Some(session) = state.session.clone().filter(|session| session.number == number) else {
            // Another call has found it out.
            return Ok(true);
        };
        let at_most = if state.looks_denied {
            DOUBT_AT_MOST
        } else {
            LOOK_AT_MOST
        };
        if state.looked_at.is_some_and(|at| at.elapsed() < at_most) {
            return Ok(false);
        }
        Ok(matches!(self.look(&mut state, &session).await?, Looked::Lost(_)))
    }

    /// Looks whether a token is still good. If it is lost, it logs in anew.
    async fn look(&self, state: &mut State, session: &Session) -> Result<Looked, CallError> {
        state.looked_at = Some(Instant::now());
        match look_up(&self.server, &session.token).await {
            Ok(_) => {
                state.looks_denied = false;
                Ok(Looked::Good)
            }
            Err(error) if !error.is_forbidden() => Ok(Looked::Unknown),
            Err(_) if state.looks_denied => Ok(Looked::Good),
            Err(error) => {
                tracing::warn!(%error, "the login to Vault is lost");
                let next = self.log_in_anew(state).await?;
                // A token that was granted just now is good.
                let looked = look_up(&self.server, &next.token).await;
                state.looks_denied = looked.is_err_and(|error| error.is_forbidden());
                Ok(Looked::Lost(next))
            }
        }
    }
}

impl State {
    /// Notes that a token could not be renewed or replaced; that is tried again unless there is no
    /// `renew_at`.
    fn postpone(&mut self, session: &Session, renew_at: Option<Instant>) -> Arc<Session> {
        self.session.insert(Arc::new(session.postponed(renew_at))).clone()
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
