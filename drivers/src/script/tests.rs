use tenantry_core::StatementEffect::{self, *};

use super::*;

fn split(script: &str, syntax: Syntax) -> Vec<(usize, &str)> {
    let statements = statements(script, syntax).unwrap();
    statements.iter().map(|one| (one.line, one.sql)).collect()
}

fn effects(script: &str, syntax: Syntax) -> Vec<StatementEffect> {
    let statements = statements(script, syntax).unwrap();
    statements.iter().map(|one| one.effect).collect()
}

/// Each part is one statement, on the line after the one before.
fn stays_whole(parts: &[&str], syntax: Syntax) {
    let script = parts.join(";\n") + ";";
    let found: Vec<&str> = split(&script, syntax).iter().map(|(_, sql)| *sql).collect();
    assert_eq!(found, parts);
}

#[test]
fn nothing_is_no_statement() {
    for syntax in [Syntax::Postgresql, Syntax::Mysql, Syntax::Sqlite] {
        for script in ["", " \n\t", ";;\n;", "-- a; b", "/* a; b */\n-- c\n"] {
            assert_eq!(split(script, syntax), [], "{syntax:?} {script}");
        }
    }
}

#[test]
fn a_statement_has_the_line_on_which_it_begins() {
    let script = "-- one\n\nSELECT 1;\n\n/* two\n lines */ SELECT\n 2; SELECT 3\n-- end\n";
    for syntax in [Syntax::Postgresql, Syntax::Mysql, Syntax::Sqlite] {
        let found = split(script, syntax);
        assert_eq!(
            found,
            [(3, "SELECT 1"), (6, "SELECT\n 2"), (7, "SELECT 3\n-- end")],
            "{syntax:?}"
        );
    }
}

#[test]
fn postgresql_s_literals_and_comments_hold_semicolons() {
    stays_whole(
        &[
            r"INSERT INTO t VALUES ('a;''b', E'it\'s; \\', U&'\0061;', 'back\', $1)",
            "SELECT $$a; 'b$$, $tag$ $$; $other$; $tag$, \"a;\"\"b\"",
            "SELECT 1 /* a; /* nested; */ still; */ + 2",
            "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $_$ BEGIN RETURN 1; END; $_$",
            "DO 'BEGIN NULL; END'",
            "SELECT a$b, price$, '日本; 🦀'",
        ],
        Syntax::Postgresql,
    );
}

#[test]
fn postgresql_s_bodies_in_sql_and_rules_stay_whole() {
    stays_whole(
        &[
            "CREATE OR REPLACE FUNCTION f(a int) RETURNS int BEGIN ATOMIC SELECT 1; \
             SELECT CASE WHEN a > 1 THEN 2 ELSE 3 END; END",
            "CREATE FUNCTION h() RETURNS int BEGIN /* a; */ -- b;\n ATOMIC SELECT 1; SELECT 2; END",
            "CREATE PROCEDURE p() LANGUAGE SQL BEGIN ATOMIC INSERT INTO t VALUES (1); END",
            "CREATE FUNCTION g(begin date, finish date) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM u; DELETE FROM v)",
            "SELECT CASE WHEN true THEN 1 END",
        ],
        Syntax::Postgresql,
    );
}

#[test]
fn what_only_psql_runs_is_refused_with_its_line() {
    let restricted = "\\restrict abc\n\nSELECT 1;\n\\unrestrict abc\n";
    assert_eq!(split(restricted, Syntax::Postgresql), [(3, "SELECT 1")]);
    let copy = "SELECT 1;\nCOPY public.t (a, b) FROM stdin;\n1\t'\n\\.\n";
    for (script, line, word) in [
        ("SELECT 1;\n\\connect other\n", 2, "psql"),
        ("SELECT 1\n\\gexec\n", 2, "psql"),
        (copy, 2, "pg_dump --inserts"),
        ("copy t from stdin with (format csv);", 1, "pg_dump --inserts"),
    ] {
        let fault = statements(script, Syntax::Postgresql).unwrap_err();
        assert_eq!(fault.line, line, "{script}");
        assert!(fault.reason.contains(word), "{fault}");
    }
    assert_eq!(split("COPY t FROM '/tmp/stdin'", Syntax::Postgresql).len(), 1);
}

