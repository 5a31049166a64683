//! The built program over AWS Secrets Manager's stand-in and PostgreSQL, as every fault finds it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tenantry_test_support::{CANARY, MotoServer, PostgresServer, TenantryProcess};
use tokio::sync::Mutex;

use crate::load::{Client, Load, Route};

/// moto takes any.
pub(crate) const REGION: &str = "eu-central-1";

/// Secrets below the prefix that the program is configured with.
pub(crate) struct Secrets {
    pub(crate) moto: MotoServer,
    made: Mutex<BTreeSet<String>>,
}

impl Secrets {
    pub(crate) async fn start() -> Result<Self> {
        Ok(Self {
            moto: MotoServer::start().await?,
            made: Mutex::new(BTreeSet::new()),
        })
    }

    /// Makes the tenant's secret, or gives it a new version.
    pub(crate) async fn put(&self, tenant: &str, secret: &Value) -> Result<()> {
        let name = format!("/tenantry/test/{tenant}/database");
        let is_new = self.made.lock().await.insert(tenant.to_owned());
        let (action, key) = if is_new {
            ("CreateSecret", "Name")
        } else {
            ("PutSecretValue", "SecretId")
        };
        let body = json!({key: name, "SecretString": secret.to_string()});
        self.moto.secrets_manager(REGION, action, &body).await.map(drop)
    }

    /// Kills the service and what it holds.
    pub(crate) async fn kill(&self) -> Result<()> {
        self.made.lock().await.clear();
        self.moto.stop().await
    }
}

/// What differs from the shipped configuration.
pub(crate) struct Settings {
    /// `tenancy.provider`; AWS Secrets Manager at the endpoint if it is null.
    pub(crate) provider: Value,
    /// Of `tenancy.secrets`.
    pub(crate) secrets: Value,
    /// Of `tenancy.pools`.
    pub(crate) pools: Value,
    /// `server.request_timeout`.
    pub(crate) request_timeout: &'static str,
    /// `logging.level`.
    pub(crate) level: &'static str,
    /// Files of migrations, such as `postgresql/0001_name.sql`; without any, those inside the
    /// program.
    pub(crate) migrations: Vec<(&'static str, String)>,
    /// The ignored test of the executable that is the server; without it, the program is.
    pub(crate) as_test: Option<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            provider: Value::Null,
            secrets: json!({}),
            pools: json!({}),
            request_timeout: "15s",
            level: "trace",
            migrations: Vec::new(),
            as_test: None,
        }
    }
}

/// A running program.
pub(crate) struct World {
    pub(crate) server: TenantryProcess,
    pub(crate) client: Client,
    silent: bool,
}

impl World {
    /// Starts the program `program` with its secrets at `endpoint`.
    pub(crate) async fn start(program: &str, endpoint: &str, settings: Settings) -> Result<Self> {
        let migrations = if settings.migrations.is_empty() {
            json!({"on_connect": true, "sample_data": true})
        } else {
            json!({"on_connect": true, "sample_data": true, "dir": "migrations"})
        };
        let provider = match settings.provider {
            Value::Null => json!({"type": "aws-secrets-manager", "region": REGION, "endpoint_url": endpoint}),
            provider => provider,
        };
        // JSON is YAML.
        let config = json!({
            "app": {"environment": "test"},
            "server": {"request_timeout": settings.request_timeout},
            "tenancy": {
                "provider": provider,
                "secrets": settings.secrets,
                "pools": settings.pools,
            },
            "migrations": migrations,
            "rest": {"tables": Route::tables()},
            "logging": {"level": settings.level, "format": "json"},
        });
        let mut builder = TenantryProcess::builder(program).config(config.to_string());
        if let Some(test) = settings.as_test {
            builder = builder.as_test(test);
        }
        for (file, sql) in settings.migrations {
            builder = builder.file(format!("migrations/{file}"), sql);
        }
        let server = builder
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", format!("{CANARY}-aws"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .start()
            .await?;
        let client = Client::new(server.base_url())?;
        Ok(Self {
            server,
            client,
            silent: settings.level != "trace",
        })
    }

    /// `GET /health/cache`.
    pub(crate) async fn cache(&self) -> Result<Value> {
        self.client.get_json("/health/cache").await
    }

    /// A counter of `/health/cache`, such as `/pools/rotations`.
    pub(crate) async fn counter(&self, pointer: &str) -> Result<u64> {
        let cache = self.cache().await?;
        cache
            .pointer(pointer)
            .and_then(Value::as_u64)
            .with_context(|| format!("no `{pointer}`"))
    }

