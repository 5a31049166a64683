//! What the program says while it runs, and what it never says.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry_test_support::{CANARY, PostgresServer, TenantryProcess};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::{
    client::{Client, send},
    databases::{Database, config, program},
    users::{USERS, user},
};

const TOKEN: &str = "canary-operator-token";

/// Words that stand in secrets, in statements' parameters and in what clients send.
pub(crate) const CANARIES: [&str; 4] = [CANARY, TOKEN, "canary-name", "canary-mail"];

/// Tenants with canaries in their secrets, one of them with a wrong password.
pub(crate) async fn secrets() -> Value {
    let mut secrets = Database::Postgresql.secrets(&["acme"]).await;
    secrets["lite"] = json!({"type": "sqlite", "path": "lite.db", "password": CANARY});
    secrets["maria"] = Database::Mariadb.secret("maria").await;
    let mut wrong = secrets["acme"].clone();
    wrong["password"] = format!("{CANARY}-wrong").into();
    secrets["wrong"] = wrong;
    secrets
}

async fn start(logging: &str) -> (TenantryProcess, Client) {
    let config = format!(
        "{}admin: {{ token: {TOKEN} }}\nlogging: {logging}\n",
        config(&secrets().await)
    );
    let server = program().config(config).start().await.unwrap();
    let client = Client::of(&server);
    (server, client)
}

/// A bit of everything, what fails included.
pub(crate) async fn use_everything(client: &Client) {
    for tenant in ["acme", "lite", "maria"] {
        let tenant = client.tenant(tenant);
        let made = tenant
            .post(USERS, &user("canary-name", "canary-mail@x.example"))
            .await
            .expect(201)
            .json();
        tenant
            .post(USERS, &user("canary-name", "canary-mail@x.example"))
            .await
            .problem(409, "conflict");
        tenant
            .put(
                &format!("{USERS}/{}", made["id"]),
                &user("canary-name two", "canary-mail2@x.example"),
            )
            .await
            .expect(200);
        tenant.get(USERS).await.expect(200);
        tenant.get("/api/v1/tenant/info").await.expect(200);
    }
    client
        .tenant("acme")
        .post(
            USERS,
            &json!({"name": "canary-name", "email": "canary-mail", "canary-name": 1}),
        )
        .await
        .problem(400, "request_invalid");
    client
        .tenant("wrong")
        .get(USERS)
        .await
        .problem(503, "database_unavailable");
    client
        .tenant("acme")
        .get(&format!("{USERS}?limit=canary-name"))
        .await
        .problem(400, "request_invalid");
    client.get("/canary-name?x=canary-mail").await.problem(404, "not_found");
    client
        .tenant("canary-name.")
        .get(USERS)
        .await
        .problem(400, "tenant_malformed");
    let operator = client.token(TOKEN);
    client
        .token(&format!("{TOKEN}-wrong"))
        .get("/metrics")
        .await
        .problem(401, "unauthenticated");
    for path in ["/health/tenants?probe=true", "/health/cache", "/metrics"] {
        let answer = operator.get(path).await.expect(200);
        for canary in CANARIES {
            assert!(!answer.text().contains(canary), "{path}: {}", answer.text());
        }
    }
    operator
        .post("/admin/tenants/acme/refresh", &json!({}))
        .await
        .expect(200);
}

#[tokio::test]
async fn nothing_secret_is_logged_at_the_most_talkative_level() {
    let loudest = "trace,sqlx=trace,sqlx_core=trace,hyper=trace,h2=trace,rustls=trace,sea_orm=trace,poem=trace,tenantry_core=trace";
    for logging in [
        "{ level: trace }",
        "{ level: trace, format: json }",
        &format!("{{ level: \"{loudest}\" }}"),
    ] {
        let (server, client) = start(logging).await;
        use_everything(&client).await;
        server.terminate().await.unwrap();
        assert_eq!(server.wait().await.unwrap(), 0);
        let logs = server.logs().await.unwrap();
        assert!(logs.lines().count() > 40, "{logs}");
        for canary in CANARIES {
            let line = logs.lines().find(|line| line.contains(canary));
            assert!(line.is_none(), "{logging}: {canary}: {line:?}");
        }
    }
}

