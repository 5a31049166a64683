//! The published keys of an issuer: fetched, cached and refreshed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::{HeaderValue, StatusCode, header};
use jsonwebtoken::Algorithm;
use reqwest::{Client, Url, redirect};
use tenantry_core::{BuildError, ResolveError, is_this_machine};
use tokio::{sync::watch, time::Instant};

use super::{issuer::WRONG_SIGNATURE, key::Key, refused};

/// How long opening a connection to the issuer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one fetch may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest key set that is read, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The age at which keys are fetched again. They stay in use meanwhile.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// The longest time that keys are used while they cannot be fetched again. It is bounded, since a
/// compromised issuer withdraws its keys.
const MAX_STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// The most keys that are tried for one token, since each check of a signature costs time.
const MOST_TRIED: usize = 16;

/// The least time between two fetches for unknown keys, and from any attempt to the next refresh.
const INTERVAL: Duration = Duration::from_secs(10);

/// The least time from a failed attempt to the next, as long as no key is known at all.
const RETRY: Duration = Duration::from_secs(2);

/// The keys at one URL. Reading them takes no lock; they are fetched when they are used, one fetch
/// at a time.
#[derive(Debug)]
pub(super) struct KeySet(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    url: Url,
    accepted: Vec<Algorithm>,
    fetched: ArcSwapOption<Fetched>,
    attempts: Mutex<Attempts>,
}

#[derive(Debug)]
struct Fetched {
    keys: Vec<Arc<Key>>,
    /// When the fetch began.
    at: Instant,
}

#[derive(Debug, Default)]
struct Attempts {
    /// Its sender is dropped when the running fetch is over.
    running: Option<watch::Receiver<()>>,
    /// When the last fetch ended, or began if it still runs.
    last: Option<Instant>,
    /// When the last fetch for an unknown key began.
    last_search: Option<Instant>,
    /// Why the last fetch failed.
    failure: Option<Arc<FetchError>>,
}

/// Why keys are fetched.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// No keys are known.
    First,
    /// The known keys are old.
    Age,
    /// No known key has signed a token.
    UnknownKey,
}

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the request for the key set failed")]
    Request(#[source] reqwest::Error),
    #[error("the request for the key set took longer than {} seconds", FETCH_TIMEOUT.as_secs())]
    Timeout,
    #[error("the request for the key set was answered {0}")]
    Status(StatusCode),
    #[error("the key set is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
    #[error("the answer is not a JWK Set")]
    NotAKeySet,
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        // A URL may contain a password or a key.
        Self::Request(error.without_url())
    }
}

impl KeySet {
    /// The keys at `url` that fit the accepted algorithms. They are fetched at the first use.
    pub(super) async fn new(url: &str, accepted: Vec<Algorithm>) -> Result<Self, BuildError> {
        let wrong = |reason: &str| BuildError::key("jwks_url", reason);
        let url = Url::parse(url).map_err(|error| wrong("is not a URL").with_source(error))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("is not an `http` or `https` URL"));
        }
        let is_here = is_this_machine(url.host_str().unwrap_or_default());
        if url.scheme() == "http" && !is_here {
            return Err(wrong(
                "is plain `http`, over which anyone on the way can replace the keys; only a loopback address may have it",
            ));
        }
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")));
        // Else a proxy of the environment could replace the keys, which come without TLS.
        let builder = if is_here { builder.no_proxy() } else { builder };
        // Building it reads the system's certificates from files.
        let client = tokio::task::spawn_blocking(|| builder.build())
            .await
            .map_err(|error| wrong("cannot be prepared for").with_source(error))?
            .map_err(|error| wrong("cannot be prepared for").with_source(error))?;
        Ok(Self(Arc::new(Shared {
            client,
            url,
            accepted,
            fetched: ArcSwapOption::empty(),
            attempts: Mutex::default(),
        })))
    }

    /// The result of `verify` with the key that signed a token with this `kid` and algorithm;
    /// `verify` returns `None` for a wrong signature. If the token names its key, no other one is
    /// tried. If no known key has signed the token, the keys are fetched again, since the issuer
    /// may have changed them, but at most once in each [`INTERVAL`].
    pub(super) async fn verify<T>(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        verify: impl Fn(&Key) -> Result<Option<T>, ResolveError>,
    ) -> Result<T, ResolveError> {
        let asked_at = Instant::now();
        let usable = || {
            self.0
                .fetched
                .load_full()
                .filter(|fetched| fetched.at.elapsed() < MAX_STALE)
        };
        if usable().is_none() {
            self.0.fetch_and_wait(Cause::First).await;
        }
        let Some(fetched) = usable() else {
            return Err(self.0.unavailable(RETRY));
        };
        if fetched.at.elapsed() >= MAX_AGE {
            self.0.start_fetch(Cause::Age);
        }
        let mut tried = fetched.verify(id, algorithm, &verify)?;
        // If the named key is known and did not sign the token, fetching again cannot help.
        let may_be_new = |tried: &Tried<T>| matches!(tried, Tried::Unknown) || (id.is_none() && !tried.is_verified());
        if may_be_new(&tried) && fetched.at < asked_at {
            self.0.fetch_and_wait(Cause::UnknownKey).await;
            if let Some(renewed) = self.0.fetched.load_full() {
                tried = renewed.verify(id, algorithm, &verify)?;
            }
        }
        match tried {
            Tried::Verified(claims) => Ok(claims),
            // The known keys are too old to decide.
            tried if may_be_new(&tried) && self.0.lock().failure.is_some() => Err(self.0.unavailable(INTERVAL)),
            Tried::Unknown => Err(refused("the token is signed with an unknown key")),
            Tried::WrongSignature => Err(refused(WRONG_SIGNATURE)),
        }
    }
}

