//! Which tenants there are.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tenantry_core::{ProviderError, TenantId};

use super::{Inner, Store};

/// How many folders are looked into at once for a list.
const LISTS_AT_ONCE: usize = 8;

impl Inner {
    /// Every tenant. One that is missing in one of the two mounts has no secret.
    pub(super) async fn tenants(&self) -> Result<Vec<TenantId>, ProviderError> {
        let mut listed: Option<BTreeSet<TenantId>> = None;
        for store in self.naming_stores() {
            let is_kv = self.kv.as_ref().is_some_and(|kv| std::ptr::eq(kv, store));
            let names = if is_kv {
                self.list_stored(store).await?
            } else {
                self.list_roles(store).await?
            };
            listed = Some(match listed {
                Some(before) => before.intersection(&names).copied().collect(),
                None => names,
            });
        }
        let reason = "neither `kv.path` nor `database.role` holds `{tenant}`: the tenants cannot be listed";
        let listed = listed.ok_or_else(|| ProviderError::Denied(reason.into()))?;
        Ok(listed.into_iter().collect())
    }

    /// What is below a path, folders with a `/` at their end; nothing if there is no such path.
    async fn keys(&self, mount: &str, more: &[&str]) -> Result<Vec<String>, ProviderError> {
        let path: Vec<&str> = mount.split('/').chain(more.iter().copied()).collect();
        match self.login.list(&path).await {
            Ok(answer) => answer.keys(),
            Err(error) if error.is_absent() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The tenants of the KV 2 secrets.
    async fn list_stored(&self, kv: &Store) -> Result<BTreeSet<TenantId>, ProviderError> {
        let (folder, rest) = kv.names.folder_and_rest();
        let path: Vec<&str> = ["metadata"].into_iter().chain(folder.split('/')).collect();
        let keys = self.keys(&kv.mount, &path).await?;
        if keys.is_empty() {
            self.refuse_kv_1(kv).await?;
        }
        let Some((below, leaf)) = rest else {
            let names = keys.iter().filter_map(|key| kv.names.tenant_in(key));
            return Ok(names.filter_map(|name| self.id_pattern.parse(name).ok()).collect());
        };
        // The secret is in a folder of the tenant's: it is looked whether it is there.
        let mut folders = Vec::new();
        for folder in keys.iter().filter_map(|key| key.strip_suffix('/')) {
            let tenant = kv.names.tenant_in(folder).map(|name| self.id_pattern.parse(name));
            if let Some(Ok(tenant)) = tenant {
                let path = path.iter().chain([&folder]).chain(&below);
                folders.push((tenant, path.map(ToString::to_string).collect::<Vec<_>>()));
            }
        }
        let looks = folders.into_iter().map(|(tenant, path)| async move {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            let keys = self.keys(&kv.mount, &path).await?;
            Ok::<_, ProviderError>(keys.iter().any(|key| key == leaf).then_some(tenant))
        });
        let there: Vec<_> = stream::iter(looks)
            .buffer_unordered(LISTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(there.into_iter().flatten().collect())
    }

    /// The tenants of the roles, dynamic and static ones. Of the two lists one may be denied, if
    /// the other one has tenants and no role of the denied kind gave a user.
    async fn list_roles(&self, database: &Store) -> Result<BTreeSet<TenantId>, ProviderError> {
        let mut tenants = BTreeSet::new();
        let mut denied = Vec::new();
        for (kind, is_static) in [("roles", false), ("static-roles", true)] {
            match self.keys(&database.mount, &[kind]).await {
                Ok(keys) => {
                    let names = keys.iter().filter_map(|key| database.names.tenant_in(key));
                    tenants.extend(names.filter_map(|name| self.id_pattern.parse(name).ok()));
                }
                Err(error @ ProviderError::Denied(_)) if !self.was_granted(is_static) => denied.push(error),
                Err(error) => return Err(error),
            }
        }
        match denied.pop() {
            Some(error) if !denied.is_empty() || tenants.is_empty() => Err(error),
            _ => Ok(tenants),
        }
    }
}
