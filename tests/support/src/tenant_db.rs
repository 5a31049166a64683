//! A tenant's database, and unique names.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use percent_encoding::percent_decode_str;
use url::Url;

/// A word in every password that is made here: a test that finds it in a log, an answer or a metric
/// has found a leak.
pub const CANARY: &str = "canary-d41f";

/// A tenant's own database with its own user, on one of the servers.
#[derive(Clone)]
pub struct TenantDb {
    /// The database's name.
    pub database: String,
    /// The user. It owns the database and has no access to another tenant's.
    pub user: String,
    /// The user's password; it contains [`CANARY`].
    pub password: String,
}

impl TenantDb {
    /// Unique names that begin with `name`, over all servers and processes.
    pub(crate) fn named(name: &str) -> Self {
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '_'
                }
            })
            .take(14)
            .collect();
        // At most 31 bytes: MySQL's limit for users is 32.
        let unique = format!("{name}_{:016x}", random());
        Self {
            database: unique.clone(),
            user: unique,
            password: password(),
        }
    }
}

impl fmt::Debug for TenantDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantDb")
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A unique password with the [`CANARY`] in it.
pub(crate) fn password() -> String {
    format!("{CANARY}-{:016x}", random())
}

fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    RandomState::new().hash_one((std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// How to reach a server as its superuser, from an environment variable's URL.
pub(crate) struct Superuser {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Superuser {
    /// Reads `url`, which `variable` held.
    ///
    /// # Errors
    /// It is no URL with a host, a port, a user and a password. The value is not repeated.
    pub(crate) fn from_url(variable: &str, url: &str) -> Result<Self> {
        let parse = || -> Option<Self> {
            let url = Url::parse(url).ok()?;
            let decoded = |text: &str| {
                percent_decode_str(text)
                    .decode_utf8()
                    .ok()
                    .map(|text| text.into_owned())
            };
            Some(Self {
                host: url.host_str()?.to_owned(),
                port: url.port()?,
                user: decoded(url.username())?,
                password: decoded(url.password()?)?,
            })
        };
        parse().with_context(|| format!("`{variable}` is not a URL with a user, a password, a host and a port"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_short_and_plain() {
        let [one, other] = ["Tenant One of many!", "Tenant One of many!"].map(TenantDb::named);
        assert_ne!(one.user, other.user);
        assert_ne!(one.password, other.password);
        assert!(
            one.user.len() <= 32 && one.user.starts_with("tenant_one_of_"),
            "{one:?}"
        );
        assert!(one.password.contains(CANARY));
        assert!(!format!("{one:?}").contains(CANARY));
    }

    #[test]
    fn a_superusers_url_is_read_and_never_repeated() {
        let read = Superuser::from_url("V", "mysql://ro%40ot:p%2Fw@127.0.0.1:3307/").unwrap();
        assert_eq!(
            (
                read.host.as_str(),
                read.port,
                read.user.as_str(),
                read.password.as_str()
            ),
            ("127.0.0.1", 3307, "ro@ot", "p/w")
        );
        for wrong in [
            "hunter2",
            "mysql://root:hunter2@127.0.0.1/",
            "mysql://hunter2@127.0.0.1:3306",
        ] {
            let error = format!("{:#}", Superuser::from_url("V", wrong).err().unwrap());
            assert!(error.contains("`V`") && !error.contains("hunter2"), "{error}");
        }
    }
}
