//! A program is built from what its features name, and from nothing else.

// `allow-unwrap-in-tests` does not reach the functions that tests share.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, process::Command};

/// The names of the packages that the program is built from.
fn packages(features: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "tenantry",
            "--edges",
            "no-dev",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--offline", "--no-default-features", "--features", features])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    let names = lines.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// For each feature, packages that no program without it is built from.
const ONLY_WITH: [(&str, &[&str]); 7] = [
    ("aws", &["aws-config", "aws-sdk-secretsmanager", "aws-smithy-runtime"]),
    ("jwt", &["jsonwebtoken"]),
    ("mysql", &["sqlx-mysql"]),
    ("oracle", &["oracle", "sqlparser"]),
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