#[test]
fn mysql_s_literals_and_comments_hold_semicolons() {
    stays_whole(
        &[
            r#"INSERT INTO t VALUES ('it\'s; \\', "a;\"b", 'x''y;')"#,
            "SELECT `a;b` FROM t WHERE a = 1--1",
            "SELECT 1 # a; b\n + 1",
            "SELECT 1 -- a; b\n + 1",
            "SELECT 1 /* a; /* b; */",
        ],
        Syntax::Mysql,
    );
}

#[test]
fn mysql_s_delimiter_is_kept() {
    let script = "CREATE TABLE t (a int);\nDELIMITER ;;\n/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`l`*/ /*!50003 TRIGGER x \
                  BEFORE INSERT ON t FOR EACH ROW\nBEGIN\n SET NEW.a = 1;\nEND */;;\nDELIMITER ;\nSELECT 1;\n\
                  delimiter //\nCREATE PROCEDURE p() BEGIN SELECT ';;'; END//\nDELIMITER ;\nSELECT 2";
    let found = split(script, Syntax::Mysql);
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 3, 8, 10, 12]);
    assert!(found[1].1.ends_with("END */"), "{}", found[1].1);
    assert_eq!(found[3].1, "CREATE PROCEDURE p() BEGIN SELECT ';;'; END");
    let fault = statements("SELECT 1;\nDELIMITER\n", Syntax::Mysql).unwrap_err();
    assert_eq!(fault.line, 2);
    let unended = "SELECT 1\nDELIMITER //\nSELECT 2\nDELIMITER ;\nSELECT 3";
    assert_eq!(
        split(unended, Syntax::Mysql),
        [(1, "SELECT 1"), (3, "SELECT 2"), (5, "SELECT 3")]
    );
}

#[test]
fn a_column_may_be_named_delimiter() {
    stays_whole(
        &[
            "CREATE TABLE t (\n  delimiter char,\n  delimiter varchar(1)\n)",
            "SELECT\n  delimiter\nFROM t",
            "UPDATE t SET\ndelimiter = 'x', a = 1",
            "SELECT a,\ndelimiter FROM t WHERE\ndelimiter IN (1)",
        ],
        Syntax::Mysql,
    );
}

#[test]
fn a_file_stays_in_the_tenant_s_database() {
    let dump = "-- MariaDB dump\nCREATE DATABASE /*!32312 IF NOT EXISTS*/ `x`;\n\nUSE `x`;\nCREATE TABLE t (a int);";
    let fault = statements(dump, Syntax::Mysql).unwrap_err();
    assert_eq!(fault.line, 4);
    assert!(fault.reason.contains("without `--databases`"), "{fault}");
    assert_eq!(
        split("CREATE TABLE t (\nuse_it int); SELECT `use` FROM t", Syntax::Mysql).len(),
        2
    );
}

#[test]
fn another_encoding_is_refused_where_it_would_change_characters() {
    for (syntax, setting) in [
        (Syntax::Postgresql, "SET client_encoding = 'LATIN1'"),
        (Syntax::Postgresql, "SET SESSION client_encoding TO latin1"),
        (Syntax::Postgresql, "SET NAMES 'WIN1252'"),
        (
            Syntax::Postgresql,
            "SELECT pg_catalog.set_config('client_encoding', 'LATIN1', false)",
        ),
        (Syntax::Mysql, "SET NAMES latin1"),
        (Syntax::Mysql, "/*!40101 SET NAMES latin1 */"),
        (Syntax::Mysql, "SET CHARACTER SET cp1251"),
        (Syntax::Mysql, "SET SESSION character_set_client = latin1"),
    ] {
        let script = format!("SELECT 'é';\n{setting};\nSELECT 'e';\nSELECT 'é';");
        let fault = statements(&script, syntax).unwrap_err();
        assert_eq!(fault.line, 2, "{setting}");
        assert!(fault.reason.contains("the characters on line 4 "), "{fault}");
        let ascii = script.replace("SELECT 'é';", "SELECT 'x';");
        assert_eq!(split(&ascii, syntax).len(), 4, "{setting}");
    }
    for (syntax, script) in [
        (
            Syntax::Postgresql,
            "SET client_encoding = 'UTF8'; SET NAMES 'utf-8'; SET names.x = 'a'; SELECT 'é'",
        ),
        (
            Syntax::Postgresql,
            "SET client_encoding = 'LATIN1'; RESET client_encoding; SELECT 'é'",
        ),
        (
            Syntax::Mysql,
            "SET NAMES utf8mb4 COLLATE utf8mb4_bin; SET @s = @@character_set_client; SELECT 'é'",
        ),
        (
            Syntax::Mysql,
            "/*!50003 SET character_set_client = latin1 */; SELECT 1; /*!50003 SET character_set_client = @saved */; SELECT 'é'",
        ),
    ] {
        assert!(statements(script, syntax).is_ok(), "{script}");
    }
}

