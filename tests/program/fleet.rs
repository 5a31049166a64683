//! Many tenants are migrated in waves, and what differs among them is shown.

use std::path::Path;

use serde_json::{Map, Value, json};
use tenantry_core::{BuildContext, DatabaseConfig, Registry, SecretValue};
use tenantry_drivers::SqliteDriver;
use tenantry_test_support::Finished;
use tokio::fs;

use crate::{
    databases::{Database, program, serve},
    migrations::{Project, sqlite},
};

/// Tenants `t00`, `t01` and so on, on SQLite.
fn fleet(count: usize) -> Project {
    let secrets: Map<String, Value> = (0..count)
        .map(|n| format!("t{n:02}"))
        .map(|id| (id.clone(), sqlite(&id)))
        .collect();
    Project::new(Value::Object(secrets))
}

async fn write_steps(project: &Project, steps: &[&str]) {
    for (index, sql) in steps.iter().enumerate() {
        let file = format!("sqlite/{:04}_step.sql", index + 1);
        project.write(&file, sql).await;
    }
}

pub(crate) fn tenants(finished: &Finished) -> Vec<Value> {
    let json: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", finished.stdout, finished.stderr));
    json["tenants"].as_array().unwrap().clone()
}

/// The ids of the tenants with this `value` in `field`.
fn those(tenants: &[Value], field: &str, value: impl Into<Value>) -> Vec<String> {
    let value = value.into();
    let such = tenants.iter().filter(|tenant| tenant[field] == value);
    such.map(|tenant| tenant["tenant"].as_str().unwrap().to_owned())
        .collect()
}

/// Makes a tenant's second step fail.
async fn poison(project: &Project, tenant: &str) {
    execute(
        &project.path().join(format!("{tenant}.db")),
        "CREATE TABLE two (other text)",
    )
    .await;
}

async fn cure(project: &Project, tenant: &str) {
    execute(&project.path().join(format!("{tenant}.db")), "DROP TABLE two").await;
}

/// Runs SQL in a SQLite file, through the driver.
pub(crate) async fn execute(path: &Path, sql: &str) {
    let mut registry = Registry::new();
    registry.driver::<SqliteDriver>();
    let root = path.parent().unwrap();
    let driver = json!({"type": "sqlite", "root": root});
    let context = BuildContext::for_tests(Registry::new());
    let driver = registry.build_driver(driver, &context).await.unwrap();
    let secret = json!({"type": "sqlite", "path": path.file_name().unwrap().to_str()});
    let config = DatabaseConfig::parse(&SecretValue::new(secret)).unwrap();
    let mut connection = driver.connect(&config).await.unwrap();
    connection.execute_script(sql).await.unwrap();
    connection.close().await;
}

const ONE: &str = "CREATE TABLE one (id integer PRIMARY KEY);";
const TWO: &str = "-- the second\nCREATE TABLE two (id integer PRIMARY KEY);";

#[tokio::test]
async fn a_run_in_waves_reports_every_tenant_and_resumes() {
    let project = fleet(10);
    write_steps(&project, &[ONE]).await;
    let first = project
        .migrate(
            true,
            &["--wave", "t07,t03", "--wave", "30%", "--wave", "100%", "--json"],
        )
        .await;
    assert_eq!(first.code, 0, "{}{}", first.stdout, first.stderr);
    let done = tenants(&first);
    assert_eq!(done.len(), 10);
    assert_eq!(
        done[0],
        json!({"tenant": "t00", "driver": "sqlite", "version": "0001", "applied": ["0001_step"], "outcome": "ok", "error": null})
    );
    let again = tenants(&project.migrate(true, &["--json"]).await);
    assert_eq!(
        again[9],
        json!({"tenant": "t09", "driver": "sqlite", "version": "0001", "applied": [], "outcome": "ok", "error": null})
    );

    write_steps(&project, &[ONE, TWO]).await;
    // Waves that leave tenants out are a run that has not reached all of them.
    let some = project.migrate(true, &["--wave", "3", "--json"]).await;
    assert_eq!(some.code, 1);
    assert_eq!(those(&tenants(&some), "outcome", "not_reached").len(), 7);
    let rest = project.migrate(true, &["--only", "behind", "--json"]).await;
    assert_eq!((rest.code, tenants(&rest).len()), (0, 7));
    for wrong in [
        &["--wave", "0"] as &[&str],
        &["--wave", "101%"],
        &["--wave", "nobody"],
        &["--stop-after", "x"],
        &["--to", "0009"],
        &["--to", "latest"],
        &["--only", "well"],
    ] {
        let refused = project.migrate(true, wrong).await;
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (2, ""),
            "{wrong:?}: {}",
            refused.stderr
        );
    }
}

