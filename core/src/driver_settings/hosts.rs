//! `drivers.<type>.hosts`: the servers that a secret may name. It keeps the author of a secret from
//! making the program connect to any address that it can reach.

use crate::{DatabaseConfig, SecretInvalid};

/// Checks every server that a secret names. An entry is a host, or `*.` and a domain for any name
/// below it. Without a list every host is allowed.
///
/// # Errors
/// The field `host`, if a server is not in the list.
pub fn check_hosts(allowed: Option<&[String]>, config: &DatabaseConfig) -> Result<(), SecretInvalid> {
    let Some(allowed) = allowed else {
        return Ok(());
    };
    let is_allowed = |host: &String| allowed.iter().any(|allowed| matches(allowed, host));
    let mut hosts = config
        .host
        .iter()
        .chain(config.other_servers.iter().map(|(host, _)| host));
    match hosts.all(is_allowed) {
        true => Ok(()),
        false => Err(SecretInvalid::new(
            "host",
            "is not one of those in the driver's `hosts`",
        )),
    }
}

fn matches(allowed: &str, host: &str) -> bool {
    let (allowed, host) = (allowed.to_ascii_lowercase(), host.to_ascii_lowercase());
    match allowed.strip_prefix("*.") {
        Some(domain) => host
            .strip_suffix(domain)
            .and_then(|below| below.strip_suffix('.'))
            .is_some_and(|below| !below.is_empty()),
        None => allowed == host,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::SecretValue;

    #[test]
    fn a_secret_names_only_hosts_of_the_list() {
        let allowed = ["db1", "10.0.0.7", "*.db.example.com", "/run/postgresql"].map(str::to_owned);
        let is_allowed = |url: &str| {
            let config = DatabaseConfig::parse(&SecretValue::new(json!({"url": url}))).unwrap();
            assert_eq!(check_hosts(None, &config), Ok(()));
            let outcome = check_hosts(Some(&allowed), &config);
            outcome.map_err(|error| assert_eq!(error.field, "host")).is_ok()
        };
        for url in [
            "postgres://u@db1/d",
            "postgres://u@DB1/d",
            "postgres://u@10.0.0.7/d",
            "postgres://u@a.db.example.com,db1/d",
            "postgres://u@%2Frun%2Fpostgresql/d",
        ] {
            assert!(is_allowed(url), "{url}");
        }
        for url in [
            "postgres://u@db2/d",
            "postgres://u@db1.evil.example/d",
            "postgres://u@db.example.com/d",
            "postgres://u@xdb.example.com/d",
            "postgres://u@db1,169.254.169.254/d",
            "postgres://u@db1/d?host=127.0.0.1",
            "postgres://u@%2Ftmp/d",
        ] {
            assert!(!is_allowed(url), "{url}");
        }
    }
}