#[test]
fn a_stored_program_without_a_delimiter_is_one_statement() {
    stays_whole(
        &[
            "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW IF NEW.a IS NULL THEN SET NEW.a = IF(1, 2, 3); \
             ELSEIF IF(NEW.a, 1, 0) THEN SET NEW.a = 1; ELSE IF (NEW.b) THEN SET NEW.b = 1; END IF; END IF",
            "CREATE TRIGGER y BEFORE INSERT ON t FOR EACH ROW SET NEW.a = IF(NEW.a, CASE WHEN 1 THEN 2 END, REPEAT('x', 3))",
            "CREATE DEFINER=`a`@`b` PROCEDURE IF NOT EXISTS p(IN a int, OUT b int)\nCOMMENT 'BEGIN; IF'\nouter_one: BEGIN\n\
             DECLARE done int DEFAULT 0; DECLARE c CURSOR FOR SELECT `begin`, end, t.end FROM t WHERE end > 1;\n\
             DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; END;\n-- END;\n\
             WHILE a < 3 DO SET a = a + 1; END WHILE; l: LOOP LEAVE l; END LOOP l; REPEAT SET a = 1; UNTIL a END REPEAT;\n\
             CASE a WHEN 1 THEN IF a THEN SELECT 1; END IF; ELSE BEGIN END; END CASE;\n\
             IF a = CASE WHEN 1 THEN IF(1, 2, 3) ELSE IF(4, 5, 6) END THEN SELECT 1; END IF;\n\
             IF EXISTS (SELECT 1) THEN SET b = REPEAT('a', 2); ELSEIF a THEN SET b = 2; END IF;\n END outer_one",
            "CREATE FUNCTION f(a int) RETURNS int DETERMINISTIC RETURN CASE WHEN a THEN IF(a, 1, 2) ELSE 3 END",
            "CREATE FUNCTION g() RETURNS int BEGIN RETURN (SELECT IF(max(i), CASE 1 WHEN 1 THEN 2 END, 3) FROM t); END",
            "CREATE PROCEDURE r() WHILE @a < 3 DO IF @a THEN SET @a = @a + 1; END IF; END WHILE",
            "CREATE PROCEDURE s() CASE 1 WHEN 1 THEN SELECT 1; ELSE BEGIN END; END CASE",
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01' DO BEGIN DELETE FROM t; DELETE FROM u; END",
            "ALTER EVENT e DO BEGIN DELETE FROM t; DELETE FROM u; END",
            "CREATE PROCEDURE q() SELECT 1",
            "BEGIN NOT ATOMIC FOR i IN 1..3 DO SELECT i; END FOR; END",
            "SELECT CASE WHEN 1 THEN 2 END, end, `begin` FROM t",
        ],
        Syntax::Mysql,
    );
    let view = "CREATE OR REPLACE DEFINER=`a`@`b` SQL SECURITY DEFINER VIEW v AS SELECT 1; SELECT 2";
    assert_eq!(split(view, Syntax::Mysql).len(), 2);
}

#[test]
fn a_stored_program_may_name_columns_like_blocks() {
    stays_whole(
        &[
            "CREATE FUNCTION f(begin date, end date) RETURNS int DETERMINISTIC RETURN end - begin",
            "CREATE FUNCTION g(begin date, end date) RETURNS int DETERMINISTIC BEGIN\n DECLARE begin INT; \
             DECLARE end INT; DECLARE CONTINUE HANDLER FOR NOT FOUND SET begin = 1; RETURN datediff(end, begin); END",
            "CREATE PROCEDURE p() BEGIN SELECT begin FROM t; SELECT a, begin, end FROM t ORDER BY begin DESC, end; \
             SELECT x INTO begin FROM t; UPDATE t SET begin = 1, end = begin + 1 WHERE end = begin; END",
            "CREATE PROCEDURE q() UPDATE t SET begin = 1, a = begin WHERE begin > 2 AND end < 3 ORDER BY begin DESC",
            "CREATE TRIGGER x BEFORE INSERT ON package FOR EACH ROW BEGIN SET NEW.package = 1; SET NEW.begin = 2; \
             SET NEW.a = CASE WHEN NEW.end > NEW.begin THEN NEW.end ELSE end END; SET @begin = 1; END",
            "CREATE TRIGGER y BEFORE INSERT ON begin FOR EACH ROW SET NEW.begin = NEW.end",
            "CREATE PROCEDURE r() BEGIN SELECT CASE WHEN a THEN function ELSE event END, CASE WHEN follows THEN 1 END; SELECT 2; END",
            "CREATE TRIGGER begin BEFORE INSERT ON t FOR EACH ROW FOLLOWS begin BEGIN SET NEW.a = 1; SET NEW.b = 2; END",
        ],
        Syntax::Mysql,
    );
}