#[tokio::test]
async fn a_failure_in_the_first_wave_keeps_the_others_untouched() {
    let project = fleet(12);
    write_steps(&project, &[ONE]).await;
    assert_eq!(project.migrate(true, &[]).await.code, 0);
    poison(&project, "t01").await;
    write_steps(&project, &[ONE, TWO]).await;
    let waves = ["--wave", "4", "--wave", "100%", "--stop-after", "1", "--json"];
    let stopped = project.migrate(true, &waves).await;
    assert_eq!(stopped.code, 1);
    let done = tenants(&stopped);
    assert_eq!(those(&done, "outcome", "failed"), ["t01"]);
    let untouched = those(&done, "outcome", "not_reached");
    assert!(
        untouched.len() >= 8 && untouched.contains(&"t11".to_owned()),
        "{untouched:?}"
    );
    let error = &done[1]["error"];
    assert_eq!(
        (&error["file"], &error["line"]),
        (&json!("0002_step"), &json!(2)),
        "{error}"
    );
    assert!(error["detail"].as_str().unwrap().contains("line 2"), "{error}");
    assert_eq!((&done[1]["version"], &done[1]["applied"]), (&json!("0001"), &json!([])));

    let status = project.migrate(true, &["status", "--json"]).await;
    assert_eq!(status.code, 1);
    let found = tenants(&status);
    for tenant in &untouched {
        let row = found.iter().find(|row| row["tenant"] == **tenant).unwrap();
        assert_eq!(
            *row,
            json!({"tenant": tenant, "driver": "sqlite", "version": "0001", "pending": ["0002_step"], "failed": null,
                   "changed": [], "ahead": [], "drift": [], "error": null})
        );
    }
    assert_eq!(
        (&found[1]["failed"], &found[1]["pending"]),
        (&json!("0002_step"), &json!(["0002_step"]))
    );

    // Only what failed is tried again; once the cause is gone, it ends well.
    let again = project.migrate(true, &["--only", "failed", "--json"]).await;
    assert_eq!(
        (again.code, those(&tenants(&again), "outcome", "failed")),
        (1, vec!["t01".to_owned()])
    );
    cure(&project, "t01").await;
    let cured = project.migrate(true, &["--only", "failed", "--json"]).await;
    assert_eq!((cured.code, tenants(&cured).len()), (0, 1));
    assert_eq!(project.migrate(true, &[]).await.code, 0);
    let status = project.migrate(true, &["status", "--json"]).await;
    assert_eq!(status.code, 0, "{}", status.stdout);
    assert_eq!(project.migrate(true, &["--only", "failed"]).await.code, 0);
}

#[tokio::test]
async fn without_a_stop_rule_a_failure_stops_no_other() {
    let project = fleet(6);
    write_steps(&project, &[ONE]).await;
    project.migrate(true, &[]).await;
    for tenant in ["t00", "t05"] {
        poison(&project, tenant).await;
    }
    write_steps(&project, &[ONE, TWO]).await;
    let run = project
        .migrate(true, &["--wave", "1", "--wave", "100%", "--json"])
        .await;
    let done = tenants(&run);
    assert_eq!(run.code, 1);
    assert_eq!(those(&done, "outcome", "failed"), ["t00", "t05"]);
    assert_eq!(those(&done, "outcome", "ok").len(), 4);
}

#[tokio::test]
async fn a_version_is_held_and_the_report_says_what_was_done() {
    let mut project = fleet(3);
    project.more = ", report: runs.jsonl".to_owned();
    write_steps(&project, &[ONE, TWO, "CREATE TABLE three (id integer);"]).await;
    let config = project.path().join("config.yaml");
    fs::write(&config, project.config(true)).await.unwrap();
    let migrate = async |arguments: &[&str]| {
        let mut all = vec!["--config", config.to_str().unwrap(), "migrate"];
        all.extend(arguments);
        crate::databases::program().run(all).await.unwrap()
    };
    let held = migrate(&["--to", "0002", "--json"]).await;
    assert_eq!(held.code, 0, "{}", held.stderr);
    assert_eq!(those(&tenants(&held), "version", "0002").len(), 3);
    // Nothing is taken back.
    let back = migrate(&["--to", "1", "--json"]).await;
    assert_eq!((back.code, those(&tenants(&back), "version", "0002").len()), (0, 3));
    let rest = migrate(&["--dry-run", "--json"]).await;
    assert_eq!(tenants(&rest)[0]["applied"], json!(["0003_step"]));

    let text = fs::read_to_string(project.path().join("runs.jsonl")).await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        ["begun", "tenant", "tenant", "tenant", "ended", "begun", "ended"]
    );
    assert!(lines.iter().take(5).all(|line| line["run"] == lines[0]["run"]));
    assert_eq!(lines[1]["applied"][0]["file"], "0001_step");
    assert!(lines[1]["applied"][0]["ms"].is_u64() && lines[0]["at"].is_string());
    assert_eq!((&lines[4]["ok"], &lines[4]["failed"]), (&json!(3), &json!(0)));
}

