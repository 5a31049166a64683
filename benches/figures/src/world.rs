//! The database server with every tenant's database, and how the measured servers are started on
//! it.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tenantry_test_support::{PostgresServer, TenantDb};
use tokio::runtime::Runtime;

use crate::{
    client::Client,
    load::{Run, pgbench},
    server::{LIVE, Launch, Server},
};

/// How many tenants have a database of their own. Further tenants share these.
pub(crate) const DATABASES: usize = 100;

/// How many users each has.
const USERS: usize = 1_000;

/// How many notes each user has, if there are notes.
const NOTES: usize = 5;

/// The programs that are measured.
pub(crate) struct Programs {
    pub(crate) tenantry: PathBuf,
    pub(crate) baseline: PathBuf,
    pub(crate) parts: PathBuf,
    /// The peer that declared tables are measured beside.
    pub(crate) postrust: Option<PathBuf>,
    /// The peer in Go.
    pub(crate) go: Option<PathBuf>,
}

/// Which baseline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// Hand-written SQL on connections in a deadpool.
    Deadpool,
    /// The same on sqlx's own pool.
    Sqlx,
    /// SeaORM's entities on connections in a deadpool.
    Orm,
    /// Rows with the rows that belong to them, made into JSON by the database.
    JsonAgg,
}

impl Baseline {
    fn argument(self) -> &'static str {
        match self {
            Self::Deadpool => "deadpool",
            Self::Sqlx => "sqlx",
            Self::Orm => "orm",
            Self::JsonAgg => "json-agg",
        }
    }
}

/// Tenantry's settings that differ from the defaults.
#[derive(Clone)]
pub(crate) struct Settings {
    /// How many tenants the provider knows.
    pub(crate) known: usize,
    pub(crate) level: &'static str,
    /// The most open pools, and the most secrets that are kept.
    pub(crate) open: Option<usize>,
    /// The settings of `observability`; nothing is sent without them.
    pub(crate) observability: Option<Value>,
    /// The declared tables.
    pub(crate) rest: Option<Value>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            known: 10,
            level: "warn",
            open: None,
            observability: None,
            rest: None,
        }
    }
}

pub(crate) struct World {
    pub(crate) programs: Programs,
    runtime: Runtime,
    postgres: PostgresServer,
    tenant: TenantDb,
}

impl World {
    /// Starts PostgreSQL. Only the first tenant has a database so far.
    pub(crate) fn start(programs: Programs) -> Result<Self> {
        let runtime = Runtime::new()?;
        let (postgres, tenant) = runtime.block_on(async {
            let postgres = PostgresServer::start().await?;
            let tenant = postgres.create_tenant("bench").await?;
            anyhow::Ok((postgres, tenant))
        })?;
        let world = Self {
            programs,
            runtime,
            postgres,
            tenant,
        };
        world.fill()?;
        Ok(world)
    }

    /// Has the program make the table, and fills it.
    fn fill(&self) -> Result<()> {
        let server = self.tenantry(Settings::default())?;
        Client::connect(server.port)?.get_ok("/api/v1/tenant/users?limit=1", "t0")?;
        server.stop()?;
        let sql = format!(
            "INSERT INTO users (name, email, created_at, updated_at)
             SELECT 'John Doe ' || n, 'john.doe.' || n || '@example.com', '2026-01-02 03:04:05.678901+00', '2026-01-02 03:04:05.678901+00'
             FROM generate_series(1, {USERS}) AS n; VACUUM ANALYZE users;"
        );
        self.runtime.block_on(self.postgres.psql(&self.tenant.database, &sql))?;
        Ok(())
    }

