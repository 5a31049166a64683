use super::*;

fn migration(file: &str, sql: &str) -> Result<Migration, FilesError> {
    let name = FileName::read("sqlite", file)?.unwrap();
    Ok(Migration::new("sqlite", &name, sql.to_owned()))
}

#[test]
fn a_name_tells_number_and_kind() {
    let create = migration("0001_create_users.sql", "").unwrap();
    assert_eq!(
        (create.version, create.name.as_str(), create.sample),
        (1, "0001_create_users", false)
    );
    let sample = migration("20260102_sample_users.sql", "").unwrap();
    assert_eq!((sample.version, sample.sample), (20_260_102, true));
    for wrong in [
        "create.sql",
        "1.sql",
        "1_.sql",
        "x_y.sql",
        "_y.sql",
        "+1_y.sql",
        "1_Y.sql",
        "1_a b.sql",
        "99999999999999999999_y.sql",
    ] {
        let error = migration(wrong, "").unwrap_err();
        assert!(error.to_string().contains(&format!("`sqlite/{wrong}`")), "{error}");
    }
}

#[test]
fn a_checksum_is_of_the_text_whatever_ends_its_lines() {
    let checksum = |sql: &str| migration("1_x.sql", sql).unwrap().checksum;
    assert_eq!(checksum("a\nb\n"), checksum("a\r\nb\r\n"));
    assert_ne!(checksum("a\nb"), checksum("a\nc"));
    assert_eq!(
        checksum(""),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn a_file_that_was_applied_with_its_way_back_is_another_one() {
    let text = "-- no-transaction\n-- migrate:up\nSELECT 1;\n";
    let whole = format!("{text}-- migrate:down\nSELECT 2;\n");
    let file = migration("1_x.sql", &whole).unwrap();
    assert_eq!(file.text(), text);
    let bare = text.replace("-- no-transaction\n", "");
    for same in [text, &bare, &format!("\u{feff}{bare}")] {
        assert!(file.is(&text::checksum(same)), "{same}");
    }
    assert!(!file.is(&text::checksum(&whole)));
}

#[test]
fn the_tenant_s_name_is_escaped_in_sample_rows() {
    let tenant: TenantId = "a_b-1".parse().unwrap();
    let sql = "INSERT '{{tenant}}'";
    assert_eq!(
        migration("2_sample_x.sql", sql).unwrap().script(&tenant),
        "INSERT 'a-b-1'"
    );
    assert_eq!(migration("2_x.sql", sql).unwrap().script(&tenant), sql);
    let odd = tenantry_core::TenantIdPattern::new(".*")
        .unwrap()
        .parse("x');DROP")
        .unwrap();
    assert_eq!(
        migration("2_sample_x.sql", sql).unwrap().script(&odd),
        "INSERT 'x---DROP'"
    );
}

#[test]
fn every_dialect_inside_the_program_has_the_same_steps() {
    let files = Files::embedded().unwrap();
    let names = |dialect: &str| -> Vec<String> { files.of(dialect).unwrap().map(|m| m.name.clone()).collect() };
    let steps = names("postgresql");
    assert!(steps.len() >= 2);
    for dialect in files.folders() {
        assert_eq!(names(dialect), steps, "{dialect}");
    }
    assert!(files.of("sqlite").is_some() && files.of("mysql").is_some());
}

#[tokio::test]
async fn a_folder_is_read_and_its_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let load = || Files::load(folder.path());
    assert!(matches!(load().await, Err(FilesError::Empty { .. })));
    let sqlite = folder.path().join("sqlite");
    std::fs::create_dir(&sqlite).unwrap();
    for (file, text) in [
        ("10_b.sql", "b"),
        ("9_a.sql", "a"),
        ("README.md", "x"),
        (".hidden.sql", "x"),
    ] {
        std::fs::write(sqlite.join(file), text).unwrap();
    }
    let files = load().await.unwrap();
    let order: Vec<i64> = files.of("sqlite").unwrap().map(|m| m.version).collect();
    assert_eq!(order, [9, 10]);
    assert!(files.of("oracle").is_none());
    std::fs::write(sqlite.join("009_c.sql"), "c").unwrap();
    let error = load().await.unwrap_err().to_string();
    assert!(
        error.contains("sqlite/009_c.sql") && error.contains("sqlite/9_a.sql"),
        "{error}"
    );
    let absent = Files::load(&folder.path().join("absent")).await.unwrap_err();
    assert!(matches!(absent, FilesError::Unreadable { .. }));
}
