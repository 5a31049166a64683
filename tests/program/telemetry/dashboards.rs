//! The dashboard and the alerts name what `/metrics` has.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    databases::{Database, config, serve},
    users::{USERS, user},
};

/// What Prometheus adds by itself.
const ADDED: [&str; 3] = ["instance", "job", "le"];

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    _ => expressions(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(part).filter(|word| !word.is_empty())
}

fn metrics_of(expression: &str) -> BTreeSet<&str> {
    words(expression)
        .filter(|word| {
            ["tenantry_", "http_server_", "db_client_"]
                .iter()
                .any(|prefix| word.starts_with(prefix))
        })
        .collect()
}

/// The labels that an expression selects or groups by.
fn labels_of(expression: &str) -> BTreeSet<&str> {
    let mut labels = BTreeSet::new();
    for selector in expression.split('{').skip(1) {
        let selector = selector.split('}').next().unwrap_or_default();
        labels.extend(selector.split(',').filter_map(|matcher| words(matcher).next()));
    }
    for grouping in expression.split("by (").skip(1) {
        labels.extend(words(grouping.split(')').next().unwrap_or_default()));
    }
    labels.retain(|label| !ADDED.contains(label));
    labels
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_name_only_what_there_is() {
    let mut secrets = Database::Sqlite.secrets(&["acme"]).await;
    secrets["acme"]["query"] = json!({"slow": {"threshold": "0ms", "enabled": true}});
    secrets["down"] = json!({"type": "postgresql", "host": "127.0.0.1", "port": 1, "database": "d", "username": "u", "password": "p"});
    let (_server, client) = serve(&config(&secrets)).await;
    let acme = client.tenant("acme");
    acme.post(USERS, &user("Ann", "ann@x.example")).await.expect(201);
    acme.get(USERS).await.expect(200);
    client.tenant("down").get(USERS).await.expect(503);
    let metrics = client.get("/metrics").await.expect(200).text();
    let series = |metric: &str| -> Vec<&str> {
        let is_it = |line: &&str| {
            line.strip_prefix(metric)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        metrics.lines().filter(is_it).collect()
    };

    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let dashboard = fs::read_to_string(deploy.join("grafana/tenantry.json")).unwrap();
    let alerts = fs::read_to_string(deploy.join("prometheus/alerts.yaml")).unwrap();
    let mut found = Vec::new();
    expressions(&serde_json::from_str(&dashboard).unwrap(), &mut found);
    let panels = found.len();
    expressions(&serde_saphyr::from_str(&alerts).unwrap(), &mut found);
    assert!(
        panels >= 20 && found.len() >= panels + 6,
        "{panels} and {}",
        found.len()
    );
    for expression in &found {
        let named = metrics_of(expression);
        assert!(!named.is_empty(), "{expression}");
        for metric in &named {
            assert!(!series(metric).is_empty(), "no `{metric}` in\n{metrics}");
        }
        for label in labels_of(expression) {
            let labelled = format!("{label}=\"");
            let has = named
                .iter()
                .any(|metric| series(metric).iter().any(|line| line.contains(&labelled)));
            assert!(has, "no label `{label}` for `{expression}` in\n{metrics}");
        }
    }
    // And what is measured is on the dashboard, but for what only its own drill-down would show.
    let shown: BTreeSet<&str> = found.iter().flat_map(|expression| metrics_of(expression)).collect();
    let measured = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE tenantry_")?.split(' ').next());
    for metric in measured {
        let name = format!("tenantry_{metric}");
        let is_shown = shown.iter().any(|shown| shown.starts_with(&name));
        let left_out = [
            "tenantry_secret_cache_evictions_total",
            "tenantry_secret_cache_refreshes_total",
            "tenantry_statements_slow_total",
        ];
        let of_tenant = name.starts_with("tenantry_tenant_");
        assert!(
            is_shown || of_tenant || left_out.contains(&&*name),
            "{name} is on no panel"
        );
    }
}
