//! How long what goes wrong around the program is felt: the faults of `tests/faults`, longer and
//! timed. `./scripts/faults` runs it.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tenantry_test_support::{CANARY, PostgresServer, TenantDb, free_port};
use tokio::time::sleep;

#[allow(dead_code, reason = "what only the tests use of it")]
#[path = "../tests/faults/load.rs"]
mod load;
#[allow(dead_code, reason = "what only the tests use of it")]
#[path = "../tests/faults/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "what only the tests use of it")]
#[path = "../tests/faults/world.rs"]
mod world;

use load::Tally;
use proxy::Proxy;
use world::{Secrets, Settings, World, end_sessions, most_sessions, names, sessions, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tenantry");

/// One line of the table.
struct Row {
    fault: &'static str,
    what: &'static str,
    measured: String,
    bound: &'static str,
    kept: bool,
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, fault: &'static str, what: &'static str, measured: String, bound: &'static str, kept: bool) {
        self.0.push(Row {
            fault,
            what,
            measured,
            bound,
            kept,
        });
    }

    fn none_failed(&mut self, fault: &'static str, tally: &Tally) {
        let measured = format!("{} of {}", tally.failed(), tally.samples.len());
        self.add(fault, "answers other than 2xx", measured, "0", tally.failed() == 0);
        if tally.failed() > 0 {
            eprintln!("{fault}: {:?}", tally.failures);
        }
    }

    fn print(&self) -> bool {
        println!("{:<10} {:<46} {:>18}  {:<12} ", "fault", "what", "measured", "bound");
        for row in &self.0 {
            let verdict = if row.kept { "" } else { "NOT KEPT" };
            println!(
                "{:<10} {:<46} {:>18}  {:<12} {verdict}",
                row.fault, row.what, row.measured, row.bound
            );
        }
        self.0.iter().all(|row| row.kept)
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn settings(secrets: Value, pools: Value) -> Settings {
    Settings {
        secrets,
        pools,
        level: "info",
        ..Settings::default()
    }
}

async fn rotation(table: &mut Table) -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let mut tenant = postgres.create_tenant("rotation").await?;
    secrets.put("t0", &postgres.secret(&tenant)).await?;
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings(json!({}), json!({}))).await?;
    let load = world.writing_load(50, &["t0".to_owned()]);
    let started = Instant::now();
    for rotation in 0..5 {
        sleep(Duration::from_secs(2)).await;
        tenant.password = format!("{CANARY}-{rotation}");
        let sql = format!("ALTER ROLE \"{}\" PASSWORD '{}'", tenant.user, tenant.password);
        postgres.psql("postgres", &sql).await?;
        end_sessions(postgres, &tenant.user).await?;
        sleep(Duration::from_secs(1)).await;
        secrets.put("t0", &postgres.secret(&tenant)).await?;
    }
    sleep(Duration::from_secs(20).saturating_sub(started.elapsed())).await;
    let tally = load.stop().await?;
    table.none_failed("rotation", &tally);
    // The second in which neither password is good, and the longest pause between two tries.
    let slowest = tally.slowest();
    table.add(
        "rotation",
        "slowest answer, one user",
        ms(slowest),
        "4 s",
        slowest < Duration::from_secs(4),
    );
    world.finish().await?;
    turns(table).await
}

async fn turns(table: &mut Table) -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let first = postgres.create_tenant("turns").await?;
    let second = TenantDb {
        user: format!("{}_b", first.user),
        ..first.clone()
    };
    let sql = format!(
        "CREATE ROLE \"{}\" LOGIN PASSWORD '{}' IN ROLE \"{}\"",
        second.user, second.password, first.user
    );
    postgres.psql("postgres", &sql).await?;
    let mut users = [first, second];
    secrets.put("t0", &postgres.secret(&users[0])).await?;
    let ttl = json!({"ttl": "1s", "jitter": 0.0});
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings(ttl, json!({}))).await?;
    let load = world.writing_load(50, &["t0".to_owned()]);
    let started = Instant::now();
    for rotation in 0..5 {
        sleep(Duration::from_secs(3)).await;
        let [_, new] = &mut users;
        new.password = format!("{CANARY}-{rotation}");
        let sql = format!("ALTER ROLE \"{}\" PASSWORD '{}'", new.user, new.password);
        postgres.psql("postgres", &sql).await?;
        secrets.put("t0", &postgres.secret(new)).await?;
        users.swap(0, 1);
    }
    sleep(Duration::from_secs(20).saturating_sub(started.elapsed())).await;
    let tally = load.stop().await?;
    table.none_failed("rotation", &tally);
    table.add(
        "rotation",
        "slowest answer, users in turn",
        ms(tally.slowest()),
        "2 s",
        tally.slowest() < Duration::from_secs(2),
    );
    let left = sessions(postgres, &[&users[1].user]).await?;
    table.add("rotation", "sessions of the old user", left.to_string(), "0", left == 0);
    world.finish().await
}

