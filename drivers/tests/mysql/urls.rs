//! URLs, as clients of MySQL and MariaDB write them.

use serde_json::json;
use tenantry_core::DriverErrorKind;
use tenantry_test_support::{MariadbServer, TenantDb};

use super::{connect, text};

/// `{U}`, `{P}`, `{D}`, `{H}` and `{N}` stand for user, password, database, host and port, `{S}`
/// for the socket, `{CA}` for the file of the authority and `{OTHER}` for another one's.
fn url(server: &MariadbServer, tenant: &TenantDb, host: &str, template: &str) -> String {
    let path = |path: Option<std::path::PathBuf>| path.unwrap_or_default().to_str().unwrap().to_owned();
    template
        .replace("{U}", &tenant.user)
        .replace("{P}", &tenant.password)
        .replace("{D}", &tenant.database)
        .replace("{H}", host)
        .replace("{N}", &server.port().to_string())
        .replace("{S}", &path(server.socket()))
        .replace("{CA}", &path(server.ca_path()))
}

/// Whether the session is encrypted, or why there is none.
async fn encrypted(url: &str) -> Result<bool, DriverErrorKind> {
    let mut connection = connect(json!({"url": url})).await.map_err(|error| error.kind)?;
    let cipher = text(
        &mut connection,
        "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_cipher'",
    )
    .await;
    connection.close().await;
    Ok(!cipher.is_empty())
}

#[tokio::test]
async fn a_url_of_a_server_without_tls_is_honoured_or_fails() {
    let server = MariadbServer::start().await.unwrap();
    let tenant = server.create_tenant("urls").await.unwrap();
    let plain = [
        "mysql://{U}:{P}@{H}:{N}/{D}",
        "mariadb://{U}:{P}@{H}:{N}/{D}?ssl-mode=PREFERRED",
        "mysql2://{U}:{P}@{H}:{N}/{D}?encoding=utf8mb4&pool=5&reconnect=true",
        "mysql+pymysql://{U}:{P}@/{D}?unix_socket={S}",
        "mysql://{U}:{P}@localhost/{D}?socket={S}&connection_limit=3",
        "jdbc:mysql://{H}:{N}/{D}?user={U}&password={P}&useSSL=false&allowPublicKeyRetrieval=true",
        "jdbc:mariadb://{H}:{N}/{D}?user={U}&password={P}&sslMode=disable",
        "mysql://{U}:{P}@{H}:{N}/{D}?ssl=false&tls=preferred&connect_timeout=5",
    ];
    for template in plain {
        let url = url(&server, &tenant, server.host(), template);
        assert_eq!(encrypted(&url).await, Ok(false), "{template}");
    }
    // Never in clear text.
    let demands = [
        "ssl-mode=REQUIRED",
        "ssl_mode=required",
        "sslMode=verify-full",
        "sslMode=VERIFY_IDENTITY",
        "sslaccept=strict",
        "ssl=true",
        "ssl=1",
        "ssl={\"rejectUnauthorized\":true}",
        "ssl={\"rejectUnauthorized\":false}",
        "tls=true",
        "tls=skip-verify",
        "useSSL=true",
        "useSSL=true&requireSSL=true",
        "verifyServerCertificate=true",
        "sslverify=true",
        "ssl_verify_cert=true",
    ];
    for demand in demands {
        let url = url(
            &server,
            &tenant,
            server.host(),
            &format!("mysql://{{U}}:{{P}}@{{H}}:{{N}}/{{D}}?{demand}"),
        );
        assert_eq!(encrypted(&url).await, Err(DriverErrorKind::Tls), "{demand}");
    }
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mysql://u:p@{}/d?connectTimeout=200", silent.local_addr().unwrap());
    assert_eq!(encrypted(&url).await, Err(DriverErrorKind::Unreachable));
}

#[tokio::test]
async fn a_url_of_an_encrypted_server_verifies_what_it_says() {
    let server = MariadbServer::start_with_tls().await.unwrap();
    let tenant = server.create_tenant("urls").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, &server.certificates().unwrap().other_ca_pem).unwrap();
    let refused = Err(DriverErrorKind::Tls);
    let cases = [
        ("localhost", "", Ok(true)),
        ("localhost", "ssl-mode=REQUIRED", Ok(true)),
        ("localhost", "ssl-mode=VERIFY_CA&ssl-ca={CA}", Ok(true)),
        ("127.0.0.1", "ssl-mode=VERIFY_CA&ssl-ca={CA}", Ok(true)),
        ("localhost", "sslMode=VERIFY_IDENTITY&ssl_ca={CA}", Ok(true)),
        ("127.0.0.1", "sslMode=VERIFY_IDENTITY&ssl_ca={CA}", refused),
        ("localhost", "ssl-mode=VERIFY_IDENTITY&ssl-ca={OTHER}", refused),
        ("localhost", "ssl-mode=REQUIRED&ssl-ca={OTHER}", refused),
        ("localhost", "sslaccept=strict", refused),
        ("localhost", "sslaccept=accept_invalid_certs", Ok(true)),
        ("localhost", "useSSL=true&verifyServerCertificate=true", refused),
        ("localhost", "ssl={\"rejectUnauthorized\":true}", refused),
        ("localhost", "ssl={\"rejectUnauthorized\":false}", Ok(true)),
    ];
    for (host, query, expected) in cases {
        let template = format!("mysql://{{U}}:{{P}}@{{H}}:{{N}}/{{D}}?{query}");
        let url = url(&server, &tenant, host, &template).replace("{OTHER}", other.to_str().unwrap());
        assert_eq!(encrypted(&url).await, expected, "{host} {query}");
    }
}
