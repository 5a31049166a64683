//! What a tenant reads of itself.

use serde_json::{Value, json};

use crate::{
    databases::{Database, config, serve},
    users::{USERS, on_every_database, user},
};

on_every_database!(a_tenant_reads_where_its_data_is, a_tenant_reads_its_numbers);

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

async fn a_tenant_reads_where_its_data_is(database: Database) {
    let secrets = database.secrets(&["acme"]).await;
    let (_server, client) = serve(&config(&secrets)).await;
    let mut info = client
        .tenant("acme")
        .get("/api/v1/tenant/info")
        .await
        .expect(200)
        .json();
    let version = info.as_object_mut().unwrap().shift_remove("server_version").unwrap();
    assert!(
        version.as_str().unwrap().starts_with(|c: char| c.is_ascii_digit()),
        "{version}"
    );
    let secret = &secrets["acme"];
    let name = if secret["path"].is_null() {
        &secret["database"]
    } else {
        &secret["path"]
    };
    assert_eq!(
        info,
        json!({"id": "acme", "driver": database.driver(), "database": name, "resolver": "header", "provider": "static"})
    );
}

async fn a_tenant_reads_its_numbers(database: Database) {
    let mut secrets = database.secrets(&["acme", "globex"]).await;
    secrets["acme"]["pool"] = json!({"max": {"connections": 3}});
    let (_server, client) = serve(&config(&secrets)).await;
    let (acme, globex) = (client.tenant("acme"), client.tenant("globex"));
    for n in 0..4 {
        acme.post(USERS, &user("Ann", &format!("a{n}@x.example")))
            .await
            .expect(201);
    }
    acme.post(USERS, &user("Ann", "a0@x.example")).await.expect(409);
    let stats = acme.get("/api/v1/tenant/stats").await.expect(200).json();
    assert_eq!(keys(&stats), ["id", "users", "pool", "queries"]);
    assert_eq!(keys(&stats["pool"]), ["max", "open", "idle", "in_use"]);
    assert_eq!(keys(&stats["queries"]), ["total", "slow", "failed", "mean_ms"]);
    assert_eq!((&stats["id"], &stats["users"]), (&json!("acme"), &json!(4)));
    let pool = |name: &str| stats["pool"][name].as_u64().unwrap();
    assert_eq!(pool("max"), 3);
    assert!((1..=3).contains(&pool("open")), "{stats}");
    assert_eq!(pool("open"), pool("idle") + pool("in_use"), "{stats}");
    let queries = |name: &str| stats["queries"][name].as_u64().unwrap();
    // Four that were written, one that was refused, and the count itself.
    assert!(queries("total") >= 6, "{stats}");
    assert!(
        queries("failed") >= 1 && queries("failed") < queries("total"),
        "{stats}"
    );
    assert!(stats["queries"]["mean_ms"].as_f64().unwrap() > 0.0, "{stats}");

    let other = globex.get("/api/v1/tenant/stats").await.expect(200).json();
    assert_eq!(
        (&other["id"], &other["users"], &other["pool"]["max"]),
        (&json!("globex"), &json!(0), &json!(20))
    );
    assert_eq!(other["queries"]["failed"], 0, "{other}");
}