#[tokio::test]
async fn each_line_is_a_json_object_and_each_request_has_one() {
    let (server, client) = start("{ level: info, format: json }").await;
    let requests = [
        ("one", "GET", "acme", USERS, 200, Some("acme"), Some(USERS)),
        (
            "two",
            "GET",
            "acme",
            "/api/v1/tenant/users/77",
            404,
            Some("acme"),
            Some("/api/v1/tenant/users/{id}"),
        ),
        ("three", "GET", "nobody", USERS, 404, Some("nobody"), Some(USERS)),
        ("four", "GET", "..", USERS, 400, None, Some(USERS)),
        ("five", "GET", "acme", "/nope", 404, None, None),
        ("six", "PATCH", "acme", USERS, 405, None, Some(USERS)),
        (
            "seven",
            "GET",
            "acme",
            "/health/cache",
            401,
            None,
            Some("/health/cache"),
        ),
    ];
    for (id, method, tenant, path, status, ..) in requests {
        let request = client
            .tenant(tenant)
            .request(method.parse().unwrap(), path)
            .header("X-Request-ID", id);
        send(request).await.expect(status);
    }
    for probe in ["/health/live", "/health/ready"] {
        send(
            client
                .request(reqwest::Method::GET, probe)
                .header("X-Request-ID", "probe"),
        )
        .await
        .expect(200);
    }
    let metrics = client
        .token(TOKEN)
        .request(reqwest::Method::GET, "/metrics")
        .header("X-Request-ID", "probe");
    send(metrics).await.expect(200);
    server.terminate().await.unwrap();
    assert_eq!(server.wait().await.unwrap(), 0);

    let logs = server.logs().await.unwrap();
    let lines: Vec<Value> = logs
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    for line in &lines {
        for field in ["timestamp", "level", "target"] {
            assert!(line[field].is_string(), "{line}");
        }
    }
    let of_request = |id: &str| {
        lines
            .iter()
            .filter(|line| line["target"] == "tenantry::access" && line["request_id"] == id)
            .collect::<Vec<_>>()
    };
    for (id, method, _, _, status, tenant, route) in requests {
        let [line] = of_request(id)[..] else {
            panic!("{id}: {:?}", of_request(id))
        };
        assert_eq!(
            (&line["method"], &line["status"], &line["level"]),
            (&json!(method), &json!(status), &json!("INFO")),
            "{line}"
        );
        assert_eq!(line["tenant_id"].as_str(), tenant, "{line}");
        assert!(
            line["duration_ms"].as_f64().is_some_and(|duration| duration > 0.0),
            "{line}"
        );
        assert_eq!(line["route"].as_str(), route, "{line}");
        // The route, never the path that the client wrote.
        assert!(!line.to_string().contains("/users/77"), "{line}");
    }
    assert!(of_request("probe").is_empty(), "{:?}", of_request("probe"));
}

