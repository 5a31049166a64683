//! The documentation is true: what it shows loads, compiles or exists.

// `allow-unwrap-in-tests` does not reach the functions that tests share.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tenantry::{
    config::{self, Environment},
    core::Registry,
};

const README: &str = include_str!("../README.md");
const TOUR: &str = include_str!("../docs/tour.md");
const CONFIGURATION: &str = include_str!("../docs/configuration.md");

/// The blocks of one language on a page.
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
    let blocks = blocks_of(TOUR, "yaml");
    assert!(!blocks.is_empty());
    for block in blocks {
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, block).unwrap();
        let loaded = config::load(Some(&file), &environment, &registry());
        assert!(loaded.is_ok(), "{block}\n{}", loaded.unwrap_err());
    }
}

/// The guide, the page about SeaORM, and the files of the programs that they lead to.
const GUIDE: &str = include_str!("../docs/your-own-program.md");
const SEA_ORM: &str = include_str!("../docs/sea-orm.md");
const PROGRAMS: [&str; 14] = [
    include_str!("../examples/first_program/Cargo.toml"),
    include_str!("../examples/first_program/config.yaml"),
    include_str!("../examples/first_program/migrations/sqlite/0001_create_notes.sql"),
    include_str!("../examples/first_program/src/main.rs"),
    include_str!("../examples/first_program/src/notes.rs"),
    include_str!("../examples/attachments/src/main.rs"),
    include_str!("../examples/invoicing/src/main.rs"),
    include_str!("../examples/invoicing/src/api.rs"),
    include_str!("../examples/invoicing/src/api_key.rs"),
    include_str!("../examples/invoicing/src/entities.rs"),
    include_str!("../examples/invoicing/src/overdue.rs"),
    include_str!("../examples/invoicing/src/tests.rs"),
    include_str!("../examples/migrator/src/main.rs"),
    include_str!("../examples/migrator/src/tests.rs"),
];

#[test]
fn programs_in_the_readme_and_the_guide_are_compiled_and_tested() {
    // The guide's program is in a folder beside this repository, the examples are inside it.
    let shown = |text: &str| text.trim().replace("../tenantry", "../..");
    for (page, at_least) in [(README, 2), (GUIDE, 12), (SEA_ORM, 3)] {
        let mut count = 0;
        for language in ["rust", "toml", "yaml", "sql"] {
            for block in blocks_of(page, language) {
                let block = shown(block);
                assert!(PROGRAMS.iter().any(|file| file.contains(&block)), "{block}");
                count += 1;
            }
        }
        assert!(count >= at_least, "{count}");
    }
    let guide = shown(GUIDE);
    let first_program = PROGRAMS.iter().take(5);
    assert!(first_program.clone().all(|file| guide.contains(file.trim())));
}

#[test]
fn every_plugin_and_every_variable_is_named() {
    let registry = registry();
    let types = registry.resolvers().map(|plugin| plugin.type_name);
    let types = types.chain(registry.providers().map(|plugin| plugin.type_name));
    for name in types.chain(registry.drivers().map(|plugin| plugin.type_name)) {
        assert!(README.contains(&format!("`{name}`")), "{name}");
    }
    let variables = config::WELL_KNOWN.iter().map(|(variable, _)| variable);
    let of_plugins = config::WELL_KNOWN_OF_PLUGINS.iter().map(|(variable, ..)| variable);
    let of_left_out_keys = config::OF_LEFT_OUT_KEYS.iter().map(|(variable, ..)| variable);
    for variable in variables.chain(of_plugins).chain(of_left_out_keys) {
        assert!(CONFIGURATION.contains(&format!("`{variable}`")), "{variable}");
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

/// The pages that people read, with their paths from the repository's root.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = ["attachments", "first_program", "invoicing", "migrator"];
    let examples = examples.map(|example| format!("examples/{example}"));
    let folders = ["", "docs"].map(str::to_owned).into_iter().chain(examples);
    let files = folders.flat_map(|folder| {
        let folder = root.join(folder);
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
    });
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.canonicalize().unwrap(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_to_a_file_or_heading_leads_somewhere() {
    let pages = pages();
    let mut count = 0;
    for (path, page) in &pages {
        let images = page.split("src=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let links = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in images.chain(links) {
            // Links to other sites, and text in code that looks like a link.
            let is_ours = link.starts_with(|first: char| first.is_alphanumeric() || "#.".contains(first));
            if link.starts_with("http") || link.contains(char::is_whitespace) || !is_ours {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let target = target.canonicalize();
            assert!(target.is_ok(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let linked = &pages[&target.unwrap()];
                assert!(
                    anchors(linked).iter().any(|known| known == anchor),
                    "{}: {link}",
                    path.display()
                );
            }
            count += 1;
        }
    }
    assert!(count >= 50, "{count}");
}

#[test]
fn the_readme_is_short() {
    assert!(README.lines().count() <= 200);
}

/// Collects the Rust files below a folder, without those of integration tests.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") && !path.ends_with("target") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// rustfmt's `comment_width` needs a nightly compiler, so this test does its work.
#[test]
fn comments_are_at_most_100_columns_wide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in [
        "core",
        "drivers",
        "examples",
        "openapi",
        "providers",
        "resolvers",
        "src",
        "tables",
    ] {
        rust_files(&root.join(folder), &mut files);
    }
    assert!(files.len() > 200, "{}", files.len());
    let mut wide = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            // A link cannot be broken.
            let is_comment = line.trim_start().starts_with("//") && !line.contains("http");
            if is_comment && line.chars().count() > 100 {
                wide.push(format!("{}:{}", file.display(), number + 1));
            }
        }
    }
    assert!(wide.is_empty(), "comments wider than 100 columns:\n{}", wide.join("\n"));
}
