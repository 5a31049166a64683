//! Describes in OpenAPI how a client names its tenant.

use serde_json::{Map, Value, json};
use tenantry_core::{ApiKeyPlace, TenantLocation};

use super::DocumentSettings;
use crate::operator_input::tenant_id_schema;

/// How clients reach the server: the scheme and port around a tenant's host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `http` or `https`.
    pub scheme: String,
    /// The port, unless it is the scheme's default.
    pub port: Option<u16>,
}

impl Default for Origin {
    fn default() -> Self {
        Self {
            scheme: "http".to_owned(),
            port: Some(8080),
        }
    }
}

/// Describes the place of a request's tenant in words: "the header `X-Tenant-ID`".
pub(crate) fn describe_location(location: &TenantLocation) -> String {
    match location {
        TenantLocation::Header { name } => format!("the header `{name}`"),
        TenantLocation::Query { name } => format!("the query parameter `{name}`"),
        TenantLocation::Cookie { name } => format!("the cookie `{name}`"),
        TenantLocation::ApiKey { place, .. } => format!("the API key in {}", describe_place(place)),
        TenantLocation::Bearer { claim } => format!("the claim `{claim}` of a bearer token"),
        TenantLocation::Subdomain { domain } => format!("the host name, as `{{tenant}}.{domain}`"),
        TenantLocation::Host => "the host name".to_owned(),
        TenantLocation::Path { prefix } => format!("the path, as `{prefix}/{{tenant}}/...`"),
        TenantLocation::Fixed => "the server's configuration".to_owned(),
        TenantLocation::AnyOf(all) => joined(all, " or in "),
        TenantLocation::AllOf(all) => joined(all, " and in "),
    }
}

pub(crate) fn describe_place(place: &ApiKeyPlace) -> String {
    match place {
        ApiKeyPlace::Header(name) => format!("the header `{name}`"),
        ApiKeyPlace::Query(name) => format!("the query parameter `{name}`"),
        ApiKeyPlace::Cookie(name) => format!("the cookie `{name}`"),
    }
}

fn joined(all: &[TenantLocation], conjunction: &str) -> String {
    let words: Vec<String> = all.iter().map(describe_location).collect();
    words.join(conjunction)
}

/// The single locations inside a location.
fn leaves(location: &TenantLocation) -> Vec<&TenantLocation> {
    match location {
        TenantLocation::AnyOf(all) | TenantLocation::AllOf(all) => all.iter().flat_map(leaves).collect(),
        single => vec![single],
    }
}

/// Whether a request can name no tenant there without a bearer token or an API key.
pub(crate) fn needs_credential(location: &TenantLocation) -> bool {
    match location {
        TenantLocation::Bearer { .. } | TenantLocation::ApiKey { .. } => true,
        TenantLocation::AllOf(all) => all.iter().any(needs_credential),
        TenantLocation::AnyOf(all) => !all.is_empty() && all.iter().all(needs_credential),
        _ => false,
    }
}

/// Whether a bearer token is one of the ways to name a tenant.
pub(super) fn takes_bearer(location: &TenantLocation) -> bool {
    leaves(location)
        .iter()
        .any(|leaf| matches!(leaf, TenantLocation::Bearer { .. }))
}

/// Whether an API key is one of the ways to name a tenant.
pub(super) fn takes_api_key(location: &TenantLocation) -> bool {
    leaves(location)
        .iter()
        .any(|leaf| matches!(leaf, TenantLocation::ApiKey { .. }))
}

/// The scheme in which a client is asked to authenticate (RFC 9110 §11.6.1). None is registered for
/// API keys; `ApiKey` is what other servers send.
pub(crate) fn challenge_scheme(location: &TenantLocation) -> &'static str {
    match takes_api_key(location) && !takes_bearer(location) {
        true => "ApiKey",
        false => "Bearer",
    }
}

/// Whether a request can go without naming a tenant.
pub(super) fn is_fixed(location: &TenantLocation) -> bool {
    match location {
        TenantLocation::Fixed => true,
        TenantLocation::AnyOf(all) => all.iter().any(is_fixed),
        TenantLocation::AllOf(all) => all.iter().all(is_fixed),
        _ => false,
    }
}

