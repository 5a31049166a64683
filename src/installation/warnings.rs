//! What is allowed in a configuration and yet unsafe, or can never work.

use std::collections::BTreeSet;

use tenantry_core::DatabaseDriver;

use super::Installation;
use crate::{
    config::{Forwarded, ListenAddress},
    migrations::Migrations,
    rest,
};

impl Installation {
    /// What is allowed and yet unsafe in this configuration, one sentence each: the server logs
    /// them as it starts, and `tenantry check` prints them.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let config = &self.loaded.config;
        let ListenAddress(main) = config.server.listen;
        let ListenAddress(operator) = config.server.admin_listen.unwrap_or(config.server.listen);
        let mut warnings = self.loaded.warnings.clone();
        warnings.extend(self.resolver.warnings());
        warnings.extend(self.unreachable_roles());
        warnings.extend(self.hidden_parameter());
        warnings.extend(self.warnings.iter().chain(&self.unread_folders).cloned());
        if !main.ip().is_loopback() && !self.resolver.authenticates() {
            warnings.push(format!(
                "`server.listen` is {main} and the resolver `{}` demands no proof of the tenant: \
                 each client that reaches this address can read and change the data of every tenant. Put an authenticating \
                 proxy before it, or use the resolver `chain` with a `jwt` in it and `agreement: all`",
                config.tenancy.resolver.type_name()
            ));
        }
        match (config.server.trusted_proxies.is_empty(), config.server.forwarded) {
            (false, Forwarded::None) => warnings.push(
                "`server.trusted_proxies` is set and `server.forwarded` is `none`: no forwarded host is read. Name the \
                 header that the proxies write"
                    .to_owned(),
            ),
            (true, Forwarded::XForwarded | Forwarded::Forwarded) => warnings.push(
                "`server.forwarded` is set and `server.trusted_proxies` is empty: no forwarded host is read".to_owned(),
            ),
            _ => {}
        }
        let is_local = operator.ip().is_loopback() && config.app.environment == "development";
        if config.admin.token.is_none() && config.admin.loopback && !is_local {
            warnings.push(
                "`admin.token` is not set: every process on this machine is an operator, also a proxy that forwards the \
                 requests of others without saying so. Set `admin.token`, or `admin.loopback: false`"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Which parameter of the declared tables the resolver hides.
    fn hidden_parameter(&self) -> Option<String> {
        rest::hidden_parameter(self.rest.as_deref()?, &self.resolver.location())
    }

    /// Folders of migrations that no driver applies, one sentence each; a part of
    /// [`warnings`](Self::warnings).
    pub(crate) fn unread_folders(&self) -> &[String] {
        &self.unread_folders
    }

    /// What is wrong with roles of the declared tables that no request can have.
    pub(crate) fn unreachable_roles(&self) -> Option<String> {
        rest::unreachable_roles(self.rest.as_deref()?, &self.resolver.location())
    }
}

/// A required version that no file reaches: no tenant is served unless a newer program has migrated
/// it.
pub(super) fn beyond_the_last(migrations: &Migrations, required: i64, text: &str) -> Option<String> {
    let (last, name) = migrations.last();
    (required > last).then(|| {
        let last = if name.is_empty() { "there is none".to_owned() } else { format!("the last one is `{name}`") };
        format!(
            "`migrations.require` is `{text}`, and no migration has that version ({last}): every tenant that this program \
             migrates is answered 503 `tenant_schema_behind`"
        )
    })
}

/// Warnings about folders that end below a required version which another folder has.
pub(super) fn below_required(migrations: &Migrations, required: i64, text: &str) -> Vec<String> {
    let (highest, _) = migrations.last();
    let below = |folder| {
        let (last, name) = migrations.last_of(folder)?;
        (last < required && required <= highest).then(|| {
            format!(
                "`migrations.require` is `{text}`, and the last migration in the folder `{folder}` is `{name}`: a tenant of that \
                 kind of database is served with it"
            )
        })
    };
    migrations.folders().filter_map(below).collect()
}

/// Warnings about files that a driver cannot split into statements. They are no faults: a file that
/// was applied everywhere must stay as it is.
pub(super) fn unreadable<'a>(
    migrations: &Migrations,
    drivers: impl Iterator<Item = &'a dyn DatabaseDriver>,
) -> BTreeSet<String> {
    let of_driver = |driver: &'a dyn DatabaseDriver| {
        let folder = driver.migration_dialect();
        let warning =
            move |error| format!("`{folder}`: {error}; a tenant that it was not applied to cannot be migrated");
        migrations.unreadable(driver).map(warning)
    };
    drivers.flat_map(of_driver).collect()
}

/// Warnings about folders of migrations that no driver applies, such as `postgres`, and about files
/// outside these folders or in folders within them. `dialects` are those of the enabled drivers.
pub(super) fn unread_folders<'a>(migrations: &Migrations, dialects: impl Iterator<Item = &'a str>) -> Vec<String> {
    const BUILT_IN: [&str; 4] = ["mysql", "oracle", "postgresql", "sqlite"];
    let known: BTreeSet<&str> = dialects.chain(BUILT_IN).collect();
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let unread = migrations.folders().filter(|folder| !known.contains(folder));
    let warning = |folder| {
        let (place, names) = (migrations.place(), names.join(", "));
        format!("no driver applies the migrations in the folder `{folder}` of {place}; the folders are {names}")
    };
    let misplaced = migrations.misplaced().iter().map(|name| {
        let place = migrations.place();
        format!("`{name}` in {place} is not read: a file must be in a driver's folder itself, such as `postgresql/0001_x.sql`")
    });
    unread.map(warning).chain(misplaced).collect()
}
