//! `tenantry check --live`: checks whether the server of this configuration answers. It is for
//! health checks of containers without `curl`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::{DONE, FAILED, Stop, report};
use crate::config::{Config, ListenAddress, Loaded};

/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// The body of a live server's answer.
const UP: &str = r#""status":"up""#;

/// Requests `/health/live` from the server of this configuration.
pub(super) async fn run(loaded: &Loaded) -> Result<u8, Stop> {
    let url = url(&loaded.config)?;
    match tokio::time::timeout(DEADLINE, ask(&url)).await {
        Ok(Ok(())) => {
            report::print(format_args!("{url} answers"))?;
            Ok(DONE)
        }
        Ok(Err(reason)) => {
            report::note(format_args!("{url}: {reason}"));
            Ok(FAILED)
        }
        Err(_) => {
            report::note(format_args!("{url}: no answer within {} s", DEADLINE.as_secs()));
            Ok(FAILED)
        }
    }
}

/// The URL of the listener with the operators' routes, as seen from the same machine.
fn url(config: &Config) -> Result<String, Stop> {
    let (key, ListenAddress(address)) = match config.server.admin_listen {
        Some(address) => ("server.admin_listen", address),
        None => ("server.listen", config.server.listen),
    };
    if address.port() == 0 {
        let reason = "has port 0, so the server chose one that is not known here";
        return Err(Stop::Misuse(format!("`{key}` {reason}")));
    }
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    Ok(format!(
        "{scheme}://{}/health/live",
        SocketAddr::new(host, address.port())
    ))
}

async fn ask(url: &str) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    // As with a probe of Kubernetes: the certificate is for the name that clients use, the address
    // is this machine's own, and nothing secret is sent.
    #[cfg(feature = "tls")]
    let client = client.tls_danger_accept_invalid_certs(true);
    let client = client.build();
    let client = client.map_err(|error| report::chain(&error.without_url()))?;
    let failed = |error: reqwest::Error| report::chain(&error.without_url());
    let mut answer = client.get(url).send().await.map_err(failed)?;
    let status = answer.status();
    // The right answer is some 15 bytes; of a stranger's no more is read than could hold it.
    let mut body = Vec::new();
    while body.len() < 1024
        && let Some(chunk) = answer.chunk().await.map_err(failed)?
    {
        body.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&body);
    if status.as_u16() == 200 && text.contains(UP) {
        Ok(())
    } else {
        Err(format!("answered {status}, and not that it is up"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tenantry_core::Registry;
    use tenantry_test_support::{Certificates, free_port};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        App,
        config::{self, Environment},
    };

    const TENANCY: &str = "tenancy: { provider: { type: static, tenants: {} } }\n";

    fn load(folder: &Path, server: &str) -> Loaded {
        let file = folder.join("config.yaml");
        std::fs::write(&file, format!("{TENANCY}server: {server}\n")).unwrap();
        let mut registry = Registry::new();
        crate::plugins::register(&mut registry);
        config::load(Some(&file), &Environment::default(), &registry).unwrap()
    }

    async fn code(loaded: &Loaded) -> u8 {
        match run(loaded).await {
            Ok(code) => code,
            Err(Stop::Failure(message) | Stop::Misuse(message)) => panic!("{message}"),
        }
    }

    async fn lives_and_dies(folder: &Path, server: &str) {
        let loaded = load(folder, server);
        assert_eq!(code(&loaded).await, FAILED, "{server}");
        let running = App::new().start(folder.join("config.yaml")).await.unwrap();
        assert_eq!(code(&loaded).await, DONE, "{server}");
        running.stop().await.unwrap();
        assert_eq!(code(&loaded).await, FAILED, "{server}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_runs_answers_and_one_that_does_not_fails() {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        lives_and_dies(folder.path(), &format!("{{ listen: \"127.0.0.1:{port}\" }}")).await;
        lives_and_dies(folder.path(), &format!("{{ listen: \"0.0.0.0:{port}\" }}")).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_operators_listener_is_asked_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let (port, operators) = (free_port().unwrap(), free_port().unwrap());
        let server = format!("{{ listen: \"127.0.0.1:{port}\", admin_listen: \"127.0.0.1:{operators}\" }}");
        lives_and_dies(folder.path(), &server).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_certificate_for_another_name_is_no_hindrance() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::make().unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificates.server_cert_pem).unwrap();
        std::fs::write(folder.path().join("key.pem"), certificates.server_key_pem).unwrap();
        let port = free_port().unwrap();
        let server = format!("{{ listen: \"127.0.0.1:{port}\", tls: {{ cert: cert.pem, key: key.pem }} }}");
        lives_and_dies(folder.path(), &server).await;
    }

    #[tokio::test]
    async fn a_silent_server_fails_within_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let loaded = load(folder.path(), &format!("{{ listen: \"{address}\" }}"));
        let began = std::time::Instant::now();
        assert_eq!(code(&loaded).await, FAILED);
        assert!(began.elapsed() < DEADLINE * 3);
    }

    #[test]
    fn a_port_that_is_chosen_at_the_start_cannot_be_asked() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = load(folder.path(), "{ listen: \"127.0.0.1:0\" }");
        assert!(
            matches!(url(&loaded.config), Err(Stop::Misuse(message)) if message.contains("`server.listen` has port 0"))
        );
    }

    #[test]
    fn any_address_is_asked_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        for (listen, asked) in [
            ("0.0.0.0:80", "http://127.0.0.1:80/health/live"),
            ("[::]:80", "http://[::1]:80/health/live"),
            ("10.1.2.3:8080", "http://10.1.2.3:8080/health/live"),
        ] {
            let loaded = load(folder.path(), &format!("{{ listen: \"{listen}\" }}"));
            assert!(matches!(url(&loaded.config), Ok(url) if url == asked), "{listen}");
        }
    }
}
