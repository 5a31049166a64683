//! Every operation of the served document, requested without the right to it.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, send},
    databases::{config, serve},
};

const TOKEN: &str = "an-operator-token-of-the-tests";

/// The operations that anyone may ask for. This list may only shrink.
const FOR_ANYONE: [&str; 2] = ["getLiveness", "getReadiness"];

struct Operation {
    id: String,
    method: Method,
    path: String,
    /// The names of the schemes of its security.
    schemes: Vec<String>,
    /// The document's example of its body, if it takes one.
    body: Option<Value>,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schemes = operation["security"].as_array().into_iter().flatten();
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.replace("/users/{id}", "/users/1").replace("{id}", "acme"),
                schemes: schemes
                    .flat_map(|scheme| scheme.as_object().unwrap().keys().cloned())
                    .collect(),
                body: operation
                    .get("requestBody")
                    .map(|body| body["content"]["application/json"]["example"].clone()),
            });
        }
    }
    operations
}

impl Operation {
    fn is_for(&self, scheme: &str) -> bool {
        self.schemes.iter().any(|name| name == scheme)
    }

    async fn ask(&self, client: &Client) -> Answer {
        let mut request = client.request(self.method.clone(), &self.path);
        if let Some(body) = &self.body {
            request = request.json(body);
        }
        send(request).await
    }
}

async fn started() -> (tenantry_test_support::TenantryProcess, Client, Vec<Operation>) {
    let config = config(&json!({"acme": {"type": "sqlite", "path": "acme.db"}}));
    let (server, client) = serve(&format!("{config}admin: {{ token: {TOKEN} }}\n")).await;
    let operations = operations(&client.get("/openapi.json").await.expect(200).json());
    assert!(operations.len() >= 18, "{} operations", operations.len());
    (server, client, operations)
}

#[tokio::test]
async fn every_operation_belongs_to_tenants_operators_or_the_list() {
    let (_server, client, operations) = started().await;
    let mut for_anyone = BTreeSet::new();
    for operation in &operations {
        match (operation.is_for("TenantHeader"), operation.is_for("Operator")) {
            (true, false) => assert!(operation.path.starts_with("/api/v1/tenant/"), "{}", operation.id),
            (false, true) => assert!(!operation.path.starts_with("/api/"), "{}", operation.id),
            (false, false) => {
                operation.ask(&client).await.expect(200);
                for_anyone.insert(operation.id.as_str());
            }
            (true, true) => panic!("{} is a tenant's and an operator's", operation.id),
        }
    }
    assert_eq!(for_anyone, BTreeSet::from(FOR_ANYONE));
}

#[tokio::test]
async fn every_operation_of_tenants_needs_a_tenant_who_exists() {
    let (_server, client, operations) = started().await;
    let mut walked = 0;
    for operation in operations.iter().filter(|operation| operation.is_for("TenantHeader")) {
        // An operator is no tenant.
        for client in [&client, &client.token(TOKEN)] {
            operation.ask(client).await.problem(400, "tenant_missing");
            for malformed in ["../acme", "ACME", "acme.", ""] {
                operation
                    .ask(&client.tenant(malformed))
                    .await
                    .problem(400, "tenant_malformed");
            }
            operation
                .ask(&client.tenant("nobody"))
                .await
                .problem(404, "tenant_unknown");
        }
        walked += 1;
    }
    assert!(walked >= 7, "{walked} operations");
    // Nothing was done, and no request was admitted.
    let users = client
        .tenant("acme")
        .get("/api/v1/tenant/users")
        .await
        .expect(200)
        .json();
    assert_eq!(users["items"], json!([]));
}

#[tokio::test]
async fn every_operation_of_operators_needs_the_operators_token() {
    let (_server, client, operations) = started().await;
    let mut walked = 0;
    for operation in operations.iter().filter(|operation| operation.is_for("Operator")) {
        for client in [client.clone(), client.tenant("acme")] {
            let without = operation.ask(&client).await;
            without.problem(401, "unauthenticated");
            assert_eq!(without.header("www-authenticate"), "Bearer", "{}", operation.id);
            let longer = format!("{TOKEN}x");
            for wrong in [
                "wrong",
                &TOKEN[1..],
                &TOKEN[..TOKEN.len() - 1],
                &longer,
                &TOKEN.to_uppercase(),
            ] {
                let refused = operation.ask(&client.token(wrong)).await;
                refused.problem(401, "unauthenticated");
                assert!(
                    refused
                        .header("www-authenticate")
                        .starts_with("Bearer error=\"invalid_token\""),
                    "{refused:?}"
                );
                assert!(!refused.text().contains(TOKEN));
            }
            for header in [
                "",
                "Bearer",
                "Bearer ",
                TOKEN,
                &format!("Basic {TOKEN}"),
                &format!("Token {TOKEN}"),
            ] {
                let request = client
                    .request(operation.method.clone(), &operation.path)
                    .header("Authorization", header);
                send(request).await.problem(401, "unauthenticated");
            }
            let twice = client
                .request(operation.method.clone(), &operation.path)
                .bearer_auth("wrong")
                .bearer_auth(TOKEN);
            send(twice).await.problem(401, "unauthenticated");
        }
        walked += 1;
    }
    assert!(walked >= 9, "{walked} operations");
    for operation in operations.iter().filter(|operation| operation.is_for("Operator")) {
        let status = operation.ask(&client.token(TOKEN)).await.status;
        assert!(matches!(status, 200 | 204), "{}: {status}", operation.id);
    }
}

#[tokio::test]
async fn every_operation_gives_only_documented_answers() {
    let (_server, client, operations) = started().await;
    let document = client.get("/openapi.json").await.expect(200).json();
    let documented: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .flat_map(|operation| {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .map(move |status| format!("{id} {status}"))
                .collect::<Vec<_>>()
        })
        .collect();
    for operation in &operations {
        for client in [
            client.clone(),
            client.tenant("acme"),
            client.tenant("A"),
            client.tenant("nobody"),
            client.tenant("acme").token(TOKEN),
        ] {
            let answer = format!("{} {}", operation.id, operation.ask(&client).await.status);
            assert!(documented.contains(&answer), "{answer} is not documented");
        }
    }
}
