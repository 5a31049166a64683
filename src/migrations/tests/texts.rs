//! Files as editors and checkouts save them.

use super::*;

const SQL: &str = "-- ü\nCREATE TABLE t (v varchar(20));\nINSERT INTO t VALUES ('a\nb');\n";

async fn however_a_file_is_saved_it_is_the_same(target: Target) {
    let dialect = target.driver.migration_dialect().to_owned();
    let crlf = SQL.replace('\n', "\r\n");
    let files = [
        SQL.to_owned(),
        crlf.clone(),
        format!("\u{feff}{SQL}"),
        format!("\u{feff}{crlf}"),
    ];
    for first in files.iter().rev() {
        target
            .execute("DROP TABLE IF EXISTS t; DROP TABLE IF EXISTS tenantry_migrations")
            .await
            .unwrap();
        let (_folder, migrations) = folder(&dialect, &[("1_t.sql", first)]).await;
        assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
        assert_eq!(target.texts("SELECT v FROM t").await, ["a\nb"]);
        for other in &files {
            let (_folder, migrations) = folder(&dialect, &[("1_t.sql", other)]).await;
            assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 1));
        }
    }
    // As an earlier version has recorded a file with a byte order mark.
    let earlier = super::super::text::checksum(&format!("\u{feff}{SQL}"));
    let record = format!("UPDATE tenantry_migrations SET checksum = '{earlier}'");
    target.execute(&record).await.unwrap();
    for file in &files {
        let (_folder, migrations) = folder(&dialect, &[("1_t.sql", file)]).await;
        assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 1));
    }
    let (_folder, migrations) = folder(&dialect, &[("1_t.sql", &SQL.replace('b', "c"))]).await;
    let changed = target.apply(&migrations, false).await.unwrap_err();
    assert!(matches!(changed, MigrationError::Changed { .. }));
}

async fn files_with_nothing_to_run_are_applied(target: Target) {
    let dialect = target.driver.migration_dialect().to_owned();
    let files = [
        ("1_empty.sql", ""),
        ("2_blank.sql", "\u{feff} \r\n\t\r\n"),
        ("3_comment.sql", "-- nothing; here\r\n/* nor; here */"),
        ("4_semicolons.sql", ";;\n;"),
        ("5_last.sql", "-- no-transaction\n-- nothing\n"),
    ];
    let (_folder, migrations) = folder(&dialect, &files).await;
    let names = ["1_empty", "2_blank", "3_comment", "4_semicolons", "5_last"];
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&names, 0));
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&[], 5));
}

macro_rules! on_every_database {
    ($($dialect:ident: $target:expr),* $(,)?) => {
        $(mod $dialect {
            use super::*;

            #[tokio::test]
            async fn however_a_file_is_saved_it_is_the_same() {
                let (_folder, target) = $target;
                super::however_a_file_is_saved_it_is_the_same(target).await;
            }

            #[tokio::test]
            async fn files_with_nothing_to_run_are_applied() {
                let (_folder, target) = $target;
                super::files_with_nothing_to_run_are_applied(target).await;
            }
        })*
    };
}

on_every_database! {
    sqlite: {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::sqlite(folder.path()).await;
        (folder, target)
    },
    postgresql: ((), Target::postgresql().await),
    mysql: ((), Target::mysql().await),
}

#[tokio::test]
async fn a_file_of_goose_keeps_what_it_makes() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let file = "-- +goose Up\n-- +goose StatementBegin\nCREATE TABLE t (i int);\nINSERT INTO t VALUES (1);\n\
                -- +goose StatementEnd\n\n-- +goose Down\nDROP TABLE t;\n";
    let (_folder, migrations) = folder("sqlite", &[("1_t.sql", file)]).await;
    assert_eq!(target.apply(&migrations, false).await.unwrap(), report(&["1_t"], 0));
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 1);
}

#[tokio::test]
async fn a_file_of_another_tool_that_is_not_known_is_refused_when_it_is_pending() {
    let files = tempfile::tempdir().unwrap();
    let target = Target::sqlite(files.path()).await;
    let plain = (
        "1_t.sql",
        "CREATE TABLE t (i int);\n-- +goose is not used\n-- +goose Down\n-- DROP TABLE t;\n",
    );
    let unknown = (
        "2_u.sql",
        "-- +goose Up\nCREATE TABLE u (i int);\n-- +goose Dwon\nDROP TABLE u;\n",
    );
    let (_folder, migrations) = folder("sqlite", &[plain, unknown]).await;
    let error = target.apply(&migrations, false).await.unwrap_err().to_string();
    let expected = "the migration `2_u` cannot be run: line 3: Tenantry does not know `-- +goose Dwon`";
    assert_eq!(error, expected);
    assert_eq!(target.texts("SELECT 'row' FROM t").await.len(), 0);
}

#[tokio::test]
async fn a_file_that_is_no_text_is_refused_by_name() {
    let utf16: Vec<u8> = "\u{feff}SELECT 1;".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let without_mark: Vec<u8> = "SELECT 1;".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, reason) in [
        (utf16, "is UTF-16; save it as UTF-8"),
        (without_mark, "line 1 holds a NUL character; save the file as UTF-8"),
        (
            b"SELECT 1;\n\nSELECT '\xe9';".to_vec(),
            "line 3 is not UTF-8; save the file as UTF-8",
        ),
        (
            b"SELECT 1;\nSELECT '\0';".to_vec(),
            "line 2 holds a NUL character; save the file as UTF-8",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sqlite/1_t.sql");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        let error = Migrations::load(folder.path()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("`{}`: {reason}", file.display()));
    }
}
