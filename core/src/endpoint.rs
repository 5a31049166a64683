//! URLs of services in the configuration, and which hosts are this machine.

use std::net::IpAddr;

use url::Url;

use crate::BuildError;

/// Whether a host name or address is this machine, as far as its name says. An IPv6 address may be
/// in brackets, as in a URL. `localhost` and every name below it are (RFC 6761 §6.3).
pub fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match address.unwrap_or(host).parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => {
            let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// Reads the URL of a service, which is the value of `key` in a plugin's configuration.
///
/// # Errors
/// It is no `http` or `https` URL, has no host, or has a user or a password, which would be printed
/// with it.
pub fn http_url(key: &str, text: &str) -> Result<Url, BuildError> {
    let wrong = || BuildError::key(key, "is not an `http` or `https` URL without user and password");
    let url = Url::parse(text).map_err(|error| wrong().with_source(error))?;
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user || !url.has_host() || !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_many_names() {
        for host in [
            "localhost",
            "LocalHost.",
            "db.localhost",
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "[::ffff:7f00:1]",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            "10.0.0.7",
            "[::2]",
            "localhost.example.com",
            "mylocalhost",
            "127.0.0.1.example.com",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_url_of_a_service_has_a_host_and_no_password() {
        assert_eq!(http_url("k", "https://h:1/p").unwrap().port(), Some(1));
        for text in [
            "",
            "h",
            "localhost:1",
            "ftp://h",
            "http://",
            "http://u:canary@h",
            "http://u@h",
        ] {
            let error = http_url("k", text).unwrap_err();
            assert_eq!(error.path, ["k"], "{text}");
            assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
        }
    }
}