    /// `clients` clients that send requests of these tenants, one after the other, until they are
    /// stopped.
    pub(crate) fn load(&self, clients: usize, tenants: &[String]) -> Load {
        Load::start(&self.client, clients, tenants, false)
    }

    /// The same; every fifth request writes.
    pub(crate) fn writing_load(&self, clients: usize, tenants: &[String]) -> Load {
        Load::start(&self.client, clients, tenants, true)
    }

    /// Kilobytes that the program has in memory.
    pub(crate) async fn resident_kib(&self) -> Result<u64> {
        let status = tokio::fs::read_to_string(format!("/proc/{}/status", self.server.pid().await?)).await?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .context("VmRSS is no number")
    }

    /// Ends the program, which must say that every connection was closed, and looks for secrets in
    /// all that it has written.
    pub(crate) async fn finish(self) -> Result<()> {
        let closed = self.end().await?;
        assert!(
            closed,
            "connections were left behind: {}",
            tail(&self.server.logs().await?)
        );
        Ok(())
    }

    /// Ends the program, looks for secrets in all that it has written, and returns whether every
    /// connection was closed.
    pub(crate) async fn end(&self) -> Result<bool> {
        self.server.terminate().await?;
        let code = self.server.wait().await?;
        let logs = self.server.logs().await?;
        // Panics, so that the log is kept.
        assert!(code == 0, "it ended with code {code}: {}", tail(&logs));
        if let Some(at) = logs.find(CANARY) {
            let line = logs[..at].lines().last().unwrap_or_default();
            panic!("a secret is in the log, after: {line}");
        }
        assert!(!logs.contains("this is a defect"), "it panicked: {}", tail(&logs));
        assert!(
            self.silent || logs.contains("\"level\":\"TRACE\"") || logs.contains("\"level\":\"DEBUG\""),
            "the log is not the most talkative one, so that nothing secret is in it says little"
        );
        Ok(logs.contains("\"every_connection_closed\":true"))
    }
}

fn tail(logs: &str) -> &str {
    let mut start = logs.len().saturating_sub(3_000);
    while !logs.is_char_boundary(start) {
        start += 1;
    }
    &logs[start..]
}

/// How many sessions these users have, according to PostgreSQL.
pub(crate) async fn sessions(postgres: &PostgresServer, users: &[&str]) -> Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename IN ({})",
        quoted(users)
    );
    postgres
        .psql("postgres", &sql)
        .await?
        .trim()
        .parse()
        .context("no number")
}

/// The most sessions that these users have at once while `seconds` pass, looked at every two
/// milliseconds, and how often it was looked.
pub(crate) async fn most_sessions(postgres: &PostgresServer, users: &[&str], seconds: u64) -> Result<(u64, u64)> {
    let sql = format!(
        "DO $$ DECLARE n int; most int := 0; looks int := 0; stop timestamptz := clock_timestamp() + interval '{seconds} s';
         BEGIN
             WHILE clock_timestamp() < stop LOOP
                 PERFORM pg_stat_clear_snapshot();
                 SELECT count(*) INTO n FROM pg_stat_activity WHERE usename IN ({users});
                 most := greatest(most, n);
                 looks := looks + 1;
                 PERFORM pg_sleep(0.002);
             END LOOP;
             PERFORM set_config('tenantry.most', most || ' ' || looks, false);
         END $$;
         SELECT current_setting('tenantry.most')",
        users = quoted(users),
    );
    let answer = postgres.psql("postgres", &sql).await?;
    let (most, looks) = answer.trim().split_once(' ').context("not two numbers")?;
    Ok((most.parse()?, looks.parse()?))
}

/// Ends every session of a user, as an operator does.
pub(crate) async fn end_sessions(postgres: &PostgresServer, user: &str) -> Result<()> {
    let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{user}'");
    postgres.psql("postgres", &sql).await.map(drop)
}

fn quoted(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("'{name}'"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Waits until `condition` holds.
pub(crate) async fn until<F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> Result<Duration>
where
    F: Future<Output = Result<bool>>,
{
    let started = Instant::now();
    while !condition().await? {
        // A panic, so that the logs are kept.
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(started.elapsed())
}

/// `t0`, `t1` and so on.
pub(crate) fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("t{n}")).collect()
}