#[test]
fn every_block_of_a_stored_program_is_found() {
    stays_whole(
        &[
            "CREATE PROCEDURE p() BEGIN FOR i IN 1..3 DO IF i > 1 THEN SELECT i; END IF; SELECT 2; END FOR; SELECT 3; END",
            "CREATE PROCEDURE q() FOR r IN (SELECT a FROM t FOR UPDATE) DO SELECT r.a; SELECT 2; END FOR",
            "CREATE PROCEDURE r() BEGIN IF (CASE WHEN 1 THEN 2 END) = 1 THEN SELECT 1; SELECT 2; END IF; SELECT 3; END",
            "CREATE PROCEDURE s() BEGIN IF CASE 1 WHEN 1 THEN 2 ELSE end END = 1 THEN SELECT 1; END IF; SELECT 3; END",
            "CREATE PROCEDURE t() BEGIN DECLARE EXIT HANDLER FOR 1062, SQLSTATE '23000' BEGIN SELECT 1; SELECT 2; END; \
             CASE a WHEN 1 THEN BEGIN SELECT 1; SELECT 2; END; ELSE BEGIN END; END CASE; END /* c */",
            "CREATE PROCEDURE u() BEGIN IF a THEN SELECT 1; END /* c */ IF; END",
            "CREATE PROCEDURE w() AS BEGIN SELECT 1 AS begin; SELECT 2; END",
            "CREATE PROCEDURE x() BEGIN /*!50000 SELECT 1 */; SELECT 2; END",
            "CREATE PROCEDURE z() BEGIN SELECT CASE WHEN a THEN 1 ELSE b COLLATE binary END; SELECT 2; END",
            "CREATE FUNCTION y(d date) RETURNS date RETURN d + INTERVAL CASE WHEN 1 THEN 2 ELSE 3 END DAY",
            "CREATE FUNCTION v() RETURNS varchar(9) COMMENT 'x' BEGIN -- a comment\n RETURN 'a'; END",
        ],
        Syntax::Mysql,
    );
}

#[test]
fn a_stored_program_without_an_end_has_the_rest_of_the_file() {
    for program in [
        "CREATE PROCEDURE p()\nBEGIN\nSELECT 2;",
        "CREATE PACKAGE p AS PROCEDURE a(); END;",
    ] {
        let script = format!("SELECT 1;\n{program}\nSELECT 3;");
        let rest = format!("{program}\nSELECT 3;");
        assert_eq!(split(&script, Syntax::Mysql), [(1, "SELECT 1"), (2, rest.as_str())]);
        assert_eq!(effects(&script, Syntax::Mysql)[1], Several);
        let between = format!("DELIMITER //\n{program}\nEND//\nDELIMITER ;\nSELECT 3;");
        assert_eq!(split(&between, Syntax::Mysql).len(), 2, "{program}");
        let fault = statements(&format!("{program}\nUSE other;"), Syntax::Mysql).unwrap_err();
        assert_eq!(fault.line, 1 + program.lines().count(), "{program}");
        assert!(fault.reason.contains("leads out of the tenant's database"), "{fault}");
    }
}

#[test]
fn a_comment_without_an_end_is_refused() {
    for syntax in [Syntax::Postgresql, Syntax::Mysql, Syntax::Sqlite] {
        for open in ["/* a", "/*", "/*/", "/* a * /"] {
            let fault = statements(&format!("SELECT 1;\n{open}\nSELECT 2;"), syntax).unwrap_err();
            assert_eq!(
                (fault.line, fault.reason.as_str()),
                (2, "a comment begins here and has no end")
            );
        }
        for closed in ["SELECT 1; /* a */", "/**/", "SELECT 1 /* a */", "SELECT 1 -- /* a"] {
            assert!(statements(closed, syntax).is_ok(), "{closed}");
        }
    }
    let nested = "SELECT 1; /* a /* b */";
    assert!(statements(nested, Syntax::Postgresql).is_err());
    assert!(statements(nested, Syntax::Sqlite).is_ok());
}

