//! Tables are made ready: by `tenantry migrate`, and on a tenant's first connection.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_test_support::{CANARY, Finished, PostgresServer, TenantDb, free_port};
use tokio::fs;

use crate::{
    client::Client,
    commands::table,
    databases::{config, program, serve},
    users::{USERS, user},
};

/// A configuration whose SQLite files and migrations stay where they are from one run to the next.
struct Project {
    folder: TempDir,
    secrets: Value,
    sample_data: bool,
}

impl Project {
    fn new(secrets: Value) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            secrets,
            sample_data: false,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn write(&self, file: &str, sql: &str) {
        let path = self.path().join("migrations").join(file);
        fs::create_dir_all(path.parent().unwrap()).await.unwrap();
        fs::write(path, sql).await.unwrap();
    }

    fn config(&self, dir: bool) -> String {
        let dir = if dir {
            self.path().join("migrations").display().to_string()
        } else {
            "null".to_owned()
        };
        format!(
            "tenancy:\n  provider: {{ type: static, tenants: {} }}\ndrivers: {{ sqlite: {{ root: {} }} }}\n\
             migrations: {{ dir: {dir}, on_connect: true, sample_data: {} }}\n",
            self.secrets,
            self.path().display(),
            self.sample_data
        )
    }

    async fn migrate(&self, dir: bool, arguments: &[&str]) -> Finished {
        let all = ["migrate"].iter().chain(arguments).copied();
        let finished = program().config(self.config(dir)).run(all).await.unwrap();
        for text in [&finished.stdout, &finished.stderr] {
            assert!(!text.contains(CANARY), "{text}");
        }
        finished
    }
}

fn rows(finished: &Finished) -> Vec<String> {
    table(&finished.stdout)
        .iter()
        .skip(1)
        .map(|row| row.join(" | "))
        .collect()
}

fn sqlite(tenant: &str) -> Value {
    json!({"type": "sqlite", "path": format!("{tenant}.db")})
}

async fn applied(tenant: &TenantDb) -> String {
    let sql = "SELECT string_agg(version::text, ',' ORDER BY version) FROM tenantry_migrations";
    PostgresServer::shared()
        .await
        .psql(&tenant.database, sql)
        .await
        .unwrap()
}

#[tokio::test]
async fn migrate_does_each_tenant_once_and_one_that_fails_stops_no_other() {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("migrated").await.unwrap();
    let mut down = postgres.secret(&tenant);
    down["port"] = free_port().unwrap().into();
    let mut project = Project::new(
        json!({"a": sqlite("a"), "b": down, "c": postgres.secret(&tenant), "d": {"type": "sqlite"}, "e": sqlite("e")}),
    );

    let looked = project.migrate(false, &["--dry-run"]).await;
    assert_eq!(looked.code, 1);
    assert_eq!(rows(&looked)[2], "c | 0001_create_users | 0 | ok");
    let tables = postgres
        .psql(
            &tenant.database,
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'",
        )
        .await
        .unwrap();
    assert_eq!(tables, "0", "a dry run changed something");

    let first = project.migrate(false, &[]).await;
    assert_eq!(first.code, 1);
    let told = rows(&first);
    assert_eq!(
        (told[0].as_str(), told[2].as_str(), told[4].as_str()),
        (
            "a | 0001_create_users | 0 | ok",
            "c | 0001_create_users | 0 | ok",
            "e | 0001_create_users | 0 | ok"
        )
    );
    assert!(
        told[1].starts_with("b | ") && told[1].contains("unreachable"),
        "{told:?}"
    );
    assert!(
        told[3].starts_with("d | ") && told[3].contains("`path` is missing"),
        "{told:?}"
    );
    assert_eq!(applied(&tenant).await, "1");

    // Again, with what was broken mended: only that is done.
    project.secrets["b"] = sqlite("b");
    project.secrets["d"] = sqlite("d");
    let second = project.migrate(false, &["--parallel", "1"]).await;
    assert_eq!(second.code, 0, "{}", second.stdout);
    assert_eq!(
        rows(&second),
        [
            "a | 1 | ok",
            "b | 0001_create_users | 0 | ok",
            "c | 1 | ok",
            "d | 0001_create_users | 0 | ok",
            "e | 1 | ok"
        ]
    );

    let some = project
        .migrate(false, &["--tenant", "c", "--tenant", "a", "--tenant", "a"])
        .await;
    assert_eq!(
        (some.code, rows(&some)),
        (0, vec!["a | 1 | ok".to_owned(), "c | 1 | ok".to_owned()])
    );
    let unknown = project.migrate(false, &["--tenant", "nobody", "--tenant", "a"]).await;
    assert_eq!(
        (unknown.code, rows(&unknown)),
        (1, vec!["a | 1 | ok".to_owned(), "nobody | no such tenant".to_owned()])
    );
    let malformed = project.migrate(false, &["--tenant", "../x"]).await;
    assert_eq!(
        (malformed.code, malformed.stdout.as_str()),
        (2, ""),
        "{}",
        malformed.stderr
    );

    // Sample rows come only where they are asked for, later too.
    project.sample_data = true;
    let samples = project.migrate(false, &["--tenant", "c"]).await;
    assert_eq!(rows(&samples), ["c | 0002_sample_users | 1 | ok"]);
    let emails = postgres
        .psql(&tenant.database, "SELECT email FROM users ORDER BY id")
        .await
        .unwrap();
    assert_eq!(emails, "john@c.com\njane@c.com\nbob@c.com");
}

