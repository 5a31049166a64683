//! Scripts that are hard to split, on the servers themselves.

use super::*;

async fn applied(target: &Target, files: &[(&str, &str)]) {
    let (_folder, migrations) = folder(target.driver.migration_dialect(), files).await;
    let names: Vec<&str> = files.iter().map(|(name, _)| name.trim_end_matches(".sql")).collect();
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&names, 0));
    assert_eq!(
        target.apply(&migrations, false).await.unwrap(),
        report(&[], files.len())
    );
}

#[tokio::test]
async fn hard_scripts_of_postgresql_are_split_as_psql_does() {
    let target = Target::postgresql().await;
    let first = r#"
        /* a licence; /* nested; */ still ' a comment; */
        CREATE TABLE texts (id int GENERATED ALWAYS AS IDENTITY, v text);
        INSERT INTO texts (v) VALUES ('\D:\');INSERT INTO texts (v) VALUES ('D:\');
        INSERT INTO texts (v) VALUES (E'it\'s; \\'), ($$;'$$), ($a$ $b$;$b$ $a$), ('--;'), ('/*;'), (U&'\003b');
        CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$BEGIN INSERT INTO texts (v) VALUES ('in;'); COMMIT; END;$$;
        CREATE FUNCTION pick(a int) RETURNS text BEGIN ATOMIC
            SELECT v FROM texts;
            SELECT CASE WHEN a = 1 THEN CASE a WHEN 1 THEN 'one;' END ELSE 'other' END;
        END;
        CREATE VIEW "end;" AS SELECT pick(1) AS "begin;";
        CREATE RULE twice AS ON UPDATE TO texts DO ALSO (SELECT 1; SELECT 2;);
        DO $do$ BEGIN IF true THEN INSERT INTO texts (v) VALUES ('do;'); END IF; END $do$;
        SET ROLE NONE; SET search_path = pg_catalog"#;
    // A procedure that commits runs outside a transaction.
    let second = "-- no-transaction\nCALL fill();\nINSERT INTO texts (v) SELECT \"begin;\" FROM \"end;\"";
    applied(&target, &[("1_a.sql", first), ("2_b.sql", second)]).await;
    assert_eq!(
        target.texts("SELECT v FROM texts ORDER BY id").await,
        [
            r"\D:\",
            r"D:\",
            r"it's; \",
            ";'",
            " $b$;$b$ ",
            "--;",
            "/*;",
            ";",
            "do;",
            "in;",
            "one;"
        ]
    );
}

#[tokio::test]
async fn a_role_that_a_file_takes_ends_with_the_file() {
    let target = Target::postgresql().await;
    let server = PostgresServer::shared().await;
    let user = target.config.username.clone().unwrap();
    let role = format!("{user}_owner");
    let grants = format!(
        "CREATE ROLE \"{role}\"; GRANT \"{role}\" TO \"{user}\"; GRANT CREATE, USAGE ON SCHEMA public TO \"{role}\""
    );
    let database = target.config.database.clone().unwrap();
    server.psql(&database, &grants).await.unwrap();
    let first = format!("SET ROLE \"{role}\"; CREATE TABLE owned (i int)");
    applied(&target, &[("1_a.sql", &first), ("2_b.sql", "CREATE TABLE own (i int)")]).await;
    let owners = "SELECT tableowner::text FROM pg_tables WHERE tablename IN ('owned', 'own') ORDER BY tablename DESC";
    assert_eq!(target.texts(owners).await, [role, user]);
}

#[tokio::test]
async fn hard_scripts_of_mariadb_are_split_as_mysql_does() {
    let target = Target::mysql().await;
    let first = r#"
        # a licence; it's
        -- another; isn't
        /*M!999999\- enable the sandbox mode */
        /*!99999 no server runs this; */;
        /*!40101 SET NAMES utf8mb4 */;
        CREATE TABLE texts (id int AUTO_INCREMENT PRIMARY KEY, v text);
        INSERT INTO texts (v) VALUES ('it\'s; \\'), ("a;""b"), ('--;'), ('#;'), (1--1);
        DROP TRIGGER IF EXISTS sets;
        DELIMITER |
        CREATE TRIGGER sets BEFORE INSERT ON texts FOR EACH ROW
        BEGIN
            DECLARE more varchar(9);
            IF NEW.v = 'x' THEN SET more = ';'; CASE WHEN 1 THEN SET NEW.v = CONCAT('x', more); END CASE; END IF;
        END |
        DELIMITER //
        CREATE FUNCTION pick(a int) RETURNS int DETERMINISTIC BEGIN RETURN IF(a, 2, 3); END//
        DELIMITER ;
        INSERT INTO texts (v) VALUES ('x'), (pick(1));
        LOCK TABLES texts WRITE;
        INSERT INTO texts (v) VALUES ('locked');
        UNLOCK TABLES"#;
    let second = "CREATE TRIGGER changes BEFORE UPDATE ON texts FOR EACH ROW IF NEW.v = 'y' THEN SET NEW.v = 'y;'; END IF;\n\
                  CREATE PROCEDURE p() BEGIN IF 1 THEN UPDATE texts SET v = 'y' WHERE v = 'locked'; END IF; END;\n\
                  CALL p();";
    applied(&target, &[("1_a.sql", first), ("2_b.sql", second)]).await;
    assert_eq!(
        target.texts("SELECT v FROM texts ORDER BY id").await,
        [r"it's; \", "a;\"b", "--;", "#;", "2", "x;", "2", "y;"]
    );
}

#[tokio::test]
async fn hard_scripts_of_sqlite_are_split_as_sqlite3_does() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let first = r#"
        -- a licence; it's
        CREATE TABLE "a;b" (id INTEGER PRIMARY KEY, [c;d] TEXT, `e;f` TEXT);
        CREATE TRIGGER sets AFTER INSERT ON "a;b" WHEN NEW.id < 2 BEGIN
            UPDATE "a;b" SET [c;d] = CASE WHEN NEW.id = 1 THEN 'end;' ELSE 'END' END WHERE id = NEW.id;
            /* END; */ SELECT 1;
        END;
        INSERT INTO "a;b" VALUES (1, 'x', '\'), (2, 'it''s;', '"');
        CREATE VIRTUAL TABLE found USING fts5 (v);
        INSERT INTO found VALUES ('BEGIN; COMMIT;')"#;
    applied(
        &target,
        &[
            ("1_a.sql", first),
            ("2_b.sql", "CREATE VIEW texts AS SELECT [c;d] AS v FROM \"a;b\""),
        ],
    )
    .await;
    assert_eq!(target.texts("SELECT v FROM texts ORDER BY v").await, ["end;", "it's;"]);
}
