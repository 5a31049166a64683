//! The settings of the provider `vault`.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use tenantry_core::SecretValue;

use crate::defaults;

/// Secrets in Vault or OpenBao: KV 2 secrets, users of the database engine, or both.
///
/// With `kv` alone, a tenant's secret is the KV 2 secret. With `database` alone, it is a user of a
/// role, and `defaults` say the rest. With both, the KV 2 secret says the rest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server's URL, such as `https://vault.example.com:8200`.
    pub address: String,
    /// The namespace of all requests.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The authority of its certificate, in place of the public ones: PEM text or a file.
    #[serde(default)]
    pub ca: Option<String>,
    /// How to log in.
    pub auth: Auth,
    /// The KV 2 secret of a tenant: the whole secret, or the rest of it if `database` provides the
    /// user.
    #[serde(default)]
    pub kv: Option<Kv>,
    /// The role of the database engine that a tenant's user comes from. A dynamic role makes a user
    /// for a limited time; a static role's password is rotated.
    #[serde(default)]
    pub database: Option<Database>,
    /// A secret that completes every tenant's: what a secret does not say is taken from here.
    /// `{tenant}` and `{environment}` are replaced in its texts.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    #[serde(default, deserialize_with = "defaults::deserialize")]
    pub defaults: Option<SecretValue>,
}

/// How to log in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The method.
    pub method: LoginMethod,
    /// For `token`: the token. It is renewed for as long as it can be.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub token: Option<SecretString>,
    /// For `approle` and `kubernetes`: the mount path of the method. Default: the method's name.
    #[serde(default)]
    pub mount: Option<String>,
    /// For `approle`: the role's id.
    #[serde(default)]
    pub role_id: Option<String>,
    /// For `approle`: the secret id; none for a role that needs none.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub secret_id: Option<SecretString>,
    /// For `kubernetes`: the role.
    #[serde(default)]
    pub role: Option<String>,
    /// For `kubernetes`: the file of the service account's token, which is read at each login.
    /// Default: `/var/run/secrets/kubernetes.io/serviceaccount/token`.
    #[serde(default)]
    pub token_path: Option<PathBuf>,
}

/// The methods to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LoginMethod {
    /// A token.
    Token,
    /// AppRole.
    Approle,
    /// The service account of a pod.
    Kubernetes,
}

/// Which KV 2 secret is a tenant's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kv {
    /// The mount path of KV 2.
    #[serde(default = "secret")]
    pub mount: String,
    /// The secret's path there, such as `tenantry/{environment}/{tenant}`.
    pub path: String,
}

/// Which role of the database engine is a tenant's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The mount path of the database engine.
    #[serde(default = "database")]
    pub mount: String,
    /// The role, dynamic or static, such as `tenantry-{tenant}`.
    pub role: String,
}

fn secret() -> String {
    "secret".to_owned()
}

fn database() -> String {
    "database".to_owned()
}
