//! URLs, with libpq as the referee.

use serde_json::json;
use tenantry_core::{DatabaseConfig, SecretValue};
use tenantry_test_support::{PostgresServer, TenantDb};

use super::{connect, text};

/// What becomes of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// As libpq has it: the same user, database, search path and encryption.
    Same,
    /// libpq connects, and the secret is refused by name.
    Refused,
    /// Neither connects.
    Neither,
}
use Outcome::{Neither, Refused, Same};

const WHERE: &str = "SELECT concat_ws(' ', current_user, current_database(), current_setting('search_path'), \
     current_setting('lock_timeout'), (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()))";

/// `{U}`, `{P}`, `{D}`, `{H}` and `{N}` stand for user, password, database, host and port, `{S}`
/// for the socket's folder, `{CA}` for the file of the authority and `{OTHER}` for another one's.
const PLAIN: &[(&str, Outcome)] = &[
    ("postgres://{U}:{P}@{H}:{N}/{D}", Same),
    ("postgresql://{U}:{P}@{H}:{N}/{D}", Same),
    ("postgres://{U}@{H}:{N}/{D}?password={P}", Same),
    ("postgres://{H}:{N}/{D}?user={U}&password={P}", Same),
    ("postgres://{H}:{N}?user={U}&password={P}&dbname={D}", Same),
    ("postgres:///{D}?host={H}&port={N}&user={U}&password={P}", Same),
    ("postgres:///{D}?hostaddr={H}&port={N}&user={U}&password={P}", Same),
    ("postgres://{U}:{P}@{H}:{N}/wrong?dbname={D}", Same),
    (
        "postgres://wrong:wrong@wrong:1/wrong?host={H}&port={N}&user={U}&password={P}&dbname={D}",
        Same,
    ),
    ("postgres://{U}:{P}@{S}:{N}/{D}", Same),
    ("postgres://{U}:{P}@:{N}/{D}?host={S}", Refused),
    ("postgres://{U}:{P}@/{D}?host={S}&port={N}", Same),
    ("postgres://{U}:{P}@{S}:{N}/{D}?sslmode=require", Same),
    ("postgres://{U}:{P}@{H}:1,{H}:{N}/{D}", Same),
    ("postgres://{U}:{P}@{H},{H}:{N},{N}/{D}", Same),
    ("postgres://{U}:{P}@/{D}?host={H},{H}&port=1,{N}", Same),
    (
        "postgres://{U}:{P}@{H}:1,{H}:{N}/{D}?target_session_attrs=read-write",
        Same,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?target_session_attrs=primary", Same),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?target_session_attrs=prefer-standby",
        Same,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?target_session_attrs=standby", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?target_session_attrs=read-only", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?options=-c%20search_path%3Dapp", Same),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?options=-c%20search_path%3DApp,public",
        Same,
    ),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?options=--search_path%3Dapp%20-c%20lock_timeout%3D5s",
        Same,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?options=-c%20lock-timeout%3D7000", Same),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?options=-c%20no_such_setting%3D1",
        Neither,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?options=-E", Refused),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=disable", Same),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=allow", Same),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=prefer", Same),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=require", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?ssl=true", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=", Neither),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?connect_timeout=5&application_name=x&fallback_application_name=y",
        Same,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?client_encoding=utf8", Same),
    ("postgres://{U}:{P}@{H}:{N}/{D}?client_encoding=LATIN1", Refused),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?channel_binding=prefer&gssencmode=disable&sslsni=1&sslcompression=0",
        Same,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?channel_binding=require", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?keepalives=0", Refused),
    ("postgres://{U}:{P}@{H}:{N}/{D}?no_such_parameter=1", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=sometimes", Neither),
    ("postgres://{U}:{P}%zz@{H}:{N}/{D}", Neither),
    ("postgres://{U}:{P}@{H}:70000/{D}", Neither),
    ("postgres://{U}:{P}@[{H}:{N}/{D}", Neither),
];

/// To a server that takes encrypted connections only; `{H}` is `localhost`.
const ENCRYPTED: &[(&str, Outcome)] = &[
    ("postgres://{U}:{P}@{H}:{N}/{D}", Same),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=disable", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=require", Same),
    ("postgres://{U}:{P}@{H}:{N}/{D}?ssl=true", Same),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?sslmode=verify-ca&sslrootcert={CA}",
        Same,
    ),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?sslmode=verify-full&sslrootcert={CA}",
        Same,
    ),
    (
        "postgres://{U}:{P}@127.0.0.1:{N}/{D}?sslmode=verify-full&sslrootcert={CA}",
        Neither,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=require&sslrootcert={CA}", Same),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?sslmode=require&sslrootcert={OTHER}",
        Neither,
    ),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslmode=verify-full", Neither),
    ("postgres://{U}:{P}@{H}:{N}/{D}?sslrootcert={CA}", Refused),
    (
        "postgres://{U}:{P}@{H}:{N}/{D}?sslmode=require&channel_binding=require",
        Refused,
    ),
];

