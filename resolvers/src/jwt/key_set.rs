//! The keys that an issuer publishes, fetched and kept.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use http::{HeaderValue, StatusCode, header};
use jsonwebtoken::Algorithm;
use reqwest::{Client, Url, redirect};
use tenantry_core::{BuildError, ResolveError};
use tokio::{sync::watch, time::Instant};

use super::{key::Key, refused};

/// How long opening a connection to the issuer may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long one fetch may take in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest key set that is read, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// How old the keys get before they are fetched anew, while they stay in use.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// The least time from one fetch for an unknown key to the next, and from any attempt to one that only renews.
const INTERVAL: Duration = Duration::from_secs(10);

/// The least time from a failed attempt to the next, as long as no key is known at all.
const RETRY: Duration = Duration::from_secs(2);

/// The keys at one URL. Reading them takes no lock; they are fetched when they are used, one fetch at a time.
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
    /// When the last one began or, once it is over, ended.
    last: Option<Instant>,
    /// When the last one began that an unknown key caused.
    last_search: Option<Instant>,
    /// Why the last one failed.
    failure: Option<Arc<FetchError>>,
}

/// Why keys are fetched.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// None are known.
    First,
    /// Those that are known are old.
    Age,
    /// A token names one that is not known.
    UnknownKey,
}

/// Why a key set could not be had.
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
        // A URL may hold a password or a key of its own.
        Self::Request(error.without_url())
    }
}

/// What was found for a token among the keys.
enum Pick {
    Key(Arc<Key>),
    /// The token names no key, and more than one would do.
    Unnamed,
    Unknown,
}

impl KeySet {
    /// The keys at `url`, as far as they fit the accepted algorithms. Nothing is fetched yet.
    pub(super) async fn new(url: &str, accepted: Vec<Algorithm>) -> Result<Self, BuildError> {
        let wrong = |reason: &str| BuildError::key("jwks_url", reason);
        let url = Url::parse(url).map_err(|error| wrong("is not a URL").with_source(error))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong("is not an `http` or `https` URL"));
        }
        if url.scheme() == "http" {
            tracing::warn!(
                "the resolver `jwt` fetches its keys over plain `http`: whoever is on the way can replace them"
            );
        }
        let builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")));
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

    /// The key that a token with this `kid` and algorithm is verified with.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, ResolveError> {
        let asked_at = Instant::now();
        if self.0.fetched.load().is_none() {
            self.0.fetch_and_wait(Cause::First).await;
        }
        let Some(fetched) = self.0.fetched.load_full() else {
            return Err(self.0.unavailable(RETRY));
        };
        if fetched.at.elapsed() >= MAX_AGE {
            self.0.start_fetch(Cause::Age);
        }
        let mut pick = fetched.pick(id, algorithm);
        if matches!(pick, Pick::Unknown) && fetched.at < asked_at {
            self.0.fetch_and_wait(Cause::UnknownKey).await;
            if let Some(renewed) = self.0.fetched.load_full() {
                pick = renewed.pick(id, algorithm);
            }
        }
        match pick {
            Pick::Key(key) => Ok(key),
            Pick::Unnamed => Err(refused("the token does not name its key, and more than one would do")),
            // Whether it is one of the issuer's keys cannot be told from those that are too old to know.
            Pick::Unknown if self.0.lock().failure.is_some() => Err(self.0.unavailable(INTERVAL)),
            Pick::Unknown => Err(refused("the token is signed with an unknown key")),
        }
    }
}

impl Fetched {
    fn pick(&self, id: Option<&str>, algorithm: Algorithm) -> Pick {
        let mut fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        match id {
            Some(id) => fitting.find(|key| key.id.as_deref() == Some(id)),
            None => match (fitting.next(), fitting.next()) {
                (Some(_), Some(_)) => return Pick::Unnamed,
                (only, _) => only,
            },
        }
        .map_or(Pick::Unknown, |key| Pick::Key(Arc::clone(key)))
    }
}

impl Shared {
    /// No panic happens while it is held, so a poisoned one is as good.
    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the fetch that is running, or starts one where its time has come. The fetch is a task of its own: a client that goes
    /// away does not end it for those who wait with it.
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
            // The sender says nothing but is dropped at the end, which is an `Err` here. The fetch has its own deadline; this one is
            // for a runtime that does not get to it.
            let over = tokio::time::timeout(FETCH_TIMEOUT * 2, running.changed()).await;
            if over.is_err() {
                tracing::warn!("a request waited in vain for the key set");
            }
        }
    }

    /// Fetches the keys and puts them in place of the old ones, which stay where that fails.
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
        // What the parser says of it may repeat parts of it.
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
