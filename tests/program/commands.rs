//! The commands that only read: their output and their exit codes.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::{Value, json};
use tenantry_test_support::{CANARY, OpenBaoServer, PostgresServer, free_port};

use crate::{
    client::Client,
    databases::{config, program},
    users::USERS,
};

fn json_of(stdout: &str) -> Value {
    serde_json::from_str(stdout).unwrap()
}

/// The cells of a printed table's rows, its heading first. A cell may take several lines.
pub(crate) fn table(stdout: &str) -> Vec<Vec<String>> {
    let rows = stdout.lines().filter(|line| line.starts_with('│'));
    let rows: Vec<Vec<char>> = rows.map(|line| line.trim_matches('│').chars().collect()).collect();
    let Some(heading) = rows.first() else { return Vec::new() };
    let begins = |at: &usize| heading[*at] != ' ' && (*at < 2 || heading[at - 2..*at] == [' ', ' ']);
    let begins: Vec<usize> = (0..heading.len()).filter(begins).collect();
    let mut table: Vec<Vec<String>> = Vec::new();
    for row in &rows {
        let ends = begins.iter().skip(1).copied().chain([row.len()]);
        let cells = begins
            .iter()
            .zip(ends)
            .map(|(begin, end)| row[*begin..end].iter().collect::<String>());
        let cells: Vec<String> = cells.map(|cell| cell.trim().to_owned()).collect();
        match table.last_mut() {
            Some(last) if cells[0].is_empty() => {
                for (cell, more) in last.iter_mut().zip(&cells) {
                    *cell = format!("{cell} {more}").trim().to_owned();
                }
            }
            _ => table.push(cells),
        }
    }
    for row in &mut table {
        row.retain(|cell| !cell.is_empty());
    }
    table
}

#[tokio::test]
async fn check_says_that_a_configuration_is_valid_and_opens_nothing() {
    let secrets = json!({"acme": {"type": "postgresql", "host": "127.0.0.1", "port": 1, "database": "d", "username": "u", "password": CANARY}});
    let checked = program().config(config(&secrets)).run(["check"]).await.unwrap();
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{}", checked.stdout);
    assert_eq!(checked.stdout.lines().count(), 1, "{}", checked.stdout);
    let told = "/config.yaml is valid: resolver `header`, provider `static`";
    assert!(checked.stdout.contains(told), "{}", checked.stdout);
}

#[tokio::test]
async fn check_warns_about_what_is_allowed_and_unsafe() {
    let tenants = "provider: { type: static, tenants: { acme: { type: sqlite, path: acme.db } } }";
    let jwt = "{ type: jwt, secret: a-short-secret }";
    for (resolver, more, expected) in [
        ("{ type: header }", "", &[] as &[&str]),
        (
            "{ type: header }",
            "server: { listen: \"0.0.0.0:0\" }",
            &["demands no proof of the tenant", "`admin.token` is not set"],
        ),
        (
            &format!("{{ type: chain, agreement: all, resolvers: [{{ type: header }}, {jwt}] }}"),
            "server: { listen: \"0.0.0.0:0\", admin_listen: \"127.0.0.1:0\" }",
            &["no `audience`", "no `issuer`", "less than 32 bytes"],
        ),
        (
            &format!("{{ type: chain, resolvers: [{jwt}, {{ type: header }}] }}"),
            "server: { listen: \"0.0.0.0:0\" }\nadmin: { token: a-token-of-the-tests }",
            &[
                "no `audience`",
                "no `issuer`",
                "less than 32 bytes",
                "demands no proof of the tenant",
            ],
        ),
        (
            "{ type: header }",
            "app: { environment: production }",
            &["`admin.token` is not set"],
        ),
        (
            "{ type: header }",
            "app: { environment: production }\nadmin: { loopback: false }\nserver: { trusted_proxies: [10.0.0.0/8] }",
            &["`server.forwarded` is `none`"],
        ),
        (
            "{ type: header }",
            "server: { forwarded: forwarded }",
            &["`server.trusted_proxies` is empty"],
        ),
    ] {
        let config = format!("tenancy:\n  resolver: {resolver}\n  {tenants}\n{more}\n");
        let checked = program().config(config).run(["check"]).await.unwrap();
        assert_eq!(checked.code, 0, "{}", checked.stderr);
        let warnings: Vec<&str> = checked.stderr.lines().collect();
        assert_eq!(warnings.len(), expected.len(), "{resolver} {more}: {warnings:?}");
        for (warning, expected) in warnings.iter().zip(expected) {
            assert!(
                warning.starts_with("warning: ") && warning.contains(expected),
                "{warning}"
            );
        }
    }
}