struct Referee<'a> {
    server: &'a PostgresServer,
    tenant: &'a TenantDb,
    host: &'a str,
    other_ca: String,
}

impl Referee<'_> {
    fn url(&self, template: &str) -> String {
        let escaped = |text: &str| text.replace('/', "%2F");
        let socket = self.server.socket_folder().unwrap();
        let ca = self.server.ca_path().unwrap_or_default();
        template
            .replace("{U}", &self.tenant.user)
            .replace("{P}", &self.tenant.password)
            .replace("{D}", &self.tenant.database)
            .replace("{H}", self.host)
            .replace("{N}", &self.server.port().to_string())
            .replace("{S}", &escaped(socket.to_str().unwrap()))
            .replace("{CA}", &escaped(ca.to_str().unwrap()))
            .replace("{OTHER}", &escaped(&self.other_ca))
    }

    async fn check(&self, template: &str, expected: Outcome) {
        let url = self.url(template);
        let by_libpq = PostgresServer::psql_by(&url, "", WHERE).await;
        let secret = json!({"url": url});
        let parsed = DatabaseConfig::parse(&SecretValue::new(secret.clone()));
        let refused = parsed.as_ref().err().map(ToString::to_string);
        let ours = match &parsed {
            Err(_) => None,
            Ok(_) => match connect(secret).await {
                Err(_) => None,
                Ok(mut connection) => {
                    let place = text(&mut connection, WHERE).await;
                    connection.close().await;
                    Some(place)
                }
            },
        };
        match expected {
            Same => {
                // libpq folds no quotes: the names are those of the server.
                let unquoted = |text: &str| text.replace('"', "").replace(", ", ",").to_lowercase();
                let by_libpq = by_libpq.unwrap_or_else(|error| panic!("{template}: {error:#}"));
                let ours = ours.unwrap_or_else(|| panic!("{template}: {refused:?}"));
                assert_eq!(unquoted(&ours), unquoted(&by_libpq), "{template}");
            }
            Refused => {
                assert!(by_libpq.is_ok(), "{template}: {by_libpq:?}");
                assert!(refused.is_some(), "{template}");
            }
            Neither => {
                assert!(by_libpq.is_err(), "{template}: {by_libpq:?}");
                assert_eq!(ours, None, "{template}");
            }
        }
        if let Some(reason) = refused {
            assert!(!reason.contains(&self.tenant.password), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_url_means_what_libpq_takes_it_to_mean() {
    let server = PostgresServer::start().await.unwrap();
    let tenant = server.create_tenant("urls").await.unwrap();
    let referee = Referee {
        server: &server,
        tenant: &tenant,
        host: "127.0.0.1",
        other_ca: String::new(),
    };
    for (template, expected) in PLAIN {
        referee.check(template, *expected).await;
    }
    let passwords = ["a#b", "a?b", "a:b", "a[b]", "a&b=c", "a b", "p%40x", "p@x"];
    for password in passwords {
        let plain = password.replace("%40", "@");
        let alter = format!("ALTER ROLE \"{}\" PASSWORD '{plain}'", tenant.user);
        server.psql("postgres", &alter).await.unwrap();
        let template = format!("postgres://{{U}}:{password}@{{H}}:{{N}}/{{D}}");
        // libpq takes what follows the first `@` for the host, so it never logs in by the last one.
        if password == "p@x" {
            let secret = json!({"url": referee.url(&template)});
            connect(secret).await.unwrap().close().await;
        } else {
            referee.check(&template, Same).await;
        }
    }
}

#[tokio::test]
async fn a_url_of_an_encrypted_server_means_what_libpq_says() {
    let server = PostgresServer::start_with_tls().await.unwrap();
    let tenant = server.create_tenant("urls").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.pem");
    std::fs::write(&other, &server.certificates().unwrap().other_ca_pem).unwrap();
    let other_ca = other.to_str().unwrap().to_owned();
    let referee = Referee {
        server: &server,
        tenant: &tenant,
        host: "localhost",
        other_ca,
    };
    for (template, expected) in ENCRYPTED {
        referee.check(template, *expected).await;
    }
}
