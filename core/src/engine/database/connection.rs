//! A connection that a handler keeps.

use std::fmt;

use super::session::Level;

/// One connection to a tenant's database, for as long as this value lives: for temporary tables,
/// session settings, advisory locks and whatever else is the session's own. It runs everything that
/// runs on SeaORM's traits.
///
/// Dropping it closes the connection, which no other request uses; a transaction that has not ended
/// on it is rolled back. Until then it occupies one of the connections of the tenant's pool. After
/// an error that ends the session every statement fails: no statement is repeated on another
/// connection.
pub struct TenantConnection(pub(super) Level);

impl fmt::Debug for TenantConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantConnection")
            .field("tenant", self.0.tenant())
            .finish_non_exhaustive()
    }
}