#[tokio::test]
async fn check_connect_fails_if_a_tenant_cannot_be_reached() {
    let postgres = PostgresServer::shared().await;
    let up = postgres.secret(&postgres.create_tenant("up").await.unwrap());
    let mut refused = up.clone();
    refused["password"] = "canary-wrong".into();
    let mut down = up.clone();
    down["port"] = free_port().unwrap().into();
    let mut broken = up.clone();
    broken["port"] = "canary-port".into();
    let good = json!({"lite": {"type": "sqlite", "path": "lite.db"}, "up": up});
    let checked = program()
        .config(config(&good))
        .run(["check", "--connect"])
        .await
        .unwrap();
    assert_eq!(checked.code, 0, "{}", checked.stdout);
    let outcomes = |stdout: &str| {
        table(stdout)
            .into_iter()
            .skip(1)
            .map(|row| row[..3].join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(outcomes(&checked.stdout), ["lite sqlite ok", "up postgresql ok"]);
    assert!(checked.stdout.ends_with("2 reached, 0 failed\n"), "{}", checked.stdout);

    let mixed = json!({"broken": broken, "down": down, "lite": {"type": "sqlite", "path": "lite.db"}, "refused": refused, "up": good["up"]});
    let checked = program()
        .config(config(&mixed))
        .run(["check", "--connect"])
        .await
        .unwrap();
    assert_eq!(checked.code, 1, "{}", checked.stdout);
    let rows = table(&checked.stdout);
    let rows: Vec<String> = rows.iter().skip(1).map(|row| row.join(" ")).collect();
    assert!(rows[0].starts_with("broken ") && rows[0].contains("`port`"), "{rows:?}");
    assert!(rows[1].starts_with("down postgresql unreachable"), "{rows:?}");
    assert!(rows[1].contains("refused"), "{rows:?}");
    assert!(rows[2].starts_with("lite sqlite ok"), "{rows:?}");
    assert!(rows[3].starts_with("refused postgresql authentication"), "{rows:?}");
    assert!(rows[4].starts_with("up postgresql ok"), "{rows:?}");
    assert!(checked.stdout.ends_with("2 reached, 3 failed\n"), "{}", checked.stdout);
    for text in [&checked.stdout, &checked.stderr] {
        assert!(!text.contains("canary"), "{text}");
    }
    let widest = checked.stdout.lines().skip(1).map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{}", checked.stdout);
}

#[tokio::test]
async fn the_reason_for_an_unreadable_secret_is_printed_and_logged() {
    let config = format!(
        "tenancy: {{ provider: {{ type: vault, address: 'http://127.0.0.1:{}', kv: {{ path: '{{tenant}}' }}, \
         auth: {{ method: token, token: canary-token }} }} }}\n",
        free_port().unwrap()
    );
    let server = program().config(config.clone()).start().await.unwrap();
    let client = Client::of(&server);
    client
        .tenant("acme")
        .get(USERS)
        .await
        .problem(503, "provider_unavailable");
    let logs = server
        .logs_with("the secret could not be read", Duration::from_secs(10))
        .await
        .unwrap();
    assert!(logs.contains("Connection refused"), "{logs}");
    assert!(!logs.contains("canary-token"), "{logs}");
    let checked = program().config(config).run(["check", "--connect"]).await.unwrap();
    assert_eq!(checked.code, 1);
    assert!(checked.stderr.contains("Connection refused"), "{}", checked.stderr);
}

#[tokio::test]
async fn a_provider_without_any_tenant_is_a_warning() {
    let config = "app: { environment: prodution }\ntenancy: { provider: { type: static, tenants: {} } }\n";
    for arguments in [
        &["check", "--connect"][..],
        &["migrate"],
        &["migrate", "status"],
        &["tenants"],
    ] {
        let finished = program().config(config).run(arguments.iter().copied()).await.unwrap();
        assert_eq!(finished.code, 0, "{arguments:?}");
        let stderr = finished.stderr;
        assert!(
            stderr.contains("names no tenant") && stderr.contains("`prodution`"),
            "{arguments:?}: {stderr}"
        );
    }
}

#[tokio::test]
async fn a_configured_profile_of_aws_goes_before_the_environment_s_credentials() {
    let config = format!(
        "tenancy: {{ provider: {{ type: aws-secrets-manager, region: eu-west-1, profile: nosuch, \
         endpoint_url: 'http://127.0.0.1:{}' }} }}\n",
        free_port().unwrap()
    );
    let finished = program()
        .config(config)
        .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", CANARY)
        .run(["tenants"])
        .await
        .unwrap();
    assert_eq!(finished.code, 1);
    // Nothing was sent with the other credentials.
    let stderr = &finished.stderr;
    assert!(stderr.contains("credential"), "{stderr}");
    assert!(!stderr.contains("Connection refused"), "{stderr}");
    assert!(!finished.stderr.contains(CANARY), "{}", finished.stderr);
}

#[tokio::test]
async fn a_tenant_that_is_listed_without_a_secret_fails_no_command() {
    let bao = OpenBaoServer::start().await.unwrap();
    for tenant in ["acme", "gone"] {
        let secret = json!({"type": "sqlite", "path": format!("{tenant}.db")});
        bao.put_secret(tenant, &secret).await.unwrap();
    }
    bao.call("DELETE", "secret/data/gone", &Value::Null).await.unwrap();
    let config = format!(
        "tenancy: {{ provider: {{ type: vault, address: 'http://127.0.0.1:{}', kv: {{ path: '{{tenant}}' }}, \
         auth: {{ method: token, token: {} }} }} }}\n",
        bao.port(),
        bao.root_token()
    );
    for arguments in [&["migrate", "--json"][..], &["check", "--connect"]] {
        let finished = program().config(&*config).run(arguments.iter().copied()).await.unwrap();
        assert_eq!(finished.code, 0, "{arguments:?}: {}", finished.stdout);
        assert!(finished.stderr.contains("`gone`"), "{arguments:?}: {}", finished.stderr);
        assert!(!finished.stdout.contains("gone"), "{arguments:?}: {}", finished.stdout);
    }
    let named = program()
        .config(config)
        .run(["migrate", "--tenant", "gone"])
        .await
        .unwrap();
    assert_eq!(named.code, 1, "{}", named.stdout);
}

#[tokio::test]
async fn tenants_lists_whom_the_provider_knows() {
    let secrets = json!({"zeta": {"type": "sqlite", "path": "z.db"}, "acme": {"type": "sqlite", "path": "a.db"}});
    let listed = program().config(config(&secrets)).run(["tenants"]).await.unwrap();
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "acme\nzeta\n"));
    let listed = program()
        .config(config(&secrets))
        .run(["tenants", "--json"])
        .await
        .unwrap();
    assert_eq!((listed.code, json_of(&listed.stdout)), (0, json!(["acme", "zeta"])));
    let none = program()
        .config(config(&json!({})))
        .run(["tenants", "--json"])
        .await
        .unwrap();
    assert_eq!((none.code, json_of(&none.stdout)), (0, json!([])));
}

