//! Columns with `since`, which tenants of an older schema do not have.

use reqwest::Method;
use serde_json::{Map, Value, json};
use tenantry_test_support::TenantryProcess;

use crate::{
    catalogues::words,
    schemas::get,
    shop::{Role, Shop, secret},
};

/// The stand-in for Oracle has no such catalogue.
const KINDS: [&str; 3] = ["sqlite", "postgresql", "mysql"];

/// The first migration should have added `early`; `late` belongs to the second.
const TABLES: &str = "
tables:
  due:
    columns: { id: { type: int4 }, early: { type: int4, nullable: true, since: \"0001\" } }
    allow: { anon: { read: {} } }
  older:
    columns: { id: { type: int4 }, late: { type: int4, nullable: true, since: \"0002\" } }
    allow: { anon: { read: {} } }
  required:
    key: [id]
    columns: { id: { type: int4 }, late: { type: int4, since: \"0002\" } }
    allow: { anon: { read: {}, create: {} } }
";

const CREATE: &str = "
CREATE TABLE due (id int NOT NULL PRIMARY KEY);
CREATE TABLE older (id int NOT NULL PRIMARY KEY);
CREATE TABLE required (id int NOT NULL PRIMARY KEY);
";

async fn shop() -> Shop {
    let mut tenants = Map::new();
    for kind in KINDS {
        tenants.insert(kind.to_owned(), secret(kind, "versions").await);
    }
    let config = json!({
        "tenancy": {"pools": {"acquire_timeout": "60s", "connect_timeout": "60s"}},
        "server": {"request_timeout": "120s"},
    });
    let migrations = KINDS.map(|kind| (kind, CREATE));
    Shop::over(tenants, config, TABLES, &migrations).await
}

/// The configuration of a shop, which applies no migration.
fn without_migrations(shop: &Shop) -> Value {
    let config = std::fs::read_to_string(shop.server.folder().join("config.yaml")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["drivers"] = json!({"sqlite": {"root": shop.server.folder().join("data")}});
    config["migrations"]["on_connect"] = false.into();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_may_be_missing_only_below_its_version() {
    let shop = shop().await;
    for kind in KINDS {
        // Its migrations are applied by the first request.
        let older = shop.get(kind, Role::Anon, "older").await;
        assert_eq!((older.status, older.json()), (200, json!([])), "{kind}");
    }
    let looking = Shop::program(without_migrations(&shop).to_string())
        .file("tables.yaml", TABLES)
        .start()
        .await
        .unwrap();
    for (server, kind) in [&shop.server, &looking]
        .into_iter()
        .flat_map(|server| KINDS.map(|kind| (server, kind)))
    {
        assert_eq!(get(server, kind, "older").await, (200, json!([])), "{kind}");
        for (path, missing) in [
            ("due", "column `early` of the table `due`"),
            ("older?select=late", "column `late` of the table `older`"),
        ] {
            let (status, problem) = get(server, kind, path).await;
            assert_eq!(
                (status, &problem["code"]),
                (503, &"tenant_schema_behind".into()),
                "{kind}: {problem}"
            );
            assert!(
                problem["detail"].as_str().unwrap().contains(missing),
                "{kind}: {problem}"
            );
        }
        let logs = server.logs().await.unwrap();
        let reported: Vec<&str> = logs
            .lines()
            .filter(|line| line.contains("lacks what is declared"))
            .collect();
        assert!(reported.iter().any(|line| line.contains("`early`")), "{logs}");
        assert!(!reported.iter().any(|line| line.contains("`late`")), "{logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_check_allows_a_column_of_a_later_version_to_be_missing() {
    let shop = shop().await;
    let config = without_migrations(&shop);
    for kind in KINDS {
        shop.get(kind, Role::Anon, "older").await;
        let check = |tables: String| {
            let program = Shop::program(config.to_string()).file("tables.yaml", tables);
            program.run(["tables", "check", "--tenant", kind])
        };
        let differs = check(TABLES.to_owned()).await.unwrap();
        assert_eq!(differs.code, 1, "{kind}: {differs:?}");
        let said = words(&differs.stdout);
        assert!(
            said.contains("the column `early` of the table `due` is missing"),
            "{kind}: {said}"
        );
        assert!(!said.contains("late"), "{kind}: {said}");
        let fits = check(TABLES.replace("0001", "0003")).await.unwrap();
        assert_eq!(fits.code, 0, "{kind}: {fits:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_inserted_without_a_required_later_column() {
    let shop = shop().await;
    for kind in KINDS {
        let found = shop.get(kind, Role::Anon, "required").await;
        assert_eq!((found.status, found.json()), (200, json!([])), "{kind}");
        for (body, status) in [(json!({"id": 1}), 201), (json!({"id": 2, "late": 3}), 503)] {
            let body = Some(body.to_string());
            let answer = shop.send(kind, Role::Anon, Method::POST, "required", &[], body).await;
            assert_eq!(answer.status, status, "{kind}: {answer:?}");
        }
        let found = shop.get(kind, Role::Anon, "required").await;
        assert_eq!(found.json(), json!([{"id": 1}]), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn since_is_a_version() {
    let config = "tenancy:\n  provider: { type: static, tenants: {} }\nrest: { tables: tables.yaml }\n";
    for (since, is_version) in [
        ("4", true),
        ("20260102030405", true),
        ("banana", false),
        ("-4", false),
        ("+4", false),
    ] {
        let checked = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
            .config(config)
            .file("tables.yaml", TABLES.replace("0002", since))
            .run(["check"])
            .await
            .unwrap();
        assert_eq!(checked.code == 0, is_version, "{since}: {checked:?}");
        let said = "rest.tables.older.columns.late.since: is not a version such as \"0004\"";
        assert_eq!(checked.stderr.contains(said), !is_version, "{since}: {checked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_later_version_is_served_once_the_tenant_has_it() {
    let shop = shop().await;
    for kind in KINDS {
        shop.get(kind, Role::Anon, "older").await;
        let file = format!("migrations/{kind}/0002_late.sql");
        let migrated = Shop::program(without_migrations(&shop).to_string())
            .file("tables.yaml", TABLES)
            .file(format!("migrations/{kind}/0001_tables.sql"), CREATE)
            .file(
                file,
                "ALTER TABLE older ADD late int; INSERT INTO older (id) VALUES (1);",
            )
            .run(["migrate", "--tenant", kind])
            .await
            .unwrap();
        assert_eq!(migrated.code, 0, "{kind}: {migrated:?}");
        // A probe finds the later version.
        let health = format!("{}/health/tenant/{kind}", shop.server.base_url());
        assert_eq!(reqwest::get(health).await.unwrap().status(), 200, "{kind}");
        let older = shop.get(kind, Role::Anon, "older").await;
        assert_eq!(older.json(), json!([{"id": 1, "late": null}]), "{kind}");
    }
}
