//! Users of OpenBao's database engine, which last for seconds, under load and through OpenBao's troubles.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tenantry_test_support::{OpenBaoServer, PostgresServer, TenantDb, TenantryProcess};
use tokio::{
    net::TcpListener,
    process::Command,
    time::{sleep, timeout},
};

use crate::{
    PROGRAM,
    proxy::Proxy,
    world::{Settings, World, until},
};

const CLIENTS: usize = 50;

struct Bao {
    bao: OpenBaoServer,
    tenant: TenantDb,
    /// What the users' names hold.
    mark: String,
}

impl Bao {
    /// One with a dynamic role for `t0`.
    async fn start(postgres: &PostgresServer, mark: &str, ttl: &str, max_ttl: &str) -> Result<Self> {
        let bao = OpenBaoServer::start().await?;
        let tenant = postgres.create_tenant(mark).await?;
        bao.add_postgres("postgres", postgres).await?;
        for name in ["t0", "t1"] {
            let role = format!("{mark}-{name}");
            bao.add_role(&role, "postgres", &tenant.user, ttl, max_ttl).await?;
        }
        let policy = r#"
            path "database/creds/*" { capabilities = ["read"] }
            path "database/static-creds/*" { capabilities = ["read"] }
            path "database/roles" { capabilities = ["list"] }
            path "database/static-roles" { capabilities = ["list"] }
            path "sys/leases/*" { capabilities = ["update"] }
        "#;
        bao.add_policy("tenantry", policy).await?;
        bao.post("sys/auth/approle", &json!({"type": "approle"})).await?;
        let role = json!({"token_policies": ["tenantry"], "token_ttl": "1h"});
        bao.post("auth/approle/role/tenantry", &role).await?;
        Ok(Self {
            bao,
            tenant,
            mark: mark.to_owned(),
        })
    }

    async fn settings(&self, postgres: &PostgresServer, port: u16) -> Result<Settings> {
        let role = "auth/approle/role/tenantry";
        let id = self.bao.call("GET", &format!("{role}/role-id"), &Value::Null).await?;
        let secret = self.bao.post(&format!("{role}/secret-id"), &json!({})).await?;
        let provider = json!({
            "type": "vault", "address": format!("http://127.0.0.1:{port}"),
            "auth": {
                "method": "approle", "role_id": id["data"]["role_id"], "secret_id": secret["data"]["secret_id"],
            },
            "database": {"role": format!("{}-{{tenant}}", self.mark)},
            "defaults": {
                "type": "postgresql", "host": postgres.host(), "port": postgres.port(), "database": self.tenant.database,
            },
        });
        Ok(Settings {
            provider,
            pools: json!({"connect_timeout": "30s", "acquire_timeout": "30s", "idle_timeout": "2s"}),
            request_timeout: "60s",
            ..Settings::default()
        })
    }

    /// How many of our users PostgreSQL has.
    async fn users(&self, postgres: &PostgresServer) -> Result<u64> {
        // A name holds the first letters of its role.
        let mark: String = self.mark.chars().take(8).collect();
        let sql = format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-approle-{mark}%'");
        postgres
            .psql("postgres", &sql)
            .await?
            .trim()
            .parse()
            .context("no number")
    }

    /// How many sessions of the tenant's database have a user that is gone or past its time.
    async fn sessions_past_their_time(&self, postgres: &PostgresServer) -> Result<u64> {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
             WHERE a.datname = '{}' AND a.backend_type = 'client backend'
               AND (r.oid IS NULL OR r.rolvaliduntil < now() - interval '1500 ms')",
            self.tenant.database
        );
        postgres
            .psql("postgres", &sql)
            .await?
            .trim()
            .parse()
            .context("no number")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_five_seconds_serve_clients_and_none_is_left() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let bao = Bao::start(postgres, "brief", "5s", "20s").await?;
    let settings = bao.settings(postgres, bao.bao.port()).await?;
    let world = World::start(PROGRAM, "", settings).await?;
    let load = world.writing_load(CLIENTS, &["t0".to_owned()]);
    let until_then = Instant::now() + Duration::from_secs(60);
    let mut past_their_time = 0;
    while Instant::now() < until_then {
        sleep(Duration::from_millis(500)).await;
        past_their_time += bao.sessions_past_their_time(postgres).await?;
    }
    let tally = load.stop().await?;
    assert!(
        tally.failures.is_empty(),
        "of {}: {:?}",
        tally.samples.len(),
        tally.failures
    );
    assert!(
        tally.samples.len() > 500,
        "{} requests are no load",
        tally.samples.len()
    );
    assert_eq!(past_their_time, 0);
    let rotations = world.counter("/pools/rotations").await?;
    assert!((2..=8).contains(&rotations), "{rotations} users in 60 s");

