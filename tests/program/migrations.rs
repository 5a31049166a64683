//! Tables are made ready: by `tenantry migrate`, and on a tenant's first connection.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenantry_test_support::{CANARY, Finished, PgBouncer, PostgresServer, TenantDb, free_port};
use tokio::fs;

use crate::{
    client::Client,
    commands::table,
    databases::{Database, config, program, serve},
    users::{USERS, user},
};

/// A configuration with SQLite files and migrations that stay from one run to the next.
pub(crate) struct Project {
    folder: TempDir,
    pub(crate) secrets: Value,
    sample_data: bool,
    /// More keys of `migrations`.
    pub(crate) more: String,
}

impl Project {
    pub(crate) fn new(secrets: Value) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            secrets,
            sample_data: false,
            more: String::new(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn write(&self, file: &str, sql: &str) {
        let path = self.path().join("migrations").join(file);
        fs::create_dir_all(path.parent().unwrap()).await.unwrap();
        fs::write(path, sql).await.unwrap();
    }

    pub(crate) fn config(&self, dir: bool) -> String {
        let dir = if dir {
            self.path().join("migrations").display().to_string()
        } else {
            "null".to_owned()
        };
        format!(
            "tenancy:\n  provider: {{ type: static, tenants: {} }}\ndrivers: {{ sqlite: {{ root: {} }} }}\n\
             migrations: {{ dir: {dir}, on_connect: true, sample_data: {}{} }}\n",
            self.secrets,
            self.path().display(),
            self.sample_data,
            self.more
        )
    }

    pub(crate) async fn migrate(&self, dir: bool, arguments: &[&str]) -> Finished {
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

pub(crate) fn sqlite(tenant: &str) -> Value {
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
async fn migrate_runs_once_per_tenant_and_survives_a_failure() {
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

    // Sample rows are applied only when they are configured, even later.
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
async fn a_failed_migration_makes_its_tenant_unavailable() {
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
async fn servers_that_start_at_once_apply_each_migration_once() {
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

/// One tenant on each kind of database; what a database can undo leaves nothing, elsewhere the next
/// run goes on.
#[tokio::test]
async fn a_statement_that_fails_is_reported_with_its_line() {
    let mut secrets = serde_json::Map::new();
    for database in Database::ALL {
        secrets.insert(database.driver().to_owned(), database.secret("lines").await);
    }
    let project = Project::new(Value::Object(secrets));
    let script = |value: &str| {
        format!(
            "\u{feff}-- The; first\r\nCREATE TABLE numbers (i INTEGER NOT NULL);\r\nINSERT INTO numbers VALUES (1);\r\nINSERT INTO numbers VALUES ({value});\r\n"
        )
    };
    for database in Database::ALL {
        project
            .write(&format!("{}/0001_lines.sql", database.driver()), &script("NULL"))
            .await;
    }
    let first = project.migrate(true, &[]).await;
    assert_eq!(first.code, 1);
    for row in rows(&first) {
        let place = "`0001_lines` failed at line 4 (statement 3 of 3, `INSERT`); ";
        let aftermath = match row.split(' ').next() {
            Some("mysql" | "oracle") => "the statements before it were kept, and the next run goes on with line 4",
            _ => "nothing of it was kept",
        };
        assert!(row.contains(&format!("{place}{aftermath}")), "{row}");
    }
    for database in Database::ALL {
        project
            .write(&format!("{}/0001_lines.sql", database.driver()), &script("2"))
            .await;
    }
    let second = project.migrate(true, &[]).await;
    assert_eq!(second.code, 0, "{}", second.stdout);
    assert_eq!(
        rows(&second)
            .iter()
            .filter(|row| row.contains("0001_lines | 0 | ok"))
            .count(),
        4
    );
    let third = project.migrate(true, &[]).await;
    assert_eq!(rows(&third).iter().filter(|row| row.ends_with("| 1 | ok")).count(), 4);
}

#[tokio::test]
async fn a_dump_applied_on_the_first_connection_leaves_it_usable() {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("dumped").await.unwrap();
    let project = Project::new(json!({"acme": postgres.secret(&tenant)}));
    let users =
        include_str!("../../migrations/postgresql/0001_create_users.sql").replace("TABLE users", "TABLE public.users");
    let users = users.replace("ON users", "ON public.users");
    let dump = format!(
        "\\restrict abc\n\nSET statement_timeout = 0;\nSET lock_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\
         SET row_security = off;\nSET TimeZone = 'Asia/Tokyo';\n{users}\n\\unrestrict abc\n"
    );
    project.write("postgresql/0001_base.sql", &dump).await;
    project
        .write(
            "postgresql/0002_index.sql",
            "-- no-transaction\nCREATE INDEX CONCURRENTLY named ON users (name);\n",
        )
        .await;
    let (_server, client) = serve(&project.config(true)).await;
    let client = client.tenant("acme");
    client.post(USERS, &user("Ann", "a@x.example")).await.expect(201);
    let answers = join_all((0..20).map(|_| client.get(USERS))).await;
    for answer in answers {
        assert_eq!(answer.expect(200).json()["items"].as_array().unwrap().len(), 1);
    }
    assert_eq!(applied(&tenant).await, "1,2");
}

/// Two processes migrate, and a server does on its first connection, while an index is built that
/// waits for every transaction.
async fn processes_at_once_build_an_index_once(tenant: &TenantDb, secret: Value) {
    let postgres = PostgresServer::shared().await;
    let rows = "CREATE TABLE public.large AS SELECT n, md5(n::text) AS v FROM generate_series(1, 300000) AS n; \
                ALTER TABLE public.large OWNER TO";
    let prepared = format!("{rows} \"{}\"", tenant.user);
    postgres.psql(&tenant.database, &prepared).await.unwrap();
    let project = Project::new(json!({"acme": secret}));
    project
        .write(
            "postgresql/0001_create_users.sql",
            include_str!("../../migrations/postgresql/0001_create_users.sql"),
        )
        .await;
    let index = "-- no-transaction\nCREATE INDEX CONCURRENTLY by_v ON large (v);\nCREATE INDEX CONCURRENTLY by_n ON large (n);\n\
                 INSERT INTO large VALUES (0, 'done');\n";
    project.write("postgresql/0002_index.sql", index).await;
    let (_server, client) = serve(&project.config(true)).await;
    let client = client.tenant("acme");
    let (one, other, answer) = tokio::join!(
        project.migrate(true, &[]),
        project.migrate(true, &[]),
        client.get(USERS)
    );
    assert_eq!((one.code, other.code), (0, 0), "{}{}", one.stdout, other.stdout);
    if answer.status != 200 {
        answer.problem(503, "tenant_migrating");
    }
    assert_eq!(applied(tenant).await, "1,2");
    let done =
        "SELECT (SELECT count(*) FROM large WHERE v = 'done'), (SELECT count(*) FROM pg_index WHERE NOT indisvalid)";
    assert_eq!(postgres.psql(&tenant.database, done).await.unwrap(), "1|0");
}

#[tokio::test]
async fn processes_at_once_build_an_index_once_on_postgresql() {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("concurrently").await.unwrap();
    processes_at_once_build_an_index_once(&tenant, postgres.secret(&tenant)).await;
}

#[tokio::test]
async fn processes_at_once_behind_a_pooler_build_an_index_once() {
    let postgres = PostgresServer::shared().await;
    let pgbouncer = PgBouncer::start(postgres, "").await.unwrap();
    let tenant = postgres.create_tenant("concurrently").await.unwrap();
    processes_at_once_build_an_index_once(&tenant, pgbouncer.secret(&tenant)).await;
}

#[tokio::test]
async fn files_that_no_driver_would_apply_are_named() {
    let project = Project::new(json!({"acme": {"type": "sqlite", "path": "acme.db"}}));
    project
        .write("sqlite/0001_one.sql", "CREATE TABLE one (id integer);")
        .await;
    project
        .write("sqllite/0002_two.sql", "CREATE TABLE two (id integer);")
        .await;
    project.write("notes/README.md", "Nothing to apply.").await;
    let migrated = project.migrate(true, &[]).await;
    assert_eq!(migrated.code, 0, "{}", migrated.stderr);
    assert!(migrated.stderr.contains("`sqllite`"), "{}", migrated.stderr);
    assert!(!migrated.stderr.contains("`notes`"), "{}", migrated.stderr);
    project
        .write("sqlite/0003_three.SQL", "CREATE TABLE three (id integer);")
        .await;
    let refused = project.migrate(true, &[]).await;
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    assert!(refused.stderr.contains("`sqlite/0003_three.SQL`"), "{}", refused.stderr);
}

#[tokio::test]
async fn files_that_cannot_be_read_are_refused_by_name() {
    let project = Project::new(json!({"acme": sqlite("acme")}));
    project.write("sqlite/0001_a.sql", "SELECT 1;\n").await;
    let utf16: Vec<u8> = "\u{feff}SELECT 1;".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(project.path().join("migrations/sqlite/0002_b.sql"), utf16)
        .await
        .unwrap();
    let refused = project.migrate(true, &[]).await;
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("0002_b.sql`: is UTF-16; save it as UTF-8"),
        "{}",
        refused.stderr
    );
}
