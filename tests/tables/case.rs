//! One request and what is expected of its answer, on every kind of database.

use reqwest::Method;
use serde_json::Value;

use crate::shop::{Answer, KINDS, Role, Shop};

/// A request.
pub(crate) struct Case {
    role: Role,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<String>,
}

impl Case {
    pub(crate) fn new(role: Role, method: Method, path: &str) -> Self {
        Self {
            role,
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub(crate) fn get(role: Role, path: &str) -> Self {
        Self::new(role, Method::GET, path)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn prefer(self, value: &str) -> Self {
        self.header("Prefer", value)
    }

    pub(crate) fn body(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string());
        self
    }

    pub(crate) fn text(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    async fn on(&self, shop: &Shop, kind: &str) -> Answer {
        let headers: Vec<(&str, &str)> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let body = self.body.clone();
        shop.send(kind, self.role, self.method.clone(), &self.path, &headers, body)
            .await
    }

    /// Sends it to every kind of database. All must answer with this status and the same body, byte for byte.
    pub(crate) async fn send(self, shop: &Shop, status: u16) -> Answer {
        let mut first: Option<Answer> = None;
        for kind in KINDS {
            let answer = self.on(shop, kind).await;
            let said = format!(
                "{kind}: {} {}: {} {}",
                self.method, self.path, answer.status, answer.body
            );
            assert_eq!(answer.status, status, "{said}");
            match &first {
                None => first = Some(answer),
                Some(first) => {
                    assert_eq!(comparable(&answer), comparable(first), "{said}");
                    for name in [
                        "content-range",
                        "content-type",
                        "location",
                        "link",
                        "preference-applied",
                    ] {
                        assert_eq!(answer.header(name), first.header(name), "{said}");
                    }
                }
            }
        }
        first.unwrap()
    }

    /// The same with this body.
    pub(crate) async fn gives(self, shop: &Shop, status: u16, expected: Value) -> Answer {
        let path = self.path.clone();
        let answer = self.send(shop, status).await;
        assert_eq!(answer.json(), expected, "{path}");
        answer
    }

    /// A refusal with this code.
    pub(crate) async fn refused(self, shop: &Shop, status: u16, code: &str) -> Value {
        let path = self.path.clone();
        let answer = self.send(shop, status).await;
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{path}: {problem}");
        assert_eq!(problem["status"], status, "{path}: {problem}");
        for member in ["type", "title", "detail", "request_id", "message"] {
            assert!(problem[member].is_string(), "{path}: no `{member}`: {problem}");
        }
        for member in ["details", "hint"] {
            assert!(problem.get(member).is_some(), "{path}: no `{member}`: {problem}");
        }
        problem
    }
}

/// A body without the request's id, and without what a constraint is called, which is not the same everywhere.
fn comparable(answer: &Answer) -> String {
    if answer.header("content-type") != "application/problem+json" {
        return sorted(&answer.body);
    }
    let mut problem = answer.json();
    problem["request_id"] = Value::Null;
    if problem["code"].as_str().is_some_and(|code| code.starts_with("23")) {
        problem["detail"] = Value::Null;
        problem["message"] = Value::Null;
    }
    problem.to_string()
}

/// JSON with the members of its objects sorted, its numbers and texts as they are; what is no JSON as it is. PostgreSQL's
/// `jsonb` keeps no order of members.
fn sorted(body: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(body) else {
        return body.to_owned();
    };
    value.sort_all_objects();
    let mut bytes: Vec<u8> = body.bytes().collect();
    bytes.sort_unstable();
    format!("{value} of {}", String::from_utf8_lossy(&bytes))
}