#[tokio::test]
async fn migrations_of_ones_own_resume_where_they_failed() {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("own").await.unwrap();
    let project = Project::new(json!({"pg": postgres.secret(&tenant), "lite": sqlite("lite")}));
    for dialect in ["postgresql", "sqlite"] {
        project
            .write(
                &format!("{dialect}/0001_create_users.sql"),
                "CREATE TABLE users (id integer PRIMARY KEY, name text, email text);",
            )
            .await;
        project
            .write(
                &format!("{dialect}/0005_create_orders.sql"),
                "CREATE TABLE orders (id integer); INSERT INTO orders VALUES (1);",
            )
            .await;
    }
    project
        .write(
            "postgresql/0003_broken.sql",
            "CREATE TABLE half (id integer); INSERT INTO nowhere VALUES ('canary-sql');",
        )
        .await;

    let first = project.migrate(true, &[]).await;
    assert_eq!(first.code, 1);
    let told = rows(&first);
    assert_eq!(told[0], "lite | 0001_create_users, 0005_create_orders | 0 | ok");
    assert!(
        told[1].starts_with("pg | ") && told[1].contains("`0003_broken` failed"),
        "{told:?}"
    );
    // What came before stays, what failed left nothing, what comes after was not tried.
    assert_eq!(applied(&tenant).await, "1");
    let tables = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(
        postgres.psql(&tenant.database, tables).await.unwrap(),
        "tenantry_migrations,users"
    );

    project
        .write("postgresql/0003_broken.sql", "CREATE TABLE half (id integer);")
        .await;
    let second = project.migrate(true, &[]).await;
    assert_eq!(
        (second.code, rows(&second)),
        (
            0,
            vec![
                "lite | 2 | ok".to_owned(),
                "pg | 0003_broken, 0005_create_orders | 1 | ok".to_owned()
            ]
        )
    );
    assert_eq!(applied(&tenant).await, "1,3,5");

    // A file that was applied must not change.
    project
        .write("postgresql/0001_create_users.sql", "CREATE TABLE users (id bigint);")
        .await;
    let third = project.migrate(true, &[]).await;
    assert_eq!(third.code, 1);
    assert!(
        rows(&third)[1].contains("`0001_create_users` was changed"),
        "{}",
        third.stdout
    );
}

#[tokio::test]
async fn migrations_of_ones_own_are_applied_on_the_first_connection() {
    let project = Project::new(json!({"acme": sqlite("acme"), "globex": sqlite("globex")}));
    project
        .write(
            "sqlite/0001_create_users.sql",
            "CREATE TABLE users (id integer PRIMARY KEY AUTOINCREMENT, name text, email text UNIQUE, created_at timestamp_with_timezone_text,
             updated_at timestamp_with_timezone_text);",
        )
        .await;
    project
        .write("sqlite/0002_one.sql", "INSERT INTO users VALUES (41, 'Own', 'own@x.example', '2026-01-02T03:04:05+00:00', '2026-01-02T03:04:05+00:00');")
        .await;
    let (_server, client) = serve(&project.config(true)).await;
    let page = client.tenant("acme").get(USERS).await.expect(200).json();
    assert_eq!(
        page["items"],
        json!([{"id": 41, "name": "Own", "email": "own@x.example", "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z"}])
    );
    assert!(
        !fs::try_exists(project.path().join("globex.db")).await.unwrap(),
        "a tenant nobody asked for was opened"
    );
}

#[tokio::test]
async fn a_tenant_whose_migration_fails_is_unavailable_and_its_sql_is_told_to_nobody() {
    let project = Project::new(json!({"acme": sqlite("acme")}));
    project
        .write("sqlite/0001_broken.sql", "INSERT INTO nowhere VALUES ('canary-sql');")
        .await;
    let (server, client) = serve(&project.config(true)).await;
    let answer = client.tenant("acme").get(USERS).await;
    answer.problem(503, "database_unavailable");
    assert!(!answer.text().contains("nowhere"), "{}", answer.text());
    assert!(!server.logs().await.unwrap().contains("canary-sql"));
    // It is that tenant's trouble, not the server's.
    client.get("/health/ready").await.expect(200);
}

#[tokio::test]
async fn servers_that_start_at_once_on_one_database_apply_each_migration_once() {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("raced").await.unwrap();
    let config = config(&json!({"acme": postgres.secret(&tenant)}))
        .replace("on_connect: true", "on_connect: true, sample_data: true");
    let servers = join_all((0..4).map(|_| program().config(&config).start())).await;
    let servers: Vec<_> = servers.into_iter().map(Result::unwrap).collect();
    let clients: Vec<Client> = servers.iter().map(|server| Client::of(server).tenant("acme")).collect();
    let answers = join_all((0..40).map(|n| clients[n % clients.len()].get(USERS))).await;
    for answer in answers {
        assert_eq!(answer.expect(200).json()["items"].as_array().unwrap().len(), 3);
    }
    assert_eq!(applied(&tenant).await, "1,2");
    assert_eq!(
        postgres
            .psql(&tenant.database, "SELECT count(*) FROM users")
            .await
            .unwrap(),
        "3"
    );
    let mut told = 0;
    for server in &servers {
        told += server.logs().await.unwrap().matches("applied a migration").count();
    }
    assert_eq!(told, 2, "one of them did both, and the others nothing");
    clients[0].post(USERS, &user("Ann", "a@x.example")).await.expect(201);
    assert_eq!(
        clients[3].get(USERS).await.expect(200).json()["items"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}
