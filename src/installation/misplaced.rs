//! Paths in the configuration that hide routes of the server.

use serde_json::Value;
use tenantry_core::TenantLocation;

use crate::config::{Fault, Loaded};

/// The first segments of the server's own paths. A path resolver's prefix must not begin with one,
/// since it would hide them.
const SERVED: [&str; 7] = [
    "admin",
    "api",
    "docs",
    "health",
    "metrics",
    "openapi.json",
    "openapi.yaml",
];

fn first_segment(path: &str) -> Option<&str> {
    path.trim_start_matches('/').split('/').next()
}

/// A path of declared tables that begins as the server's own routes do.
pub(super) fn tables(loaded: &Loaded) -> Option<Fault> {
    let first = first_segment(&loaded.config.rest.as_ref()?.path)?;
    let served = SERVED.iter().find(|served| **served == first && **served != "api")?;
    let message = format!("begins with `/{served}`, which is a path of the server itself");
    Some(loaded.fault_at(&["rest", "path"], message))
}

/// A prefix before tenants' paths that hides routes of the server.
pub(super) fn prefix(loaded: &Loaded, location: &TenantLocation) -> Option<Fault> {
    let first = first_segment(location.path_prefix()?)?;
    let tables = loaded.config.rest.as_ref().and_then(|rest| first_segment(&rest.path));
    let served = SERVED.into_iter().chain(tables).find(|served| *served == first)?;
    let mut path = vec!["tenancy".to_owned(), "resolver".to_owned()];
    path.extend(place_of_prefix(&loaded.config.tenancy.resolver.mapping()).unwrap_or_default());
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    Some(loaded.fault_at(
        &path,
        format!("begins with `/{served}`, which is a path of the server itself"),
    ))
}

/// The place of the prefix in a resolver's mapping, or in the mappings of the resolvers inside it.
fn place_of_prefix(mapping: &Value) -> Option<Vec<String>> {
    if mapping.get("prefix").is_some() {
        return Some(vec!["prefix".to_owned()]);
    }
    let parts = mapping.get("resolvers")?.as_array()?;
    parts.iter().enumerate().find_map(|(index, part)| {
        let below = place_of_prefix(part)?;
        Some([vec!["resolvers".to_owned(), index.to_string()], below].concat())
    })
}
