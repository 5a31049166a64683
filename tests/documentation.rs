//! What the README shows is what is there.

// `allow-unwrap-in-tests` does not reach the functions that tests share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use tenantry::{
    config::{self, Environment},
    core::Registry,
};

const README: &str = include_str!("../README.md");

/// The blocks of the README in one language.
fn blocks(language: &str) -> Vec<&'static str> {
    blocks_of(README, language)
}

fn blocks_of(text: &'static str, language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let after = text.split(fence.as_str()).skip(1);
    after.map(|rest| rest.split("```").next().unwrap()).collect()
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    tenantry::plugins::register(&mut registry);
    registry
}

#[test]
fn every_yaml_block_is_a_configuration_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::from([("TENANT2_PASSWORD", "p")]);
    let blocks = blocks("yaml");
    assert!(!blocks.is_empty());
    for block in blocks {
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, block).unwrap();
        let loaded = config::load(Some(&file), &environment, &registry());
        assert!(loaded.is_ok(), "{block}\n{}", loaded.unwrap_err());
    }
}

#[test]
fn every_rust_block_is_a_part_of_an_example() {
    let examples = [
        include_str!("../examples/custom_api.rs"),
        include_str!("../examples/custom_plugins.rs"),
    ];
    let blocks = blocks("rust");
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(examples.iter().any(|example| example.contains(block.trim())), "{block}");
    }
}

/// The guide, and the files of the programs that it leads to.
const GUIDE: &str = include_str!("../docs/your-own-program.md");
const PROGRAMS: [&str; 11] = [
    include_str!("../examples/first_program/Cargo.toml"),
    include_str!("../examples/first_program/config.yaml"),
    include_str!("../examples/first_program/migrations/sqlite/0001_create_notes.sql"),
    include_str!("../examples/first_program/src/main.rs"),
    include_str!("../examples/first_program/src/notes.rs"),
    include_str!("../examples/invoicing/src/main.rs"),
    include_str!("../examples/invoicing/src/api.rs"),
    include_str!("../examples/invoicing/src/api_key.rs"),
    include_str!("../examples/invoicing/src/entities.rs"),
    include_str!("../examples/invoicing/src/overdue.rs"),
    include_str!("../examples/invoicing/src/tests.rs"),
];

#[test]
fn the_guide_shows_programs_that_are_compiled_and_tested() {
    // The guide's program stands beside this repository, the examples in it.
    let shown = |text: &str| text.trim().replace("../tenantry", "../..");
    let mut count = 0;
    for language in ["rust", "toml", "yaml", "sql"] {
        for block in blocks_of(GUIDE, language) {
            let block = shown(block);
            assert!(PROGRAMS.iter().any(|file| file.contains(&block)), "{block}");
            count += 1;
        }
    }
    assert!(count >= 12, "{count}");
    let guide = shown(GUIDE);
    let first_program = PROGRAMS.iter().take(5);
    assert!(first_program.clone().all(|file| guide.contains(file.trim())));
}

#[test]
fn every_plugin_and_every_command_is_named() {
    let registry = registry();
    let types = registry.resolvers().map(|plugin| plugin.type_name);
    let types = types.chain(registry.providers().map(|plugin| plugin.type_name));
    for name in types.chain(registry.drivers().map(|plugin| plugin.type_name)) {
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
    for command in ["serve", "check", "migrate", "tenants", "openapi", "schema", "plugins"] {
        assert!(README.contains(&format!("| `{command}")), "{command}");
    }
    for (variable, _) in config::WELL_KNOWN {
        assert!(README.contains(variable), "{variable}");
    }
}

#[test]
fn the_plugins_of_the_tables_are_mappings_that_build() {
    // Each example between backquotes that begins with `{ type:`.
    let examples: BTreeMap<&str, ()> = README
        .split('`')
        .filter(|text| text.starts_with("{ type:") && !text.contains("..."))
        .map(|text| (text, ()))
        .collect();
    assert!(examples.len() >= 10, "{examples:?}");
    let folder = tempfile::tempdir().unwrap();
    for example in examples.keys() {
        let is = |name: &str| {
            example.starts_with(&format!("{{ type: {name},")) || example.starts_with(&format!("{{ type: {name} "))
        };
        let plugins = registry();
        let is_resolver = plugins.resolvers().any(|plugin| is(plugin.type_name));
        let is_provider = plugins.providers().any(|plugin| is(plugin.type_name));
        // `static` is both.
        let is_provider = is_provider && (!is_resolver || example.contains("tenants:"));
        let tenancy = if is_provider {
            format!("  provider: {example}")
        } else {
            format!("  resolver: {example}\n  provider: {{ type: env }}")
        };
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, format!("tenancy:\n{tenancy}\n")).unwrap();
        let loaded = config::load(Some(&file), &Environment::from([("UNUSED", "")]), &registry());
        assert!(loaded.is_ok(), "{example}\n{}", loaded.unwrap_err());
    }
}
