//! Adds the answers that every operation of a kind has, so that handlers need not list them.

use http::StatusCode;
use serde_json::{Map, Value, json};
use tenantry_core::TenantLocation;

use super::{
    DocumentSettings, Scope,
    location::{challenge_scheme, is_fixed, takes_api_key, takes_bearer},
    takes,
};
use crate::{Fault, PROBLEM_JSON, Problem, ProblemCode, health, tenant::TENANT_SCHEME};

/// The headers that answers refer to.
pub(super) fn headers() -> Value {
    json!({
        "X-Request-ID": {
            "description": "The request's id: the client's own if it has 1 to 128 letters, digits, `.`, `_` and `-`.",
            "required": true,
            "schema": {"type": "string", "example": EXAMPLE_ID},
        },
        "Retry-After": {
            "description": "The number of seconds after which a retry may succeed.",
            "required": true,
            "schema": {"type": "integer", "minimum": 1, "example": 1},
        },
        "WWW-Authenticate": {
            "description": "How to authenticate (RFC 6750 §3).",
            "required": true,
            "schema": {"type": "string", "example": "Bearer"},
        },
    })
}

const EXAMPLE_ID: &str = "019b5f0c-2a51-7c3e-9d4b-0a1f6c8e2b47";

/// Adds the answers of the operation's kind, and the headers of every answer.
pub(super) fn complete(operation: &mut Value, scope: Scope, settings: &DocumentSettings, schemas: &Map<String, Value>) {
    let example = Examples::of(operation, scope, schemas, &settings.location);
    let mut responses = match operation["responses"].take() {
        Value::Object(responses) => responses,
        _ => Map::new(),
    };
    for (status, codes) in codes(operation, scope, settings, &responses) {
        add_problem(&mut responses, status, &codes, &example);
    }
    let id = operation["operationId"].as_str().unwrap_or_default();
    if let Some((status, media_type, example)) = health::example(id) {
        responses[status]["content"][media_type]["example"] = example;
    }
    for (status, response) in &mut responses {
        let description = response["description"].as_str().unwrap_or_default();
        if description.is_empty() {
            let reason = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok());
            response["description"] = reason
                .and_then(|reason| reason.canonical_reason())
                .unwrap_or("Answer")
                .into();
        }
        // poem-openapi writes the names of headers in upper case or as they are; they are the same
        // either way.
        let mut headers = Map::new();
        if let Value::Object(own) = response["headers"].take() {
            headers.extend(own.into_iter().map(|(name, header)| (canonical(&name), header)));
        }
        headers.insert("X-Request-ID".to_owned(), header_ref("X-Request-ID"));
        let is_problem = response["content"]
            .as_object()
            .is_some_and(|content| content.keys().eq([PROBLEM_JSON]));
        match status.as_str() {
            "401" => headers.insert("WWW-Authenticate".to_owned(), header_ref("WWW-Authenticate")),
            "429" => headers.insert("Retry-After".to_owned(), header_ref("Retry-After")),
            "503" if is_problem => headers.insert("Retry-After".to_owned(), retry_after(response)),
            _ => None,
        };
        response["headers"] = Value::Object(headers);
    }
    responses.sort_keys();
    operation["responses"] = Value::Object(responses);
}

/// The header of an answer 503. To repeat a request whose outcome is unknown may do it twice, so
/// that answer has none.
fn retry_after(response: &Value) -> Value {
    if response["content"][PROBLEM_JSON]["examples"][ProblemCode::OutcomeUnknown.as_str()].is_null() {
        return header_ref("Retry-After");
    }
    json!({
        "description": "The number of seconds after which a retry may succeed; absent for `outcome_unknown`.",
        "schema": {"type": "integer", "minimum": 1, "example": 1},
    })
}