#[tokio::test]
async fn a_changed_file_and_a_newer_program_are_shown() {
    let project = fleet(2);
    write_steps(&project, &[ONE, TWO]).await;
    project.migrate(true, &[]).await;
    fs::remove_file(project.path().join("migrations/sqlite/0002_step.sql"))
        .await
        .unwrap();
    write_steps(&project, &["CREATE TABLE one (id text);"]).await;
    let status = project.migrate(true, &["status", "--json"]).await;
    let row = &tenants(&status)[0];
    assert_eq!(status.code, 1);
    assert_eq!(
        (&row["changed"], &row["ahead"]),
        (&json!(["0001_step"]), &json!(["0002_step"])),
        "{row}"
    );
    let table = project.migrate(true, &["status"]).await;
    assert!(
        table.stdout.contains("changed: 0001_step; ahead: 0002_step"),
        "{}",
        table.stdout
    );
}

/// SQL for each kind of database: a table, then a change by hand.
const BY_HAND: &str = "ALTER TABLE people ADD nick VARCHAR(20)";

#[tokio::test]
async fn a_database_that_was_altered_by_hand_is_shown() {
    for database in Database::ALL {
        let driver = database.driver();
        let mut secrets = Map::new();
        for tenant in ["d1", "d2", "d3", "d4"] {
            secrets.insert(tenant.to_owned(), database.secret(tenant).await);
        }
        let project = Project::new(Value::Object(secrets));
        let people = "CREATE TABLE people (id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL);\n\
                      CREATE INDEX people_by_name ON people (name);\n";
        project.write(&format!("{driver}/0001_people.sql"), people).await;
        assert_eq!(project.migrate(true, &[]).await.code, 0, "{driver}");
        let alike = project.migrate(true, &["status", "--json"]).await;
        assert_eq!(alike.code, 0, "{driver}: {}{}", alike.stdout, alike.stderr);

        // By hand: through a file that is recorded nowhere.
        let mut by_hand = Project::new(json!({"d3": project.secrets["d3"]}));
        by_hand.secrets["d3"] = project.secrets["d3"].clone();
        by_hand.write(&format!("{driver}/0001_people.sql"), people).await;
        let alter = format!("-- no-transaction\n{BY_HAND};\nDELETE FROM tenantry_migrations WHERE version = 2;\n");
        if let Database::Sqlite = database {
            execute(&project.path().join("d3.db"), BY_HAND).await;
        } else {
            by_hand.write(&format!("{driver}/0002_by_hand.sql"), &alter).await;
            by_hand.migrate(true, &[]).await;
        }
        let status = project.migrate(true, &["status", "--json"]).await;
        let found = tenants(&status);
        assert_eq!(status.code, 1, "{driver}: {}", status.stdout);
        let drifted = found.iter().filter(|row| row["drift"] != json!([]));
        let drifted: Vec<_> = drifted
            .map(|row| (row["tenant"].clone(), row["drift"].to_string().to_lowercase()))
            .collect();
        assert_eq!(
            drifted,
            [(json!("d3"), "[\"column people.nick is not in the others\"]".to_owned())],
            "{driver}"
        );
        let template = project.migrate(true, &["status", "--template", "d3", "--json"]).await;
        let found = tenants(&template);
        assert_eq!(found[2]["drift"], json!([]), "{driver}");
        let missing = found[0]["drift"].to_string().to_lowercase();
        assert_eq!(
            missing, "[\"column people.nick is missing; it is in `d3`\"]",
            "{driver}"
        );
    }
}

