//! The databases that tenants are given, and a server over them.

use serde_json::{Map, Value, json};
use tenantry_test_support::{MariadbServer, PostgresServer, TenantryBuilder, TenantryProcess};

use crate::client::Client;

/// A kind of database. What is tested on each differs in nothing but the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgresql,
    Mariadb,
}

impl Database {
    /// The name of its driver, as `TenantInfo` has it.
    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgresql => "postgresql",
            Self::Mariadb => "mysql",
        }
    }

    /// The secret of an empty database that nobody else has.
    pub(crate) async fn secret(self, tenant: &str) -> Value {
        match self {
            Self::Sqlite => json!({"type": "sqlite", "path": format!("{tenant}.db")}),
            Self::Postgresql => {
                let server = PostgresServer::shared().await;
                server.secret(&server.create_tenant(tenant).await.unwrap())
            }
            Self::Mariadb => {
                let server = MariadbServer::shared().await;
                server.secret(&server.create_tenant(tenant).await.unwrap())
            }
        }
    }

    /// The secrets of tenants with a database each.
    pub(crate) async fn secrets(self, tenants: &[&str]) -> Value {
        let mut secrets = Map::new();
        for tenant in tenants {
            secrets.insert((*tenant).to_owned(), self.secret(tenant).await);
        }
        Value::Object(secrets)
    }

    /// A server whose tenants these are, their tables made and empty.
    pub(crate) async fn serve(self, tenants: &[&str]) -> (TenantryProcess, Client) {
        serve(&config(&self.secrets(tenants).await)).await
    }
}

/// The program.
pub(crate) fn program() -> TenantryBuilder {
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry"))
}

/// A configuration with these secrets; JSON is YAML too.
pub(crate) fn config(secrets: &Value) -> String {
    format!("tenancy:\n  provider: {{ type: static, tenants: {secrets} }}\nmigrations: {{ on_connect: true }}\n")
}

/// The program with this configuration, and a client of it.
pub(crate) async fn serve(config: &str) -> (TenantryProcess, Client) {
    let server = program().config(config).start().await.unwrap();
    let client = Client::of(&server);
    (server, client)
}
