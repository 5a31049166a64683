//! The databases that tenants are given, and a server over them.

use serde_json::{Map, Value, json};
use tenantry_test_support::{
    MariadbServer, OracleServer, PostgresServer, TenantryBuilder, TenantryProcess, record_case,
};

use crate::client::Client;

/// A kind of database. What is tested on each differs in nothing but the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgresql,
    Mariadb,
    Oracle,
}

impl Database {
    /// Each of them.
    pub(crate) const ALL: [Self; 4] = [Self::Sqlite, Self::Postgresql, Self::Mariadb, Self::Oracle];

    /// The name of its driver, as `TenantInfo` has it.
    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgresql => "postgresql",
            Self::Mariadb => "mysql",
            Self::Oracle => "oracle",
        }
    }

    /// Writes down that a case holds on it; `module` is that of the test.
    pub(crate) fn passed(self, module: &str, case: &str) {
        // Without the program before it and the kind of database behind it.
        let group: Vec<&str> = module.split("::").skip(1).collect();
        let group = group[..group.len() - 1].join(" ");
        record_case(self.driver(), &group, &case.replace('_', " "), "ok");
    }

    /// The secret of a new empty database.
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
            Self::Oracle => {
                let server = OracleServer::shared().await;
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

    /// A server with these tenants and with empty tables.
    pub(crate) async fn serve(self, tenants: &[&str]) -> (TenantryProcess, Client) {
        serve(&config(&self.secrets(tenants).await)).await
    }
}

/// The program.
pub(crate) fn program() -> TenantryBuilder {
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry")).oracle()
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
