//! Files whose statements rely on their session, or stand behind a stored program.

use super::{
    stepwise::{HEAD, one_after_another},
    *,
};

/// What the first statements leave in their session, and the rest needs.
async fn a_run_without_its_old_session_is_refused(target: Target, first: &str, rest: &str, again: &str, needs: &str) {
    let head = format!("{HEAD}CREATE TABLE t (i int);\nCREATE TABLE u (i int);\n{first};\n");
    let wrong = format!("{head}INSERT INTO nowhere VALUES (1);\n{rest};");
    let error = one_after_another(&target, &[("1_t.sql", &wrong)]).await.unwrap_err();
    assert!(error.contains("and the next run goes on with line 5"), "{error}");
    let lost = format!("{head}INSERT INTO t VALUES (2);\n{rest};");
    for _ in 0..2 {
        let error = one_after_another(&target, &[("1_t.sql", &lost)]).await.unwrap_err();
        let verb = script::verb(rest);
        let expected =
            format!("the migration `1_t` cannot go on at line 6 (statement 5 of 5, `{verb}`): this needs `{needs}` of");
        assert!(error.starts_with(&expected), "{error}");
    }
    assert!(target.texts("SELECT 'row' FROM t").await.is_empty());
    let right = format!("{head}{again};\n{rest};");
    assert_eq!(
        one_after_another(&target, &[("1_t.sql", &right)]).await.unwrap(),
        report(&["1_t"], 0)
    );
    assert_eq!(target.texts("SELECT 'row' FROM u WHERE i = 7").await.len(), 1);
}

#[tokio::test]
async fn a_run_without_its_old_session_is_refused_on_mariadb() {
    let (first, rest) = ("SELECT 7 INTO @id", "INSERT INTO u VALUES (@id)");
    a_run_without_its_old_session_is_refused(Target::mysql().await, first, rest, "SET @id = 7", "@id").await;
    let first = "SET @id = CONNECTION_ID()";
    a_run_without_its_old_session_is_refused(Target::mysql().await, first, rest, "SET @id = 7", "@id").await;
    let (first, rest) = ("PREPARE s FROM 'INSERT INTO u VALUES (7)'", "EXECUTE s");
    a_run_without_its_old_session_is_refused(Target::mysql().await, first, rest, first, "s").await;
}

#[tokio::test]
async fn a_run_without_its_old_session_is_refused_elsewhere() {
    let (first, rest) = (
        "CREATE TEMP TABLE own AS SELECT 7 AS i",
        "INSERT INTO u SELECT i FROM own",
    );
    a_run_without_its_old_session_is_refused(Target::postgresql().await, first, rest, first, "own").await;
    let into = "SELECT 7 AS i INTO TEMP own";
    a_run_without_its_old_session_is_refused(Target::postgresql().await, into, rest, into, "own").await;
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    a_run_without_its_old_session_is_refused(target, first, rest, first, "own").await;
}

#[tokio::test]
async fn a_count_of_rows_that_the_record_would_change_is_refused() {
    let files = tempfile::tempdir().unwrap();
    let sqlite = Target::sqlite(files.path()).await;
    for (target, function) in [(sqlite, "changes"), (Target::mysql().await, "row_count")] {
        let count =
            format!("CREATE TABLE t (i int);\nINSERT INTO t VALUES (1), (2);\nINSERT INTO t VALUES ({function}());");
        let by_steps = format!("{HEAD}{count}");
        let error = one_after_another(&target, &[("1_t.sql", &by_steps)]).await.unwrap_err();
        let expected = format!("the migration `1_t` cannot be run: line 4: `{function}()` would count");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn what_follows_a_stored_program_is_not_run_twice() {
    let target = Target::mysql().await;
    let wrong = "CREATE TABLE t (i int);\nCREATE PROCEDURE p()\nBEGIN\n  IF 1 THEN SELECT 1; END IF;\nEND;\n\
                 INSERT INTO t VALUES (1);\nCREATE TABLE u (i int);\nINSERT INTO nowhere VALUES (1);";
    let error = one_after_another(&target, &[("1_t.sql", wrong)]).await.unwrap_err();
    assert!(
        error.contains("failed at line 8 (statement 5 of 5, `INSERT`)"),
        "{error}"
    );
    let right = wrong.replace("nowhere", "u");
    assert_eq!(
        one_after_another(&target, &[("1_t.sql", &right)]).await.unwrap(),
        report(&["1_t"], 0)
    );
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 1);
}

#[tokio::test]
async fn what_follows_a_stored_program_without_a_known_end_is_applied() {
    let target = Target::mysql().await;
    let package = "SET sql_mode = ORACLE;\nCREATE PACKAGE p AS\n  PROCEDURE a();\nEND;\nCREATE TABLE t (i int);\n\
                   INSERT INTO t VALUES (1);\n";
    let columns = "CREATE TABLE u (begin int, `end` int);\n\
                   CREATE TRIGGER v BEFORE INSERT ON u FOR EACH ROW\nBEGIN\n\
                   SET NEW.begin = CASE WHEN NEW.end > 1 THEN NEW.end ELSE 1 END;\nSET NEW.end = 7;\nEND;\n\
                   CREATE PROCEDURE q()\nBEGIN\nFOR i IN 1..3 DO\nINSERT INTO u VALUES (i, i);\nEND FOR;\nEND;\nCALL q();\n";
    let files = [("1_p.sql", package), ("2_u.sql", columns)];
    let applied = one_after_another(&target, &files).await.unwrap();
    assert_eq!(applied, report(&["1_p", "2_u"], 0));
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 1);
    assert_eq!(target.texts("SELECT 'row' FROM u WHERE `end` = 7").await.len(), 3);
}
