//! A look at a tenant that takes no other's place: a check, or a tool's connection.

use std::sync::Arc;

use super::{
    error::AcquireError,
    house::Engine,
    tenant::{Held, Tenant},
};
use crate::TenantId;

impl Engine {
    /// As [`hold`](Self::hold), for a look at a tenant that takes no other's place.
    pub(crate) fn look_at(&self, id: &TenantId) -> Result<Look<'_>, AcquireError> {
        loop {
            if self.tenants.get(id).is_none() && self.secrets.is_known_to_be_unknown(id) {
                return Err(AcquireError::Unknown);
            }
            let mut is_new = false;
            let tenant = self.tenants.get_or_create(id, || {
                is_new = true;
                self.new_tenant(id)
            });
            if let Ok(held) = Held::new(tenant) {
                return Ok(Look {
                    engine: self,
                    held: Some(held),
                    is_new,
                });
            }
        }
    }
}

/// A tenant that is held for a look at it. If it was not known before, and there are more tenants
/// than are kept, it is forgotten after that.
pub(crate) struct Look<'a> {
    engine: &'a Engine,
    /// It is there until this is dropped.
    held: Option<Held>,
    is_new: bool,
}

impl Look<'_> {
    pub(crate) fn tenant(&self) -> Result<&Arc<Tenant>, AcquireError> {
        self.held.as_deref().ok_or(AcquireError::Unknown)
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let id = self.held.take().map(|held| held.id);
        let forget = self.is_new && self.engine.tenants.len() > self.engine.secrets.capacity();
        if let Some(id) = id.filter(|_| forget) {
            self.engine.tenants.forget(&id, |tenant| tenant.holdings().is_open());
        }
    }
}
