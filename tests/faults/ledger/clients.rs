//! Clients that write and transfer, and what each was answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::json;
use tokio::{task::JoinHandle, time::timeout};

use super::books::ACCOUNTS;
use crate::load::{Answer, Client, Route};

/// The longest that a client waits which goes away.
const LONGEST_WAIT: Duration = Duration::from_millis(30);

/// What a client sent, and what it knows of it.
#[derive(Debug)]
pub(super) struct Written {
    /// In `users` or in `transfers`, unique over both.
    pub(super) token: String,
    pub(super) tenant: usize,
    pub(super) outcome: Outcome,
}

/// What a client knows of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It had its effect.
    Acknowledged,
    /// It had none.
    Refused(u16, String),
    /// The server said that it does not know.
    Unknown,
    /// The client went away.
    CutOff,
    /// What may not happen: no answer although the client stayed, or one that says neither.
    Unexpected(u16, String),
}

impl Outcome {
    fn of(answer: &Answer) -> Self {
        let code = || answer.code.clone();
        match answer.status {
            200..=299 => Self::Acknowledged,
            503 if answer.code == "outcome_unknown" => Self::Unknown,
            400..=499 | 503 | 504 => Self::Refused(answer.status, code()),
            status => Self::Unexpected(status, code()),
        }
    }
}

/// All clients' work.
#[derive(Debug, Default)]
pub(super) struct AllWritten {
    pub(super) writes: Vec<Written>,
    /// Another tenant's rows that were read.
    pub(super) foreign_rows: Vec<String>,
}

/// Clients at work.
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<AllWritten>>,
}

impl Clients {
    /// Starts `clients` of them. Each request is for a random tenant: `program` gets writes and reads,
    /// `transfers` serves transfers.
    pub(super) fn start(seed: u64, clients: usize, tenants: usize, program: &Client, transfers: &Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..clients)
            .map(|number| {
                let client = LedgerClient {
                    number,
                    tenants,
                    program: program.clone(),
                    transfers: transfers.clone(),
                    random: fastrand::Rng::with_seed(seed.wrapping_add(number as u64 + 1)),
                    stop: stop.clone(),
                };
                tokio::spawn(client.run())
            })
            .collect();
        Self { stop, clients }
    }

    /// Lets every client end its request.
    pub(super) async fn stop(self) -> Result<AllWritten> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = AllWritten::default();
        for client in self.clients {
            let one = client.await.context("a client panicked")?;
            all.writes.extend(one.writes);
            all.foreign_rows.extend(one.foreign_rows);
        }
        Ok(all)
    }
}

struct LedgerClient {
    number: usize,
    tenants: usize,
    program: Client,
    transfers: Client,
    random: fastrand::Rng,
    stop: Arc<AtomicBool>,
}

impl LedgerClient {
    async fn run(mut self) -> AllWritten {
        let mut all = AllWritten::default();
        let mut turn = 0;
        while !self.stop.load(Ordering::Relaxed) {
            turn += 1;
            let tenant = self.random.usize(..self.tenants);
            if self.random.u8(..10) == 0 {
                self.read(tenant, &mut all.foreign_rows).await;
                continue;
            }
            let token = format!("c{}n{turn}", self.number);
            let outcome = if self.random.bool() {
                self.write(tenant, &token).await
            } else {
                self.transfer(tenant, &token).await
            };
            if let Outcome::Refused(..) = outcome {
                // A client that is turned away at once does not come back at once.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            all.writes.push(Written { token, tenant, outcome });
        }
        all
    }

    async fn read(&mut self, tenant: usize, foreign_rows: &mut Vec<String>) {
        let path = [
            "/api/v1/tenant/users?limit=50",
            "/rest/v1/users?select=email,same(id)&limit=50",
        ];
        let answer = self
            .program
            .get(&format!("t{tenant}"), path[usize::from(self.random.bool())])
            .await;
        let users = answer.body["items"].as_array().or_else(|| answer.body.as_array());
        for user in users.into_iter().flatten() {
            let email = user["email"].as_str().unwrap_or_default();
            if !email.contains(&format!("@t{tenant}.")) {
                foreign_rows.push(format!("{email} for t{tenant}"));
            }
        }
    }

    async fn write(&mut self, tenant: usize, token: &str) -> Outcome {
        let user = json!({"name": token, "email": format!("{token}@t{tenant}.example")});
        let (client, name) = (self.program.clone(), format!("t{tenant}"));
        let route = Route::of(self.random.usize(..3));
        self.stay_or_go(client.post(&name, route.create(), &user)).await
    }

    async fn transfer(&mut self, tenant: usize, token: &str) -> Outcome {
        let payer = self.random.i64(1..=ACCOUNTS);
        let payee = (payer + self.random.i64(1..ACCOUNTS) - 1) % ACCOUNTS + 1;
        let transfer = json!({
            "token": format!("{token}@t{tenant}."), "payer": payer, "payee": payee, "amount": self.random.i64(1..100),
        });
        let (client, name) = (self.transfers.clone(), format!("t{tenant}"));
        self.stay_or_go(client.post(&name, "/api/v1/tenant/transfers", &transfer))
            .await
    }

    /// Waits for the answer, or in one of six cases goes away after a moment.
    async fn stay_or_go(&mut self, request: impl Future<Output = Answer>) -> Outcome {
        if self.random.u8(..6) > 0 {
            return Outcome::of(&request.await);
        }
        let moment = LONGEST_WAIT.mul_f64(self.random.f64());
        match timeout(moment, request).await {
            Ok(answer) => Outcome::of(&answer),
            Err(_) => Outcome::CutOff,
        }
    }
}
