//! Files that the databases' own programs wrote.

use std::process::Stdio;

use tenantry_test_support::TenantDb;
use tokio::process::Command;

use super::*;

async fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(super) async fn pg_dump(tenant: &TenantDb, arguments: &[&str]) -> String {
    let server = PostgresServer::shared().await;
    let mut command = Command::new("pg_dump");
    command
        .args(["--host", server.host(), "--port", &server.port().to_string()])
        .args(["--username", &tenant.user, "--no-owner", "--no-privileges"])
        .args(arguments)
        .arg(&tenant.database)
        .env("PGPASSWORD", &tenant.password);
    output(&mut command).await
}

const SCHEMA: &str = r#"
    CREATE TYPE mood AS ENUM ('sad;', 'ok');
    CREATE TABLE people (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mood mood, "a;b" int);
    COMMENT ON TABLE people IS 'it''s; a \ comment
on two lines';
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $_$ BEGIN NEW.name := 'x; ' || $$y;$$; RETURN NEW; END; $_$;
    CREATE FUNCTION twice(a int) RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a > 0 THEN a * 2 END; END;
    CREATE TRIGGER touched BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE RULE log AS ON DELETE TO people DO ALSO (SELECT 1; SELECT 2);
    CREATE SCHEMA other;
    CREATE VIEW other.names AS SELECT name FROM people;
    INSERT INTO people (name, mood) VALUES (E'a\\;''b', 'sad;'), (E'line\nbreak', NULL);
"#;

#[tokio::test]
async fn a_schema_that_pg_dump_wrote_is_the_first_file() {
    let server = PostgresServer::shared().await;
    let source = server.create_tenant("dumped").await.unwrap();
    let from = Target::new(json!({"type": "postgresql"}), server.secret(&source)).await;
    from.execute(SCHEMA).await.unwrap();
    for (arguments, rows) in [(["--schema-only"].as_slice(), 0), (["--inserts"].as_slice(), 2)] {
        let dump = pg_dump(&source, arguments).await;
        assert!(
            dump.contains("set_config('search_path', '', false)") && dump.contains("BEGIN ATOMIC"),
            "{dump}"
        );
        let target = Target::postgresql().await;
        let files = [
            ("1_base.sql", dump.as_str()),
            ("2_more.sql", "ALTER TABLE people ADD more int"),
        ];
        let (_folder, migrations) = folder("postgresql", &files).await;
        let mut connection = target.driver.connect(&target.config).await.unwrap();
        let applied = target.apply_with(&mut *connection, &migrations).await.unwrap();
        assert_eq!(applied, report(&["1_base", "2_more"], 0));
        // The connection is used for requests afterwards.
        let settings = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('statement_timeout'), \
                        current_setting('row_security'), current_setting('client_min_messages')) FROM people RIGHT JOIN \
                        (SELECT 1) AS one ON true LIMIT 1";
        let statement = Statement::from_string(DbBackend::Postgres, settings);
        let row = connection.query_one(&statement).await.unwrap().unwrap();
        assert_eq!(
            row.try_get_by_index::<String>(0).unwrap(),
            "\"$user\", public 30s on error"
        );
        connection.close().await;
        assert_eq!(target.texts("SELECT name FROM other.names").await.len(), rows);
        assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 2));
        // Dumped once more, it is the same.
        if rows == 0 {
            let again = target.dump().await;
            let lines = |dump: &str| {
                let kept = |line: &&str| !line.starts_with("--") && !line.starts_with('\\') && !line.is_empty();
                dump.lines()
                    .filter(kept)
                    .map(|line| line.trim_end_matches(',').to_owned())
                    .collect::<Vec<_>>()
            };
            let expected = lines(&dump);
            let new: Vec<String> = lines(&again)
                .into_iter()
                .filter(|line| !expected.contains(line))
                .collect();
            assert_eq!(new, ["    more integer"]);
        }
    }
}

#[tokio::test]
async fn rows_for_psql_are_refused_with_their_line() {
    let server = PostgresServer::shared().await;
    let source = server.create_tenant("copied").await.unwrap();
    let from = Target::new(json!({"type": "postgresql"}), server.secret(&source)).await;
    from.execute(SCHEMA).await.unwrap();
    let dump = pg_dump(&source, &[]).await;
    let line = 1 + dump.lines().position(|line| line.starts_with("COPY ")).unwrap();
    let target = Target::postgresql().await;
    let (_folder, migrations) = folder("postgresql", &[("1_base.sql", &dump)]).await;
    let error = target.apply(&migrations, false).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("`1_base` cannot be run: line {line}: ")),
        "{error}"
    );
    assert!(error.contains("pg_dump --inserts"), "{error}");
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    assert!(target.texts(tables).await.is_empty());
}

