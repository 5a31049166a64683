//! How a session begins.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use tenantry_core::{DatabaseConfig, SecretInvalid};

use super::errors::is_fatal;
use crate::sqlx_connection::ELSEWHERE;

/// What correctness rests on in a session, whatever `ALTER ROLE`, `ALTER DATABASE` and the server's
/// configuration say. sqlx sets the encoding, the time zone and the style of dates at the login.
/// The isolation stays the server's choice: none of its levels reads what was not committed.
///
/// - `\` in a plain literal is itself, as SeaORM writes it, and `= NULL` is not `IS NULL`;
/// - bytes, intervals and `null` in arrays have the text form that programs expect;
/// - the text of warnings and notices, which may repeat values, stays on the server.
const SETTINGS: [&str; 7] = [
    "standard_conforming_strings = on",
    "transform_null_equals = off",
    "array_nulls = on",
    "bytea_output = 'hex'",
    "IntervalStyle = 'postgres'",
    "xmloption = 'content'",
    "client_min_messages = 'error'",
];

/// A script of [`SETTINGS`] and the secret's own search path; `set` is `SET` or `SET LOCAL`.
pub(super) fn settings(set: &str, search_path: Option<&str>) -> String {
    let search_path = search_path.map(|path| format!("search_path = {path}"));
    let settings = SETTINGS.into_iter().chain(search_path.as_deref());
    let script: Vec<String> = settings.map(|setting| format!("{set} {setting}")).collect();
    script.join("; ")
}

/// A script that fails if the session's own search path leads to other schemas than `search_path`.
pub(super) fn check_of(search_path: &str) -> String {
    format!(
        "DO $tenantry$ DECLARE found pg_catalog.text := pg_catalog.current_schemas(false)::pg_catalog.text; BEGIN \
         SET LOCAL search_path = {search_path}; \
         IF found <> pg_catalog.current_schemas(false)::pg_catalog.text THEN \
         RAISE SQLSTATE '{ELSEWHERE}'; END IF; END $tenantry$"
    )
}

/// Has the server look, in the middle of a statement, whether its client is still there, so that
/// what a request left behind ends soon and not at the statement time-out. The setting is there
/// since version 14; a platform that cannot look refuses it.
pub(super) const NOTICE_LOST_CLIENTS: &str = "SET LOCAL client_connection_check_interval = '500ms'";

/// What a new session has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    /// Whether the connection is encrypted, if that was asked and the server knows.
    pub(super) is_encrypted: Option<bool>,
    /// Whether the server does as [`NOTICE_LOST_CLIENTS`] says.
    pub(super) notices_lost_clients: bool,
}

/// Sets up a session, in one round trip unless the server refuses a part of it. `asks_tls`: whether
/// to ask if the connection is encrypted.
pub(super) async fn begin_session(
    connection: &mut PgConnection,
    search_path: Option<&str>,
    asks_tls: bool,
) -> Result<Begun, sqlx::Error> {
    let notice = NOTICE_LOST_CLIENTS.replace("LOCAL ", "");
    let notice = notices_lost_clients(connection.server_version_num()).then_some(notice.as_str());
    begin_with(connection, search_path, notice, asks_tls).await
}

/// Begins with a `notice` that the server may refuse.
pub(super) async fn begin_with(
    connection: &mut PgConnection,
    search_path: Option<&str>,
    mut notice: Option<&str>,
    asks_tls: bool,
) -> Result<Begun, sqlx::Error> {
    const TLS: &str = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    let settings = settings("SET", search_path);
    let mut tls = asks_tls.then_some(TLS);
    loop {
        let script: Vec<&str> = [Some(settings.as_str()), notice, tls].into_iter().flatten().collect();
        let script = sqlx::raw_sql(AssertSqlSafe(script.join("; ")));
        let refused = match script.fetch_optional(&mut *connection).await {
            Err(sqlx::Error::Database(error)) if !is_fatal(&*error) => error,
            outcome => {
                return Ok(Begun {
                    is_encrypted: outcome?.map(|row| row.try_get(0)).transpose()?,
                    notices_lost_clients: notice.is_some(),
                });
            }
        };
        // One refused statement undoes the whole script.
        if notice.take().is_none() && tls.take().is_none() {
            return Err(sqlx::Error::Database(refused));
        }
    }
}

/// Reads the secret's `schema`, one name or several with commas between them, as SQL. A name may
/// stand in double quotes, as in SQL.
pub(super) fn search_path(config: &DatabaseConfig) -> Result<Option<String>, SecretInvalid> {
    /// A longer name would be cut short by the server (`NAMEDATALEN`).
    const LONGEST_NAME: usize = 63;
    let wrong = |reason| Err(SecretInvalid::new("schema", reason));
    let Some(names) = config.session.schema.as_deref() else {
        return Ok(None);
    };
    let mut quoted = Vec::new();
    for name in names.split(',').map(str::trim) {
        let inner = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
        let name = inner.map_or_else(|| name.to_owned(), |name| name.replace("\"\"", "\""));
        match name.as_str() {
            "" => return wrong("has an empty name"),
            name if name.len() > LONGEST_NAME => return wrong("has a name of more than 63 bytes"),
            name if name.contains('\0') => return wrong("holds a NUL character"),
            name => quoted.push(format!("\"{}\"", name.replace('"', "\"\""))),
        }
    }
    Ok(Some(quoted.join(", ")))
}

/// Whether the server has the setting of [`NOTICE_LOST_CLIENTS`].
pub(super) fn notices_lost_clients(server_version: Option<u32>) -> bool {
    server_version.is_some_and(|version| version >= 140_000)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenantry_core::SecretValue;

    use super::*;

    #[test]
    fn a_schema_is_quoted_or_refused() {
        let path = |schema: Value| {
            let secret = SecretValue::new(json!({"type": "postgresql", "schema": schema}));
            let path = DatabaseConfig::parse(&secret).and_then(|config| search_path(&config));
            path.map_err(|error| error.to_string())
        };
        assert_eq!(path(json!(null)), Ok(None));
        assert_eq!(path(json!("app, Public")), Ok(Some(r#""app", "Public""#.to_owned())));
        assert_eq!(path(json!("a\"; x")), Ok(Some(r#""a""; x""#.to_owned())));
        assert_eq!(
            path(json!(r#""$user", "Public""#)),
            Ok(Some(r#""$user", "Public""#.to_owned()))
        );
        assert_eq!(path(json!(r#""a""b""#)), Ok(Some(r#""a""b""#.to_owned())));
        for wrong in [
            json!(7),
            json!("a,\"\""),
            json!("a,,b"),
            json!("a\0"),
            json!("a".repeat(64)),
        ] {
            assert!(path(wrong).unwrap_err().starts_with("`schema` "));
        }
    }
}
