//! The dialect of declared tables as PostgREST documents and specifies it: each fact of `facts/` is a request, and what must be
//! answered on every kind of database. `./scripts/tables-clients` tries the dialect's clients on the same tables.

#![allow(clippy::unwrap_used, reason = "only `#[test]` functions are excepted by themselves")]

mod fact;

use std::time::Duration;

use fact::{Caller, Fact, Group};
use tenantry_test_support::Films;

const FILES: [(&str, &str); 6] = [
    ("filters", include_str!("facts/filters.yaml")),
    ("shapes", include_str!("facts/shapes.yaml")),
    ("embedding", include_str!("facts/embedding.yaml")),
    ("refusals", include_str!("facts/refusals.yaml")),
    ("writes", include_str!("facts/writes.yaml")),
    ("upserts", include_str!("facts/upserts.yaml")),
];

/// As many facts as there are at least: fewer would mean that a file is not read.
const LEAST: usize = 150;

#[tokio::test(flavor = "multi_thread")]
async fn every_fact_holds_on_every_kind_of_database() {
    let facts: Vec<(String, Fact)> = FILES.iter().flat_map(|(name, text)| read(name, text)).collect();
    assert!(facts.len() >= LEAST, "there are {} facts", facts.len());
    let films = Films::start(env!("CARGO_BIN_EXE_tenantry")).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60));
    let http = http.build().unwrap();
    let mut wrong = Vec::new();
    for tenant in Films::TENANTS {
        let caller = Caller::new(&http, films.server.base_url(), tenant);
        for (name, fact) in &facts {
            if let Err(difference) = caller.check(fact).await {
                wrong.push(format!("{name} on {tenant}: {}\n    {difference}", fact.ask));
            }
        }
    }
    let log = films.server.logs().await.unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let shown = wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} differences\n{shown}", wrong.len());
}

fn read(name: &str, text: &str) -> Vec<(String, Fact)> {
    let groups: Vec<Group> = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let of_group = |group: Group| {
        assert!(
            !group.source.is_empty() && !group.facts.is_empty(),
            "{name}: a group without a source or facts"
        );
        group
            .facts
            .into_iter()
            .map(|fact| (format!("{name} ({})", group.source), fact))
            .collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(of_group).collect()
}