/// The slow line is the only trace of it, and its tenant may be the slow one.
#[tokio::test]
async fn a_request_that_its_client_gave_up_is_told() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secrets = json!({"mute": {
        "type": "postgresql", "host": "127.0.0.1", "port": mute.local_addr().unwrap().port(), "database": "mute", "username": "mute",
        "password": CANARY, "tls": {"mode": "disable"}}});
    let config = config(&secrets).replace(
        "tenancy:\n",
        "tenancy:\n  pools: { connect_timeout: 60s, acquire_timeout: 60s }\n",
    );
    let server = program()
        .config(format!(
            "{config}server: {{ request_timeout: 60s }}\nlogging: {{ format: json }}\n"
        ))
        .start()
        .await
        .unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let request =
        format!("GET {USERS} HTTP/1.1\r\nHost: localhost\r\nX-Tenant-ID: mute\r\nX-Request-ID: given-up\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let (_connection, _) = mute.accept().await.unwrap();
    drop(client);
    let logs = server.logs_with("given-up", Duration::from_secs(30)).await.unwrap();
    let line = logs.lines().find(|line| line.contains("given-up")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(
        (&line["status"], &line["tenant_id"], &line["target"]),
        (&json!(499), &json!("mute"), &json!("tenantry::access")),
        "{line}"
    );
}

/// A trigger can write any text into a warning, also one that looks like another line of the log.
#[tokio::test]
async fn a_database_s_warnings_are_not_logged() {
    let server = PostgresServer::shared().await;
    let database = server.create_tenant("notices").await.unwrap();
    let loudest = "trace,sqlx=trace,sqlx::postgres::notice=trace";
    for logging in [
        "{ level: info }".to_owned(),
        format!("{{ level: \"{loudest}\" }}"),
        format!("{{ level: \"{loudest}\", format: json }}"),
    ] {
        let secrets = json!({"acme": server.secret(&database)});
        let config = format!("{}logging: {logging}\n", config(&secrets));
        let program = program().config(config).start().await.unwrap();
        let tenant = Client::of(&program).tenant("acme");
        tenant.get(USERS).await.expect(200);
        let owner = format!("SET ROLE \"{}\";", database.user);
        let warn = "CREATE OR REPLACE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              SET client_min_messages = 'debug1';
              RAISE WARNING E'canary-name\\n2026-01-01T00:00:00Z ERROR canary-forged %', new.email;
              RAISE NOTICE 'canary-name'; RAISE LOG 'canary-name'; RAISE DEBUG 'canary-name';
              RETURN new; END $$;
            CREATE OR REPLACE TRIGGER warn BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION warn();";
        server
            .psql(&database.database, &format!("{owner} {warn}"))
            .await
            .unwrap();
        let id = program.port();
        tenant
            .post(USERS, &user("canary-name", &format!("canary-mail{id}@x.example")))
            .await
            .expect(201);
        program.terminate().await.unwrap();
        assert_eq!(program.wait().await.unwrap(), 0);
        let logs = program.logs().await.unwrap();
        let line = logs.lines().find(|line| line.contains("canary"));
        assert!(line.is_none(), "{logging}: {line:?}");
    }
}

/// A trigger can write any text into an error, and into the names that come with one.
#[tokio::test]
async fn a_database_s_refusals_are_not_logged() {
    let triggers = [
        (
            "postgresql",
            include_str!("../../migrations/postgresql/0001_create_users.sql"),
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               RAISE EXCEPTION USING ERRCODE = new.name, MESSAGE = E'canary\\n2026-01-01 ERROR', DETAIL = 'canary',
                 HINT = 'canary', CONSTRAINT = E'canary\\n', COLUMN = 'canary', TABLE = 'canary', SCHEMA = 'canary';
             END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION refuse();",
        ),
        (
            "mysql",
            include_str!("../../migrations/mysql/0001_create_users.sql"),
            "CREATE TRIGGER refuse BEFORE INSERT ON users FOR EACH ROW
               SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'canary\\n2026-01-01 ERROR';",
        ),
        (
            "sqlite",
            include_str!("../../migrations/sqlite/0001_create_users.sql"),
            "CREATE TRIGGER refuse BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, 'canary: UNIQUE'); END;",
        ),
    ];
    let mut secrets = Database::Postgresql.secrets(&["postgresql"]).await;
    secrets["mysql"] = Database::Mariadb.secret("mysql").await;
    secrets["sqlite"] = json!({"type": "sqlite", "path": "refuses.db"});
    let mut builder = program().config(format!(
        "tenancy:\n  provider: {{ type: static, tenants: {secrets} }}\n\
         migrations: {{ on_connect: true, dir: migrations }}\nlogging: {{ level: \"trace,sqlx=trace\" }}\n"
    ));
    for (driver, tables, trigger) in triggers {
        let path = format!("migrations/{driver}/0001_create_users.sql");
        builder = builder.file(path, format!("{tables}\n{trigger}\n"));
    }
    let program = builder.start().await.unwrap();
    for (tenant, ..) in triggers {
        // On PostgreSQL the name is the error's code: each leads another way through the program.
        for code in ["P0001", "23505", "22P02", "25006", "40001", "0A000"] {
            let user = user(code, &format!("{}@x.example", code.to_lowercase()));
            let answer = Client::of(&program).tenant(tenant).post(USERS, &user).await;
            assert!(answer.status >= 400 && !answer.text().contains("canary"), "{answer:?}");
        }
    }
    program.terminate().await.unwrap();
    assert_eq!(program.wait().await.unwrap(), 0);
    let logs = program.logs().await.unwrap();
    let line = logs
        .lines()
        .find(|line| line.contains("canary:") || line.starts_with("2026-01-01"));
    assert!(line.is_none() && !logs.contains("canary\n"), "{line:?}");
    assert!(logs.contains("23505") || logs.contains("409"), "nothing was refused");
}