/// How the document shows a location.
///
/// A single one is exactly what the client needs: a security scheme, a path parameter, or servers.
/// Of [`TenantLocation::AnyOf`], each is an alternative of its own; those of
/// [`TenantLocation::AllOf`] are together one requirement, so that a generated client sends all of
/// them. A path or a host name is a server with a variable and needs no scheme.
pub(super) struct Plan {
    /// The security schemes by name.
    pub(super) schemes: Vec<(String, Value)>,
    /// Which of them each alternative needs.
    alternatives: Vec<Vec<String>>,
    /// The prefix before a `{tenant}` in the path.
    pub(super) path_parameter: Option<String>,
    /// The document's servers.
    pub(super) servers: Vec<Value>,
    /// Whether a server's URL has the tenant, so that operators' operations need another.
    pub(super) names_tenant_in_server: bool,
}

pub(super) fn plan(settings: &DocumentSettings) -> Plan {
    let leaves = leaves(&settings.location);
    let mut plan = Plan {
        schemes: Vec::new(),
        alternatives: Vec::new(),
        path_parameter: None,
        servers: Vec::new(),
        names_tenant_in_server: false,
    };
    if let [TenantLocation::Path { prefix }] = leaves.as_slice() {
        plan.path_parameter = Some(prefix.clone());
        plan.servers.push(json!({"url": "/"}));
        return plan;
    }
    let mut servers: Vec<Value> = leaves
        .iter()
        .flat_map(|leaf| tenant_servers(leaf, &settings.origin))
        .collect();
    plan.names_tenant_in_server = !servers.is_empty();
    let ways = plan.ways(&settings.location);
    for (schemes, _) in &ways {
        if !plan.alternatives.contains(schemes) {
            plan.alternatives.push(schemes.clone());
        }
    }
    // An alternative without a scheme comes last: clients take the first that they can satisfy.
    plan.alternatives.sort_by_key(Vec::is_empty);
    if plan.alternatives.iter().all(Vec::is_empty) {
        plan.alternatives.clear();
    }
    let has_own = servers.iter().any(|server| server["url"] == "/");
    if !has_own && (servers.is_empty() || ways.iter().any(|(_, in_server)| !in_server)) {
        plan.servers.push(json!({"url": "/"}));
    }
    plan.servers.append(&mut servers);
    plan
}

fn scheme(leaf: &TenantLocation) -> Option<(&'static str, Value)> {
    let key = |place: &str, name: &str| {
        let description = format!("The tenant's id, in {}.", describe_location(leaf));
        json!({"type": "apiKey", "in": place, "name": name, "description": description})
    };
    Some(match leaf {
        TenantLocation::Header { name } => ("TenantHeader", key("header", name)),
        TenantLocation::Query { name } => ("TenantQuery", key("query", name)),
        TenantLocation::Cookie { name } => ("TenantCookie", key("cookie", name)),
        TenantLocation::ApiKey { place, description } => {
            let (place, name) = match place {
                ApiKeyPlace::Header(name) => ("header", name),
                ApiKeyPlace::Query(name) => ("query", name),
                ApiKeyPlace::Cookie(name) => ("cookie", name),
            };
            let scheme = json!({"type": "apiKey", "in": place, "name": name, "description": description});
            ("TenantApiKey", scheme)
        }
        TenantLocation::Bearer { claim } => {
            let description = format!("A token whose claim `{claim}` is the tenant's id.");
            let scheme = json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": description});
            ("TenantToken", scheme)
        }
        _ => return None,
    })
}

/// The servers that have the tenant in their URL.
fn tenant_servers(leaf: &TenantLocation, origin: &Origin) -> Vec<Value> {
    let port = origin.port.map(|port| format!(":{port}")).unwrap_or_default();
    let tenant = json!({"default": "tenant1", "description": "The tenant's id."});
    let scheme = json!({"default": origin.scheme, "enum": ["http", "https"], "description": "The scheme."});
    let port = json!({"default": port, "description": "A colon and the port; empty for the scheme's own."});
    match leaf {
        TenantLocation::Subdomain { domain } => vec![json!({
            "url": format!("{{scheme}}://{{tenant}}.{domain}{{port}}"),
            "description": "The tenant's own host name.",
            "variables": {"scheme": scheme, "tenant": tenant, "port": port},
        })],
        // On a tenant's own host name the document is served from there, so `/` is that tenant's.
        // The names themselves are not listed.
        TenantLocation::Host => vec![
            json!({"url": "/", "description": "The host name that this document was fetched from."}),
            json!({
                "url": "{scheme}://{host}{port}",
                "description": "A tenant's own host name.",
                "variables": {
                    "scheme": scheme,
                    "host": {"default": "tenant1.example.com", "description": "The tenant's own host name."},
                    "port": port,
                },
            }),
        ],
        TenantLocation::Path { prefix } => vec![json!({
            "url": format!("{prefix}/{{tenant}}"),
            "description": "The tenant in the path.",
            "variables": {"tenant": tenant},
        })],
        _ => Vec::new(),
    }
}

