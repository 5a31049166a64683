//! Tenants never see each other: the same numbers, the same addresses, at the same time, over the
//! same connections to the server.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Map, Value};
use tenantry_test_support::requests;

use crate::{
    client::Client,
    databases::{Database, serve},
    users::{USERS, user},
};

const TENANTS: usize = 20;

/// The expected users of a tenant, and the state of the random generator.
struct Model {
    tenant: String,
    client: Client,
    users: BTreeMap<u64, Value>,
    /// The highest number seen.
    last: u64,
    random: fastrand::Rng,
}

impl Model {
    fn new(client: &Client, tenant: String, seed: u64) -> Self {
        Self {
            client: client.tenant(&tenant),
            tenant,
            users: BTreeMap::new(),
            last: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// A body with an address that every tenant uses, and a name that no other tenant uses.
    fn body(&mut self) -> Value {
        let name = format!("{} {}", self.tenant, self.random.u32(..));
        user(&name, &format!("user{}@x.example", self.random.u32(..60)))
    }

    /// A number that is this tenant's, was, or will be; and all the while another's.
    fn id(&mut self) -> u64 {
        self.random.u64(1..=self.last + 3)
    }

    fn holder(&self, email: &Value) -> Option<u64> {
        self.users
            .iter()
            .find(|(_, user)| user["email"] == *email)
            .map(|(id, _)| *id)
    }

    async fn step(&mut self) {
        match self.random.u8(..100) {
            0..25 => self.create().await,
            25..55 => self.read().await,
            55..75 => self.update().await,
            75..85 => self.delete().await,
            85..95 => self.list().await,
            _ => self.count().await,
        }
    }

    async fn create(&mut self) {
        let body = self.body();
        let answer = self.client.post(USERS, &body).await;
        if self.holder(&body["email"]).is_some() {
            answer.problem(409, "conflict");
            return;
        }
        let made = answer.expect(201).json();
        assert_eq!(
            (&made["name"], &made["email"]),
            (&body["name"], &body["email"]),
            "{}",
            self.tenant
        );
        let id = made["id"].as_u64().unwrap();
        assert!(id > self.last, "{}: {made}", self.tenant);
        self.last = id;
        self.users.insert(id, made);
    }

    async fn read(&mut self) {
        let id = self.id();
        let answer = self.client.get(&format!("{USERS}/{id}")).await;
        match self.users.get(&id) {
            Some(user) => assert_eq!(answer.expect(200).json(), *user, "{}", self.tenant),
            None => drop(answer.problem(404, "not_found")),
        }
    }

    async fn update(&mut self) {
        let (id, body) = (self.id(), self.body());
        let answer = self.client.put(&format!("{USERS}/{id}"), &body).await;
        let holder = self.holder(&body["email"]);
        let Some(known) = self.users.get_mut(&id) else {
            answer.problem(404, "not_found");
            return;
        };
        if holder.is_some_and(|holder| holder != id) {
            answer.problem(409, "conflict");
            return;
        }
        let changed = answer.expect(200).json();
        assert_eq!(
            (&changed["name"], &changed["email"]),
            (&body["name"], &body["email"]),
            "{}",
            self.tenant
        );
        assert_eq!(
            (&changed["id"], &changed["created_at"]),
            (&known["id"], &known["created_at"]),
            "{}",
            self.tenant
        );
        *known = changed;
    }

    async fn delete(&mut self) {
        let id = self.id();
        let answer = self.client.delete(&format!("{USERS}/{id}")).await;
        match self.users.remove(&id) {
            Some(_) => drop(answer.expect(204)),
            None => drop(answer.problem(404, "not_found")),
        }
    }

    async fn list(&mut self) {
        let limit = self.random.usize(1..=200);
        let page = self
            .client
            .get(&format!("{USERS}?limit={limit}"))
            .await
            .expect(200)
            .json();
        let expected: Vec<Value> = self.users.values().take(limit).cloned().collect();
        assert_eq!(page["items"], Value::Array(expected), "{}", self.tenant);
        assert_eq!(page["next"].is_null(), self.users.len() <= limit, "{}", self.tenant);
    }

    async fn count(&mut self) {
        let stats = self.client.get("/api/v1/tenant/stats").await.expect(200).json();
        assert_eq!(
            (&stats["id"], stats["users"].as_u64()),
            (&self.tenant.as_str().into(), Some(self.users.len() as u64))
        );
    }
}

#[tokio::test]
async fn mixed_requests_get_their_own_answers() {
    let mut secrets = Map::new();
    for n in 0..TENANTS {
        let tenant = format!("tenant{n}");
        let database = if n % 3 == 0 {
            Database::Postgresql
        } else {
            Database::Sqlite
        };
        secrets.insert(tenant.clone(), database.secret(&tenant).await);
    }
    // Fewer pools and connections than there are tenants, so that both change hands all the while.
    let config = format!(
        "tenancy:\n  provider: {{ type: static, tenants: {} }}\n  pools: {{ max: 12, max_connections: 15 }}\n\
         migrations: {{ on_connect: true }}\nlogging: {{ level: warn }}\n",
        Value::Object(secrets)
    );
    let (_server, client) = serve(&config).await;
    let models: Vec<Model> = (0..TENANTS)
        .map(|n| Model::new(&client, format!("tenant{n}"), n as u64))
        .collect();
    let models = join_all(models.into_iter().map(|mut model| async move {
        for _ in 0..requests(4_000) / TENANTS {
            model.step().await;
        }
        model
    }))
    .await;
    for mut model in models {
        // Chance was not so unkind as to test nothing.
        assert!(
            model.users.len() > 5 && model.last > 20,
            "{}: {} users",
            model.tenant,
            model.users.len()
        );
        model.list().await;
        model.count().await;
    }
    let pools = &client.cache().await["pools"];
    assert!(
        pools["evictions"].as_u64().unwrap() > 0 && pools["open"].as_u64().unwrap() <= 12,
        "{pools}"
    );
    assert!(pools["connections"].as_u64().unwrap() <= 15, "{pools}");
}
