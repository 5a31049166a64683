//! The provider `vault`: Vault and OpenBao. A tenant's secret is a KV 2 secret, a user of the
//! database engine, or both.
//!
//! A user of a dynamic role has a lease: it is renewed, replaced at its maximum, and revoked when
//! nothing uses it. The login to Vault is renewed first, since its leases end with it. A static
//! role's password is read anew when Vault has rotated it.
//!
//! The least policy that it needs, for `kv: { mount: secret, path: "tenantry/production/{tenant}"
//! }` and `database: { mount: database, role: "tenantry-{tenant}" }`:
//!
//! ```hcl
//! path "secret/data/tenantry/production/*"     { capabilities = ["read"] }
//! path "secret/metadata/tenantry/production/*" { capabilities = ["list"] }
//! path "database/creds/tenantry-*"             { capabilities = ["read"] }
//! path "database/static-creds/tenantry-*"      { capabilities = ["read"] }
//! path "database/roles"                        { capabilities = ["list"] }
//! path "database/static-roles"                 { capabilities = ["list"] }
//! path "sys/leases/renew"                      { capabilities = ["update"] }
//! path "sys/leases/revoke"                     { capabilities = ["update"] }
//! ```
//!
//! The policy `default`, which every login has unless it is configured otherwise, lets it look
//! itself up, renew itself, and renew leases.

mod config;
mod http;
mod list;
mod login;
mod method;
mod names;
mod session;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use tenantry_core::{
    BuildContext, BuildError, Lease, Plugin, ProviderError, SecretDocument, SecretProvider, SecretValue, SecretVersion,
    TenantId, TenantIdPattern,
};
use tokio::sync::{oneshot, watch};

pub use config::{Auth, Config, Database, Kv, LoginMethod};
use http::Server;
use login::Login;
use names::Names;

use crate::defaults;

/// For how long a kind of users that was allowed counts as allowed. A policy may withdraw one kind
/// on purpose.
const GRANT_COUNTS: Duration = Duration::from_secs(24 * 3600);
/// How much later than it says Vault may rotate the password of a static role.
const ROTATION_SLACK: Duration = Duration::from_secs(1);

/// Reads each tenant's secret from Vault or OpenBao.
pub struct VaultProvider(Arc<Inner>);

struct Inner {
    login: Arc<Login>,
    kv: Option<Store>,
    database: Option<Store>,
    defaults: SecretValue,
    environment: String,
    id_pattern: TenantIdPattern,
    /// Whether the roles that were read last are static ones.
    is_static: AtomicBool,
    /// When a role of this kind last gave a user, first for dynamic and then for static roles.
    granted: [Mutex<Option<Instant>>; 2],
    /// Whether the KV mount needs no check any more that it is not one of version 1.
    is_kv_2: AtomicBool,
    /// Whether secrets cross a network unencrypted.
    is_in_clear: bool,
}

/// A mount, and how tenants are named in it.
struct Store {
    mount: String,
    names: Names,
}

/// A user of the database engine.
struct Credentials {
    value: Value,
    lease: Option<Lease>,
    changes_in: Option<Duration>,
}

impl fmt::Debug for VaultProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultProvider").finish_non_exhaustive()
    }
}

