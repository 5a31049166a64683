//! A shop on each kind of database, behind one server.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use jsonwebtoken::{EncodingKey, Header};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tenantry_test_support::{MariadbServer, OracleServer, PostgresServer, TenantryBuilder, TenantryProcess};

/// The kinds of database, each of which is the tenant of that name.
pub(crate) const KINDS: [&str; 4] = ["sqlite", "postgresql", "mysql", "oracle"];

const SECRET: &str = "a-secret-that-only-tests-know-of-32-bytes";

const MIGRATIONS: [(&str, &str); 4] = [
    ("sqlite", include_str!("shop/sqlite/0001_shop.sql")),
    ("postgresql", include_str!("shop/postgresql/0001_shop.sql")),
    ("mysql", include_str!("shop/mysql/0001_shop.sql")),
    ("oracle", include_str!("shop/oracle/0001_shop.sql")),
];

/// A server whose tenants are a shop on each kind of database.
pub(crate) struct Shop {
    pub(crate) server: TenantryProcess,
    http: reqwest::Client,
    tokens: Mutex<HashMap<String, String>>,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Anon,
    Clerk,
    /// A customer of this number.
    Customer(i64),
    /// One whose token does not say which customer it is.
    Nameless,
}

/// Makes a database of this kind, and returns its secret.
pub(crate) async fn secret(kind: &str, name: &str) -> Value {
    match kind {
        "sqlite" => json!({"type": "sqlite", "path": format!("{name}.db")}),
        "postgresql" => {
            let server = PostgresServer::shared().await;
            server.secret(&server.create_tenant(name).await.unwrap())
        }
        "mysql" => {
            let server = MariadbServer::shared().await;
            server.secret(&server.create_tenant(name).await.unwrap())
        }
        _ => {
            let server = OracleServer::shared().await;
            server.secret(&server.create_tenant(name).await.unwrap())
        }
    }
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(1000).await
    }

    /// With answers of so many rows at most.
    pub(crate) async fn open_with(max_rows: u64) -> Self {
        let tables = include_str!("shop/tables.yaml");
        let shop = Self::of(&KINDS, max_rows, tables, &MIGRATIONS).await;
        shop.complete().await;
        shop
    }

    /// With these tables on these kinds of database.
    pub(crate) async fn of(kinds: &[&str], max_rows: u64, tables: &str, migrations: &[(&str, &str)]) -> Self {
        let mut tenants = Map::new();
        for kind in kinds {
            tenants.insert((*kind).to_owned(), secret(kind, "shop").await);
        }
        // Times that a busy machine keeps: the first request waits for its tenant's migrations.
        let config = json!({
            "tenancy": {"pools": {"acquire_timeout": "60s", "connect_timeout": "60s"}},
            "server": {"request_timeout": "120s"},
            "rest": {"max_rows": max_rows},
        });
        Self::over(tenants, config, tables, migrations).await
    }

    /// With these tenants, and what else the configuration says.
    pub(crate) async fn over(
        tenants: Map<String, Value>,
        mut config: Value,
        tables: &str,
        migrations: &[(&str, &str)],
    ) -> Self {
        config["tenancy"]["provider"] = json!({"type": "static", "tenants": tenants});
        config["tenancy"]["resolver"] = json!({"type": "chain", "resolvers": [
            {"type": "jwt", "secret": SECRET, "claim": "tenant"},
            {"type": "header"},
        ]});
        config["migrations"] = json!({"on_connect": true, "dir": "migrations"});
        config["rest"]["tables"] = "tables.yaml".into();
        // JSON is YAML too.
        let config = config.to_string();
        let server = Self::program_of(config, tables, migrations).start().await.unwrap();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(150));
        Self {
            server,
            http: http.build().unwrap(),
            tokens: Mutex::default(),
        }
    }

    /// The program with this configuration, beside the shop's files.
    pub(crate) fn program(config: String) -> TenantryBuilder {
        Self::program_of(config, include_str!("shop/tables.yaml"), &MIGRATIONS)
    }

    fn program_of(config: String, tables: &str, migrations: &[(&str, &str)]) -> TenantryBuilder {
        let program = std::env::var("TENANTRY_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_tenantry").to_owned());
        let program = TenantryProcess::builder(program)
            .oracle()
            .config(config)
            .file("tables.yaml", tables);
        migrations.iter().fold(program, |program, (kind, sql)| {
            program.file(format!("migrations/{kind}/0001_tables.sql"), *sql)
        })
    }

    /// Sets what the stand-in for Oracle's client library has no literal for.
    async fn complete(&self) {
        for (path, body) in [
            (
                "products?id=eq.1",
                json!({"code": "0f8fad5b-d9cb-469f-a165-70867728950e", "picture": "\\x6869"}),
            ),
            ("products?id=eq.3", json!({"picture": "\\x00ff"})),
        ] {
            let body = Some(body.to_string());
            let done = self.send("oracle", Role::Clerk, Method::PATCH, path, &[], body).await;
            assert_eq!(done.status, 204, "{done:?}");
        }
    }

    /// A token of a role for one tenant.
    pub(crate) fn token(tenant: &str, role: Role) -> Option<String> {
        claims(tenant, role).as_ref().map(signed)
    }

    pub(crate) async fn send(
        &self,
        tenant: &str,
        role: Role,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        self.send_as(tenant, claims(tenant, role), method, path, headers, body)
            .await
    }

    /// With a token of these claims; without any, with the tenant's name alone.
    pub(crate) async fn send_as(
        &self,
        tenant: &str,
        claims: Option<Value>,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let mut request = self
            .http
            .request(method, format!("{}/rest/v1/{path}", self.server.base_url()));
        request = match &claims {
            Some(claims) => request.bearer_auth(self.token_of(claims)),
            None => request.header("X-Tenant-ID", tenant),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            if !headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
            {
                request = request.header("Content-Type", "application/json");
            }
            request = request.body(body);
        }
        let answer = request.send().await.unwrap();
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    /// The token of some claims. It is signed once, since that takes long without optimization.
    fn token_of(&self, claims: &Value) -> String {
        let mut tokens = self.tokens.lock().unwrap();
        let token = tokens.entry(claims.to_string()).or_insert_with(|| signed(claims));
        token.clone()
    }

    pub(crate) async fn get(&self, tenant: &str, role: Role, path: &str) -> Answer {
        self.send(tenant, role, Method::GET, path, &[], None).await
    }
}

/// The claims of a role's token; none without a token.
fn claims(tenant: &str, role: Role) -> Option<Value> {
    let mut claims = json!({"tenant": tenant, "exp": 4_102_444_800_u64});
    match role {
        Role::Anon => return None,
        Role::Clerk => claims["role"] = "clerk".into(),
        Role::Customer(number) => {
            claims["role"] = "customer".into();
            claims["customer"] = number.into();
        }
        Role::Nameless => claims["role"] = "customer".into(),
    }
    Some(claims)
}

fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}
