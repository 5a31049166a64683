//! What every driver shows of itself.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use serde_json::Value;
use tenantry_core::{BuildContext, Registry};
use tenantry_drivers::{MysqlDriver, PostgresqlDriver, SqliteDriver};

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry
        .driver::<MysqlDriver>()
        .driver::<PostgresqlDriver>()
        .driver::<SqliteDriver>();
    registry
}

#[tokio::test]
async fn every_example_builds_and_an_unknown_key_does_not() {
    let registry = registry();
    let context = BuildContext::for_tests(Registry::new());
    for plugin in registry.drivers() {
        let mut mapping: Value = serde_saphyr::from_str(plugin.example).unwrap();
        assert_eq!(mapping["type"], plugin.type_name);
        let driver = registry.build_driver(mapping.clone(), &context).await.unwrap();
        assert_eq!(driver.migration_dialect(), plugin.type_name);
        mapping["canary"] = Value::from("canary-value");
        let error = registry
            .build_driver(mapping, &context)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("`canary`") && !error.contains("canary-value"), "{error}");
    }
}

#[tokio::test]
async fn a_mapping_without_keys_has_a_statement_time_out() {
    let registry = registry();
    let context = BuildContext::for_tests(Registry::new());
    for plugin in registry.drivers() {
        let mapping = serde_json::json!({"type": plugin.type_name});
        registry.build_driver(mapping.clone(), &context).await.unwrap();
        // 0 is no limit to some, and a moment to others.
        for wrong_value in ["canary", "0s", "1us", "30", "25days"] {
            let mut wrong = mapping.clone();
            wrong["statement_timeout"] = Value::from(wrong_value);
            let error = registry.build_driver(wrong, &context).await.err().unwrap().to_string();
            assert!(
                error.contains("`statement_timeout`") && !error.contains("canary"),
                "{error}"
            );
        }
    }
}

#[test]
fn every_key_is_documented() {
    for plugin in registry().drivers() {
        assert!(
            !plugin.summary().is_empty(),
            "{} says nothing of itself",
            plugin.type_name
        );
        let schema = plugin.schema();
        let keys = schema.get("properties").and_then(Value::as_object).unwrap();
        assert!(keys.contains_key("statement_timeout"));
        for (key, of) in keys {
            assert!(
                of.get("description").is_some(),
                "`{key}` of {} is not documented",
                plugin.type_name
            );
        }
    }
}

#[test]
fn every_word_of_a_secret_s_type_belongs_to_one_driver() {
    let registry = registry();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let context = BuildContext::for_tests(Registry::new());
    let mut words = Vec::new();
    for plugin in registry.drivers() {
        let mapping = serde_json::json!({"type": plugin.type_name});
        let driver = runtime.block_on(registry.build_driver(mapping, &context)).unwrap();
        words.push(plugin.type_name);
        words.extend(driver.aliases());
    }
    for word in [
        "postgresql",
        "postgres",
        "aurora-postgresql",
        "mysql",
        "mariadb",
        "aurora-mysql",
        "sqlite",
    ] {
        assert_eq!(words.iter().filter(|known| **known == word).count(), 1, "{word}");
    }
}
