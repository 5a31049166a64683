//! Starts the servers that Tenantry is tested against.
