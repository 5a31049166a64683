//! A program is built from what its features name, and from nothing else.

// `allow-unwrap-in-tests` does not reach the functions that tests share.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, process::Command};

/// The packages that the program is built from, each with its version and its own features.
fn packages_in_full(features: &str) -> BTreeSet<String> {
    let shown = "tree --package tenantry --edges no-dev --prefix none --format {p}|{f}";
    let tree = Command::new(env!("CARGO"))
        .args(shown.split(' '))
        .args(["--offline", "--no-default-features", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    // A package that was shown before is marked.
    let lines = lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned());
    lines.filter(|line| !line.is_empty()).collect()
}

/// The names of the packages that the program is built from.
fn packages(features: &str) -> BTreeSet<String> {
    let all = packages_in_full(features).into_iter();
    all.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// For each feature, packages that no program without it is built from.
const ONLY_WITH: [(&str, &[&str]); 8] = [
    ("aws", &["aws-config", "aws-sdk-secretsmanager", "aws-smithy-runtime"]),
    ("jwt", &["jsonwebtoken"]),
    ("mysql", &["sqlx-mysql"]),
    ("oracle", &["oracle", "tenantry-oracle"]),
    (
        "otlp",
        &[
            "opentelemetry-otlp",
            "opentelemetry-stdout",
            "tonic",
            "tracing-opentelemetry",
        ],
    ),
    ("postgresql", &["sqlx-postgres", "stringprep"]),
    ("sqlite", &["libsqlite3-sys", "sqlx-sqlite"]),
    // `tokio-rustls` is below every client that has TLS, so it is no sign of this feature.
    ("tls", &[]),
];

#[test]
fn each_feature_brings_its_own_packages_and_no_others() {
    for (feature, _) in ONLY_WITH {
        let packages = packages(feature);
        for (other, names) in ONLY_WITH {
            for name in names {
                assert_eq!(
                    packages.contains(*name),
                    other == feature,
                    "`{name}` with the feature `{feature}`"
                );
            }
        }
    }
}

#[test]
fn a_program_without_features_has_none_of_them() {
    let packages = packages("");
    assert!(packages.contains("tenantry-core"));
    for (_, names) in ONLY_WITH {
        for name in names {
            assert!(!packages.contains(*name), "{name}");
        }
    }
}

/// What takes long to build and has no use without a network to other servers.
#[test]
fn sqlite_alone_has_no_tls_and_no_parser_of_other_databases_sql() {
    let packages = packages("sqlite");
    for name in [
        "aws-lc-rs",
        "aws-lc-sys",
        "cmake",
        "hyper-rustls",
        "openssl-sys",
        "ring",
        "rustls",
        "rustls-platform-verifier",
        "sqlparser",
        "tokio-rustls",
        "webpki-roots",
    ] {
        assert!(!packages.contains(name), "{name}");
    }
}

#[test]
fn the_feature_for_tests_changes_no_package_of_others() {
    let (without, with) = (packages_in_full("sqlite"), packages_in_full("sqlite testing"));
    assert_ne!(without, with);
    let changed: Vec<&String> = without.difference(&with).collect();
    assert!(changed.iter().all(|line| line.starts_with("tenantry")), "{changed:?}");
}
