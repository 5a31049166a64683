//! A transaction on a tenant's database.

use std::fmt;

use async_trait::async_trait;
use sea_orm::{DbErr, TransactionSession};

use super::session::Level;
use crate::engine::pool::Call;

/// A transaction, or a save point within one. A failed commit is an error. A transaction that is
/// dropped without an end is rolled back: the outermost in the background, a save point before the
/// next statement of the transaction around it. Ending a transaction rolls back the save points
/// within it that have not ended.
pub struct TenantTransaction(pub(super) Level);

impl fmt::Debug for TenantTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTransaction")
            .field("tenant", self.0.tenant())
            .field("nested", &!self.0.is_lowest())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl TransactionSession for TenantTransaction {
    async fn commit(self) -> Result<(), DbErr> {
        self.0.end(Call::Commit).await
    }

    async fn rollback(self) -> Result<(), DbErr> {
        self.0.end(Call::Rollback).await
    }
}