#[tokio::test]
async fn tables_of_their_own_hide_no_tenant_that_lacks_a_column() {
    let project = fleet(10);
    write_steps(
        &project,
        &["CREATE TABLE users (id integer PRIMARY KEY, updated_at text);"],
    )
    .await;
    assert_eq!(project.migrate(true, &[]).await.code, 0);
    let by_hand = async |tenant: &str, sql: &str| {
        execute(&project.path().join(format!("{tenant}.db")), sql).await;
    };
    by_hand("t00", "ALTER TABLE users DROP COLUMN updated_at").await;
    for n in 1..9 {
        by_hand(&format!("t{n:02}"), &format!("CREATE TABLE custom_{n} (id integer)")).await;
    }
    let status = project.migrate(true, &["status", "--json"]).await;
    let drift: Vec<Value> = tenants(&status).iter().map(|row| row["drift"].clone()).collect();
    let mut expected = vec![json!(["column users.updated_at is missing; it is in the others"])];
    expected.extend((1..9).map(|n| json!([format!("table custom_{n} is not in the others")])));
    expected.push(json!([]));
    assert_eq!(drift, expected);
}

#[tokio::test]
async fn a_database_that_has_the_files_already_is_adopted() {
    for database in Database::ALL {
        let driver = database.driver();
        let project = Project::new(json!({"acme": database.secret("adopted").await}));
        project
            .write(
                &format!("{driver}/0001_people.sql"),
                "CREATE TABLE people (id INTEGER PRIMARY KEY);\n",
            )
            .await;
        project
            .write(
                &format!("{driver}/0002_notes.sql"),
                "CREATE TABLE notes (id INTEGER PRIMARY KEY);\n",
            )
            .await;
        // An empty database has nothing.
        let empty = project.migrate(true, &["adopt", "0001"]).await;
        assert_eq!(empty.code, 1, "{driver}: {}", empty.stdout);
        assert!(
            empty.stdout.contains("the database has no table"),
            "{driver}: {}",
            empty.stdout
        );

        // The table is there, made by something else.
        assert_eq!(project.migrate(true, &["--to", "0001"]).await.code, 0, "{driver}");
        let forget = "-- no-transaction\nDELETE FROM tenantry_migrations;\n";
        let other = Project::new(project.secrets.clone());
        match database {
            Database::Sqlite => {
                execute(&project.path().join("adopted.db"), "DELETE FROM tenantry_migrations").await;
            }
            _ => {
                other
                    .write(
                        &format!("{driver}/0001_people.sql"),
                        "CREATE TABLE people (id INTEGER PRIMARY KEY);\n",
                    )
                    .await;
                other.write(&format!("{driver}/0002_forget.sql"), forget).await;
                other.migrate(true, &[]).await;
            }
        }
        let twice = project.migrate(true, &["--to", "0001"]).await;
        assert_eq!(twice.code, 1, "{driver}: {}", twice.stdout);
        let adopted = project
            .migrate(true, &["adopt", "0001", "--tenant", "acme", "--json"])
            .await;
        let row = &tenants(&adopted)[0];
        assert_eq!((adopted.code, &row["version"]), (0, &json!("0001")), "{driver}: {row}");
        assert_eq!(row["applied"], json!(["0001_people"]), "{driver}");
        let rest = project.migrate(true, &["--json"]).await;
        assert_eq!(
            tenants(&rest)[0]["applied"],
            json!(["0002_notes"]),
            "{driver}: {}",
            rest.stdout
        );
        assert_eq!(project.migrate(true, &["adopt", "0009"]).await.code, 2);
        // What is left to do is not taken for done, unless the tenant is named.
        project
            .write(
                &format!("{driver}/0003_more.sql"),
                "CREATE TABLE more (id INTEGER PRIMARY KEY);\n",
            )
            .await;
        let all = project.migrate(true, &["adopt", "0003"]).await;
        assert_eq!(all.code, 1, "{driver}: {}", all.stdout);
        assert!(all.stdout.contains("--tenant"), "{driver}: {}", all.stdout);
        let all = project.migrate(true, &["adopt", "0003", "--json"]).await;
        assert_eq!(tenants(&all)[0]["version"], "0002", "{driver}: {}", all.stdout);
    }
}