    // Its connections are closed after two seconds without use, and then its user goes.
    until(
        "no user is left after the eviction",
        Duration::from_secs(40),
        || async { Ok(bao.users(postgres).await? == 0) },
    )
    .await?;
    assert!(world.client.get("t0", "/api/v1/tenant/users").await.is_success());
    assert!(bao.users(postgres).await? > 0);
    world.finish().await?;
    // Each was reported to it before the end, and it drops them by itself.
    until("no user is left after the end", Duration::from_secs(30), || async {
        Ok(bao.users(postgres).await? == 0)
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_a_signal_ends_leaves_no_user() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let bao = Bao::start(postgres, "ended", "1h", "2h").await?;
    let mut provider = bao.settings(postgres, bao.bao.port()).await?.provider;
    // A server that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    provider["defaults"]["port"] = silent.local_addr()?.port().into();
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, json!({"tenancy": {"provider": provider}}).to_string())?;
    for arguments in [&["migrate", "status"][..], &["check", "--connect"]] {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(&config).args(arguments).kill_on_drop(true);
        let running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let (_connection, _) = timeout(Duration::from_secs(30), silent.accept()).await??;
        // The connection may be one that the command before has opened.
        until("the command has users", Duration::from_secs(30), || async {
            Ok(bao.users(postgres).await? > 0)
        })
        .await?;
        let pid = running.id().context("it has ended")?.to_string();
        assert!(
            Command::new("kill")
                .args(["-s", "TERM", &pid])
                .status()
                .await?
                .success()
        );
        let output = timeout(Duration::from_secs(20), running.wait_with_output()).await??;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains("ended by a signal"), "{stderr}");
        until("no user is left after a signal", Duration::from_secs(30), || async {
            Ok(bao.users(postgres).await? == 0)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_openbao_is_sealed_restarted_or_silent_its_users_serve() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let bao = Bao::start(postgres, "trouble", "60s", "10m").await?;
    let door = Proxy::start(bao.bao.port(), &[]).await?;
    let settings = bao.settings(postgres, door.port()).await?;
    let world = World::start(PROGRAM, "", settings).await?;
    let load = world.load(8, &["t0".to_owned()]);
    load.go_on_for(100, Duration::from_secs(60)).await?;

    bao.bao.seal().await?;
    sleep(Duration::from_secs(3)).await;
    let other = world.client.get("t1", "/api/v1/tenant/users").await;
    assert_eq!((other.status, other.code.as_str()), (503, "provider_unavailable"));
    bao.bao.unseal().await?;
    until(
        "another tenant is served after the seal",
        Duration::from_secs(60),
        || async { Ok(world.client.get("t1", "/api/v1/tenant/users").await.is_success()) },
    )
    .await?;

    bao.bao.stop().await?;
    sleep(Duration::from_secs(2)).await;
    bao.bao.start_again().await?;
    bao.bao.unseal().await?;
    bao.bao.signal("STOP").await?;
    sleep(Duration::from_secs(8)).await;
    bao.bao.signal("CONT").await?;
    // Leases are extended after all of that: the users are served past their first time.
    sleep(Duration::from_secs(50)).await;
    load.go_on_for(100, Duration::from_secs(60)).await?;
    let tally = load.stop().await?;
    assert!(
        tally.failures.is_empty(),
        "of {}: {:?}",
        tally.samples.len(),
        tally.failures
    );
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_token_was_revoked_the_program_recovers_by_itself() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let bao = Bao::start(postgres, "lost", "1h", "2h").await?;
    let settings = bao.settings(postgres, bao.bao.port()).await?;
    let world = World::start(PROGRAM, "", settings).await?;
    let load = world.load(8, &["t0".to_owned()]);
    load.go_on_for(100, Duration::from_secs(60)).await?;
    let accessors = bao.bao.call("LIST", "auth/token/accessors", &Value::Null).await?;
    for accessor in accessors["data"]["keys"].as_array().context("no accessors")? {
        let accessor = json!({"accessor": accessor});
        let token = bao.bao.post("auth/token/lookup-accessor", &accessor).await?;
        if token["data"]["meta"]["role_name"] == "tenantry" {
            bao.bao.post("auth/token/revoke-accessor", &accessor).await?;
        }
    }
    // Its users went with it. It looks every ten seconds whether its token is still good.
    until("another user serves", Duration::from_secs(60), || async {
        Ok(world.counter("/pools/rotations").await? > 0)
    })
    .await?;
    for _ in 0..20 {
        let answer = world.client.get("t0", "/api/v1/tenant/users").await;
        assert!(answer.is_success(), "{answer:?}");
    }
    load.stop().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_leave_no_user_behind_or_name_its_lease() -> Result<()> {
    let postgres = PostgresServer::shared().await;
    let bao = Bao::start(postgres, "command", "1h", "2h").await?;
    let settings = bao.settings(postgres, bao.bao.port()).await?;
    let config = json!({
        "app": {"environment": "test"},
        "server": {"shutdown_grace": "60s"},
        "tenancy": {"provider": settings.provider, "pools": settings.pools},
    });
    let run = async |arguments: &[&str]| {
        let program = TenantryProcess::builder(PROGRAM).config(config.to_string());
        program.run(arguments.iter().copied()).await
    };
    for arguments in [&["migrate"][..], &["migrate", "status"], &["check", "--connect"]] {
        let ran = run(arguments).await?;
        assert_eq!(ran.code, 0, "{arguments:?}: {} {}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("lease"), "{arguments:?}: {}", ran.stderr);
        until("no user is left after a command", Duration::from_secs(30), || async {
            Ok(bao.users(postgres).await? == 0)
        })
        .await?;
    }

    let without_revocation = r#"
        path "database/creds/*" { capabilities = ["read"] }
        path "database/roles" { capabilities = ["list"] }
        path "database/static-roles" { capabilities = ["list"] }
    "#;
    bao.bao.add_policy("tenantry", without_revocation).await?;
    let ran = run(&["migrate"]).await?;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for tenant in ["t0", "t1"] {
        let lease = format!("lease=database/creds/command-{tenant}/");
        let named = ran.stderr.lines().filter(|line| line.contains(&lease));
        assert_eq!(named.count(), 1, "{}", ran.stderr);
    }
    assert_eq!(bao.users(postgres).await?, 2);
    Ok(())
}