async fn provider(table: &mut Table) -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("provider").await?;
    let known = names(10);
    for name in &known {
        secrets.put(name, &postgres.secret(&tenant)).await?;
    }
    let door = Proxy::start(secrets.moto.port(), &[]).await?;
    let endpoint = format!("http://127.0.0.1:{}", door.port());
    let world = World::start(PROGRAM, &endpoint, settings(json!({"ttl": "2s"}), json!({}))).await?;
    let load = world.load(20, &known);
    sleep(Duration::from_secs(3)).await;
    secrets.kill().await?;
    sleep(Duration::from_secs(1)).await;
    let unseen = world.client.get("never-seen", "/api/v1/tenant/info").await;
    let told = unseen.status == 503 && unseen.retry_after.is_some();
    table.add(
        "provider",
        "a tenant never seen is told 503 after",
        ms(unseen.took),
        "5 s",
        told && unseen.took < Duration::from_secs(5),
    );
    sleep(Duration::from_secs(20)).await;
    // It comes back empty, as AWS never does, so requests are turned away until its secrets are
    // there again.
    door.turn_away(true);
    secrets.moto.start_again().await?;
    for name in &known {
        secrets.put(name, &postgres.secret(&tenant)).await?;
    }
    door.turn_away(false);
    let back = Instant::now();
    until("every secret is fresh", Duration::from_secs(60), || async {
        let health = world.client.get_json("/health/tenants").await?;
        let tenants = health["tenants"].as_array().context("no tenants")?;
        Ok(tenants.iter().all(|tenant| tenant["secret"]["stale"] == false))
    })
    .await?;
    let fresh = back.elapsed();
    // Away for more than 20 s: the back-off has come to 16 s.
    table.add(
        "provider",
        "fresh after its return, back-off 16 s",
        ms(fresh),
        "17 s",
        fresh < Duration::from_secs(17),
    );
    let tally = load.stop().await?;
    table.none_failed("provider", &tally);
    table.add(
        "provider",
        "slowest answer",
        ms(tally.slowest()),
        "1 s",
        tally.slowest() < Duration::from_secs(1),
    );
    world.finish().await
}

async fn ceiling(table: &mut Table) -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let mut databases = Vec::new();
    for n in 0..6 {
        databases.push(postgres.create_tenant(&format!("ceiling{n}")).await?);
    }
    let tenants = names(60);
    for (n, name) in tenants.iter().enumerate() {
        secrets
            .put(name, &postgres.secret(&databases[n % databases.len()]))
            .await?;
    }
    let pools = json!({"max_connections": 50, "defaults": {"max_connections": 20}});
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings(json!({}), pools)).await?;
    let users: Vec<&str> = databases.iter().map(|database| database.user.as_str()).collect();
    let load = world.load(60 * 20, &tenants);
    let (most, looks) = most_sessions(postgres, &users, 30).await?;
    let tally = load.stop().await?;
    table.none_failed("ceiling", &tally);
    table.add(
        "ceiling",
        "most sessions at once",
        format!("{most} ({looks} looks)"),
        "50",
        most <= 50,
    );
    table.add(
        "ceiling",
        "99 % of the answers within",
        ms(tally.percentile(0.99)),
        "-",
        true,
    );
    world.finish().await
}

