//! An API of your own: it says `Tenant`, and gets that tenant's database.
//!
//! ```text
//! cargo run --example custom_api
//! curl -H 'X-Tenant-ID: tenant1' 'localhost:8080/api/v1/tenant/user-count?domain=tenant1.com'
//! ```
//!
//! The operation is in the OpenAPI document and in Swagger UI like every other, with whatever the
//! configured resolver needs.

use std::process::ExitCode;

use poem_openapi::{Object, OpenApi, param::Query, payload::Json};
use sea_orm::{ConnectionTrait, ExprTrait, FromQueryResult, sea_query};
use tenantry::{App, Failure, Tenant};

/// How many of a tenant's users there are.
#[derive(Debug, Object, FromQueryResult)]
struct UserCount {
    /// How many.
    users: i64,
}

struct Reports;

#[OpenApi]
impl Reports {
    /// Count users
    ///
    /// How many of the tenant's users have their mail at a domain.
    #[oai(path = "/api/v1/tenant/user-count", method = "get", operation_id = "countUsers")]
    async fn count(
        &self,
        tenant: Tenant,
        /// The domain, such as `example.com`.
        #[oai(validator(max_length = 253, pattern = "^[a-z0-9.-]+$"))]
        domain: Query<String>,
    ) -> Result<Json<UserCount>, Failure> {
        // SeaORM's query builder writes the SQL of whichever database this tenant has.
        let query = sea_query::Query::select()
            .expr_as(sea_query::Expr::col("id").count(), "users")
            .from("users")
            .and_where(sea_query::Expr::col("email").like(format!("%@{}", domain.0)))
            .to_owned();
        let count = match tenant.query_one(&query).await? {
            Some(row) => UserCount::from_query_result(&row, "")?,
            None => UserCount { users: 0 },
        };
        Ok(Json(count))
    }
}

fn app() -> App {
    App::new().api(Reports)
}

fn main() -> ExitCode {
    app().main()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_tenant_counts_its_own_users() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let config = "
server: { listen: \"127.0.0.1:0\" }
tenancy:
  provider:
    type: static
    tenants: { tenant1: { type: sqlite, path: one.db }, tenant2: { type: sqlite, path: two.db } }
migrations: { on_connect: true, sample_data: true }
";
        tokio::fs::write(&file, config).await.unwrap();
        let server = app().start(&file).await.unwrap();
        let get = |path: &str, tenant: &'static str| {
            let request = reqwest::Client::new().get(format!("http://{}{path}", server.address()));
            async move { request.header("X-Tenant-ID", tenant).send().await.unwrap() }
        };
        for (tenant, users) in [("tenant1", 3), ("tenant2", 0)] {
            let answer = get("/api/v1/tenant/user-count?domain=tenant1.com", tenant).await;
            assert_eq!(answer.status(), 200);
            let count: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(count["users"], users);
        }
        let document: serde_json::Value = get("/openapi.json", "").await.json().await.unwrap();
        let operation = &document["paths"]["/api/v1/tenant/user-count"]["get"];
        assert_eq!(operation["operationId"], "countUsers");
        assert!(operation["security"][0].is_object());
        server.stop().await.unwrap();
    }
}
