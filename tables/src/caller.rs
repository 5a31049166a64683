//! The role, the claims and the tenant of a request, and the kind of its database.

use serde_json::{Map, Value};

use crate::sql::Dialect;

/// The role of requests without a token, or with a token that names no role.
pub(crate) const ANONYMOUS: &str = "anon";

/// What is known of a request's sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) role: &'a str,
    pub(crate) tenant: &'a str,
    /// The verified token's claims.
    pub(crate) claims: Option<&'a Map<String, Value>>,
    /// That of the tenant's database.
    pub(crate) dialect: Dialect,
}

impl<'a> Caller<'a> {
    /// The role is the claim `role_claim`. A claim that is not a text gives a role without any
    /// rights.
    pub(crate) fn new(
        tenant: &'a str,
        claims: Option<&'a Map<String, Value>>,
        role_claim: &str,
        dialect: Dialect,
    ) -> Self {
        let role = match claims.and_then(|claims| find(claims, role_claim)) {
            None | Some(Value::Null) => ANONYMOUS,
            Some(Value::String(role)) => role,
            Some(_) => "",
        };
        Self {
            role,
            tenant,
            claims,
            dialect,
        }
    }

    /// Whether it has a token at all: a missing one is 401, a role that may not 403.
    pub(crate) fn has_token(&self) -> bool {
        self.claims.is_some()
    }

    pub(crate) fn claim(&self, name: &str) -> Option<&'a Value> {
        find(self.claims?, name)
    }
}

/// The claim of that name. Dots lead to nested members, unless a claim itself has the dotted name.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        name.match_indices('.').find_map(|(dot, _)| {
            let inner = claims.get(&name[..dot])?.as_object()?;
            find(inner, &name[dot + 1..])
        })
    })
}
