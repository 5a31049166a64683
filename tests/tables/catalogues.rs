//! `tables pull` and `tables check` on what catalogues hold besides plain tables.

use std::path::Path;

use serde_json::{Value, json};
use tenantry_test_support::{PostgresServer, TenantryBuilder, TenantryProcess};

use crate::shop::secret;

const MYSQL: &str = "\
CREATE TABLE big (id bigint unsigned AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL);
CREATE TABLE loose (a bigint NOT NULL, b bigint UNIQUE, c varchar(20) NOT NULL, UNIQUE KEY part (c(5)));
INSERT INTO big (id, name) VALUES (18446744073709551615, 'last');
CREATE VIEW seen AS SELECT id, name FROM big;
";

const POSTGRESQL: &str = "\
CREATE DOMAIN code AS varchar(10) NOT NULL CHECK (VALUE <> '');
CREATE TABLE big (id code PRIMARY KEY, tags varchar(3)[], name text NOT NULL);
CREATE TABLE loose (a bigint NOT NULL, b bigint UNIQUE, c text NOT NULL);
CREATE UNIQUE INDEX part ON loose (c) WHERE a > 0;
CREATE VIEW seen AS SELECT id, name FROM big;
";

const SQLITE: &str = "\
CREATE TABLE big (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE loose (a integer NOT NULL, b integer UNIQUE, c text NOT NULL);
CREATE UNIQUE INDEX part ON loose (c) WHERE a > 0;
CREATE UNIQUE INDEX \"key\" ON big (name);
CREATE TABLE plain (number integer PRIMARY KEY) WITHOUT ROWID;
CREATE VIEW seen AS SELECT id, name FROM big;
";

pub(crate) fn program(root: &Path, (kind, secret): (&str, &Value), sql: &str, tables: &str) -> TenantryBuilder {
    let mut tenants = serde_json::Map::new();
    tenants.insert(kind.to_owned(), secret.clone());
    let config = json!({
        "tenancy": {"provider": {"type": "static", "tenants": tenants}},
        "drivers": {"sqlite": {"root": root}},
        "migrations": {"on_connect": true, "dir": "migrations"},
        "rest": {"tables": "tables.yaml"},
    });
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(config.to_string())
        .file("tables.yaml", tables)
        .file(format!("migrations/{kind}/0001_tables.sql"), sql)
}