#[tokio::test]
async fn looking_changes_no_file() {
    let project = fleet(2);
    write_steps(&project, &[ONE]).await;
    let file = |name: &str| project.path().join(name);
    // Empty files have no journal mode yet; SQLite would write one.
    fs::write(file("t00.db"), "").await.unwrap();
    for arguments in [
        &["status", "--json"][..],
        &["--dry-run", "--json"],
        &["--only", "failed"],
    ] {
        let looked = project.migrate(true, arguments).await;
        assert!(looked.code < 2, "{arguments:?}: {}", looked.stderr);
        if arguments.contains(&"--json") {
            for row in tenants(&looked) {
                let files = row.get("pending").unwrap_or(&row["applied"]);
                assert_eq!((files, &row["error"]), (&json!(["0001_step"]), &json!(null)), "{row}");
            }
        }
    }
    let checked = program()
        .config(project.config(true))
        .run(["check", "--connect"])
        .await
        .unwrap();
    assert_eq!(checked.code, 0, "{}", checked.stdout);
    assert_eq!(std::fs::metadata(file("t00.db")).unwrap().len(), 0);
    for absent in ["t01.db", "t00.db-wal", "t01.db-wal"] {
        assert!(!file(absent).exists(), "{absent}");
    }
    assert_eq!(project.migrate(true, &[]).await.code, 0);
    assert!(file("t01.db").exists());
}

#[tokio::test]
async fn a_database_that_another_tool_has_migrated_is_refused_by_name() {
    let by_hand = "CREATE TABLE flyway_schema_history (version VARCHAR(50));\n\
                   INSERT INTO flyway_schema_history VALUES ('1');\n";
    for database in Database::ALL {
        let driver = database.driver();
        let secrets = json!({"acme": database.secret("foreign").await});
        let project = Project::new(secrets.clone());
        let file = format!("{driver}/0001_people.sql");
        project
            .write(&file, "CREATE TABLE people (id INTEGER PRIMARY KEY);\n")
            .await;
        if let Database::Sqlite = database {
            execute(&project.path().join("foreign.db"), by_hand).await;
        } else {
            let other = Project::new(secrets);
            let forget = format!("-- no-transaction\n{by_hand}DROP TABLE tenantry_migrations;\n");
            other.write(&format!("{driver}/0001_other.sql"), &forget).await;
            other.migrate(true, &[]).await;
        }
        for arguments in [&["--json"][..], &["--json", "--dry-run"]] {
            let refused = project.migrate(true, arguments).await;
            assert_eq!(refused.code, 1, "{driver} {arguments:?}: {}", refused.stdout);
            let detail = tenants(&refused)[0]["error"]["detail"].as_str().unwrap().to_lowercase();
            for part in ["`flyway_schema_history`", "flyway has migrated", "migrate adopt"] {
                assert!(detail.contains(part), "{driver}: {detail}");
            }
        }
        let (_server, client) = serve(&project.config(true)).await;
        client
            .tenant("acme")
            .get("/api/v1/tenant/info")
            .await
            .problem(503, "database_unavailable");
        let adopted = project.migrate(true, &["adopt", "0001"]).await;
        assert_eq!(adopted.code, 0, "{driver}: {}", adopted.stdout);
        let current = project.migrate(true, &[]).await;
        assert_eq!(current.code, 0, "{driver}: {}", current.stdout);
    }
}

#[tokio::test]
async fn the_file_that_failed_is_shown_until_it_is_applied() {
    for database in Database::ALL {
        let driver = database.driver();
        let project = Project::new(json!({"acme": database.secret("noted").await}));
        let write = async |sql: &str| project.write(&format!("{driver}/0001_first.sql"), sql).await;
        write("CREATE TABLE numbers (i INTEGER NOT NULL);\nINSERT INTO numbers VALUES (NULL);\n").await;
        assert_eq!(project.migrate(true, &[]).await.code, 1, "{driver}");
        let status = project.migrate(true, &["status", "--json"]).await;
        let row = &tenants(&status)[0];
        assert_eq!(
            (status.code, &row["failed"]),
            (1, &json!("0001_first")),
            "{driver}: {row}"
        );
        assert_eq!(row["pending"], json!(["0001_first"]), "{driver}");

        write("CREATE TABLE numbers (i INTEGER NOT NULL);\nINSERT INTO numbers VALUES (1);\n").await;
        let cured = project.migrate(true, &["--only", "failed", "--json"]).await;
        assert_eq!(
            (cured.code, tenants(&cured).len()),
            (0, 1),
            "{driver}: {}",
            cured.stdout
        );
        let status = project.migrate(true, &["status", "--json"]).await;
        assert_eq!(
            (status.code, &tenants(&status)[0]["failed"]),
            (0, &Value::Null),
            "{driver}: {}",
            status.stdout
        );
    }
}
