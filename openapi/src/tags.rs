//! How the operations are grouped.

use poem_openapi::Tags;

#[derive(Tags)]
pub(crate) enum ApiTags {
    /// The tenant of the request.
    Tenant,
    /// The tenant's users.
    Users,
    /// How the server and its tenants are.
    Health,
    /// What an operator does.
    Administration,
}