    /// Gives each user of the first tenant some notes.
    pub(crate) fn add_notes(&self) -> Result<()> {
        let TenantDb { database, user, .. } = &self.tenant;
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS notes (
                 id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users (id), body text NOT NULL, created_at timestamptz NOT NULL
             );
             CREATE INDEX IF NOT EXISTS notes_of_user ON notes (user_id);
             ALTER TABLE notes OWNER TO \"{user}\";
             INSERT INTO notes
             SELECT {NOTES} * id + n, id, 'Note ' || n || ' of ' || name, created_at FROM users, generate_series(1, {NOTES}) AS n
             ON CONFLICT DO NOTHING;
             VACUUM ANALYZE notes;"
        );
        self.runtime.block_on(self.postgres.psql(database, &sql))?;
        Ok(())
    }

    /// Creates the other tenants' databases as copies of the first one, which must have no
    /// connections meanwhile.
    pub(crate) fn open_all_databases(&self) -> Result<()> {
        let exists = format!(
            "SELECT count(*) FROM pg_database WHERE datname = '{}'",
            self.database(1)
        );
        if self.runtime.block_on(self.postgres.psql("postgres", &exists))? != "0" {
            return Ok(());
        }
        let TenantDb { database, user, .. } = &self.tenant;
        let sql: String = (1..DATABASES)
            .map(|n| {
                let name = self.database(n);
                format!("CREATE DATABASE \"{name}\" OWNER \"{user}\" TEMPLATE \"{database}\";\n")
            })
            .collect();
        self.runtime.block_on(self.postgres.psql("postgres", &sql))?;
        Ok(())
    }

    fn database(&self, tenant: usize) -> String {
        match tenant % DATABASES {
            0 => self.tenant.database.clone(),
            n => format!("{}_{n}", self.tenant.database),
        }
    }

    fn url(&self, tenant: usize) -> String {
        let TenantDb { user, password, .. } = &self.tenant;
        let (port, database) = (self.postgres.port(), self.database(tenant));
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    /// The secrets of `t0`, `t1` and so on, as the provider `file` reads them.
    fn secrets(&self, known: usize) -> String {
        let all: Map<String, Value> = (0..known)
            .map(|n| {
                // As URLs, since the provider takes no file of more than 16 MiB.
                (format!("t{n}"), json!({"url": self.url(n)}))
            })
            .collect();
        Value::Object(all).to_string()
    }

    /// Starts the program.
    pub(crate) fn tenantry(&self, settings: Settings) -> Result<Server> {
        self.tenantry_under(Vec::new(), settings)
    }

    /// Starts the program under another that watches it.
    pub(crate) fn tenantry_under(&self, wrapper: Vec<OsString>, settings: Settings) -> Result<Server> {
        let mut config = json!({
            "tenancy": {"resolver": {"type": "header"}, "provider": {"type": "file", "path": "tenants.json"}},
            "migrations": {"on_connect": true},
            "logging": {"level": settings.level},
        });
        if let Some(open) = settings.open {
            config["tenancy"]["pools"] = json!({"max": open});
            config["tenancy"]["secrets"] = json!({"max_entries": open});
        }
        if let Some(observability) = settings.observability {
            config["observability"] = observability;
        }
        if let Some(rest) = settings.rest {
            config["rest"] = rest;
        }
        Server::start(|listen| Launch {
            program: self.programs.tenantry.clone(),
            arguments: vec!["--config".into(), "config.yaml".into(), "serve".into()],
            env: vec![("TENANTRY__SERVER__LISTEN", listen)],
            files: vec![
                ("config.yaml", config.to_string()),
                ("tenants.json", self.secrets(settings.known)),
            ],
            wrapper,
            live: LIVE,
        })
    }

    /// Starts the program with the configuration that is shipped.
    pub(crate) fn shipped(&self) -> Result<Server> {
        Server::start(|listen| Launch {
            program: self.programs.tenantry.clone(),
            arguments: vec!["serve".into()],
            env: vec![("TENANTRY__SERVER__LISTEN", listen)],
            files: Vec::new(),
            wrapper: Vec::new(),
            live: LIVE,
        })
    }

    /// Starts a baseline.
    pub(crate) fn baseline(&self, kind: Baseline) -> Result<Server> {
        self.baseline_under(Vec::new(), kind)
    }

    /// Starts a baseline under another program that watches it.
    pub(crate) fn baseline_under(&self, wrapper: Vec<OsString>, kind: Baseline) -> Result<Server> {
        let url = self.url(0);
        Server::start(|listen| Launch {
            program: self.programs.baseline.clone(),
            arguments: ["--pool", kind.argument(), "--listen", &listen]
                .map(OsString::from)
                .into(),
            env: vec![("BASELINE_DATABASE", url)],
            files: Vec::new(),
            wrapper,
            live: LIVE,
        })
    }

    /// Starts postrust on the first tenant's database, with as many connections as a tenant has by
    /// default. It takes a role for requests without a token, and here the tenant's own.
    pub(crate) fn postrust(&self, connections: usize) -> Result<Server> {
        let program = self.programs.postrust.clone();
        let program = program.context("`--postrust` is needed for this part")?;
        let (url, role) = (self.url(0), self.tenant.user.clone());
        Server::start(|listen| {
            let (host, port) = listen.split_once(':').unwrap_or((&listen, ""));
            Launch {
                program,
                arguments: Vec::new(),
                env: vec![
                    ("DATABASE_URL", url),
                    ("PGRST_DB_ANON_ROLE", role),
                    ("PGRST_DB_POOL_SIZE", connections.to_string()),
                    ("PGRST_SERVER_HOST", host.to_owned()),
                    ("PGRST_SERVER_PORT", port.to_owned()),
                    ("PGRST_LOG_LEVEL", "error".to_owned()),
                ],
                files: Vec::new(),
                wrapper: Vec::new(),
                live: "/healthz",
            }
        })
    }

    /// Starts the peer in Go with as many tenants as have a database of their own, if it was built.
    pub(crate) fn go_service(&self) -> Result<Option<Server>> {
        let Some(program) = self.programs.go.clone() else {
            return Ok(None);
        };
        let server = Server::start(|listen| Launch {
            program,
            arguments: vec!["-listen".into(), listen.into()],
            env: Vec::new(),
            files: vec![("tenants.json", self.secrets(DATABASES))],
            wrapper: Vec::new(),
            live: LIVE,
        });
        server.map(Some)
    }

    /// Has pgbench find one user of the first tenant, as the users API does.
    pub(crate) fn pgbench(&self, clients: usize) -> Run<'_> {
        const FIND: &str = "\\set id 500\nSELECT id, name, email, created_at, updated_at FROM users WHERE id = :id;\n";
        let url = self.url(0);
        Box::new(move || pgbench(&url, FIND, clients))
    }

    /// Makes sure that two servers give the same answer, so that they are measured at the same
    /// work. Of a page its items count.
    pub(crate) fn answer_alike(&self, one: &Server, other: &Server, path: &str, tenant: &str) -> Result<()> {
        let answer = |server: &Server| -> Result<Value> {
            let answer = Client::connect(server.port)?.get_ok(path, tenant)?;
            let answer: Value = serde_json::from_slice(&answer)?;
            Ok(answer.get("items").unwrap_or(&answer).clone())
        };
        let (of_one, of_other) = (answer(one)?, answer(other)?);
        ensure!(
            of_one == of_other,
            "`{path}` is not answered alike: {of_one} and {of_other}"
        );
        Ok(())
    }
}
