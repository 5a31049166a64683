//! How the operations are grouped.

use poem_openapi::Tags;

#[derive(Tags)]
pub(crate) enum ApiTags {
    /// The tenant of the request.
    Tenant,
    /// The tenant's users.
    Users,
    /// The state of the server and of its tenants.
    Health,
    /// Actions for operators.
    Administration,
}
