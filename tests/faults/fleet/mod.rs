//! Many tenants are migrated while runs are killed, tenants fail, and requests go on. An ordinary
//! run takes a few dozen tenants; `./scripts/faults fleet` takes thousands
//! (`TENANTRY_FLEET=large`).

mod killed;
mod served;
mod stopped;
mod waves;

use std::{
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tenantry_core::{BuildContext, DatabaseConfig, Registry, SecretValue};
use tenantry_drivers::{PostgresqlDriver, SqliteDriver};
use tenantry_test_support::PostgresServer;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::program;

/// As many as fits the run.
fn size(ordinary: usize, large: usize) -> usize {
    match std::env::var("TENANTRY_FLEET").as_deref() {
        Ok("large") => large,
        _ => ordinary,
    }
}

/// Tenants on SQLite and PostgreSQL, their files and their migrations, which stay from run to run.
struct Fleet {
    folder: TempDir,
    secrets: Map<String, Value>,
}

/// A run of the program that has ended.
struct Ran {
    code: i32,
    /// What it printed: one JSON object.
    json: Value,
    stderr: String,
    took: Duration,
    /// The most memory that it had, in kilobytes.
    peak: u64,
}

impl Ran {
    fn tenants(&self) -> &[Value] {
        self.json["tenants"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The ids of the tenants with this `value` in `field`.
    fn those(&self, field: &str, value: impl Into<Value>) -> Vec<&str> {
        let value = value.into();
        let such = self.tenants().iter().filter(|tenant| tenant[field] == value);
        such.filter_map(|tenant| tenant["tenant"].as_str()).collect()
    }
}

impl Fleet {
    /// So many tenants: `s0000` and so on on SQLite, `p0000` and so on on PostgreSQL.
    async fn new(sqlite: usize, postgresql: usize) -> Result<Self> {
        let mut secrets = Map::new();
        for n in 0..sqlite {
            secrets.insert(
                format!("s{n:04}"),
                json!({"type": "sqlite", "path": format!("s{n:04}.db")}),
            );
        }
        if postgresql > 0 {
            let server = PostgresServer::shared().await;
            for n in 0..postgresql {
                secrets.insert(format!("p{n:04}"), server.secret(&server.create_tenant("fleet").await?));
            }
        }
        let fleet = Self {
            folder: tempfile::tempdir()?,
            secrets,
        };
        std::fs::write(
            fleet.path().join("secrets.json"),
            Value::Object(fleet.secrets.clone()).to_string(),
        )?;
        std::fs::write(fleet.path().join("config.yaml"), fleet.config(""))?;
        Ok(fleet)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Its configuration, for a program that runs elsewhere too.
    fn config(&self, migrations: &str) -> String {
        let path = self.path().display();
        format!(
            "app: {{ environment: test }}\ntenancy:\n  provider: {{ type: file, path: {path}/secrets.json }}\n\
             drivers: {{ sqlite: {{ root: {path} }} }}\nmigrations: {{ dir: {path}/migrations{migrations} }}\n"
        )
    }

    /// Writes a file for both kinds of database.
    fn write(&self, version: usize, sql: &str) -> Result<()> {
        for dialect in ["sqlite", "postgresql"] {
            let folder = self.path().join("migrations").join(dialect);
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(format!("{version:04}_step.sql")), sql)?;
        }
        Ok(())
    }

    /// Writes a file with an effect that shows how often it was applied.
    fn write_step(&self, version: usize) -> Result<()> {
        let log = match version {
            1 => "CREATE TABLE log (step integer);\n",
            _ => "",
        };
        let sql = format!("{log}CREATE TABLE t{version} (id integer);\nINSERT INTO log VALUES ({version});\n");
        self.write(version, &sql)
    }

    fn spawn(&self, arguments: &[&str]) -> Result<Child> {
        let config = self.path().join("config.yaml");
        let mut command = Command::new(program());
        command
            .arg("--config")
            .arg(config)
            .arg("migrate")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().context("the program does not start")
    }

    /// Runs `tenantry migrate` with these arguments and `--json` to its end.
    async fn migrate(&self, arguments: &[&str]) -> Result<Ran> {
        let began = Instant::now();
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let child = self.spawn(&all)?;
        let status = format!("/proc/{}/status", child.id().context("it has ended already")?);
        let peak = Arc::new(AtomicU64::new(0));
        let watch = tokio::spawn({
            let peak = peak.clone();
            async move {
                while let Ok(text) = tokio::fs::read_to_string(&status).await {
                    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                    if let Some(Ok(now)) = line.map(|line| line.trim().trim_end_matches(" kB").parse()) {
                        peak.store(now, Ordering::Relaxed);
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            }
        });
        let output = child.wait_with_output().await?;
        let took = began.elapsed();
        watch.abort();
        let peak = peak.load(Ordering::Relaxed);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let json = serde_json::from_slice(&output.stdout).with_context(|| stderr.clone())?;
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            json,
            stderr,
            took,
            peak,
        })
    }

    /// The first column of a query's rows in a tenant's database, or nothing for a statement
    /// without any.
    async fn sql(&self, tenant: &str, sql: &str) -> Result<Vec<i64>> {
        let Some(secret) = self.secrets.get(tenant) else {
            bail!("no tenant `{tenant}`");
        };
        let mut registry = Registry::new();
        registry.driver::<SqliteDriver>().driver::<PostgresqlDriver>();
        let driver = match secret["type"].as_str() {
            Some("sqlite") => json!({"type": "sqlite", "root": self.path()}),
            _ => json!({"type": "postgresql"}),
        };
        let context = BuildContext::for_tests(Registry::new());
        let driver = registry.build_driver(driver, &context).await?;
        let config = DatabaseConfig::parse(&SecretValue::new(secret.clone()))?;
        let mut connection = driver.connect(&config).await?;
        let statement = sea_orm::Statement::from_string(driver.backend(), sql);
        let is_query = sql.starts_with("SELECT");
        let numbers = if is_query {
            let rows = connection.query(&statement).await?;
            let numbers = rows.iter().map(|row| row.try_get_by_index(0));
            numbers.collect::<Result<Vec<i64>, _>>()?
        } else {
            connection.execute(&statement).await?;
            Vec::new()
        };
        connection.close().await;
        Ok(numbers)
    }

    /// The steps that took effect in a tenant's database, in their order, as often as they did.
    async fn steps(&self, tenant: &str) -> Result<Vec<i64>> {
        self.sql(tenant, "SELECT CAST(step AS bigint) FROM log ORDER BY step")
            .await
    }
}