/// The origins to which the documentation pages may send requests, as sources of a
/// Content-Security-Policy. A tenant's subdomain may be another origin than the page's.
pub(crate) fn connect_sources(location: &TenantLocation) -> String {
    let hosts = leaves(location).into_iter().filter_map(|leaf| match leaf {
        TenantLocation::Subdomain { domain } => Some(format!("*.{domain}")),
        _ => None,
    });
    hosts
        .flat_map(|host| [format!(" http://{host}:*"), format!(" https://{host}:*")])
        .collect()
}

/// The schemes that one way to name a tenant needs, and whether it needs a server with the tenant
/// in its URL.
type Way = (Vec<String>, bool);

impl Plan {
    /// Every way to name a tenant at `location`.
    fn ways(&mut self, location: &TenantLocation) -> Vec<Way> {
        match location {
            TenantLocation::AnyOf(all) => all.iter().flat_map(|one| self.ways(one)).collect(),
            TenantLocation::AllOf(all) => all.iter().fold(vec![(Vec::new(), false)], |ways, one| {
                let more = self.ways(one);
                let together = |(schemes, in_server): &Way| -> Vec<Way> {
                    let both = more.iter().map(|(others, other_in_server)| {
                        let mut schemes = schemes.clone();
                        schemes.extend(
                            others
                                .iter()
                                .filter(|name| !schemes.contains(name))
                                .cloned()
                                .collect::<Vec<_>>(),
                        );
                        (schemes, *in_server || *other_in_server)
                    });
                    both.collect()
                };
                ways.iter().flat_map(together).collect()
            }),
            single => match scheme(single) {
                Some((name, scheme)) => vec![(vec![self.add_scheme(name, scheme)], false)],
                None => vec![(Vec::new(), !matches!(single, TenantLocation::Fixed))],
            },
        }
    }

    /// Adds a scheme unless it is there already; returns its name.
    fn add_scheme(&mut self, name: &str, scheme: Value) -> String {
        if let Some((name, _)) = self.schemes.iter().find(|(_, known)| *known == scheme) {
            return name.clone();
        }
        let alike = self.schemes.iter().filter(|(known, _)| known.starts_with(name)).count();
        let name = match alike {
            0 => name.to_owned(),
            _ => format!("{name}{}", alike + 1),
        };
        self.schemes.push((name.clone(), scheme));
        name
    }

    /// The security requirements of a tenant's operation; any one of them will do.
    pub(super) fn requirements(&self) -> Vec<Map<String, Value>> {
        let requirement = |schemes: &Vec<String>| schemes.iter().map(|name| (name.clone(), json!([]))).collect();
        self.alternatives.iter().map(requirement).collect()
    }

    /// A path of a tenant's operations as clients write it.
    pub(super) fn path_below(&self, path: &str) -> String {
        match &self.path_parameter {
            Some(prefix) => format!("{prefix}/{{{}}}{path}", parameter_name(path)),
            None => path.to_owned(),
        }
    }

    pub(super) fn add_path_parameter(&self, path: &str, operation: &mut Value) {
        let parameter = json!({
            "name": parameter_name(path), "in": "path", "required": true,
            "description": "The tenant's id.",
            "schema": tenant_id_schema(),
        });
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.insert(0, parameter),
            None => operation["parameters"] = json!([parameter]),
        }
    }
}

/// `tenant`, or another name if the path already has a parameter of that name.
fn parameter_name(path: &str) -> &'static str {
    if path.contains("{tenant}") {
        "tenant_id"
    } else {
        "tenant"
    }
}
