//! Files that were renamed, or that only some kinds of database have, and a run's rehearsal.

use super::*;

const TABLE: (&str, &str) = ("4_t.sql", "CREATE TABLE t (i integer)");

async fn sqlite() -> (tempfile::TempDir, Target) {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    (files, target)
}

async fn rehearsed(target: &Target, migrations: &Migrations) -> (Report, Result<(), String>) {
    let mut connection = target.driver.connect(&target.config).await.unwrap();
    let (mut report, choice) = (Report::default(), Choice::default());
    let ended = migrations.rehearse(target.database(), &mut *connection, choice, &mut report);
    let ended = ended.await.map_err(|error| error.to_string());
    connection.close().await;
    (report, ended)
}

#[tokio::test]
async fn a_file_with_another_number_does_not_run_again() {
    let (_files, target) = sqlite().await;
    let insert = "INSERT INTO t VALUES (1)";
    let (_folder, migrations) = folder("sqlite", &[TABLE, ("5_x.sql", insert), ("7_c.sql", "-- a")]).await;
    target.apply(&migrations, false).await.unwrap();
    let (_folder, renamed) = folder("sqlite", &[TABLE, ("6_x.sql", insert), ("8_c.sql", "-- a")]).await;
    let expected = "the migration `6_x` was applied as `5_x`, and there is no file of that name any more; name it `5_x` \
                    again, or, if it is to be applied once more, add a comment to it and give it another title";
    assert_eq!(target.apply(&renamed, false).await.unwrap_err().to_string(), expected);
    assert_eq!(rehearsed(&target, &renamed).await.1, Err(expected.to_owned()));
    let state = target.look(&renamed, false).await;
    assert_eq!(state.refused().unwrap().to_string(), expected);
    let again = format!("-- once more\n{insert}");
    let (_folder, again) = folder("sqlite", &[TABLE, ("6_y.sql", &again)]).await;
    assert_eq!(rehearsed(&target, &again).await.1, Ok(()));
    // The same statements once more, and a file of comments alone.
    let (_folder, twice) = folder(
        "sqlite",
        &[TABLE, ("5_x.sql", insert), ("6_x.sql", insert), ("8_c.sql", "-- a")],
    )
    .await;
    assert_eq!(target.apply(&twice, false).await.unwrap(), report(&["6_x", "8_c"], 2));
}

#[tokio::test]
async fn a_file_that_was_begun_under_another_number_does_not_begin_again() {
    let (_files, target) = sqlite().await;
    let wrong = format!(
        "{}INSERT INTO t VALUES (1);\nINSERT INTO nowhere VALUES (1);",
        stepwise::HEAD
    );
    let (_folder, migrations) = folder("sqlite", &[TABLE, ("5_x.sql", &wrong)]).await;
    target.apply(&migrations, false).await.unwrap_err();
    let right = wrong.replace("nowhere", "t");
    let (_folder, renamed) = folder("sqlite", &[TABLE, ("6_x.sql", &right)]).await;
    let error = target.apply(&renamed, false).await.unwrap_err().to_string();
    assert!(error.starts_with("the migration `6_x` was applied as `5_x`"), "{error}");
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 1);
}

#[tokio::test]
async fn a_version_of_another_kind_of_database_is_reached_with_the_last_file() {
    let (_files, target) = sqlite().await;
    let files = [("sqlite/0004_t.sql", TABLE.1), ("mysql/0007_t.sql", TABLE.1)];
    let migrations = Migrations::of_texts(files).unwrap();
    assert!(!target.look(&migrations, false).await.reaches(7));
    target.apply(&migrations, false).await.unwrap();
    let state = target.look(&migrations, false).await;
    assert!(state.reaches(7) && !state.reaches(8));
}

#[tokio::test]
async fn a_rehearsal_splits_the_pending_files() {
    let (_files, target) = sqlite().await;
    let (_folder, migrations) = folder("sqlite", &[TABLE]).await;
    target.apply(&migrations, false).await.unwrap();
    let files = [TABLE, ("5_a.sql", "SELECT 1"), ("6_b.sql", "SELECT 1;\n.read x\n")];
    let (_folder, migrations) = folder("sqlite", &files).await;
    let (report, ended) = rehearsed(&target, &migrations).await;
    let error = ended.unwrap_err();
    assert!(
        error.starts_with("the migration `6_b` cannot be run: line 2: "),
        "{error}"
    );
    let would: Vec<&str> = report.applied.iter().map(|done| done.name.as_str()).collect();
    assert_eq!((would.as_slice(), report.version.as_deref()), (&["5_a"][..], Some("4")));
    let unreadable: Vec<String> = migrations
        .unreadable(&*target.driver)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(unreadable, [error]);
    let (_folder, changed) = folder("sqlite", &[("4_t.sql", "SELECT 1")]).await;
    let (report, ended) = rehearsed(&target, &changed).await;
    assert!(ended.is_err());
    assert_eq!(report.version.as_deref(), Some("4"));
}

#[tokio::test]
async fn a_placeholder_of_flyway_is_refused() {
    let (_files, target) = sqlite().await;
    let sql = "CREATE TABLE u (v text);\nINSERT INTO u VALUES ('${flyway:user}');";
    let (_folder, migrations) = folder("sqlite", &[("V5__u.sql", sql)]).await;
    let error = target.apply(&migrations, false).await.unwrap_err().to_string();
    let expected = "the migration `V5__u` cannot be run: line 2: `${flyway:user}` is a placeholder of Flyway";
    assert!(error.starts_with(expected), "{error}");
    let (_folder, migrations) = folder("sqlite", &[("0005_u.sql", sql)]).await;
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&["0005_u"], 0));
}

#[tokio::test]
async fn a_file_that_is_not_in_a_driver_s_folder_is_named() {
    let (folder, _) = folder("sqlite", &[TABLE, ("README.md", "")]).await;
    let root = folder.path();
    std::fs::create_dir_all(root.join("sqlite/2026")).unwrap();
    std::fs::create_dir_all(root.join("sqlite/notes")).unwrap();
    for file in ["sqlite/2026/0005_x.sql", "0006_x.sql", "sqlite/notes/x.md", "README.md"] {
        std::fs::write(root.join(file), "").unwrap();
    }
    let migrations = Migrations::load(root).await.unwrap();
    assert_eq!(migrations.misplaced(), ["0006_x.sql", "sqlite/2026"]);
}
