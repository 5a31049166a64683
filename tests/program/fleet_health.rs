//! The health of many tenants, and the version that a tenant needs to be served.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tenantry_test_support::{MariadbServer, PostgresServer};
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    databases::serve,
    migrations::{Project, sqlite},
    users::USERS,
};

const INFO: &str = "/api/v1/tenant/info";

#[tokio::test]
async fn a_fleet_s_health_comes_in_pages() {
    let secrets: Map<String, Value> = (0..25)
        .map(|n| format!("t{n:02}"))
        .map(|id| (id.clone(), sqlite(&id)))
        .collect();
    let project = Project::new(Value::Object(secrets));
    let (_server, client) = serve(&project.config(false)).await;
    for tenant in ["t03", "t20"] {
        client.tenant(tenant).get(INFO).await.expect(200);
    }
    client.post("/admin/tenants/t07/suspend", &json!({})).await.expect(204);
    let page = async |query: &str| client.get(&format!("/health/tenants?{query}")).await.expect(200).json();
    let ids = |page: &Value| -> Vec<String> {
        let tenants = page["tenants"].as_array().unwrap().iter();
        tenants
            .map(|tenant| tenant["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let summary =
        json!({"total": 25, "healthy": 2, "unhealthy": 0, "idle": 22, "suspended": 1, "migrating": 0, "behind": 0});

    let all = page("").await;
    assert_eq!(
        (ids(&all).len(), &all["summary"], &all["next"]),
        (25, &summary, &Value::Null)
    );
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let part = page(&format!("limit=10{after}")).await;
        assert_eq!(part["summary"], summary);
        seen.extend(ids(&part));
        match part["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids(&all));
    assert_eq!(ids(&page("status=healthy").await), ["t03", "t20"]);
    assert_eq!(ids(&page("status=suspended&limit=1").await), ["t07"]);
    let first = page("status=healthy&limit=1").await;
    let next = first["next"].as_str().unwrap();
    assert_eq!(
        ids(&page(&format!("status=healthy&limit=1&after={next}")).await),
        ["t20"]
    );

    let probed = page("probe=true&limit=2").await;
    assert_eq!(
        probed["tenants"][0]["schema"],
        json!({"version": null, "pending": 1}),
        "{probed}"
    );
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("status=well", "status"),
        ("after=t03", "after"),
        ("probe=yes", "probe"),
    ] {
        let refused = client.get(&format!("/health/tenants?{query}")).await;
        let problem = refused.problem(400, "request_invalid");
        assert!(problem.to_string().contains(name), "{problem}");
    }
}

#[tokio::test]
async fn a_tenant_below_the_version_that_is_needed_is_refused_by_name() {
    let mut project = Project::new(json!({"ahead": sqlite("ahead"), "behind": sqlite("behind")}));
    let users = include_str!("../../migrations/sqlite/0001_create_users.sql");
    project.write("sqlite/0001_create_users.sql", users).await;
    project
        .write("sqlite/0002_more.sql", "CREATE TABLE more (id integer);")
        .await;
    project
        .write("sqlite/0003_last.sql", "CREATE TABLE last (id integer);")
        .await;
    assert_eq!(
        project
            .migrate(true, &["--to", "0001", "--tenant", "behind"])
            .await
            .code,
        0
    );
    assert_eq!(
        project.migrate(true, &["--to", "0002", "--tenant", "ahead"]).await.code,
        0
    );
    project.more = ", require: \"0002\"".to_owned();
    let config = project.config(true).replace("on_connect: true", "on_connect: false");
    let (server, client) = serve(&config).await;
    client.tenant("ahead").get(INFO).await.expect(200);
    let refused = client.tenant("behind").get(INFO).await;
    let problem = refused.problem(503, "tenant_schema_behind");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("\"0001\"") && detail.contains("\"0002\""), "{detail}");
    assert!(!refused.header("retry-after").is_empty());
    client.tenant("ahead").get(INFO).await.expect(200);

    let health = client.get("/health/tenants").await.expect(200).json();
    assert_eq!(
        (&health["summary"]["behind"], &health["summary"]["healthy"]),
        (&json!(1), &json!(1))
    );
    let one = client.get("/health/tenant/behind").await.expect(503).json();
    assert_eq!(
        (&one["status"], &one["schema"]),
        (&json!("behind"), &json!({"version": "0001", "pending": 2})),
        "{one}"
    );
    let one = client.get("/health/tenant/ahead").await.expect(200).json();
    assert_eq!(one["schema"], json!({"version": "0002", "pending": 1}), "{one}");
    let metrics = client.get("/metrics").await.expect(200).text().to_owned();
    let behind = metrics.lines().find(|line| line.starts_with("tenantry_schema_behind"));
    assert!(behind.is_some_and(|line| line.ends_with(" 1")), "{behind:?}");

    // It is served soon after it was migrated, by whatever did that.
    assert_eq!(project.migrate(true, &["--to", "0002"]).await.code, 0);
    let one = client.get("/health/tenant/behind").await.expect(200).json();
    assert_eq!((&one["status"], &one["error"]), (&json!("healthy"), &Value::Null));
    let began = Instant::now();
    while client.tenant("behind").get(INFO).await.status != 200 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{}",
            server.logs().await.unwrap()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// A backup of an earlier version takes the place of a tenant's database, and every session ends.
async fn a_restored_database_is_looked_at_again(driver: &str, secret: Value, restore: impl AsyncFn()) {
    let mut project = Project::new(json!({"acme": secret}));
    let users = match driver {
        "mysql" => include_str!("../../migrations/mysql/0001_create_users.sql"),
        _ => include_str!("../../migrations/postgresql/0001_create_users.sql"),
    };
    for (file, sql) in [
        ("0001_create_users", users),
        ("0002_two", "CREATE TABLE two (id integer);"),
    ] {
        project.write(&format!("{driver}/{file}.sql"), sql).await;
    }
    assert_eq!(project.migrate(true, &[]).await.code, 0);
    project.more = ", require: \"0002\"".to_owned();
    let config = project.config(true).replace("on_connect: true", "on_connect: false");
    let (_server, client) = serve(&config).await;
    let users = async || client.tenant("acme").get(USERS).await;
    users().await.expect(200);
    restore().await;
    assert_eq!(project.migrate(true, &["--to", "0001"]).await.code, 0);
    // The first one may find the connection lost.
    users().await;
    users().await.problem(503, "tenant_schema_behind");
    let health = client.get("/health/tenants?status=behind").await.expect(200).json();
    assert_eq!(health["tenants"][0]["schema"]["version"], "0001", "{health}");
}

#[tokio::test]
async fn a_restored_database_of_postgresql_is_looked_at_again() {
    let server = PostgresServer::shared().await;
    let tenant = server.create_tenant("restored").await.unwrap();
    let restore = async || {
        let (name, user) = (&tenant.database, &tenant.user);
        let drop = format!("DROP DATABASE \"{name}\" WITH (FORCE)");
        server.psql("postgres", &drop).await.unwrap();
        let create = format!("CREATE DATABASE \"{name}\" OWNER \"{user}\"");
        server.psql("postgres", &create).await.unwrap();
    };
    a_restored_database_is_looked_at_again("postgresql", server.secret(&tenant), restore).await;
}

#[tokio::test]
async fn a_restored_database_of_mariadb_is_looked_at_again() {
    let server = MariadbServer::shared().await;
    let tenant = server.create_tenant("restored").await.unwrap();
    let restore = async || {
        let (name, user) = (&tenant.database, &tenant.user);
        let sql = format!("DROP DATABASE `{name}`; CREATE DATABASE `{name}`; KILL USER '{user}'");
        server.sql("mysql", &sql).await.unwrap();
    };
    a_restored_database_is_looked_at_again("mysql", server.secret(&tenant), restore).await;
}

#[tokio::test]
async fn an_unknown_version_comes_from_a_newer_program() {
    let mut project = Project::new(json!({"acme": sqlite("acme")}));
    project.more = ", require: \"0004\"".to_owned();
    let (_server, client) = serve(&project.config(false)).await;
    client
        .tenant("acme")
        .get(INFO)
        .await
        .problem(503, "tenant_schema_behind");
    let checked = crate::databases::program()
        .config(project.config(false))
        .run(["check"])
        .await
        .unwrap();
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(
        checked.stderr.starts_with("warning: `migrations.require` is `0004`"),
        "{}",
        checked.stderr
    );
    project.more = ", require: \"four\"".to_owned();
    let refused = crate::databases::program()
        .config(project.config(false))
        .run(["check"])
        .await
        .unwrap();
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    assert!(refused.stderr.contains("migrations.require"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_tenant_that_is_being_migrated_says_so() {
    let project = Project::new(json!({"slow": sqlite("slow"), "other": sqlite("other")}));
    let users = include_str!("../../migrations/sqlite/0001_create_users.sql");
    project.write("sqlite/0001_create_users.sql", users).await;
    let slow = "CREATE TABLE n (i integer);\nWITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 300000000)\n\
                INSERT INTO n SELECT max(i) FROM c;\n";
    project.write("sqlite/0002_slow.sql", slow).await;
    let config = format!("{}server: {{ request_timeout: 60s }}\n", project.config(true));
    let config = config.replace("provider:", "pools: { acquire_timeout: 500ms }\n  provider:");
    let (_server, client) = serve(&config).await;
    let waiting = client.tenant("slow");
    waiting.get(INFO).await.problem(503, "tenant_migrating");
    let page = client.get("/health/tenants?status=migrating").await.expect(200).json();
    assert_eq!(
        (&page["summary"]["migrating"], &page["tenants"][0]["id"]),
        (&json!(1), &json!("slow")),
        "{page}"
    );
}

#[tokio::test]
async fn the_fleet_page_is_where_operators_are_and_holds_no_tenant() {
    let project = Project::new(json!({"acme": sqlite("acme")}));
    let config = format!(
        "{}admin: {{ token: an-operator-token-of-the-tests }}\n",
        project.config(false)
    );
    let server = crate::databases::program()
        .config(config)
        .admin_listener()
        .start()
        .await
        .unwrap();
    let (main, operators) = (Client::of(&server), Client::at(server.admin_url()));
    main.get("/admin").await.problem(404, "not_found");
    let page = operators.get("/admin").await.expect(200);
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && page.header("x-content-type-options") == "nosniff",
        "{policy}"
    );
    assert!(!page.text().contains("acme"));
    operators
        .post("/admin", &json!({}))
        .await
        .problem(405, "method_not_allowed");
    operators.get("/health/tenants").await.problem(401, "unauthenticated");
}