async fn neighbour(table: &mut Table) -> Result<()> {
    let (postgres, secrets) = (PostgresServer::shared().await, Secrets::start().await?);
    let tenant = postgres.create_tenant("neighbour").await?;
    let healthy = names(10);
    for name in &healthy {
        secrets.put(name, &postgres.secret(&tenant)).await?;
    }
    let silent = Proxy::start(postgres.port(), &[]).await?;
    let stalling = Proxy::start(postgres.port(), &[]).await?;
    silent.fall_silent();
    for (name, port) in [
        ("silent", silent.port()),
        ("stalling", stalling.port()),
        ("refusing", free_port()?),
    ] {
        let mut secret = postgres.secret(&tenant);
        secret["port"] = json!(port);
        secrets.put(name, &secret).await?;
    }
    let sick = ["silent", "stalling", "refusing"].map(str::to_owned);
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings(json!({}), json!({}))).await?;
    let stalls = world.load(5, &sick[1..2]);
    sleep(Duration::from_secs(1)).await;
    stalls.stop().await?;
    let phase = async || {
        let load = world.load(10, &healthy);
        sleep(Duration::from_secs(8)).await;
        load.stop().await
    };
    phase().await?;
    // Without, with, and without again, so that what the machine does besides shows.
    let before = phase().await?;
    stalling.fall_silent();
    let sick_load = world.load(30, &sick);
    sleep(Duration::from_secs(1)).await;
    let with = phase().await?;
    let sick_tally = sick_load.stop().await?;
    sleep(Duration::from_secs(2)).await;
    let after = phase().await?;

    let base = (before.percentile(0.99) + after.percentile(0.99)) / 2;
    let moved = with.percentile(0.99).as_secs_f64() / base.as_secs_f64() - 1.0;
    table.none_failed("neighbour", &with);
    table.add(
        "neighbour",
        "p99 without sick ones, before",
        ms(before.percentile(0.99)),
        "-",
        true,
    );
    table.add(
        "neighbour",
        "p99 without sick ones, after",
        ms(after.percentile(0.99)),
        "-",
        true,
    );
    table.add(
        "neighbour",
        "p99 beside sick ones",
        ms(with.percentile(0.99)),
        "-",
        true,
    );
    table.add(
        "neighbour",
        "p99 moves by",
        format!("{:+.1} %", moved * 100.0),
        "20 %",
        moved < 0.2,
    );
    let right = sick_tally
        .failures
        .keys()
        .all(|(status, _)| [503, 504].contains(status));
    let slowest = sick_tally.slowest();
    table.add(
        "neighbour",
        "sick ones told 503 or 504 within",
        ms(slowest),
        "16 s",
        right && slowest < Duration::from_secs(16),
    );
    world.finish().await
}

async fn restart(table: &mut Table) -> Result<()> {
    let (postgres, secrets) = (PostgresServer::start().await?, Secrets::start().await?);
    let tenant = postgres.create_tenant("restart").await?;
    secrets.put("t0", &postgres.secret(&tenant)).await?;
    let world = World::start(PROGRAM, &secrets.moto.endpoint_url(), settings(json!({}), json!({}))).await?;
    let mut longest = Duration::ZERO;
    for away in [0, 3, 10] {
        let load = world.load(30, &["t0".to_owned()]);
        sleep(Duration::from_secs(2)).await;
        postgres.stop().await?;
        sleep(Duration::from_secs(away)).await;
        postgres.start_again().await?;
        let back = Instant::now();
        sleep(Duration::from_secs(6)).await;
        let tally = load.stop().await?;
        if let Some(last) = tally.last_failure() {
            longest = longest.max(last.saturating_duration_since(back));
        }
    }
    table.add(
        "restart",
        "last failure after PostgreSQL's return",
        ms(longest),
        "2 s",
        longest < Duration::from_secs(2),
    );
    let again = world.load(30, &["t0".to_owned()]);
    sleep(Duration::from_secs(2)).await;
    table.none_failed("restart", &again.stop().await?);
    world.finish().await
}

#[tokio::main]
async fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let mut table = Table::default();
    let mut kept = true;
    macro_rules! run {
        ($($fault:ident),*) => {$(
            if is_wanted(stringify!($fault)) {
                eprintln!("{}...", stringify!($fault));
                if let Err(error) = $fault(&mut table).await {
                    eprintln!("{}: {error:#}", stringify!($fault));
                    kept = false;
                }
            }
        )*};
    }
    run!(rotation, provider, ceiling, neighbour, restart);
    kept &= table.print();
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
