//! A tenant whose database has no table of users.

use super::{USERS, on_every_database, user};
use crate::databases::{Database, serve};

on_every_database!(a_tenant_without_the_table_is_behind);

async fn a_tenant_without_the_table_is_behind(database: Database) {
    let config = format!(
        "tenancy: {{ provider: {{ type: static, tenants: {} }} }}\nmigrations: {{ on_connect: false }}\n",
        database.secrets(&["acme"]).await
    );
    let (_server, client) = serve(&config).await;
    let client = client.tenant("acme");
    for answer in [
        client.get(USERS).await,
        client.get("/api/v1/tenant/users/1").await,
        client.get("/api/v1/tenant/stats").await,
        client.post(USERS, &user("Ann", "a@x.example")).await,
        client.delete("/api/v1/tenant/users/1").await,
    ] {
        let problem = answer.problem(503, "tenant_schema_behind");
        assert!(problem.to_string().contains("the table `users`"), "{problem}");
    }
}
