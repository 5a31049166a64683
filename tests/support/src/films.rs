//! Declared tables of films, on each kind of database, behind one server.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::{MariadbServer, OracleServer, PostgresServer, TenantryProcess};

const MIGRATIONS: [(&str, &str); 4] = [
    ("sqlite", include_str!("../films/sqlite/0001_films.sql")),
    ("postgresql", include_str!("../films/postgresql/0001_films.sql")),
    ("mysql", include_str!("../films/mysql/0001_films.sql")),
    ("oracle", include_str!("../films/oracle/0001_films.sql")),
];

/// A server with declared tables, and a tenant on each kind of database.
///
/// Every tenant has the same rows. A token names the tenant; its claims are `role`, and `name` for
/// the row rules. Without a token the header `X-Tenant-ID` names it.
pub struct Films {
    /// The server.
    pub server: TenantryProcess,
}

impl Films {
    /// The names of the tenants, which are those of the drivers.
    pub const TENANTS: [&str; 4] = ["sqlite", "postgresql", "mysql", "oracle"];

    /// What tokens are signed with, by HS256.
    pub const SECRET: &str = "a-secret-that-only-tests-know-of-32-bytes";

    /// Starts `program` over new databases.
    ///
    /// # Errors
    /// A database cannot be made, or the program does not start.
    pub async fn start(program: impl Into<PathBuf>) -> Result<Self> {
        let mut tenants = Map::new();
        for tenant in Self::TENANTS {
            tenants.insert(tenant.to_owned(), secret(tenant).await?);
        }
        // Times that a busy machine keeps: the first request waits for its tenant's migrations.
        let config = json!({
            "server": {"request_timeout": "120s"},
            "tenancy": {
                "pools": {"acquire_timeout": "60s", "connect_timeout": "60s"},
                "provider": {"type": "static", "tenants": tenants},
                "resolver": {"type": "chain", "resolvers": [
                    {"type": "jwt", "secret": Self::SECRET, "claim": "tenant"},
                    {"type": "header"},
                ]},
            },
            "migrations": {"on_connect": true, "dir": "migrations"},
            "rest": {"tables": "tables.yaml"},
        });
        // JSON is YAML too.
        let mut program = TenantryProcess::builder(program)
            .oracle()
            .config(config.to_string())
            .file("tables.yaml", include_str!("../films/tables.yaml"));
        for (kind, sql) in MIGRATIONS {
            program = program.file(format!("migrations/{kind}/0001_films.sql"), sql);
        }
        Ok(Self {
            server: program.start().await?,
        })
    }
}

async fn secret(tenant: &str) -> Result<Value> {
    Ok(match tenant {
        "sqlite" => json!({"type": "sqlite", "path": "films.db"}),
        "postgresql" => {
            let server = PostgresServer::shared().await;
            server.secret(&server.create_tenant("films").await?)
        }
        "mysql" => {
            let server = MariadbServer::shared().await;
            server.secret(&server.create_tenant("films").await?)
        }
        _ => {
            let server = OracleServer::shared().await;
            server.secret(&server.create_tenant("films").await?)
        }
    })
}
