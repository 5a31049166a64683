//! Tenants whose databases are not as declared, and what the commands say of them.

use serde_json::{Value, json};
use tenantry_test_support::{PostgresServer, TenantryProcess};

use crate::{
    case::Case,
    shop::{Role, Shop},
};

const TABLES: &str = "
tables:
  notes:
    key: [id]
    columns:
      id: { type: int4 }
      text: { type: text }
      mood: { type: { enum: [good, bad] }, default: true }
      state: { type: text, nullable: true, since: \"0002\" }
      size: { type: int4, nullable: true }
    allow:
      anon: { read: {}, create: {}, update: {}, delete: {} }
  later:
    columns: { id: { type: int4 } }
    allow: { anon: { read: {} } }
";

async fn server(tenants: &Value, tables: &str) -> TenantryProcess {
    let config = format!(
        "tenancy:\n  provider: {{ type: static, tenants: {tenants} }}\nmigrations: {{ on_connect: false }}\n\
         rest: {{ tables: tables.yaml }}\n"
    );
    let program = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"));
    program
        .config(config)
        .file("tables.yaml", tables)
        .start()
        .await
        .unwrap()
}

pub(crate) async fn get(server: &TenantryProcess, tenant: &str, path: &str) -> (u16, Value) {
    let request = reqwest::Client::new().get(format!("{}/rest/v1/{path}", server.base_url()));
    let answer = request.header("X-Tenant-ID", tenant).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_behind_names_what_is_missing() {
    let postgres = PostgresServer::shared().await;
    let (old, new) = (
        postgres.create_tenant("old").await.unwrap(),
        postgres.create_tenant("new").await.unwrap(),
    );
    let create = |columns: &str| {
        format!(
            "CREATE TYPE mood AS ENUM ('good', 'bad');
             CREATE TABLE notes (id integer PRIMARY KEY, text text NOT NULL, mood mood NOT NULL DEFAULT 'good' {columns});
             GRANT ALL ON notes TO PUBLIC;"
        )
    };
    postgres.psql(&old.database, &create("")).await.unwrap();
    let later = ", state text, size text); CREATE TABLE later (id integer";
    postgres.psql(&new.database, &create(later)).await.unwrap();
    postgres
        .psql(&new.database, "GRANT ALL ON later TO PUBLIC")
        .await
        .unwrap();
    let tenants = json!({"old": postgres.secret(&old), "new": postgres.secret(&new)});
    let server = server(&tenants, TABLES).await;

    let post = |tenant: &'static str, body: Value| {
        let request = reqwest::Client::new().post(format!("{}/rest/v1/notes", server.base_url()));
        let request = request
            .header("X-Tenant-ID", tenant)
            .header("Prefer", "return=representation")
            .json(&body);
        async move { request.send().await.unwrap() }
    };
    // An enumeration of the database's own is written and read as a text.
    let body = json!({"id": 1, "text": "a", "mood": "bad"});
    assert_eq!(
        post("old", body).await.status(),
        503,
        "`size` is missing, and belongs to every version"
    );
    let (status, problem) = get(&server, "old", "notes?select=size").await;
    assert_eq!(
        (status, &problem["code"]),
        (503, &"tenant_schema_behind".into()),
        "{problem}"
    );
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("column `size` of the table `notes`"),
        "{problem}"
    );
    assert_eq!(get(&server, "old", "notes?select=id,text").await, (200, json!([])));
    for path in [
        "notes?select=state",
        "notes?select=id&state=eq.x",
        "notes?select=id&order=state",
        "later",
    ] {
        let (status, problem) = get(&server, "old", path).await;
        assert_eq!(
            (status, &problem["code"]),
            (503, &"tenant_schema_behind".into()),
            "{path}: {problem}"
        );
    }
    let (_, problem) = get(&server, "old", "later").await;
    assert!(
        problem["detail"].as_str().unwrap().contains("table `later`"),
        "{problem}"
    );
    // Its neighbour is not affected.
    assert_eq!(get(&server, "new", "later").await, (200, json!([])));
    let made = post("new", json!({"id": 1, "text": "a", "mood": "bad"})).await;
    assert_eq!(made.status(), 201);
    assert_eq!(made.json::<Value>().await.unwrap()[0]["mood"], "bad");
    assert_eq!(
        get(&server, "new", "notes?mood=eq.bad&select=id,state").await,
        (200, json!([{"id": 1, "state": null}]))
    );
    assert!(
        server
            .logs()
            .await
            .unwrap()
            .contains("is declared as `int4` and is `text`")
    );

    // Once it is migrated it serves, and without what a later version adds it serves the rest.
    postgres
        .psql(&old.database, "ALTER TABLE notes ADD size integer")
        .await
        .unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (status, rows) = get(&server, "old", "notes").await;
        if status == 200 {
            assert_eq!(rows, json!([]));
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{rows}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let made = post("old", json!({"id": 1, "text": "a", "mood": "good"})).await;
    let row: Value = made.json().await.unwrap();
    assert_eq!(row, json!([{"id": 1, "text": "a", "mood": "good", "size": null}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_whose_type_changes_is_looked_up_again() {
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("changing").await.unwrap();
    let create = "CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE TABLE notes (id integer PRIMARY KEY, text text NOT NULL, mood mood NOT NULL, state text, size integer);
        CREATE TABLE later (id integer);
        GRANT ALL ON notes, later TO PUBLIC;";
    postgres.psql(&tenant.database, create).await.unwrap();
    let server = server(&json!({"changing": postgres.secret(&tenant)}), TABLES).await;
    // That `mood` is an enumeration is known from now on.
    assert_eq!(get(&server, "changing", "notes").await, (200, json!([])));
    let change = "ALTER TABLE notes ALTER state TYPE mood USING state::mood";
    postgres.psql(&tenant.database, change).await.unwrap();
    let row = json!({"id": 1, "text": "a", "mood": "bad", "state": "good"});
    let request = reqwest::Client::new().post(format!("{}/rest/v1/notes", server.base_url()));
    let answer = request
        .header("X-Tenant-ID", "changing")
        .json(&row)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
}

/// Columns of PostgreSQL of other types than declared, if these can be cast.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_another_type_is_read_as_declared() {
    let tables = "
tables:
  flags:
    key: [id]
    columns: { id: { type: int4 }, flag: { type: bool, nullable: true }, bytes: { type: bytea, nullable: true } }
    relations: { same: { to: flags, on: { id: id } } }
    allow: { anon: { read: {} } }
";
    let postgres = PostgresServer::shared().await;
    let tenant = postgres.create_tenant("flags").await.unwrap();
    let create = "CREATE TABLE flags (id integer PRIMARY KEY, flag text, bytes integer);
        INSERT INTO flags VALUES (1, 'true', 1);
        GRANT ALL ON flags TO PUBLIC;";
    postgres.psql(&tenant.database, create).await.unwrap();
    let server = server(&json!({"flags": postgres.secret(&tenant)}), tables).await;
    for (path, expected) in [
        ("flags?select=id,flag", json!([{"id": 1, "flag": true}])),
        (
            "flags?select=flag,same(flag)",
            json!([{"flag": true, "same": {"flag": true}}]),
        ),
    ] {
        assert_eq!(get(&server, "flags", path).await, (200, expected), "{path}");
    }
    // No cast makes bytes of a number.
    let (status, problem) = get(&server, "flags", "flags?select=bytes").await;
    assert_eq!((status, &problem["code"]), (404, &json!("42883")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_becomes_a_declaration_that_serves_it() {
    let shop = Shop::open().await;
    for kind in ["sqlite", "postgresql", "mysql"] {
        // The tables are made by the first request.
        shop.get(kind, Role::Anon, "customers?select=id").await;
        let config = std::fs::read_to_string(shop.server.folder().join("config.yaml")).unwrap();
        let root = shop.server.folder().join("data");
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["drivers"] = json!({"sqlite": {"root": root}});
        let program = || Shop::program(config.to_string());
        let output = shop.server.folder().join(format!("pulled-{kind}.yaml"));
        let pull = ["tables", "pull", "--tenant", kind, "--output"].map(std::ffi::OsString::from);
        let pull = || pull.iter().cloned().chain([output.clone().into_os_string()]);
        let first = program().run(pull()).await.unwrap();
        assert_eq!(first.code, 0, "{first:?}");
        let text = std::fs::read_to_string(&output).unwrap();
        for expected in [
            "  customers:\n",
            "    key: [order_id, line]\n",
            "allow: {}\n",
            "name: { type: text, max: ",
        ] {
            let expected = expected.trim_end_matches(", max: ");
            assert!(text.contains(expected), "{kind}: no {expected:?}: {text}");
        }
        assert!(text.contains("many: true"), "{kind}: {text}");
        // SQLite has no type for it.
        let is_json = text.contains("info: { type: json, nullable: true }");
        assert_eq!(is_json, kind != "sqlite", "{kind}: {text}");
        assert!(
            text.contains("customer: { to: customers, on: { customer_id: id } }"),
            "{kind}: {text}"
        );
        // What its owner writes stays, byte for byte.
        let edited = text.replace("allow: {}", "allow: { anon: { read: {} } } # ours");
        std::fs::write(&output, &edited).unwrap();
        let again = program().run(pull()).await.unwrap();
        assert_eq!(again.code, 0, "{again:?}");
        assert_eq!(std::fs::read_to_string(&output).unwrap(), edited, "{kind}");
        // What was written is a declaration that the database fits.
        let check = program()
            .file("tables.yaml", edited)
            .run(["tables", "check", "--tenant", kind])
            .await
            .unwrap();
        assert_eq!(check.code, 0, "{kind}: {check:?}");
        let declared = program().run(["tables", "check", "--tenant", kind]).await.unwrap();
        assert_eq!(declared.code, 0, "{kind}: {declared:?}");
        assert!(!declared.stderr.contains("warning"), "{kind}: {declared:?}");
    }
    Case::get(Role::Clerk, "customers?select=id&id=eq.1")
        .gives(&shop, 200, json!([{"id": 1}]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_the_same_with_every_database_down() {
    let document = |server: &TenantryProcess| {
        let request = reqwest::Client::new().get(format!("{}/openapi.json", server.base_url()));
        async move { request.send().await.unwrap().text().await.unwrap() }
    };
    let shop = Shop::open().await;
    let served = document(&shop.server).await;
    assert!(served.contains("/rest/v1/order_items"), "{served}");
    // Nothing listens at port 1, and there is no such folder.
    let mut config = std::fs::read_to_string(shop.server.folder().join("config.yaml"))
        .map(|text| serde_json::from_str::<Value>(&text).unwrap())
        .unwrap();
    for secret in config["tenancy"]["provider"]["tenants"]
        .as_object_mut()
        .unwrap()
        .values_mut()
    {
        match secret["type"].as_str() {
            Some("sqlite") => secret["path"] = "missing/shop.db".into(),
            _ => (secret["host"], secret["port"]) = ("127.0.0.1".into(), 1.into()),
        }
    }
    let down = Shop::program(config.to_string()).start().await.unwrap();
    assert_eq!(document(&down).await, served);
    let (status, problem) = get(&down, "postgresql", "orders").await;
    assert_eq!((status, &problem["code"]), (503, &"database_unavailable".into()));
    assert_eq!(document(&down).await, served);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_also_at_the_root_of_the_tables() {
    for (is_served, status) in [(true, 200), (false, 404)] {
        let config = format!(
            "tenancy:\n  provider: {{ type: static, tenants: {{}} }}\nrest: {{ path: /api/rest, tables: tables.yaml }}\n\
             docs: {{ enabled: {is_served} }}\n"
        );
        let program = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"));
        let program = program.config(config).file("tables.yaml", TABLES);
        let server = program.start().await.unwrap();
        let mut answers = Vec::new();
        for path in ["/openapi.json", "/api/rest/", "/api/rest"] {
            let answer = reqwest::get(format!("{}{path}", server.base_url())).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            let headers = ["content-type", "etag", "cache-control"];
            let headers = headers.map(|name| answer.headers().get(name).cloned());
            answers.push((headers, answer.text().await.unwrap()));
        }
        if is_served {
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_no_request_can_have_is_named() {
    let tables = TABLES.replace(
        "allow: { anon: { read: {} } }",
        "allow: { anon: { read: {} }, clerk: { read: {} } }",
    );
    let run = |resolver: &'static str, command: &'static [&'static str]| {
        let config = format!(
            "tenancy:\n  provider: {{ type: static, tenants: {{}} }}\n  resolver: {resolver}\nrest: {{ tables: tables.yaml }}\n"
        );
        let program = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"));
        program
            .config(config)
            .file("tables.yaml", tables.clone())
            .run(command.iter().copied())
    };
    let commands: [&[&str]; 2] = [&["check"], &["tables", "check"]];
    for command in commands {
        let warned = run("{ type: header }", command).await.unwrap();
        assert_eq!(warned.code, 0, "{warned:?}");
        assert!(warned.stderr.contains("so `clerk` may do nothing"), "{warned:?}");
        let secret = "{ type: jwt, secret: a-secret-that-only-tests-know-of-32-bytes, claim: tenant }";
        let silent = run(secret, command).await.unwrap();
        assert!(silent.code == 0 && !silent.stderr.contains("clerk"), "{silent:?}");
    }
}
