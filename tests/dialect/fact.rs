//! One request, and what is known of its answer.

use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header};
use reqwest::{Method, header::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};
use tenantry_test_support::Films;

/// Facts from one place of PostgREST's documentation or specification.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) source: String,
    pub(crate) facts: Vec<Fact>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fact {
    /// The method, and the path below `/rest/v1`.
    pub(crate) ask: String,
    /// The token's role; `anon` has no token.
    #[serde(default)]
    role: Role,
    prefer: Option<String>,
    accept: Option<String>,
    range: Option<String>,
    /// The body's `Content-Type`; JSON if it is not said.
    r#type: Option<String>,
    /// The body: a text as it is, and anything else as JSON.
    send: Option<Value>,
    status: u16,
    /// The answer's body: a text byte for byte, and anything else as JSON.
    body: Option<Value>,
    /// Whether the rows of the answer may come in another order.
    #[serde(default)]
    any_order: bool,
    /// The members of a refusal.
    code: Option<String>,
    message: Option<String>,
    #[serde(default, deserialize_with = "given")]
    details: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    hint: Option<Option<String>>,
    /// Headers of the answer; null for one that is not there.
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Role {
    Anon,
    #[default]
    Clerk,
    Keeper,
}

/// Null that is written counts.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Sends requests for one tenant.
pub(crate) struct Caller<'a> {
    http: &'a reqwest::Client,
    base: String,
    tenant: &'a str,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(http: &'a reqwest::Client, base: String, tenant: &'a str) -> Self {
        Self { http, base, tenant }
    }

    /// Sends a fact's request; the error says what is different.
    pub(crate) async fn check(&self, fact: &Fact) -> Result<(), String> {
        let answer = self.request(fact).send().await.map_err(|error| error.to_string())?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.text().await.map_err(|error| error.to_string())?;
        fact.compare(status, &headers, &body)
            .map_err(|difference| format!("{difference}; {status} {body}"))
    }

    fn request(&self, fact: &Fact) -> reqwest::RequestBuilder {
        let (method, path) = fact.ask.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}/rest/v1{path}", self.base));
        request = match self.token(&fact.role) {
            Some(token) => request.bearer_auth(token),
            None => request.header("X-Tenant-ID", self.tenant),
        };
        let more = [
            ("Prefer", &fact.prefer),
            ("Accept", &fact.accept),
            ("Range", &fact.range),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let Some(send) = &fact.send else { return request };
        let text = match send {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        request
            .header("Content-Type", fact.r#type.as_deref().unwrap_or("application/json"))
            .body(text)
    }

    fn token(&self, role: &Role) -> Option<String> {
        let claims = match role {
            Role::Anon => return None,
            Role::Clerk => json!({"tenant": self.tenant, "role": "clerk", "exp": 4_102_444_800_u64}),
            Role::Keeper => json!({"tenant": self.tenant, "role": "keeper", "name": "ann", "exp": 4_102_444_800_u64}),
        };
        let key = EncodingKey::from_secret(Films::SECRET.as_bytes());
        Some(jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap())
    }
}

impl Fact {
    fn compare(&self, status: u16, headers: &HeaderMap, body: &str) -> Result<(), String> {
        if status != self.status {
            return Err(format!("the status is not {}", self.status));
        }
        for (name, expected) in &self.headers {
            let found = headers.get(name).map(|value| value.to_str().unwrap_or("?"));
            if found != expected.as_deref() {
                return Err(format!("`{name}` is {found:?} and not {expected:?}"));
            }
        }
        match &self.body {
            Some(Value::String(text)) if text != body => return Err(format!("the body is not {text:?}")),
            Some(Value::String(_)) | None => {}
            Some(expected) => self.compare_json(expected, body)?,
        }
        match &self.code {
            None if status >= 400 => Err("a refusal without a code in the fact".to_owned()),
            None => Ok(()),
            Some(code) => self.compare_refusal(code, headers, body),
        }
    }

    fn compare_json(&self, expected: &Value, body: &str) -> Result<(), String> {
        let mut found: Value = serde_json::from_str(body).map_err(|error| format!("no JSON: {error}"))?;
        let mut expected = expected.clone();
        if self.any_order {
            for rows in [&mut found, &mut expected] {
                if let Value::Array(rows) = rows {
                    rows.sort_by_key(Value::to_string);
                }
            }
        }
        match found == expected {
            true => Ok(()),
            false => Err(format!("the body is not {expected}")),
        }
    }

    fn compare_refusal(&self, code: &str, headers: &HeaderMap, body: &str) -> Result<(), String> {
        let kind = headers.get("content-type").map(|value| value.to_str().unwrap_or("?"));
        if kind != Some("application/problem+json") {
            return Err(format!("a refusal is {kind:?}"));
        }
        let found: Value = serde_json::from_str(body).map_err(|error| format!("no JSON: {error}"))?;
        let mut expected = vec![("code", Some(Value::from(code)))];
        expected.push(("message", self.message.clone().map(Value::from)));
        expected.push(("details", self.details.clone().map(Value::from)));
        expected.push(("hint", self.hint.clone().map(Value::from)));
        for (name, expected) in expected {
            let known = found.get(name).ok_or_else(|| format!("there is no `{name}`"))?;
            if expected.is_some_and(|expected| expected != *known) {
                return Err(format!("`{name}` is another"));
            }
        }
        Ok(())
    }
}
