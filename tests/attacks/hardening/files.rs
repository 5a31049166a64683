//! Attempts to reach another tenant's SQLite file, or to read one as another user of the machine.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tenantry_test_support::{TenantryBuilder, TenantryProcess};

use super::{ask, send_body};
use crate::raw::send;

fn program(tenants: &str) -> TenantryBuilder {
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(
            "tenancy:\n  provider: { type: file, path: tenants.yaml }\n\
             migrations: { on_connect: true, sample_data: true }\n",
        )
        .file("tenants.yaml", tenants)
}

#[tokio::test]
async fn two_tenants_cannot_share_a_file() {
    let tenants = "acme: { type: sqlite, path: shared/acme.db }\n\
                   same: { type: sqlite, path: shared/acme.db }\n\
                   dotted: { type: sqlite, path: shared/./acme.db }\n\
                   doubled: { type: sqlite, path: shared//acme.db }\n\
                   url: { url: \"sqlite:shared/acme.db\" }\n\
                   soft: { type: sqlite, path: soft.db }\n\
                   hard: { type: sqlite, path: hard.db }\n\
                   folder: { type: sqlite, path: alias/acme.db }\n";
    let server = program(tenants).start().await.unwrap();
    let info = "GET /api/v1/tenant/info";
    assert_eq!(ask(&server, info, &["X-Tenant-ID: acme"]).await.status, 200);
    let data = server.folder().join("data");
    std::os::unix::fs::symlink("shared/acme.db", data.join("soft.db")).unwrap();
    std::os::unix::fs::symlink("shared", data.join("alias")).unwrap();
    fs::hard_link(data.join("shared/acme.db"), data.join("hard.db")).unwrap();
    // Also after the owner's connections are closed.
    for closed in [false, true] {
        if closed {
            let close = send(&server, "DELETE /admin/tenants/acme/pool", &["Host: localhost"]).await;
            assert_eq!(close.status, 204);
        }
        for other in ["same", "dotted", "doubled", "url", "soft", "hard", "folder"] {
            let answer = ask(&server, info, &[&format!("X-Tenant-ID: {other}")]).await;
            answer.is_refused(503, "secret_invalid");
            assert!(!answer.body.contains("acme"), "{other}: {answer:?}");
        }
    }
    assert_eq!(ask(&server, info, &["X-Tenant-ID: acme"]).await.status, 200);
}

#[tokio::test]
async fn a_tenant_may_move_to_its_own_file_and_not_to_another_s() {
    let secret = |file: &str| format!(r#"{{"type": "sqlite", "path": "{file}"}}"#);
    let server = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config("tenancy: { provider: { type: directory, path: tenants } }\nmigrations: { on_connect: true, sample_data: true }\n")
        .file("tenants/acme.json", secret("acme.db"))
        .file("tenants/zeta.json", secret("zeta.db"))
        .start()
        .await
        .unwrap();
    let users = "GET /api/v1/tenant/users";
    let zeta = ["X-Tenant-ID: zeta"];
    for tenant in ["acme", "zeta"] {
        assert_eq!(
            ask(&server, users, &[&format!("X-Tenant-ID: {tenant}")]).await.status,
            200
        );
    }
    let name = "X-Tenant-ID: acme";
    let json = "Content-Type: application/json";
    let user = br#"{"name":"Canary","email":"only@acme.example"}"#;
    assert_eq!(
        send_body(&server, "POST /api/v1/tenant/users", &[name, json], user)
            .await
            .status,
        201
    );

    let refresh = async |file: &str| {
        fs::write(server.folder().join("tenants/zeta.json"), secret(file)).unwrap();
        send(&server, "POST /admin/tenants/zeta/refresh", &["Host: localhost"]).await
    };
    assert_eq!(refresh("acme.db").await.status, 200);
    // Its old connections may still serve it, with its own rows.
    let answer = ask(&server, users, &zeta).await;
    assert!(!answer.body.contains("acme"), "{answer:?}");
    let close = send(&server, "DELETE /admin/tenants/zeta/pool", &["Host: localhost"]).await;
    assert_eq!(close.status, 204);
    ask(&server, users, &zeta).await.is_refused(503, "secret_invalid");
    assert_eq!(refresh("new.db").await.status, 200);
    assert_eq!(ask(&server, users, &zeta).await.status, 200);
    assert!(ask(&server, users, &[name]).await.body.contains("only@acme.example"));
}

#[tokio::test]
async fn no_other_user_of_the_machine_may_read_a_file_that_is_created() {
    let server = program("acme: { type: sqlite, path: a/acme.db }\n")
        .start()
        .await
        .unwrap();
    let answer = ask(&server, "GET /api/v1/tenant/users", &["X-Tenant-ID: acme"]).await;
    assert_eq!(answer.status, 200);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = server.folder().join("data");
    assert_eq!((mode(&data), mode(&data.join("a"))), (0o700, 0o700));
    let mut files = 0;
    for file in fs::read_dir(data.join("a")).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        files += 1;
    }
    assert!(files >= 3, "the log and the index of the log are files too");
}