#[tokio::test]
async fn openapi_prints_the_document_that_is_served() {
    let config = config(&json!({"acme": {"type": "sqlite", "path": "a.db"}}));
    let server = program().config(&config).start().await.unwrap();
    let client = Client::of(&server);
    let served = client.get("/openapi.json").await.expect(200).json();
    let printed = program().config(&config).run(["openapi"]).await.unwrap();
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert_eq!(json_of(&printed.stdout), served);
    let named = program()
        .config(&config)
        .run(["openapi", "--format", "json"])
        .await
        .unwrap();
    assert_eq!(named.stdout, printed.stdout);
    let yaml = program()
        .config(&config)
        .run(["openapi", "--format", "yaml"])
        .await
        .unwrap();
    assert_eq!(yaml.code, 0);
    let yaml_served = client.get("/openapi.yaml").await.expect(200);
    assert_eq!(yaml.stdout.trim_end(), yaml_served.text().trim_end());
    let read: Value = serde_saphyr::from_str(&yaml.stdout).unwrap();
    assert_eq!(read, served);
}

#[tokio::test]
async fn the_schema_accepts_the_shipped_file_and_refuses_a_typo() {
    let printed = program().run(["schema"]).await.unwrap();
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    let schema = json_of(&printed.stdout);
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut shipped: Value = serde_saphyr::from_str(include_str!("../../config.yaml")).unwrap();
    assert!(
        validator.is_valid(&shipped),
        "{:?}",
        validator
            .iter_errors(&shipped)
            .map(|error| error.to_string())
            .collect::<Vec<_>>()
    );
    shipped["server"]["listne"] = "x".into();
    assert!(!validator.is_valid(&shipped));
    // A configuration that is wrong, or not there, is no reason not to print it.
    let printed = program().config("canary: [").run(["schema"]).await.unwrap();
    assert_eq!((printed.code, json_of(&printed.stdout)), (0, schema));
}

