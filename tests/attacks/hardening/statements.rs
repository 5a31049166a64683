//! Values that are written into statements, in every notation of a database, and must not reach the log.

use std::{path::PathBuf, time::Duration};

use poem_openapi::{OpenApi, payload::PlainText};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tenantry::{App, Failure, Tenant, config::Logging};
use tenantry_test_support::{MariadbServer, PostgresServer, TenantryProcess};
use tokio::signal::unix::{SignalKind, signal};

use super::send_body;

/// The test below that is the server.
const SERVER: &str = "hardening::statements::serve";

struct Scripts;

#[OpenApi]
impl Scripts {
    /// Run statements with values in their text
    #[oai(path = "/api/v1/tenant/scripts", method = "post", operation_id = "runScript")]
    async fn run(&self, tenant: Tenant, script: PlainText<String>) -> Result<PlainText<String>, Failure> {
        tenant.execute_unprepared(&script.0).await?;
        Ok(script)
    }
}

const SQLITE: &str = r#"CREATE TABLE notes (note TEXT);
INSERT INTO notes (note) VALUES ("hidden one"), ('it''s hidden'), ('\'), (x'1d'), (4711); -- hidden
UPDATE notes SET note = "hidden" WHERE note LIKE "hidden%";
"#;

const POSTGRESQL: &str = r"CREATE TABLE notes (note text);
INSERT INTO notes (note) VALUES (E'it\'s hidden'), ('\'), ('it''s hidden'), ($$hidden 'one'$$), ($tag$hidden $$ one$tag$);
/* hidden /* hidden ' */ hidden */
INSERT INTO notes (note) VALUES (U&'hidden'), (E'a'
'b\'hidden'), (4711::text); -- hidden
";

const MYSQL: &str = r#"CREATE TABLE notes (note text);
INSERT INTO notes (note) VALUES ("hidden \" one"), ('it\'s hidden'), (N'hidden'), (_utf8mb4'hidden'), (4711); # it's hidden
INSERT INTO notes (note) VALUES ('hidden' "hidden"); -- it's hidden
"#;

/// The secret, of which every statement is slow.
fn slow(mut secret: Value) -> Value {
    secret["query"] = json!({"slow": {"threshold": "0s"}});
    secret
}

#[tokio::test]
async fn no_notation_of_a_value_reaches_the_log_of_slow_statements() {
    let (postgres, mariadb) = (PostgresServer::shared().await, MariadbServer::shared().await);
    let tenants = json!({
        "lite": slow(json!({"type": "sqlite", "path": "lite.db"})),
        "post": slow(postgres.secret(&postgres.create_tenant("post").await.unwrap())),
        "maria": slow(mariadb.secret(&mariadb.create_tenant("maria").await.unwrap())),
    });
    let program: PathBuf = std::env::current_exe().unwrap();
    let server = TenantryProcess::builder(program)
        .as_test(SERVER)
        .config(format!(
            "tenancy: {{ provider: {{ type: static, tenants: {tenants} }} }}\n"
        ))
        .start()
        .await
        .unwrap();
    for (tenant, script) in [("lite", SQLITE), ("post", POSTGRESQL), ("maria", MYSQL)] {
        let headers = [&format!("X-Tenant-ID: {tenant}"), "Content-Type: text/plain"];
        let answer = send_body(&server, "POST /api/v1/tenant/scripts", &headers, script.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let log = server
        .logs_with("tenant_id=maria duration_ms", Duration::from_secs(10))
        .await
        .unwrap();
    for tenant in ["lite", "post", "maria"] {
        let own = |line: &&str| line.contains(&format!("tenant_id={tenant}")) && line.contains("slow statement");
        let shown: Vec<&str> = log.lines().filter(own).collect();
        assert!(
            shown.iter().any(|line| line.contains("INTO notes (note) VALUES (?")),
            "{tenant}: {log}"
        );
    }
    for value in ["hidden", "4711", "1d'"] {
        let line = log.lines().find(|line| line.contains(value));
        assert_eq!(line, None, "`{value}` is in the log");
    }
}

/// The server: an API of its own that runs whatever it is sent.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the server of the test above, which starts it"]
async fn serve() {
    let Some(file) = std::env::var_os("TENANTRY_CONFIG") else {
        return;
    };
    let logging: Logging = serde_json::from_value(json!({"level": "info"})).unwrap();
    tenantry::start_logging(&logging).unwrap();
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let server = App::new().api(Scripts).start(file).await.unwrap();
    terminated.recv().await;
    server.stop().await.unwrap();
}
