//! Two tenants, the server that has them, and what each of them knows: its id, its host names and
//! its token.

use std::path::Path;

use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use serde_json::{Value, json};
use tenantry_test_support::{TenantryBuilder, TenantryProcess};

/// The secret in `configurations/jwt.yaml`.
pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes";

/// The issuer in `configurations/jwt.yaml`.
pub(crate) const ISSUER: &str = "https://login.example.com/";

/// A tenant, as its users know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant {
    pub(crate) id: &'static str,
    /// The host name that `configurations/host.yaml` gives it.
    pub(crate) host: &'static str,
}

pub(crate) const TENANT1: Tenant = Tenant {
    id: "tenant1",
    host: "shop.example.com",
};

pub(crate) const TENANT2: Tenant = Tenant {
    id: "tenant2",
    host: "example.org",
};

impl Tenant {
    /// A token that `configurations/jwt.yaml` accepts.
    pub(crate) fn token(self) -> String {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(json!(self.id)), &key).unwrap()
    }

    /// The address of a user that only this tenant has, from the sample data.
    pub(crate) fn sample_user(self) -> String {
        format!("john@{}.com", self.id)
    }
}

/// The claims of a token that is good for an hour.
pub(crate) fn claims(tenant: Value) -> Value {
    json!({"tenant": tenant, "iss": ISSUER, "exp": get_current_timestamp() + 3600})
}

/// How to start a server with both tenants; `resolver` is the mapping below `tenancy.resolver`, and
/// the databases are files in `data`, or in the server's own folder.
pub(crate) fn server(resolver: &str, data: Option<&Path>) -> TenantryBuilder {
    let resolver = resolver.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let data = data.map_or("data".to_owned(), |data| data.display().to_string());
    let config = format!(
        "tenancy:\n  resolver:\n{resolver}  provider:\n    type: static\n    tenants:\n      tenant1: {{ type: sqlite, path: one.db }}\n      \
         tenant2: {{ type: sqlite, path: two.db }}\ndrivers: {{ sqlite: {{ root: {} }} }}\nmigrations: {{ on_connect: true, sample_data: true }}\n",
        json!(data)
    );
    TenantryProcess::builder(env!("CARGO_BIN_EXE_tenantry")).config(config)
}

/// Starts a server with both tenants under this resolver.
pub(crate) async fn start(resolver: &str) -> TenantryProcess {
    server(resolver, None).start().await.unwrap()
}