fn header_ref(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// `LOCATION` as `Location`.
fn canonical(name: &str) -> String {
    let words = name.split('-').map(|word| match word.split_at_checked(1) {
        Some((first, rest)) => format!("{}{}", first.to_uppercase(), rest.to_lowercase()),
        None => String::new(),
    });
    words.collect::<Vec<_>>().join("-")
}

fn codes(
    operation: &Value,
    scope: Scope,
    settings: &DocumentSettings,
    declared: &Map<String, Value>,
) -> Vec<(StatusCode, Vec<ProblemCode>)> {
    let mut codes = Vec::new();
    let parameters = operation["parameters"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let has_body = !operation["requestBody"].is_null();
    if takes(operation, TENANT_SCHEME) {
        codes.extend(tenant_codes(settings));
    }
    if scope == Scope::Operator {
        codes.push(ProblemCode::Unauthenticated);
        if parameters
            .iter()
            .any(|parameter| parameter["schema"]["format"] == crate::operator_input::TENANT_ID_FORMAT)
        {
            codes.push(ProblemCode::TenantMalformed);
        }
        if declared.contains_key("404") {
            codes.push(ProblemCode::TenantUnknown);
        }
        if declared.contains_key("503") {
            codes.extend([ProblemCode::ProviderUnavailable, ProblemCode::SecretInvalid]);
        }
    }
    if has_body || !parameters.is_empty() {
        codes.push(ProblemCode::RequestInvalid);
    }
    if has_body {
        codes.extend([ProblemCode::BodyTooLarge, ProblemCode::UnsupportedMediaType]);
    }
    if declared.contains_key("404") && scope != Scope::Operator {
        codes.push(ProblemCode::NotFound);
    }
    if declared.contains_key("409") {
        codes.push(ProblemCode::Conflict);
    }
    codes.extend([ProblemCode::Internal, ProblemCode::RequestTimeout]);
    let mut by_status: Vec<(StatusCode, Vec<ProblemCode>)> = Vec::new();
    for code in codes {
        match by_status.iter_mut().find(|(status, _)| *status == code.status()) {
            Some((_, codes)) if codes.contains(&code) => {}
            Some((_, codes)) => codes.push(code),
            None => by_status.push((code.status(), vec![code])),
        }
    }
    by_status
}

/// What every operation on a tenant may answer.
fn tenant_codes(settings: &DocumentSettings) -> Vec<ProblemCode> {
    let location = &settings.location;
    let is_named = !is_fixed(location) && !is_credential(location);
    let authenticates = settings.authenticates || takes_bearer(location) || takes_api_key(location);
    let is_compared = matches!(location, TenantLocation::AllOf(_));
    let mut codes = Vec::from_iter(is_named.then_some(ProblemCode::TenantMissing));
    codes.extend([
        ProblemCode::TenantMalformed,
        ProblemCode::TenantSuspended,
        ProblemCode::TenantUnknown,
    ]);
    codes.extend(authenticates.then_some(ProblemCode::Unauthenticated));
    codes.extend(is_compared.then_some(ProblemCode::TenantMismatch));
    codes.extend([
        ProblemCode::TenantBusy,
        ProblemCode::RateLimited,
        ProblemCode::ProviderUnavailable,
        ProblemCode::DatabaseUnavailable,
        ProblemCode::SecretInvalid,
        ProblemCode::TenantMigrating,
        ProblemCode::TenantSchemaBehind,
        ProblemCode::ShuttingDown,
        ProblemCode::OutcomeUnknown,
        ProblemCode::PoolTimeout,
    ]);
    codes
}

/// Whether a tenant is named by a token or a key alone, so that a request without one is 401.
fn is_credential(location: &TenantLocation) -> bool {
    matches!(location, TenantLocation::Bearer { .. } | TenantLocation::ApiKey { .. })
}

/// The contents of the examples of an operation's problems.
struct Examples {
    /// The fault of an invalid request.
    invalid: Fault,
    /// The value that is taken, if it has a place in the request.
    taken: Option<Fault>,
    credential: &'static str,
}

impl Examples {
    fn of(operation: &Value, scope: Scope, schemas: &Map<String, Value>, location: &TenantLocation) -> Self {
        let body = &operation["requestBody"]["content"]["application/json; charset=utf-8"]["schema"];
        let body = match body.is_null() {
            true => &operation["requestBody"]["content"]["application/json"]["schema"],
            false => body,
        };
        let name = body["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        let body = name.and_then(|name| schemas.get(name)).unwrap_or(body);
        let has = |property: &str| !body["properties"][property].is_null();
        let is_email = has("email");
        let required = body["required"].as_array().and_then(|all| all.first()?.as_str());
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameter = parameters
            .filter_map(|parameter| Some((parameter["name"].as_str()?, &parameter["schema"])))
            .max_by_key(|(_, schema)| schema["type"] == "integer");
        let invalid = match (required, parameter) {
            _ if is_email => Fault::pointer("/email", "is not an email address"),
            (Some(key), _) => Fault::pointer(format!("/{key}"), "is missing"),
            (None, _) if !body.is_null() => Fault::pointer("", "is not JSON"),
            (None, Some((name, schema))) => Fault::parameter(name, expected(schema)),
            (None, None) => Fault::pointer("", "is not valid"),
        };
        Self {
            invalid,
            taken: is_email.then(|| Fault::pointer("/email", "is taken")),
            credential: match scope == Scope::Tenant && challenge_scheme(location) == "ApiKey" {
                true => "The API key is missing or not valid.",
                false => "The bearer token is missing or not valid.",
            },
        }
    }
}

/// The message for a text that does not match this schema.
fn expected(schema: &Value) -> &'static str {
    match schema["type"].as_str() {
        Some("integer") => "is not a whole number",
        Some("number") => "is not a number",
        Some("boolean") => "is not `true` or `false`",
        _ => "is not valid",
    }
}

fn add_problem(responses: &mut Map<String, Value>, status: StatusCode, codes: &[ProblemCode], examples: &Examples) {
    let titles: Vec<&str> = codes.iter().map(|code| code.title()).collect();
    let response = responses
        .entry(status.as_str())
        .or_insert_with(|| json!({"description": ""}));
    if response["description"].as_str().unwrap_or_default().is_empty() {
        response["description"] = format!("{}.", titles.join(", or: ")).into();
    }
    let examples: Map<String, Value> = codes
        .iter()
        .map(|code| (code.as_str().to_owned(), example(*code, examples)))
        .collect();
    if response["content"].is_null() {
        response["content"] = json!({});
    }
    response["content"][PROBLEM_JSON] = json!({
        "schema": {"$ref": "#/components/schemas/Problem"},
        "examples": examples,
    });
}

fn example(code: ProblemCode, examples: &Examples) -> Value {
    let mut value = json!({
        "type": "about:blank",
        "title": code.title(),
        "status": code.status().as_u16(),
        "code": code.as_str(),
        "detail": detail(code),
        "request_id": EXAMPLE_ID,
    });
    match code {
        ProblemCode::RequestInvalid => {
            let problem = Problem::invalid(vec![examples.invalid.clone()]);
            value["detail"] = problem.to_string().into();
            value["errors"] = json!([examples.invalid]);
        }
        ProblemCode::Conflict => {
            if let Some(taken) = &examples.taken {
                value["errors"] = json!([taken]);
            }
        }
        ProblemCode::Unauthenticated => value["detail"] = examples.credential.into(),
        _ => {}
    }
    json!({"summary": code.title(), "value": value})
}

fn detail(code: ProblemCode) -> &'static str {
    match code {
        ProblemCode::TenantMissing => "The request names no tenant.",
        ProblemCode::TenantMalformed => "The tenant id does not match the pattern for tenant ids.",
        ProblemCode::RequestInvalid => "The request is not valid.",
        ProblemCode::Unauthenticated => "The credential is missing or not valid.",
        ProblemCode::TenantMismatch => "The request names more than one tenant.",
        ProblemCode::TenantSuspended => "The tenant \"tenant1\" is suspended.",
        ProblemCode::TenantUnknown => "No tenant is named \"acme\".",
        ProblemCode::NotFound => "There is no such thing.",
        ProblemCode::Conflict => "A value that must be unique is taken.",
        ProblemCode::BodyTooLarge => "The body is longer than the 1048576 bytes that the server accepts.",
        ProblemCode::UnsupportedMediaType => {
            "The body's `Content-Type` is missing, or is not one that this operation accepts."
        }
        ProblemCode::TenantBusy => "The tenant \"tenant1\" has too many requests running; try again later.",
        ProblemCode::RateLimited => "The tenant \"tenant1\" sends too many requests per second; try again later.",
        ProblemCode::ProviderUnavailable => "The secret provider is unavailable; try again later.",
        ProblemCode::DatabaseUnavailable => "The tenant's database cannot be used at the moment.",
        ProblemCode::SecretInvalid => "The tenant's secret is not valid.",
        ProblemCode::TenantMigrating => "The tenant's database is being migrated; try again later.",
        ProblemCode::TenantSchemaBehind => {
            "The tenant's database is at version \"0003\", and version \"0004\" is needed; try again once it is migrated."
        }
        ProblemCode::OutcomeUnknown => {
            "The connection was lost during a write, which may have taken effect. Read before you repeat it."
        }
        ProblemCode::ShuttingDown => "The server is shutting down.",
        ProblemCode::PoolTimeout => "No connection to the tenant's database became free in time.",
        ProblemCode::RequestTimeout => "The request took longer than the server allows.",
        ProblemCode::MethodNotAllowed | ProblemCode::Internal | ProblemCode::Other(_) => {
            "The server failed to answer this request."
        }
    }
}