#[tokio::test]
async fn a_secret_cannot_take_more_connections_than_the_ceiling() {
    let config = "tenancy:\n  pools: { max_per_tenant: 3 }\n  provider:\n    type: static\n    tenants:\n      \
                  acme: { type: sqlite, path: a.db, pool: { max: { connections: 500 } } }\n      \
                  beta: { type: sqlite, path: b.db, pool: { max: { connections: 2 } } }\n      \
                  gamma: { type: sqlite, path: c.db }\nmigrations: { on_connect: true }\n";
    let server = TenantryProcess::start(env!("CARGO_BIN_EXE_tenantry"), config)
        .await
        .unwrap();
    for (tenant, max) in [("acme", 3), ("beta", 2), ("gamma", 3)] {
        let answer = ask(
            &server,
            "GET /api/v1/tenant/stats",
            &[&format!("X-Tenant-ID: {tenant}")],
        )
        .await;
        assert!(answer.body.contains(&format!("\"max\":{max},")), "{answer:?}");
    }
}

#[tokio::test]
async fn a_secret_reads_no_file_outside_of_the_configuration_s_folder() {
    let postgres = tenantry_test_support::PostgresServer::shared().await;
    let tenant = postgres.create_tenant("certificates").await.unwrap();
    let files = [
        "/etc/passwd",
        "/absent",
        "../config.yaml",
        "../../absent",
        "sub/../../x",
    ];
    let mut tenants = String::new();
    for (number, file) in files.iter().enumerate() {
        let mut secret = postgres.secret(&tenant);
        secret["tls"] = serde_json::json!({"mode": "verify-full", "ca": file});
        tenants += &format!("t{number}: {secret}\n");
    }
    let server = program(&tenants).start().await.unwrap();
    for (number, file) in files.iter().enumerate() {
        let answer = ask(
            &server,
            "GET /api/v1/tenant/info",
            &[&format!("X-Tenant-ID: t{number}")],
        )
        .await;
        answer.is_refused(503, "secret_invalid");
        let health = send(&server, &format!("GET /health/tenant/t{number}"), &["Host: localhost"]).await;
        let reason = "`tls.ca` names a file outside of the configuration's folder";
        assert!(health.body.contains(reason), "{file}: {health:?}");
    }
}

#[tokio::test]
async fn a_secret_reaches_no_host_that_the_list_leaves_out() {
    let tenants = "local: { type: postgresql, host: 127.0.0.1, port: 1, database: d, username: u, password: p }\n\
                   metadata: { type: mysql, host: 169.254.169.254, port: 80, database: d, username: u, password: p }\n\
                   url: { url: \"postgres://u:p@127.0.0.1:1,db.example.com:1/d\" }\n\
                   socket: { url: \"postgres://u:p@/d?host=/run\" }\n";
    let server = TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
        .config(
            "tenancy:\n  provider: { type: file, path: tenants.yaml }\n\
             drivers: { postgresql: { hosts: [\"*.db.example.com\"] }, mysql: { hosts: [db1] } }\n",
        )
        .file("tenants.yaml", tenants)
        .start()
        .await
        .unwrap();
    for tenant in ["local", "metadata", "url", "socket"] {
        let answer = ask(&server, "GET /api/v1/tenant/info", &[&format!("X-Tenant-ID: {tenant}")]).await;
        answer.is_refused(503, "secret_invalid");
        let health = send(&server, &format!("GET /health/tenant/{tenant}"), &["Host: localhost"]).await;
        assert!(health.body.contains("`host`"), "{tenant}: {health:?}");
    }
}
