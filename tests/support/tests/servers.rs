//! The servers start, answer, stop and start again, and none outlives the process that started it.

#![allow(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but not in what tests share"
)]

use std::{
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use tenantry_test_support::{
    CANARY, MARIADB_URL, MariadbServer, MotoServer, POSTGRES_URL, PostgresServer, TenantryProcess,
};

/// Waits, for at most ten seconds, for something that happens by itself.
async fn eventually(what: &str, happened: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !happened() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn answers(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[tokio::test]
async fn postgres_keeps_tenants_apart_and_its_data_over_a_restart() {
    let server = PostgresServer::start().await.unwrap();
    let (one, other) = tokio::try_join!(server.create_tenant("one"), server.create_tenant("other")).unwrap();
    let connect = |user: &str, password: &str, database: &str| {
        let output = Command::new("psql")
            .args([
                "-XAtc",
                "SELECT current_user",
                "-h",
                server.host(),
                "-p",
                &server.port().to_string(),
            ])
            .args(["-U", user, "-d", database])
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    assert_eq!(
        connect(&one.user, &one.password, &one.database),
        (true, one.user.clone())
    );
    assert!(
        !connect(&one.user, &one.password, &other.database).0,
        "a tenant reaches another's database"
    );
    assert!(
        !connect(&one.user, &other.password, &one.database).0,
        "a wrong password is taken"
    );

    server
        .psql(&one.database, "CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)")
        .await
        .unwrap();
    let port = server.port();
    server.stop().await.unwrap();
    assert!(!answers(port));
    server.start_again().await.unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(
        server
            .psql(&one.database, "SELECT n, n + 1 FROM t ORDER BY n")
            .await
            .unwrap(),
        "1|2\n2|3"
    );
    server.restart().await.unwrap();
    assert_eq!(
        server.psql(&one.database, "SHOW timezone").await.unwrap(),
        "Asia/Kolkata"
    );

    let error = format!(
        "{:#}",
        server
            .psql(&one.database, "SELECT 1; SELECT nonsense; SELECT 2")
            .await
            .unwrap_err()
    );
    assert!(error.contains("nonsense"), "{error}");
    assert_eq!(server.secret(&one)["password"], json!(one.password));
    assert!(one.password.contains(CANARY));
    drop(server);
    eventually("the dropped server is gone", || !answers(port)).await;
}

#[tokio::test]
async fn postgres_with_tls_refuses_plain_connections() {
    let server = PostgresServer::start_with_tls().await.unwrap();
    let ca = server.ca_path().unwrap();
    let connect = |host: &str, mode: &str, ca: &Path| {
        Command::new("psql")
            .args([
                "-XAtc",
                "SELECT 1",
                "-h",
                host,
                "-p",
                &server.port().to_string(),
                "-U",
                server.superuser(),
            ])
            .env("PGPASSWORD", server.password())
            .env("PGSSLMODE", mode)
            .env("PGSSLROOTCERT", ca)
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(connect("localhost", "verify-full", &ca));
    assert!(connect("127.0.0.1", "verify-ca", &ca));
    assert!(
        !connect("127.0.0.1", "verify-full", &ca),
        "a name that is not in the certificate is taken"
    );
    assert!(!connect("127.0.0.1", "disable", &ca), "a plain connection is taken");
    let folder = TempDir::new().unwrap();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, &server.certificates().unwrap().other_ca_pem).unwrap();
    assert!(
        !connect("localhost", "verify-ca", &other),
        "another authority is trusted"
    );
}

#[tokio::test]
async fn postgres_with_tls_demands_client_certificates() {
    let server = PostgresServer::start_with_tls().await.unwrap();
    let tenant = server.create_tenant("certified").await.unwrap();
    server
        .psql("postgres", &format!("GRANT require_client_cert TO {}", tenant.user))
        .await
        .unwrap();
    let folder = TempDir::new().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let certificates = server.certificates().unwrap();
    std::fs::write(&cert, &certificates.client_cert_pem).unwrap();
    std::fs::write(&key, &certificates.client_key_pem).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let connect = |files: &[(&str, &PathBuf)]| {
        Command::new("psql")
            .args(["-XAtc", "SELECT 1", "-h", "localhost", "-p", &server.port().to_string()])
            .args(["-U", &tenant.user, "-d", &tenant.database])
            .env("PGPASSWORD", &tenant.password)
            .env("PGSSLMODE", "require")
            .envs(files.iter().copied())
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(!connect(&[]), "no certificate is asked for");
    assert!(connect(&[("PGSSLCERT", &cert), ("PGSSLKEY", &key)]));
}

#[tokio::test]
async fn mariadb_keeps_tenants_apart_and_its_data_over_a_restart() {
    let server = MariadbServer::start().await.unwrap();
    let (one, other) = tokio::try_join!(server.create_tenant("a_b"), server.create_tenant("a_b")).unwrap();
    let connect = |user: &str, password: &str, database: &str| {
        let output = Command::new("mariadb")
            .args([
                "--no-defaults",
                "--skip-ssl",
                "-N",
                "-h",
                server.host(),
                "-P",
                &server.port().to_string(),
            ])
            .args(["-u", user, "-D", database, "-e", "SELECT user()"])
            .env("MYSQL_PWD", password)
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    assert_eq!(
        connect(&one.user, &one.password, &one.database),
        (true, format!("{}@127.0.0.1", one.user))
    );
    assert!(
        !connect(&one.user, &one.password, &other.database).0,
        "a tenant reaches another's database"
    );
    assert!(
        !connect(&one.user, &other.password, &one.database).0,
        "a wrong password is taken"
    );
    assert!(!connect("root", "", "mysql").0, "root needs no password");

    server
        .sql(
            &one.database,
            "CREATE TABLE t (n int, s text); INSERT INTO t VALUES (1, 'é😀')",
        )
        .await
        .unwrap();
    let port = server.port();
    server.stop().await.unwrap();
    assert!(!answers(port));
    server.start_again().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(server.sql(&one.database, "SELECT n, s FROM t").await.unwrap(), "1\té😀");
    drop(server);
    eventually("the dropped server is gone", || !answers(port)).await;
}

#[tokio::test]
async fn mariadb_with_tls_refuses_plain_connections() {
    let server = MariadbServer::start_with_tls().await.unwrap();
    assert_ne!(
        server
            .sql("mysql", "SHOW STATUS LIKE 'Ssl_cipher'")
            .await
            .unwrap()
            .trim(),
        "Ssl_cipher"
    );
    let plain = Command::new("mariadb")
        .args([
            "--no-defaults",
            "--skip-ssl",
            "-h",
            server.host(),
            "-P",
            &server.port().to_string(),
        ])
        .args(["-u", server.superuser(), "-e", "SELECT 1"])
        .env("MYSQL_PWD", server.password())
        .output()
        .unwrap();
    assert!(!plain.status.success(), "a plain connection is taken");
}

#[tokio::test]
async fn moto_holds_secrets_until_it_is_stopped() {
    let server = MotoServer::start().await.unwrap();
    let region = "eu-central-1";
    let secret = json!({"Name": "/tenantry/test/a/database", "SecretString": "{\"type\":\"sqlite\"}"});
    server.secrets_manager(region, "CreateSecret", &secret).await.unwrap();
    let name = json!({"SecretId": "/tenantry/test/a/database"});
    let read = server.secrets_manager(region, "GetSecretValue", &name).await.unwrap();
    assert_eq!(read["SecretString"], secret["SecretString"]);
    assert!(
        server
            .secrets_manager("us-east-1", "GetSecretValue", &name)
            .await
            .is_err(),
        "regions are one"
    );

    let port = server.port();
    server.stop().await.unwrap();
    assert!(!answers(port));
    server.start_again().await.unwrap();
    assert_eq!(server.endpoint_url(), format!("http://127.0.0.1:{port}"));
    let error = format!(
        "{:#}",
        server
            .secrets_manager(region, "GetSecretValue", &name)
            .await
            .unwrap_err()
    );
    assert!(error.contains("ResourceNotFoundException"), "{error}");
}

/// The two tests below share a server that the first of them to run has started on its own thread and runtime.
async fn use_the_shared_servers() {
    let (postgres, mariadb) = (PostgresServer::shared().await, MariadbServer::shared().await);
    let tenant = postgres.create_tenant("shared").await.unwrap();
    assert_eq!(postgres.psql(&tenant.database, "SELECT 1").await.unwrap(), "1");
    let tenant = mariadb.create_tenant("shared").await.unwrap();
    assert_eq!(mariadb.sql(&tenant.database, "SELECT 1").await.unwrap(), "1");
}

#[test]
fn a_shared_server_outlives_the_test_that_started_it() {
    for _ in 0..2 {
        std::thread::spawn(|| {
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(use_the_shared_servers())
        })
        .join()
        .unwrap();
    }
}

#[tokio::test]
async fn a_killed_process_leaves_no_server_and_no_folder() {
    let folder = TempDir::new().unwrap();
    // The servers' own user goes through it.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let urls = folder.path().join("urls");
    let script = format!(
        "echo \"${POSTGRES_URL} ${MARIADB_URL}\" >{0}.new && mv {0}.new {0}; exec cat",
        urls.display()
    );
    let mut starter = Command::new(env!("CARGO_BIN_EXE_tenantry-test-servers"))
        .args(["sh", "-c", &script])
        .env("TMPDIR", folder.path())
        // The command ends with this pipe.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !urls.exists() {
        assert!(starter.try_wait().unwrap().is_none(), "it ended");
        assert!(started.elapsed() < Duration::from_secs(120), "no servers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ports: Vec<u16> = std::fs::read_to_string(&urls)
        .unwrap()
        .split_whitespace()
        .map(|url| {
            url.rsplit(':')
                .next()
                .unwrap()
                .split('/')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert_eq!(ports.len(), 2);
    assert!(ports.iter().all(|port| answers(*port)));

    starter.kill().unwrap();
    starter.wait().unwrap();
    eventually("the servers are gone", || !ports.iter().any(|port| answers(*port))).await;
    eventually("their folders are gone", || {
        std::fs::read_dir(folder.path())
            .unwrap()
            .all(|entry| entry.unwrap().path() == urls)
    })
    .await;
}

#[tokio::test]
async fn the_test_servers_end_as_their_command_does() {
    let program = env!("CARGO_BIN_EXE_tenantry-test-servers");
    let script = format!("psql \"${POSTGRES_URL}\" -XAtc 'SELECT 40 + 2'; exit 7");
    let output = Command::new(program).args(["sh", "-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42");
    assert_eq!(output.status.code(), Some(7));
}

/// Stands in for `tenantry` in the tests of [`TenantryProcess`] only: it serves one path with Python's own HTTP server.
const STAND_IN: &str = r#"#!/usr/bin/env python3
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health/live" else 404)
        self.end_headers()
        self.wfile.write(b"up")
if sys.argv[3:] != ["serve", "--extra"] or not open("config.yaml").read():
    sys.exit(f"unexpected arguments: {sys.argv}")
if os.environ.get("FAIL"):
    sys.exit("deliberately broken")
host, port = os.environ["TENANTRY__SERVER__LISTEN"].split(":")
signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), os._exit(5)))
print("files", sorted(os.listdir("more")), os.environ.get("LOG_LEVEL"), os.environ.get("MINE"), flush=True)
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"#;

fn stand_in() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("tenantry");
    std::fs::write(&program, STAND_IN).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    (folder, program)
}

#[tokio::test]
async fn a_program_is_started_with_its_files_and_stopped_by_a_signal() {
    let (_folder, program) = stand_in();
    let process = TenantryProcess::builder(program)
        .config("app: {}")
        .file("more/data.txt", "x")
        .env("MINE", "1")
        .argument("--extra")
        .start()
        .await
        .unwrap();
    assert!(process.base_url().ends_with(&format!(":{}", process.port())));
    assert!(process.folder().join("config.yaml").exists());
    assert!(Path::new(&format!("/proc/{}", process.pid().await.unwrap())).exists());
    process
        .logs_with("files ['data.txt'] None 1", Duration::from_secs(10))
        .await
        .unwrap();
    process.terminate().await.unwrap();
    assert_eq!(process.wait().await.unwrap(), 5);
    assert!(process.logs().await.unwrap().contains("drained"));
    assert!(!answers(process.port()));
}

#[tokio::test]
async fn a_program_that_does_not_start_fails_with_its_log() {
    let (_folder, program) = stand_in();
    let builder = TenantryProcess::builder(&program)
        .config("app: {}")
        .argument("--extra")
        .env("FAIL", "1");
    let error = format!("{:#}", builder.start().await.err().unwrap());
    assert!(
        error.contains("ended with code 1") && error.contains("deliberately broken"),
        "{error}"
    );

    let finished = TenantryProcess::builder(&program)
        .config("app: {}")
        .run(["check"])
        .await
        .unwrap();
    assert_eq!(finished.code, 1);
    assert!(finished.stderr.contains("unexpected arguments"), "{finished:?}");
}

#[test]
fn the_servers_for_development_run_beside_a_command() {
    let script = r#"
        export PGPASSWORD=$TENANT1_DB_PASSWORD
        psql -XAt -h 127.0.0.1 -p "$POSTGRES_TENANT1_PORT" -U tenant1_user -d tenant1_db -c "SELECT current_database()"
        export MYSQL_PWD=$TENANT4_DB_PASSWORD
        echo "SELECT database()" |
            mariadb --no-defaults --skip-ssl -N -h 127.0.0.1 -P "$MARIADB_TENANT4_PORT" -u tenant4_user -D tenant4_db
        echo "$POSTGRES_TENANT1_PORT $MARIADB_TENANT4_PORT $MOTO_PORT"
        exit 7
    "#;
    let mut servers = Command::new(env!("CARGO_BIN_EXE_tenantry-dev-servers"));
    // What ./scripts/dev-up sets. A password may hold any character.
    for tenant in ["DEFAULT", "TENANT1", "TENANT2", "TENANT3", "TENANT4"] {
        servers.env(format!("{tenant}_DB_PASSWORD"), r"it's \ $5");
    }
    let servers = servers
        .args(["sh", "-c", script])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .env("DEV_UP_FREE_PORTS", "1")
        .env("ORACLE_TENANT3_PORT", "1522")
        .env("AWS_REGION", "eu-central-1")
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&servers.stdout),
        String::from_utf8_lossy(&servers.stderr),
    );
    assert_eq!(servers.status.code(), Some(7), "{said}\n{errors}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["tenant1_db", "tenant4_db"], "{errors}");
    for port in lines[2].split(' ') {
        assert!(!answers(port.parse().unwrap()), "{port} still answers");
    }
}