/// The outcome of trying the keys for a token.
enum Tried<T> {
    Verified(T),
    WrongSignature,
    /// There is no such key.
    Unknown,
}

impl<T> Tried<T> {
    fn is_verified(&self) -> bool {
        matches!(self, Self::Verified(_))
    }
}

impl Fetched {
    /// Tries each key that fits the algorithm, and has the name if there is one.
    fn verify<T>(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        verify: impl Fn(&Key) -> Result<Option<T>, ResolveError>,
    ) -> Result<Tried<T>, ResolveError> {
        let fits =
            |key: &&Arc<Key>| key.algorithms.contains(&algorithm) && id.is_none_or(|id| key.id.as_deref() == Some(id));
        let mut tried = Tried::Unknown;
        for key in self.keys.iter().filter(fits).take(MOST_TRIED) {
            match verify(key)? {
                Some(claims) => return Ok(Tried::Verified(claims)),
                None => tried = Tried::WrongSignature,
            }
        }
        Ok(tried)
    }
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned lock is usable.
    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the running fetch, or starts one if it is due. The fetch is a task of its own, so it
    /// goes on for the other waiting requests if one client disconnects.
    fn start_fetch(self: &Arc<Self>, cause: Cause) -> Option<watch::Receiver<()>> {
        let mut attempts = self.lock();
        if let Some(running) = attempts
            .running
            .as_ref()
            .filter(|running| running.has_changed().is_ok())
        {
            return Some(running.clone());
        }
        let now = Instant::now();
        let (last, pause) = match cause {
            Cause::First => (attempts.last, RETRY),
            Cause::Age => (attempts.last, INTERVAL),
            Cause::UnknownKey => (attempts.last_search, INTERVAL),
        };
        if last.is_some_and(|last| now.duration_since(last) < pause) {
            return None;
        }
        attempts.last = Some(now);
        if let Cause::UnknownKey = cause {
            attempts.last_search = Some(now);
        }
        let (done, running) = watch::channel(());
        attempts.running = Some(running.clone());
        drop(attempts);
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            shared.renew(now).await;
            drop(done);
        });
        Some(running)
    }

    async fn fetch_and_wait(self: &Arc<Self>, cause: Cause) {
        if let Some(mut running) = self.start_fetch(cause) {
            // The sender sends nothing and is dropped at the end, which is an `Err` here. The fetch
            // has its own deadline; this one is for a runtime that is too busy to run it.
            let over = tokio::time::timeout(FETCH_TIMEOUT * 2, running.changed()).await;
            if over.is_err() {
                tracing::warn!("a request waited in vain for the key set");
            }
        }
    }

    /// Fetches the keys and replaces the old ones. If the fetch fails, the old ones stay.
    async fn renew(&self, at: Instant) {
        let outcome = match tokio::time::timeout(FETCH_TIMEOUT, self.fetch()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(FetchError::Timeout),
        };
        let host = self.url.host_str().unwrap_or_default();
        let failure = match outcome {
            Ok(keys) => {
                if keys.is_empty() {
                    tracing::warn!(host, "the key set has no key that can be used");
                }
                tracing::debug!(host, keys = keys.len(), "fetched the key set");
                self.fetched.store(Some(Arc::new(Fetched { keys, at })));
                None
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(host, %error, source, "the key set cannot be had; the keys known so far stay in use");
                Some(Arc::new(error))
            }
        };
        let mut attempts = self.lock();
        attempts.last = Some(Instant::now());
        attempts.failure = failure;
    }

    async fn fetch(&self) -> Result<Vec<Arc<Key>>, FetchError> {
        let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
        let mut answer = self
            .client
            .get(self.url.clone())
            .header(header::ACCEPT, accept)
            .send()
            .await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        // The parser's message may repeat parts of the body.
        let keys = Key::set_from_json(&body).map_err(|_| FetchError::NotAKeySet)?;
        let accepted = keys
            .into_iter()
            .filter(|key| key.algorithms.iter().any(|one| self.accepted.contains(one)));
        Ok(accepted.map(Arc::new).collect())
    }

    fn unavailable(&self, retry_after: Duration) -> ResolveError {
        let failure = self.lock().failure.clone();
        ResolveError::Unavailable {
            retry_after,
            source: failure.map_or_else(|| "the key set was not fetched in time".into(), Box::from),
        }
    }
}
