//! Clients that send requests until they are stopped, and the answers that they got.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tenantry_test_support::CANARY;
use tokio::task::JoinHandle;

/// Longer than anything the program may take.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(150);

/// Speaks HTTP to one program.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: String,
}

/// One of the APIs that serve a tenant's users: each fault is met on all of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    /// The API in code.
    Api,
    /// The declared table, in one statement.
    Table,
    /// The declared table, in a transaction of several statements.
    Embedded,
}

impl Route {
    /// The route of a request with this number.
    pub(crate) fn of(number: usize) -> Self {
        [Self::Api, Self::Table, Self::Embedded][number % 3]
    }

    /// Where the first five users are.
    pub(crate) fn list(self) -> &'static str {
        match self {
            Self::Api => "/api/v1/tenant/users?limit=5",
            Self::Table => "/rest/v1/users?limit=5",
            Self::Embedded => "/rest/v1/users?select=id,name,same(email)&limit=5",
        }
    }

    /// Where a user is made.
    pub(crate) fn create(self) -> &'static str {
        match self {
            Self::Api => "/api/v1/tenant/users",
            Self::Table => "/rest/v1/users",
            Self::Embedded => "/rest/v1/users?select=id,same(email)",
        }
    }

    /// The declaration of the table.
    pub(crate) fn tables() -> Value {
        json!({"users": {
            "key": ["id"],
            "columns": {
                "id": {"type": "int8", "generated": true}, "name": {"type": "text"}, "email": {"type": "text"},
            },
            "relations": {"same": {"to": "users", "on": {"id": "id"}}},
            "allow": {"anon": {"read": {}, "create": {}}},
        }})
    }
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// 0 if there was no answer.
    pub(crate) status: u16,
    /// The problem's `code`, or why there was no answer.
    pub(crate) code: String,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: Value,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Client {
    pub(crate) fn new(base_url: String) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(CLIENT_TIMEOUT).build()?;
        Ok(Self { http, base_url })
    }

    /// `GET`, of a tenant.
    pub(crate) async fn get(&self, tenant: &str, path: &str) -> Answer {
        let request = self
            .http
            .get(format!("{}{path}", self.base_url))
            .header("X-Tenant-ID", tenant);
        answer(request).await
    }

    /// `POST` of a JSON body, for a tenant.
    pub(crate) async fn post(&self, tenant: &str, path: &str, body: &Value) -> Answer {
        let request = self.http.post(format!("{}{path}", self.base_url));
        // The API in code knows no preferences.
        let request = request.header("Prefer", "return=representation");
        answer(request.header("X-Tenant-ID", tenant).json(body)).await
    }

    /// Makes a user with an address that no other has.
    pub(crate) async fn make_user(&self, tenant: &str, route: Route) -> Answer {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let user = json!({"name": "Load", "email": format!("load{number}@example.com")});
        self.post(tenant, route.create(), &user).await
    }

    /// `GET` of an operator's.
    pub(crate) async fn operator(&self, path: &str) -> Answer {
        answer(self.http.get(format!("{}{path}", self.base_url))).await
    }

    /// Has an operator read the tenant's secret anew.
    #[allow(dead_code, reason = "the longer runs wait for what happens by itself")]
    pub(crate) async fn refresh(&self, tenant: &str) -> Answer {
        answer(
            self.http
                .post(format!("{}/admin/tenants/{tenant}/refresh", self.base_url)),
        )
        .await
    }

    /// An operator's `GET`, which must succeed.
    pub(crate) async fn get_json(&self, path: &str) -> Result<Value> {
        let answer = self.operator(path).await;
        ensure!(answer.is_success(), "`{path}`: {answer:?}");
        Ok(answer.body)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let began = Instant::now();
    let received = async {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        Ok::<_, reqwest::Error>((status, retry_after, response.text().await?))
    };
    let (status, retry_after, text) = match received.await {
        Ok(received) => received,
        Err(error) => (0, None, format!("no answer: {error:?}")),
    };
    assert!(!text.contains(CANARY), "a secret is in an answer with status {status}");
    let took = began.elapsed();
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let code = match body["code"].as_str() {
        Some(code) => code.to_owned(),
        None if status == 0 => text,
        None => String::new(),
    };
    Answer {
        status,
        code,
        retry_after,
        body,
        began,
        took,
    }
}

/// One request as it is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) status: u16,
}

impl Sample {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What all clients were answered.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) samples: Vec<Sample>,
    /// Answers other than 2xx: how many of each status and code.
    pub(crate) failures: BTreeMap<(u16, String), u64>,
}

impl Tally {
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(crate) fn slowest(&self) -> Duration {
        self.samples.iter().map(|sample| sample.took).max().unwrap_or_default()
    }

    /// The time within which `fraction` of the answers came.
    #[allow(
        dead_code,
        reason = "percentiles are told by the longer runs, and asserted by no test"
    )]
    pub(crate) fn percentile(&self, fraction: f64) -> Duration {
        let mut times: Vec<Duration> = self.samples.iter().map(|sample| sample.took).collect();
        times.sort_unstable();
        let at = (times.len() as f64 * fraction) as usize;
        times
            .get(at.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    /// When the last request that failed began.
    pub(crate) fn last_failure(&self) -> Option<Instant> {
        self.samples
            .iter()
            .filter(|sample| !sample.is_success())
            .map(|sample| sample.began)
            .max()
    }

    fn add(&mut self, answer: Answer) {
        self.samples.push(Sample {
            began: answer.began,
            took: answer.took,
            status: answer.status,
        });
        if !answer.is_success() {
            *self.failures.entry((answer.status, answer.code)).or_default() += 1;
        }
    }

    fn merge(&mut self, other: Self) {
        self.samples.extend(other.samples);
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
    }
}

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    pub(crate) fn start(client: &Client, clients: usize, tenants: &[String], writes: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let run = |number: usize| {
            let (client, tenants) = (client.clone(), tenants.to_vec());
            let (stop, answered) = (stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut tally = Tally::default();
                let mut turn = number;
                while !stop.load(Ordering::Relaxed) {
                    let tenant = &tenants[turn % tenants.len()];
                    let route = Route::of(turn / tenants.len());
                    let answer = if writes && turn.is_multiple_of(5) {
                        client.make_user(tenant, route).await
                    } else {
                        client.get(tenant, route.list()).await
                    };
                    if !answer.is_success() {
                        // A client that is turned away at once does not come back at once.
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    tally.add(answer);
                    answered.fetch_add(1, Ordering::Relaxed);
                    turn += 1;
                }
                tally
            })
        };
        let clients = (0..clients).map(run).collect();
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// How many answers there were so far.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests were answered.
    pub(crate) async fn go_on_for(&self, requests: u64, limit: Duration) -> Result<()> {
        let until = self.answered() + requests;
        let waiting = async {
            while self.answered() < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(limit, waiting).await;
        waited.with_context(|| format!("{} answers instead of {until} after {limit:?}", self.answered()))
    }

    /// Lets every client end its request, and returns all their answers.
    pub(crate) async fn stop(self) -> Result<Tally> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for client in self.clients {
            tally.merge(client.await.context("a client panicked")?);
        }
        Ok(tally)
    }
}
