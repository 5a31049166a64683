//! One server, a tenant on each kind of database, all at once.

use futures_util::future::join_all;
use serde_json::{Map, Value};

use crate::{
    client::Client,
    databases::{Database, config, serve},
    users::{USERS, path, user},
};

/// How many users each tenant makes, reads, changes and lists; every third is deleted again.
const USERS_EACH: usize = 60;

async fn live(client: &Client, database: Database) {
    let tenant = database.driver();
    let mut kept = Vec::new();
    for n in 0..USERS_EACH {
        // The same addresses in every tenant, and another name.
        let email = format!("user{n}@x.example");
        let made = client.post(USERS, &user(tenant, &email)).await.expect(201).json();
        assert_eq!(client.get(&path(&made)).await.expect(200).json(), made);
        client.post(USERS, &user(tenant, &email)).await.problem(409, "conflict");
        if n % 3 == 0 {
            client.delete(&path(&made)).await.expect(204);
        } else {
            let named = user(&format!("{tenant} {n}"), &email);
            kept.push(client.put(&path(&made), &named).await.expect(200).json());
        }
    }
    let page = client.get(&format!("{USERS}?limit=200")).await.expect(200).json();
    assert_eq!(page["items"], Value::Array(kept), "{tenant}");
}

#[tokio::test]
async fn one_server_serves_a_tenant_on_each_driver_at_once() {
    let mut secrets = Map::new();
    for database in Database::ALL {
        // Named by its kind of database.
        let tenant = database.driver();
        secrets.insert(tenant.to_owned(), database.secret(tenant).await);
    }
    let (_server, client) = serve(&config(&Value::Object(secrets))).await;
    let tenant = |database: Database| client.tenant(database.driver());
    join_all(Database::ALL.map(|database| async move { live(&tenant(database), database).await })).await;

    for database in Database::ALL {
        let info = tenant(database).get("/api/v1/tenant/info").await.expect(200).json();
        assert_eq!(info["driver"], database.driver(), "{info}");
        let stats = tenant(database).get("/api/v1/tenant/stats").await.expect(200).json();
        assert_eq!(stats["users"], USERS_EACH - USERS_EACH.div_ceil(3), "{stats}");
    }
    let health = client.get("/health/tenants?probe=true").await.expect(200).json();
    assert_eq!(health["summary"]["healthy"], Database::ALL.len(), "{health}");
    let pools = &client.cache().await["pools"];
    assert_eq!(pools["open"], Database::ALL.len(), "{pools}");
}