/// The words of a printed table.
pub(crate) fn words(table: &str) -> String {
    let words: Vec<&str> = table.split(|c: char| c.is_whitespace() || c == '│').collect();
    words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A declaration with this key of `loose`.
fn declared(key: &str, id: &str) -> String {
    format!(
        "tables:\n  loose:\n    key: [{key}]\n    columns: {{ a: {{ type: int8 }}, b: {{ type: int8 }}, c: {{ type: text }} }}\n  \
         seen:\n    key: [id]\n    columns: {{ id: {{ type: {id} }} }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_that_the_configuration_names_is_pulled() {
    let secret = json!({"type": "sqlite", "path": "shop.db"});
    let folder = tempfile::tempdir().unwrap();
    let sql = "CREATE TABLE plain (id integer PRIMARY KEY);";
    for (existing, output) in [(None, None), (Some(""), None), (None, Some("other.yaml"))] {
        let home = folder
            .path()
            .join(format!("{}-{}", existing.is_some(), output.is_some()));
        std::fs::create_dir_all(home.join("migrations/sqlite")).unwrap();
        std::fs::write(home.join("migrations/sqlite/0001_tables.sql"), sql).unwrap();
        let config = json!({
            "tenancy": {"provider": {"type": "static", "tenants": {"acme": secret}}},
            "migrations": {"on_connect": true, "dir": "migrations"},
            "rest": {"tables": "shop.yaml"},
        });
        std::fs::write(home.join("config.yaml"), config.to_string()).unwrap();
        if let Some(text) = existing {
            std::fs::write(home.join("shop.yaml"), text).unwrap();
        }
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tenantry"));
        command.current_dir(&home).args(["tables", "pull", "--tenant", "acme"]);
        if let Some(output) = output {
            command.args(["--output", output]);
        }
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let said = String::from_utf8(done.stdout).unwrap();
        let file = output.unwrap_or("shop.yaml");
        assert!(said.contains(&format!("{file}: 1 tables of `acme`")), "{said}");
        assert!(std::fs::read_to_string(home.join(file)).unwrap().contains("  plain:\n"));
        assert_eq!(home.join("shop.yaml").exists(), output.is_none());
        assert!(!home.join("tables.yaml").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn catalogues_are_pulled_and_compared_with_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, sql, id, pulled) in [
        ("sqlite", SQLITE, "int8", "id: { type: int8, generated: true }"),
        ("mysql", MYSQL, "numeric", "id: { type: numeric, generated: true }"),
        ("postgresql", POSTGRESQL, "text", "id: { type: text, max: 10 }"),
    ] {
        let secret = secret(kind, "catalogue").await;
        let tenant = (kind, &secret);
        let output = folder.path().join(format!("{kind}.yaml"));
        let output = output.to_str().unwrap();
        let pull = ["tables", "pull", "--tenant", kind, "--output", output];
        let done = program(folder.path(), tenant, sql, "tables: {}\n")
            .run(pull)
            .await
            .unwrap();
        assert_eq!(done.code, 0, "{kind}: {done:?}");
        let text = std::fs::read_to_string(output).unwrap();
        assert!(text.contains(pulled) && text.contains("key: [id]"), "{kind}: {text}");
        assert!(!text.contains("description"), "{kind}: {text}");
        assert_eq!(
            text.contains("# tags: the type"),
            kind == "postgresql",
            "{kind}: {text}"
        );
        // SQLite makes no number for a row without a rowid.
        assert_eq!(
            text.contains("number: { type: int8 }"),
            kind == "sqlite",
            "{kind}: {text}"
        );
        if kind == "postgresql" {
            // As `CREATE UNIQUE INDEX CONCURRENTLY` leaves one if there are equal values.
            let invalid = "CREATE UNIQUE INDEX whole ON loose (c); \
                UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'whole'::regclass; \
                ALTER TABLE loose ADD UNIQUE (a) DEFERRABLE";
            let server = PostgresServer::shared().await;
            server
                .psql(secret["database"].as_str().unwrap(), invalid)
                .await
                .unwrap();
        }
        for (key, fault) in [
            ("a", "the key `a` of the table `loose` is not unique"),
            ("c", "the key `c` of the table `loose` is not unique"),
            ("a, c", "the key `a`, `c` of the table `loose` is not unique"),
            ("b", "the column `b` of the key of the table `loose` may be NULL"),
        ] {
            let tables = declared(key, id);
            let check = program(folder.path(), tenant, sql, &tables)
                .run(["tables", "check"])
                .await
                .unwrap();
            let said = words(&check.stdout);
            assert!(check.code != 0 && said.contains(fault), "{kind}: {key}: {check:?}");
            assert!(!said.contains("`seen`"), "{kind}: {check:?}");
        }
        let good = text.replace("allow: {}", "allow: { anon: { read: {} } }");
        let check = program(folder.path(), tenant, sql, &good)
            .run(["tables", "check"])
            .await
            .unwrap();
        assert_eq!(check.code, 0, "{kind}: {check:?}");
        if kind == "mysql" {
            let drifted = declared("c", "int8").replace("key: [c]", "key: []");
            let check = program(folder.path(), tenant, sql, &drifted)
                .run(["tables", "check"])
                .await
                .unwrap();
            let said = words(&check.stdout);
            assert!(said.contains("`bigint(20) unsigned`"), "{check:?}");
        }
    }
}

/// A tenant's tables are those that are found without their schema. Another schema's table of the
/// same name is another table.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_other_schemas_are_not_mixed_with_a_tenant_s_own() {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret("postgresql", "schemas").await;
    let tenant = ("postgresql", &secret);
    let long = "l".repeat(63);
    let sql = format!(
        "CREATE TABLE films (id integer PRIMARY KEY, title text, \"null\" text);
         CREATE TABLE roles (id integer PRIMARY KEY, film_id integer REFERENCES films);
         CREATE TABLE {long} (id integer PRIMARY KEY, other integer REFERENCES {long});
         CREATE SCHEMA archive;
         CREATE TABLE archive.films (id integer PRIMARY KEY, hidden text);"
    );
    let output = folder.path().join("pulled.yaml");
    let output = output.to_str().unwrap();
    let pull = ["tables", "pull", "--tenant", "postgresql", "--output", output];
    let done = program(folder.path(), tenant, &sql, "tables: {}\n")
        .run(pull)
        .await
        .unwrap();
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stderr.contains("other schemas are left out: `archive`"),
        "{done:?}"
    );
    let text = std::fs::read_to_string(output).unwrap();
    let unwanted = ["hidden", "schema:", "films_2"];
    assert!(!unwanted.iter().any(|word| text.contains(word)), "{text}");
    assert!(text.contains("film: { to: films, on: { film_id: id } }"), "{text}");

    // A second key to the same table is new, and tables that are declared with their schema stay.
    let postgres = PostgresServer::shared().await;
    let more = "ALTER TABLE roles ADD sequel_id integer REFERENCES films; ALTER TABLE archive.films ADD more text";
    let database = secret["database"].as_str().unwrap();
    postgres.psql(database, more).await.unwrap();
    let declared = "  old:\n    table: films\n    schema: archive\n    columns:\n      id: { type: int4 }\n";
    std::fs::write(output, format!("{text}{declared}")).unwrap();
    let done = program(folder.path(), tenant, &sql, "tables: {}\n")
        .run(pull)
        .await
        .unwrap();
    assert_eq!(done.code, 0, "{done:?}");
    let text = std::fs::read_to_string(output).unwrap();
    for added in [
        "sequel: { to: films, on: { sequel_id: id } }",
        "more: { type: text, nullable: true }",
    ] {
        assert_eq!(text.matches(added).count(), 1, "{added}: {text}");
    }
    assert!(!done.stderr.contains("is not in the database"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_never_writes_is_refused_alike() {
    let folder = tempfile::tempdir().unwrap();
    let tables = "tables:\n  sums:\n    key: [id]\n    columns: { id: { type: int8 }, n: { type: int8 } }\n    \
                  allow: { anon: { read: {}, create: {}, update: {}, delete: {} } }\n  \
                  made:\n    key: [id]\n    columns: { id: { type: int8 }, g: { type: int8 } }\n    \
                  allow: { anon: { read: {}, create: {}, update: {}, delete: {} } }\n";
    for (kind, generated) in [("sqlite", ""), ("mysql", ""), ("postgresql", "GENERATED ALWAYS ")] {
        let secret = secret(kind, "never").await;
        let sql = format!(
            "CREATE TABLE made (id bigint PRIMARY KEY, g bigint {generated}AS (id + 1) STORED);\n\
             INSERT INTO made (id) VALUES (1);\n\
             CREATE VIEW sums AS SELECT id, count(*) AS n FROM made GROUP BY id;\n"
        );
        let server = program(folder.path(), (kind, &secret), &sql, tables)
            .start()
            .await
            .unwrap();
        let client = reqwest::Client::new();
        let url = |path: &str| format!("{}/rest/v1/{path}", server.base_url());
        for (request, code) in [
            (client.post(url("sums")).json(&json!({"id": 1, "n": 1})), "55000"),
            (client.delete(url("sums?id=eq.1")), "55000"),
            (client.post(url("made")).json(&json!({"id": 2, "g": 9})), "428C9"),
            (client.patch(url("made?id=eq.1")).json(&json!({"g": 9})), "428C9"),
        ] {
            let answer = request.header("X-Tenant-ID", kind).send().await.unwrap();
            let status = answer.status().as_u16();
            let problem: Value = answer.json().await.unwrap();
            assert_eq!((status, &problem["code"]), (400, &code.into()), "{kind}: {problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn domains_over_domains_and_labels_with_line_breaks_are_pulled_and_served() {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret("postgresql", "domains").await;
    let tenant = ("postgresql", &secret);
    let sql = "CREATE TYPE mood AS ENUM ('good', E'so\nso');
         CREATE DOMAIN feeling AS mood DEFAULT 'good';
         CREATE DOMAIN deep AS feeling NOT NULL;
         CREATE DOMAIN short AS varchar(10) NOT NULL;
         CREATE DOMAIN code AS short CHECK (VALUE <> '');
         CREATE TABLE felt (id bigint PRIMARY KEY, mood deep, code code, plain feeling);";
    let output = folder.path().join("pulled.yaml");
    let pull = [
        "tables",
        "pull",
        "--tenant",
        "postgresql",
        "--output",
        output.to_str().unwrap(),
    ];
    let done = program(folder.path(), tenant, sql, "tables: {}\n")
        .run(pull)
        .await
        .unwrap();
    assert_eq!(done.code, 0, "{done:?}");
    let text = std::fs::read_to_string(output).unwrap();
    for pulled in [
        "mood: { type: { enum: [good, \"so\\nso\"] }, default: true }",
        "code: { type: text, max: 10 }",
        "plain: { type: { enum: [good, \"so\\nso\"] }, nullable: true, default: true }",
    ] {
        assert!(text.contains(pulled), "{pulled}: {text}");
    }
    let tables = text.replace("allow: {}", "allow: { anon: { read: {}, create: {} } }");
    let server = program(folder.path(), tenant, sql, &tables).start().await.unwrap();
    let client = reqwest::Client::new();
    let url = format!("{}/rest/v1/felt", server.base_url());
    let row = json!({"id": 1, "mood": "so\nso", "code": "a", "plain": null});
    let created = client
        .post(&url)
        .header("X-Tenant-ID", "postgresql")
        .json(&row)
        .send()
        .await
        .unwrap();
    assert_eq!(created.status(), 201);
    let found = client
        .get(format!("{url}?mood=eq.so%0Aso"))
        .header("X-Tenant-ID", "postgresql");
    let found: Value = found.send().await.unwrap().json().await.unwrap();
    assert_eq!(found, json!([row]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_view_of_sqlite_hides_no_other_table() {
    let folder = tempfile::tempdir().unwrap();
    let secret = json!({"type": "sqlite", "path": "stale.db"});
    let tenant = ("sqlite", &secret);
    let sql = "CREATE TABLE base (id integer PRIMARY KEY, name text);
         CREATE VIEW fresh AS SELECT id FROM base;
         CREATE VIEW stale AS SELECT gone FROM base;
         CREATE VIEW lost AS SELECT * FROM nowhere;";
    let output = folder.path().join("pulled.yaml");
    let pull = [
        "tables",
        "pull",
        "--tenant",
        "sqlite",
        "--output",
        output.to_str().unwrap(),
    ];
    let done = program(folder.path(), tenant, sql, "tables: {}\n")
        .run(pull)
        .await
        .unwrap();
    assert_eq!(done.code, 0, "{done:?}");
    let text = std::fs::read_to_string(output).unwrap();
    assert!(text.contains("  base:\n") && text.contains("  fresh:\n"), "{text}");
    assert!(!text.contains("stale") && !text.contains("lost"), "{text}");
    for view in ["lost", "stale"] {
        assert!(
            done.stderr.contains(&format!("the view `{view}` is left out")),
            "{done:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_in_a_json_column_of_sqlite_keeps_its_digits() {
    let folder = tempfile::tempdir().unwrap();
    let secret = json!({"type": "sqlite", "path": "numbers.db"});
    let sql = "CREATE TABLE notes (id integer PRIMARY KEY, info json);";
    let tables = "tables:\n  notes:\n    key: [id]\n    columns: { id: { type: int8 }, info: { type: json } }\n    \
                  allow: { anon: { read: {}, create: {} } }\n";
    let server = program(folder.path(), ("sqlite", &secret), sql, tables)
        .start()
        .await
        .unwrap();
    let client = reqwest::Client::new();
    for (id, info) in [
        "9007199254740993",
        "4096.000244140625",
        "12.5",
        "[9007199254740993, 1e2]",
        "\"7\"",
        "true",
    ]
    .iter()
    .enumerate()
    {
        let body = format!("{{\"id\":{id},\"info\":{info}}}");
        let request = client
            .post(format!("{}/rest/v1/notes", server.base_url()))
            .body(body.clone());
        let request = request
            .header("Content-Type", "application/json")
            .header("X-Tenant-ID", "sqlite");
        let answer = request.header("Prefer", "return=representation").send().await.unwrap();
        assert_eq!(answer.status(), 201, "{info}");
        assert_eq!(answer.text().await.unwrap(), format!("[{}]", body.replace(", ", ",")));
    }
}
