//! Many tenants on three kinds of database, and clients that name wrong, foreign and malformed ids:
//! no answer holds a byte of another tenant's rows, nor of rows that a row rule hides.
//!
//! `TENANTRY_ISOLATION=1000000` sends so many requests, to 200 tenants.

mod attempts;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::shop::{Role, Shop, secret};
use attempts::Client;

const THREE_KINDS: [&str; 3] = ["sqlite", "postgresql", "mysql"];
/// Each client stays with a tenant for so many requests.
const STAY: usize = 40;
const CLIENTS: usize = 48;
/// The customers of each tenant, numbered from 1.
pub(super) const CUSTOMERS: i64 = 3;
/// Rows of each tenant at the beginning: the same ids in all of them, then ids that only this one
/// has.
pub(super) const SHARED: i64 = 20;
pub(super) const OWN: i64 = 10;

/// The whole world that clients act in.
pub(super) struct Tenants {
    pub(super) shop: Shop,
    pub(super) all: Vec<Tenant>,
    /// The number that the next new row gets, in whatever tenant.
    pub(super) next: AtomicI64,
    /// How many requests were answered.
    answered: AtomicI64,
    /// Places in lists, as answers of any tenant named them.
    pub(super) cursors: std::sync::Mutex<Vec<String>>,
}

pub(super) struct Tenant {
    pub(super) name: String,
    /// How many notes it must have, as the answers said.
    pub(super) notes: AtomicI64,
}

impl Tenants {
    /// An id that only this tenant has.
    pub(super) fn own_id(place: usize, number: i64) -> i64 {
        (place as i64 + 1) * 1_000_000 + number
    }

    /// What every text of a customer's rows begins with.
    pub(super) fn mark(tenant: &str, customer: i64) -> String {
        format!("mark-{tenant}-c{customer}-")
    }

    pub(super) fn note(tenant: &str, customer: i64, id: i64) -> Value {
        json!({
            "id": id, "owner": tenant, "customer": customer, "body": format!("{}{id}", Self::mark(tenant, customer)),
        })
    }

    /// Counts an answer. A long run says how far it is.
    pub(super) fn count(&self) {
        let answered = self.answered.fetch_add(1, Ordering::Relaxed) + 1;
        if answered % 50_000 == 0 {
            println!("{answered} answers, and no foreign row");
        }
    }

    async fn open(tenants: usize) -> Self {
        let mut secrets = Map::new();
        for place in 0..tenants {
            let kind = THREE_KINDS[place % THREE_KINDS.len()];
            let name = format!("t{place:03}");
            secrets.insert(name.clone(), secret(kind, &format!("isolated_{name}")).await);
        }
        let names: Vec<String> = secrets.keys().cloned().collect();
        // Fewer pools and connections than tenants, so that both change hands all the while.
        let config = json!({
            "tenancy": {"pools": {
                "max": tenants.div_ceil(2), "max_connections": 60, "connect_timeout": "60s", "acquire_timeout": "60s",
            }},
            "server": {"request_timeout": "120s"},
            "rest": {"max_rows": 50},
            "logging": {"level": "warn"},
        });
        let sql = include_str!("tables.sql");
        let migrations = THREE_KINDS.map(|kind| (kind, sql));
        let shop = Shop::over(secrets, config, include_str!("tables.yaml"), &migrations).await;
        let mut all = Vec::new();
        for (place, name) in names.into_iter().enumerate() {
            fill(&shop, place, &name).await;
            all.push(Tenant {
                name,
                notes: AtomicI64::new(SHARED + OWN + 1),
            });
        }
        Self {
            shop,
            all,
            next: AtomicI64::new(1_000_000_000),
            answered: AtomicI64::new(0),
            cursors: std::sync::Mutex::new(Vec::new()),
        }
    }
}

/// Makes a tenant's first rows.
async fn fill(shop: &Shop, place: usize, tenant: &str) {
    let ids = (1..=SHARED).chain((1..=OWN).map(|number| Tenants::own_id(place, number)));
    let mut notes: Vec<Value> = ids.map(|id| Tenants::note(tenant, id % CUSTOMERS + 1, id)).collect();
    // One that the rule of `anon` hides from it.
    let mut hidden = Tenants::note(tenant, 1, 999);
    hidden["owner"] = "another".into();
    notes.push(hidden);
    let parts: Vec<Value> = notes
        .iter()
        .flat_map(|note| {
            (1..=2).map(
                |part| json!({"note_id": note["id"], "part": part, "customer": note["customer"], "body": note["body"]}),
            )
        })
        .collect();
    for (table, rows) in [("notes", notes), ("parts", parts)] {
        let body = Some(Value::Array(rows).to_string());
        let made = shop.send(tenant, Role::Clerk, Method::POST, table, &[], body).await;
        assert_eq!(made.status, 201, "{tenant}: {made:?}");
    }
}

/// How many requests are sent, and to how many tenants.
fn size() -> (usize, usize) {
    let requests = std::env::var("TENANTRY_ISOLATION").ok();
    match requests.map(|text| text.parse().unwrap()) {
        None => (2_000, 12),
        Some(requests) => (requests, 200),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_holds_a_row_of_another_tenant() {
    let (requests, tenants) = size();
    let seed = fastrand::u64(..);
    println!("seed {seed}, {requests} requests, {tenants} tenants");
    let world = Arc::new(Tenants::open(tenants).await);
    let began = std::time::Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = Client::new(world.clone(), seed.wrapping_add(number as u64));
            tokio::spawn(async move {
                let mut left = requests.div_ceil(CLIENTS);
                while left > 0 {
                    let some = left.min(STAY);
                    client.stay(some).await;
                    left -= some;
                }
                client.seen
            })
        })
        .collect();
    let mut seen: BTreeMap<(&str, u16), u64> = BTreeMap::new();
    for client in clients {
        for (kind, count) in client.await.unwrap() {
            *seen.entry(kind).or_default() += count;
        }
    }
    let mut by_status: BTreeMap<u16, u64> = BTreeMap::new();
    for ((attempt, status), count) in &seen {
        println!("{attempt:<28} {status} {count:>8}");
        *by_status.entry(*status).or_default() += count;
    }
    println!("by status, in {} s: {by_status:?}", began.elapsed().as_secs());
    // Chance was not so unkind as to leave an attempt out.
    for attempt in attempts::NAMES {
        assert!(seen.keys().any(|(name, _)| *name == attempt), "no `{attempt}`");
    }
    for tenant in &world.all {
        keeps_its_own(&world, tenant).await;
    }
    let log = world.shop.server.logs().await.unwrap();
    assert!(!log.contains("panic"), "{log}");
}

/// Every row that a tenant has is its own, and none was lost.
async fn keeps_its_own(world: &Tenants, tenant: &Tenant) {
    let (mut ids, mut after) = (0, 0);
    loop {
        let path = format!("notes?select=id,body,owner&id=gt.{after}&order=id");
        let page = world.shop.get(&tenant.name, Role::Clerk, &path).await;
        assert_eq!(page.status, 200, "{}: {page:?}", tenant.name);
        let rows = page.json();
        let rows = rows.as_array().unwrap();
        for row in rows {
            after = row["id"].as_i64().unwrap();
            let body = row["body"].as_str().unwrap();
            assert!(
                body.starts_with(&format!("mark-{}-", tenant.name)),
                "{}: {row}",
                tenant.name
            );
            ids += 1;
        }
        if rows.is_empty() {
            break;
        }
    }
    assert_eq!(ids, tenant.notes.load(Ordering::Relaxed), "{}", tenant.name);
}