#[test]
fn discarding_everything_is_refused_as_it_gives_up_the_lock() {
    let fault = statements("SELECT 1;\nDISCARD ALL;", Syntax::Postgresql).unwrap_err();
    assert_eq!(fault.line, 2);
    assert!(statements("DISCARD TEMP; DEALLOCATE ALL; RESET ALL", Syntax::Postgresql).is_ok());
}

#[test]
fn a_setting_before_many_comments_is_read() {
    let script = format!("SET a = 1;\n{}SELECT 1;", "-- c\n".repeat(200_000));
    assert_eq!(split(&script, Syntax::Mysql).len(), 2);
}

#[test]
fn what_mysql_runs_in_a_comment_is_a_statement() {
    let script = "/*M!999999\\- enable the sandbox mode */ \n-- dump\n/*!40101 SET NAMES utf8mb4 */;\n/*!40000 ALTER TABLE t DISABLE KEYS */;";
    assert_eq!(split(script, Syntax::Mysql).len(), 2);
    assert_eq!(effects("/*!40101 SET NAMES utf8mb4 */", Syntax::Mysql), [Session]);
}

#[test]
fn sqlite_s_names_and_triggers_hold_semicolons() {
    stays_whole(
        &[
            r#"INSERT INTO t VALUES ('a;''b', 'back\', "c;d", [e;f], `g;h`)"#,
            "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN UPDATE t SET a = CASE WHEN 1 THEN 2 END; SELECT 1; END",
            "CREATE TRIGGER y AFTER INSERT ON t BEGIN SELECT 'END;'; /* END; */ SELECT \"end\"; end",
            "SELECT CASE WHEN 1 THEN 2 END",
        ],
        Syntax::Sqlite,
    );
    assert!(statements(".read other.sql\n", Syntax::Sqlite).is_err());
}

#[test]
fn a_comment_in_a_file_with_lone_carriage_returns_is_refused() {
    for syntax in [Syntax::Postgresql, Syntax::Mysql, Syntax::Sqlite] {
        let fault = statements("SELECT 1;\r-- a\rCREATE TABLE t (a int);\r", syntax).unwrap_err();
        assert!(fault.reason.contains("carriage return"), "{fault}");
        assert_eq!(split("SELECT 1; -- a\r\n-- b\r\nSELECT 2;\r\n-- c\r", syntax).len(), 2);
    }
}

#[test]
fn a_delimiter_ends_a_word() {
    let script = "DELIMITER $$\nCREATE PROCEDURE p() BEGIN SELECT 1; END$$\nCREATE PROCEDURE q(a INT) DELETE FROM t WHERE i = a$$\n\
                  DELIMITER ENDX\nSELECT 1ENDX\nDELIMITER ;\nSELECT a$b;";
    let expected = [
        (2, "CREATE PROCEDURE p() BEGIN SELECT 1; END"),
        (3, "CREATE PROCEDURE q(a INT) DELETE FROM t WHERE i = a"),
        (5, "SELECT 1"),
        (7, "SELECT a$b"),
    ];
    assert_eq!(split(script, Syntax::Mysql), expected);
}

#[test]
fn a_statement_s_first_words_tell_its_effect() {
    let postgresql = "SET a = 1; RESET ALL; SELECT pg_catalog.set_config('search_path', '', false); BEGIN; \
                      START TRANSACTION; COMMIT; END; ROLLBACK; ROLLBACK TO SAVEPOINT a; SAVEPOINT a; ABORT; CREATE TABLE t ()";
    assert_eq!(
        effects(postgresql, Syntax::Postgresql),
        [
            Session,
            Session,
            Session,
            Begins,
            Begins,
            Commits,
            Commits,
            EndsOtherwise,
            Undoable,
            Undoable,
            EndsOtherwise,
            Undoable
        ]
    );
    let mysql = "SET FOREIGN_KEY_CHECKS = 0; SET NAMES utf8; SET autocommit = 0; INSERT INTO t VALUES (1); CREATE TABLE t (a int); \
                 LOCK TABLES t WRITE; START TRANSACTION; START SLAVE; COMMIT; TRUNCATE t; CALL p(); WITH a AS (SELECT 1) SELECT 1";
    assert_eq!(
        effects(mysql, Syntax::Mysql),
        [
            Session,
            Session,
            CommitsByItself,
            Undoable,
            CommitsByItself,
            CommitsByItself,
            Begins,
            CommitsByItself,
            Commits,
            CommitsByItself,
            CommitsByItself,
            Undoable
        ]
    );
    let sqlite = "PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE; END TRANSACTION; ATTACH 'x' AS y; VACUUM";
    assert_eq!(
        effects(sqlite, Syntax::Sqlite),
        [Session, Begins, Commits, Session, Undoable]
    );
}