/// The types of the plugins whose code is in a crate's folder.
fn types_in(folder: &str) -> BTreeSet<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let (mut folders, mut types) = (vec![source], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                // Tests have plugins of their own.
                if !path.ends_with("tests") {
                    folders.push(path);
                }
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let code = fs::read_to_string(path).unwrap();
            let declared = code.split_once("const TYPE: &'static str = \"").map(|(_, rest)| rest);
            types.extend(
                declared
                    .and_then(|rest| rest.split_once('"'))
                    .map(|(name, _)| name.to_owned()),
            );
        }
    }
    assert!(!types.is_empty(), "{folder} has no plugins");
    types
}

#[tokio::test]
async fn plugins_lists_everything_that_is_built_in() {
    let printed = program().run(["plugins", "--json"]).await.unwrap();
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    let plugins = json_of(&printed.stdout);
    let types = |family: &str| {
        let all = plugins
            .as_array()
            .unwrap()
            .iter()
            .filter(|plugin| plugin["family"] == family);
        all.map(|plugin| plugin["type"].as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    for (family, folder) in [
        ("resolver", "resolvers"),
        ("provider", "providers"),
        ("driver", "drivers"),
    ] {
        assert_eq!(types(family), types_in(folder), "{family}");
    }
    for plugin in plugins.as_array().unwrap() {
        assert!(!plugin["summary"].as_str().unwrap().is_empty(), "{plugin}");
        for key in plugin["keys"].as_array().unwrap() {
            assert!(
                !key["name"].as_str().unwrap().is_empty() && !key["summary"].as_str().unwrap().is_empty(),
                "{plugin}"
            );
        }
    }
    let text = program().run(["plugins"]).await.unwrap();
    assert_eq!(text.code, 0);
    for plugin in plugins.as_array().unwrap() {
        let line = text.stdout.lines().find(|line| {
            line.split_whitespace()
                .take(2)
                .eq([&plugin["family"], &plugin["type"]].map(|word| word.as_str().unwrap()))
        });
        assert!(
            line.is_some_and(|line| line.contains(plugin["summary"].as_str().unwrap())),
            "{plugin}"
        );
    }
}

#[tokio::test]
async fn bad_usage_ends_with_two_and_help_with_nought() {
    for wrong in [
        vec!["frobnicate"],
        vec!["serve", "--nope"],
        vec!["migrate", "--parallel", "0"],
        vec!["openapi", "--format", "xml"],
    ] {
        let ended = program().run(wrong.clone()).await.unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{wrong:?}");
        assert!(ended.stderr.contains("--help"), "{}", ended.stderr);
    }
    let help = program().run(["--help"]).await.unwrap();
    assert_eq!(help.code, 0);
    for command in ["serve", "check", "migrate", "tenants", "openapi", "schema", "plugins"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{}", help.stdout);
    }
    let version = program().run(["--version"]).await.unwrap();
    assert_eq!(
        (version.code, version.stdout),
        (0, format!("tenantry {}\n", env!("CARGO_PKG_VERSION")))
    );
}