#[tokio::test]
async fn a_dump_of_mariadb_with_triggers_is_the_first_file() {
    let server = MariadbServer::shared().await;
    let source = server.create_tenant("dumped").await.unwrap();
    let schema =
        "CREATE TABLE parents (id bigint PRIMARY KEY AUTO_INCREMENT, name varchar(200) NOT NULL DEFAULT 'a;b');
        CREATE TABLE children (id bigint PRIMARY KEY, parent bigint, FOREIGN KEY (parent) REFERENCES parents (id));
        INSERT INTO parents (name) VALUES ('it''s; \\\\ ok'), ('-- no comment'), ('/* nor this */');
        INSERT INTO children VALUES (1, 1);
        CREATE VIEW names AS SELECT name FROM parents;
        CREATE PROCEDURE p() BEGIN IF 1 THEN SELECT ';;'; END IF; END;
        CREATE TRIGGER t BEFORE INSERT ON parents FOR EACH ROW BEGIN SET NEW.name = CONCAT(NEW.name, ';'); END";
    let from = Target::new(json!({"type": "mysql"}), server.secret(&source)).await;
    for one in script(schema) {
        from.execute(one).await.unwrap();
    }
    for autocommit in ["--skip-no-autocommit", "--no-autocommit"] {
        let mut command = Command::new("mariadb-dump");
        command
            .args([
                "--host",
                server.host(),
                "--port",
                &server.port().to_string(),
                "--protocol",
                "tcp",
            ])
            .args([
                "--user",
                server.superuser(),
                &format!("--password={}", server.password()),
            ])
            .args(["--skip-ssl", "--routines", autocommit, &source.database]);
        let dump = output(&mut command)
            .await
            .replace(&format!("`{}`@`%`", source.user), "CURRENT_USER");
        assert!(dump.contains("DELIMITER ;;") && dump.contains("LOCK TABLES") && dump.contains("/*!40101 SET"));
        let target = Target::mysql().await;
        let files = [
            ("1_base.sql", dump.as_str()),
            ("2_more.sql", "INSERT INTO parents (name) VALUES ('new')"),
        ];
        let (_folder, migrations) = folder("mysql", &files).await;
        let mut connection = target.driver.connect(&target.config).await.unwrap();
        let applied = target.apply_with(&mut *connection, &migrations).await.unwrap();
        assert_eq!(applied, report(&["1_base", "2_more"], 0));
        let settings =
            "SELECT CAST(CONCAT_WS(' ', @@foreign_key_checks, @@unique_checks, @@autocommit, @@time_zone) AS char)";
        let row = connection
            .query_one(&Statement::from_string(DbBackend::MySql, settings))
            .await
            .unwrap();
        assert_eq!(row.unwrap().try_get_by_index::<String>(0).unwrap(), "ON ON ON +00:00");
        connection.close().await;
        assert_eq!(
            target.texts("SELECT name FROM names").await,
            ["it's; \\ ok", "-- no comment", "/* nor this */", "new;"]
        );
        assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 2));
    }
}

/// Statements with no semicolons but those at the ends of lines.
fn script(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n")
}

#[tokio::test]
async fn a_dump_of_sqlite_is_the_first_file() {
    let files = tempfile::tempdir().unwrap();
    let source = files.path().join("source.db");
    let schema = "CREATE TABLE children (id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER REFERENCES parents (id));
        CREATE TABLE parents (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TRIGGER t AFTER INSERT ON parents BEGIN UPDATE parents SET name = name || ';' WHERE id = NEW.id; END;
        INSERT INTO parents VALUES (1, 'it''s; COMMIT;'); INSERT INTO children VALUES (7, 1);";
    output(Command::new("sqlite3").arg(&source).arg(schema)).await;
    let dump = output(Command::new("sqlite3").arg(&source).arg(".dump")).await;
    assert!(
        dump.starts_with("PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;"),
        "{dump}"
    );
    let target = Target::sqlite(files.path()).await;
    let (_folder, migrations) = folder(
        "sqlite",
        &[
            ("1_base.sql", &dump),
            ("2_more.sql", "INSERT INTO parents VALUES (2, 'b')"),
        ],
    )
    .await;
    let mut connection = target.driver.connect(&target.config).await.unwrap();
    let applied = target.apply_with(&mut *connection, &migrations).await.unwrap();
    assert_eq!(applied, report(&["1_base", "2_more"], 0));
    // Foreign keys are checked again.
    let orphan = connection.execute_script("INSERT INTO children VALUES (8, 99)").await;
    assert_eq!(orphan.unwrap_err().kind, DatabaseErrorKind::ForeignKeyViolation);
    connection.close().await;
    assert_eq!(target.texts("SELECT name FROM parents").await, ["it's; COMMIT;;", "b;"]);
}