#[test]
fn another_meaning_of_the_backslash_is_refused_where_it_matters() {
    for (syntax, setting) in [
        (Syntax::Mysql, "SET sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI'"),
        (Syntax::Postgresql, "SET standard_conforming_strings = off"),
    ] {
        let script = format!("SELECT '\\d';\n{setting};\nSELECT 'C:\\';\nSELECT 1;");
        let fault = statements(&script, syntax).unwrap_err();
        assert_eq!(fault.line, 2, "{setting}");
        assert!(fault.reason.contains("the statement on line 3 "), "{fault}");
        assert_eq!(split(&script.replace("C:\\", "C:"), syntax).len(), 4, "{setting}");
    }
    let on = "SET standard_conforming_strings = on;\nSELECT 'C:\\';";
    assert_eq!(split(on, Syntax::Postgresql).len(), 2);
    let concat = "SET sql_mode = CONCAT(@@sql_mode, ',NO_BACKSLASH_ESCAPES');\nSET sql_mode = CONCAT(@@sql_mode, ',ANSI');\n\
                  SELECT '\\d';";
    assert_eq!(statements(concat, Syntax::Mysql).unwrap_err().line, 1);
}

#[test]
fn a_setting_that_is_undone_before_the_text_is_not_refused() {
    for (syntax, script) in [
        (
            Syntax::Mysql,
            "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SET sql_mode = ''; SELECT '\\d'",
        ),
        (
            Syntax::Mysql,
            "SET @old = @@sql_mode, sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 1; SET sql_mode = @old; SELECT '\\d'",
        ),
        (
            Syntax::Mysql,
            "SET @@SESSION.sql_mode = 'NO_BACKSLASH_ESCAPES'; \
             SET sql_mode = REPLACE(@@sql_mode, 'NO_BACKSLASH_ESCAPES', ''); SELECT '\\d'",
        ),
        (Syntax::Mysql, "SET @a = 'NO_BACKSLASH_ESCAPES'; SELECT '\\d'"),
        (
            Syntax::Mysql,
            "SET sql_mode = '' /* not NO_BACKSLASH_ESCAPES */; SELECT '\\d'",
        ),
        (
            Syntax::Mysql,
            "SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT 1 /* \\d */; -- \\d\nSELECT 2",
        ),
        (Syntax::Mysql, "SET @a = 'SET NAMES latin1'; SELECT 'é'"),
        (
            Syntax::Mysql,
            "SET NAMES utf8mb4 /* not SET NAMES latin1 */; SELECT 'é'",
        ),
        (Syntax::Mysql, "SET NAMES latin1; SELECT 1 /* é */; # é\nSELECT 2"),
        (
            Syntax::Postgresql,
            "SET standard_conforming_strings = off; SET standard_conforming_strings = on; SELECT '\\d'",
        ),
        (
            Syntax::Postgresql,
            "SET standard_conforming_strings TO off; RESET ALL; SELECT '\\d'",
        ),
        (
            Syntax::Postgresql,
            "SET standard_conforming_strings = off; SELECT E'\\d', $$ \\d $$",
        ),
        (
            Syntax::Postgresql,
            "SET a.b = 1 /* standard_conforming_strings = off */; SELECT '\\d'",
        ),
        (
            Syntax::Postgresql,
            "SET client_encoding = 'LATIN1'; RESET ALL; SELECT 'é'",
        ),
    ] {
        assert!(statements(script, syntax).is_ok(), "{script}");
    }
    for script in [
        "SET @a = 1, NAMES latin1;\nSELECT 'é'",
        "SET @old = @@sql_mode, sql_mode = 'NO_BACKSLASH_ESCAPES';\nSELECT '\\d'",
        "/*!40101 SET @old = @@sql_mode, sql_mode = 'NO_BACKSLASH_ESCAPES' */;\nSELECT '\\d'",
    ] {
        assert_eq!(statements(script, Syntax::Mysql).unwrap_err().line, 1, "{script}");
    }
}