impl Plugin<dyn SecretProvider> for VaultProvider {
    const TYPE: &'static str = "vault";
    const EXAMPLE: &'static str = "\
type: vault
address: https://vault.example.com:8200
auth: { method: kubernetes, role: tenantry }
database: { mount: database, role: \"tenantry-{tenant}\" }
defaults: { type: postgresql, host: db.example.com, database: \"{tenant}\", tls: { mode: verify-full } }
";
    type Config = Config;

    async fn build(config: Self::Config, context: &BuildContext) -> Result<Self, BuildError> {
        let server = Server::new(&config, context)?;
        let is_in_clear = server.is_in_clear();
        let login = Login::new(server, config.auth, context)?;
        let store = |key: &str, mount: String, name: &str| {
            let name = name.replace("{environment}", &context.environment);
            let names = Names::new(&name).map_err(|reason| BuildError::key(key, reason))?;
            let mount = mount.trim_matches('/').to_owned();
            Ok::<_, BuildError>(Store { mount, names })
        };
        let below = |section: &'static str| move |error: BuildError| error.below([section]);
        let kv = config
            .kv
            .map(|kv| store("path", kv.mount, &kv.path).map_err(below("kv")));
        let database = config.database;
        let database = database.map(|db| store("role", db.mount, &db.role).map_err(below("database")));
        let (kv, database) = (kv.transpose()?, database.transpose()?);
        match (&kv, &database) {
            (None, None) => return Err(BuildError::new("names neither `kv` nor `database`")),
            (Some(kv), None) if !kv.names.name_tenants() => {
                let error = BuildError::key("path", "holds no `{tenant}`: every tenant would have the same secret");
                return Err(error.below(["kv"]));
            }
            _ => {}
        }
        let inner = Arc::new(Inner {
            login,
            kv,
            database,
            defaults: config.defaults.unwrap_or_default(),
            environment: context.environment.clone(),
            id_pattern: context.id_pattern.clone(),
            is_static: AtomicBool::new(false),
            granted: Default::default(),
            is_kv_2: AtomicBool::new(false),
            is_in_clear,
        });
        inner.login.watch(inner.database.is_some());
        Ok(Self(inner))
    }
}

#[async_trait]
impl SecretProvider for VaultProvider {
    async fn fetch(&self, tenant: &TenantId) -> Result<SecretDocument, ProviderError> {
        let inner = &self.0;
        let mut stored = None;
        if let Some(kv) = &inner.kv {
            stored = Some(inner.stored(kv, tenant).await?);
        }
        let template = SecretValue::new(defaults::of_tenant(
            inner.defaults.expose(),
            tenant.as_str(),
            &inner.environment,
        ));
        let Some(database) = &inner.database else {
            let (value, version) = stored.ok_or(ProviderError::NotFound)?;
            let value = defaults::complete(value, &template);
            return Ok(SecretDocument::new(SecretValue::new(value), version));
        };
        let credentials = inner.credentials(database, tenant).await?;
        let stored = SecretValue::new(stored.map(|(value, _)| value).unwrap_or_default());
        let value = defaults::complete(credentials.value, &stored);
        let value = defaults::complete(value, &template);
        Ok(SecretDocument {
            lease: credentials.lease,
            changes_in: credentials.changes_in,
            ..SecretDocument::from_value(value)
        })
    }

    async fn list(&self) -> Result<Vec<TenantId>, ProviderError> {
        self.0.tenants().await
    }

    async fn renew(&self, lease: &Lease) -> Result<Duration, ProviderError> {
        let login = &self.0.login;
        // It ends with its login, whatever another one is granted.
        let earlier = || ProviderError::Denied("the lease belongs to an earlier login".into());
        if login.session(Some(lease.duration)).await?.number != lease.series {
            return Err(earlier());
        }
        let body = json!({"lease_id": &*lease.id, "increment": lease.duration.as_secs()});
        let path = ["sys", "leases", "renew"];
        let (answer, session) = login
            .call(Some(lease.duration), Method::PUT, &path, Some(&body))
            .await?;
        match session.number == lease.series {
            true => Ok(session.clip(answer.lease_duration())),
            false => Err(earlier()),
        }
    }

    async fn release(&self, lease: Lease) -> Result<(), ProviderError> {
        self.0.revoke(&lease).await
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        // Leases are lost with the login.
        self.0.database.as_ref().map(|_| self.0.login.lost())
    }

    fn warnings(&self) -> Vec<String> {
        let inner = &self.0;
        let mut warnings = Vec::new();
        if inner.is_in_clear {
            warnings.push(
                "`address` of `tenancy.provider` is an `http` URL of another machine: the token and every secret can be \
                 read on the way; use `https`"
                    .to_owned(),
            );
        }
        if inner.naming_stores().next().is_some() {
            return warnings;
        }
        let and = match defaults::name_tenants(inner.defaults.expose()) {
            true => "and the tenants cannot be listed",
            false => {
                "with the same database, since no text of `defaults` holds it either: that is right for a single \
                 tenant only. And the tenants cannot be listed"
            }
        };
        warnings.push(format!(
            "neither `kv.path` nor `database.role` of `tenancy.provider` holds `{{tenant}}`: every name that is a tenant id \
             gets a user, {and}"
        ));
        warnings
    }
}

impl Inner {
    /// The mounts in which tenants have names of their own.
    fn naming_stores(&self) -> impl Iterator<Item = &Store> {
        [&self.kv, &self.database]
            .into_iter()
            .flatten()
            .filter(|store| store.names.name_tenants())
    }

    /// A tenant's KV 2 secret and its version, which is made unique by the time it was made: the
    /// numbers begin anew after a secret was deleted for good.
    async fn stored(&self, kv: &Store, tenant: &TenantId) -> Result<(Value, SecretVersion), ProviderError> {
        let name = kv.names.of(tenant);
        let path: Vec<&str> = kv.mount.split('/').chain(["data"]).chain(name.split('/')).collect();
        let (answer, _) = match self.login.call(None, Method::GET, &path, None).await {
            Err(error) if error.is_absent() => {
                self.refuse_kv_1(kv).await?;
                return Err(ProviderError::NotFound);
            }
            answer => answer?,
        };
        let mut data = answer.into_data();
        let metadata = data["metadata"].take();
        let version = metadata["version"].as_u64();
        let (Some(version), Some(made)) = (version, metadata["created_time"].as_str()) else {
            return Err(ProviderError::invalid("the mount holds no KV 2 secrets"));
        };
        self.is_kv_2.store(true, Ordering::Relaxed);
        let version = SecretVersion::new(format!("{version} of {made}"));
        match data["data"].take() {
            Value::Null => Err(ProviderError::NotFound),
            value @ Value::Object(_) => Ok((value, version)),
            _ => Err(ProviderError::invalid("is not a JSON object")),
        }
    }

    /// Refuses a mount of KV version 1, in which every path of version 2 is empty. The mount is
    /// asked for once, when nothing was found in it.
    async fn refuse_kv_1(&self, kv: &Store) -> Result<(), ProviderError> {
        if self.is_kv_2.load(Ordering::Relaxed) {
            return Ok(());
        }
        let path: Vec<&str> = ["sys", "internal", "ui", "mounts"]
            .into_iter()
            .chain(kv.mount.split('/'))
            .collect();
        match self.login.call(None, Method::GET, &path, None).await {
            Ok((answer, _)) => {
                let mut mount = answer.into_data();
                let version = mount["options"]["version"].take();
                if mount["type"] == "kv" && version.as_str().is_none_or(|version| version == "1") {
                    let reason = format!(
                        "`kv.mount` is `{}`, which holds KV version 1; version 2 is needed",
                        kv.mount
                    );
                    return Err(ProviderError::Denied(reason.into()));
                }
            }
            // A policy or a gateway may forbid the question.
            Err(error) if error.is_refused() => {}
            Err(error) => return Err(error.into()),
        }
        self.is_kv_2.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A user for a tenant. An answer that comes after the caller has gone away is not lost: its
    /// lease is given back.
    async fn credentials(self: &Arc<Self>, database: &Store, tenant: &TenantId) -> Result<Credentials, ProviderError> {
        let (sender, receiver) = oneshot::channel();
        let (inner, mount, role) = (self.clone(), database.mount.clone(), database.names.of(tenant));
        tokio::spawn(async move {
            let answer = inner.credentials_of_role(&mount, &role).await;
            if let Err(Ok(unused)) = sender.send(answer)
                && let Some(lease) = unused.lease
                && let Err(error) = inner.revoke(&lease).await
            {
                tracing::warn!(
                    lease = %lease.id, kind = error.kind(),
                    "the lease of a secret that came too late could not be revoked: it ends by itself"
                );
            }
        });
        let lost = |_| Err(ProviderError::Unavailable("the call was cut off".into()));
        receiver.await.unwrap_or_else(lost)
    }

    /// Whether the policy allowed users of this kind a while ago, so that to be denied them is a
    /// fault.
    fn was_granted(&self, is_static: bool) -> bool {
        let granted = *self.granted(is_static);
        granted.is_some_and(|at| at.elapsed() < GRANT_COUNTS)
    }

    fn granted(&self, is_static: bool) -> MutexGuard<'_, Option<Instant>> {
        let granted = self.granted[usize::from(is_static)].lock();
        granted.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a user of a dynamic or a static role, of the kind that was there last first. A
    /// policy may allow one kind only, so a role is absent if it is not of the kind that is
    /// allowed. If the other kind was allowed before, nothing is known of the role.
    async fn credentials_of_role(&self, mount: &str, role: &str) -> Result<Credentials, ProviderError> {
        let first = self.is_static.load(Ordering::Relaxed);
        let mut denied = None;
        let (mut is_absent, mut is_withdrawn) = (false, false);
        for is_static in [first, !first] {
            match self.credentials_of_kind(mount, role, is_static).await {
                Ok(credentials) => {
                    self.is_static.store(is_static, Ordering::Relaxed);
                    *self.granted(is_static) = Some(Instant::now());
                    return Ok(credentials);
                }
                Err(ProviderError::NotFound) => is_absent = true,
                Err(error @ ProviderError::Denied(_)) => {
                    is_withdrawn |= self.was_granted(is_static);
                    denied = denied.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        let denied = denied.filter(|_| is_withdrawn || !is_absent);
        Err(denied.unwrap_or(ProviderError::NotFound))
    }

    async fn credentials_of_kind(
        &self,
        mount: &str,
        role: &str,
        is_static: bool,
    ) -> Result<Credentials, ProviderError> {
        let kind = if is_static { "static-creds" } else { "creds" };
        let path: Vec<&str> = mount.split('/').chain([kind, role]).collect();
        // With a login that lasts: the lease ends with it.
        let wanted = (!is_static).then_some(Duration::MAX);
        let (answer, session) = match self.login.call(wanted, Method::GET, &path, None).await {
            Err(error) if error.says("unknown role") || error.is_absent() => return Err(ProviderError::NotFound),
            answer => answer?,
        };
        let (lease_id, lasts, renewable) = (answer.lease_id(), answer.lease_duration(), answer.renewable());
        let mut data = answer.into_data();
        let rotates_in = data["ttl"].as_u64().filter(|_| is_static).map(Duration::from_secs);
        let (user, password) = (data["username"].take(), data["password"].take());
        if !(user.is_string() && password.is_string()) {
            return Err(ProviderError::invalid("the role gives no user name with a password"));
        }
        Ok(Credentials {
            value: json!({"username": user, "password": password}),
            lease: lease_id.map(|id| Lease {
                id,
                duration: session.clip(lasts),
                renewable,
                series: session.number,
            }),
            changes_in: rotates_in.map(|rotates_in| rotates_in + ROTATION_SLACK),
        })
    }

    /// Revokes a lease. Vault takes note of it and drops the user by itself, some at a time: that
    /// goes on after this program has ended, and Vault repeats it if the database refuses.
    async fn revoke(&self, lease: &Lease) -> Result<(), ProviderError> {
        let body = json!({"lease_id": &*lease.id, "sync": false});
        let path = ["sys", "leases", "revoke"];
        match self.login.call(None, Method::PUT, &path, Some(&body)).await {
            Err(error) if error.says("lease not found") => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }
}

#[cfg(test)]
mod tests;
