//! What was changed by hand in the database of one tenant, among three.

use serde_json::{Value, json};
use tenantry_test_support::{MariadbServer, PostgresServer};

use crate::{
    fleet::{execute, tenants},
    migrations::{Project, sqlite},
};

/// What three databases differ in after one of them was changed by hand.
async fn drift_after(driver: &str, secrets: [Value; 3], create: &str, by_hand: impl AsyncFnOnce(&Project)) -> String {
    let [a, b, c] = secrets;
    let project = Project::new(json!({"a": a, "b": b, "c": c}));
    project.write(&format!("{driver}/0001_people.sql"), create).await;
    let migrated = project.migrate(true, &[]).await;
    assert_eq!(migrated.code, 0, "{}", migrated.stdout);
    let alike = project.migrate(true, &["status"]).await;
    assert_eq!(alike.code, 0, "{}", alike.stdout);
    by_hand(&project).await;
    let status = project.migrate(true, &["status", "--json"]).await;
    let found = tenants(&status);
    assert_eq!((&found[0]["drift"], &found[1]["drift"]), (&json!([]), &json!([])));
    found[2]["drift"].to_string()
}

/// Each of these parts must be among the differences.
fn shows(drift: &str, parts: &[&str]) {
    for part in parts {
        assert!(drift.contains(part), "{part}: {drift}");
    }
}

async fn of_postgresql(create: &str, by_hand: &str) -> String {
    let server = PostgresServer::shared().await;
    let mut databases = Vec::new();
    for name in ["drift-a", "drift-b", "drift-c"] {
        databases.push(server.create_tenant(name).await.unwrap());
    }
    let secrets = [0, 1, 2].map(|n: usize| server.secret(&databases[n]));
    drift_after("postgresql", secrets, create, async |_: &Project| {
        server.psql(&databases[2].database, by_hand).await.unwrap();
    })
    .await
}

async fn of_mariadb(create: &str, by_hand: &str) -> String {
    let server = MariadbServer::shared().await;
    let mut databases = Vec::new();
    for name in ["drift-a", "drift-b", "drift-c"] {
        databases.push(server.create_tenant(name).await.unwrap());
    }
    let secrets = [0, 1, 2].map(|n: usize| server.secret(&databases[n]));
    drift_after("mysql", secrets, create, async |_: &Project| {
        server.sql(&databases[2].database, by_hand).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn drift_of_postgresql_includes_rights_storage_and_sequences() {
    let create = "CREATE TABLE people (id serial PRIMARY KEY, name text);\nCREATE SEQUENCE numbers;\n\
                  CREATE TABLE notes (id integer);\n";
    let by_hand = "ALTER TABLE people ENABLE ROW LEVEL SECURITY;
                   ALTER TABLE people ALTER COLUMN name TYPE text COLLATE \"C\";
                   CREATE POLICY own ON people USING (name = current_user);
                   ALTER SEQUENCE numbers INCREMENT 5;
                   ALTER SEQUENCE people_id_seq INCREMENT 2;
                   ALTER TABLE notes SET UNLOGGED";
    let parts = [
        "table people is `logged, row security`, and `logged` in the others",
        "policy people.own is not in the others",
        "column people.name is `text collate \\\"C\\\"`",
        "sequence numbers is `increment 5",
        "sequence people.people_id_seq is `increment 2",
        "table notes is `unlogged`",
    ];
    shows(&of_postgresql(create, by_hand).await, &parts);
}

#[tokio::test]
async fn drift_of_postgresql_includes_how_routines_views_and_triggers_work() {
    let create = "CREATE TABLE people (id integer PRIMARY KEY, name text, boss integer REFERENCES people (id));
                  CREATE INDEX by_name ON people (name);
                  CREATE FUNCTION secure() RETURNS integer LANGUAGE sql AS 'SELECT 1';
                  CREATE FUNCTION fixed(a integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
                  CREATE FUNCTION body(a integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT a + 1; END;
                  CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
                  CREATE TRIGGER stamped BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION stamp();
                  CREATE VIEW names AS SELECT name FROM people;
                  CREATE DOMAIN age AS integer CHECK (VALUE > 0);
                  CREATE TYPE place AS (street text);
                  CREATE TABLE parts (id integer, day date) PARTITION BY RANGE (day);";
    let by_hand = "ALTER FUNCTION secure() SECURITY DEFINER;
                   ALTER FUNCTION fixed(integer) IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog;
                   CREATE OR REPLACE FUNCTION body(a integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT a + 2; END;
                   ALTER TABLE people ENABLE ALWAYS TRIGGER stamped;
                   ALTER VIEW names SET (security_barrier = true);
                   CREATE RULE nothing AS ON DELETE TO people DO INSTEAD NOTHING;
                   ALTER DOMAIN age ADD CHECK (VALUE < 200);
                   ALTER TYPE place ADD ATTRIBUTE town text;
                   DROP INDEX by_name;
                   CREATE INDEX by_name ON people (name text_pattern_ops DESC);
                   DROP TABLE parts;
                   CREATE TABLE parts (id integer, day date) PARTITION BY LIST (day);";
    let drift = of_postgresql(create, by_hand).await;
    let parts = [
        "routine secure() is `integer, sql, security definer",
        "routine fixed(a integer) is `a integer, integer, sql, immutable, strict, parallel safe",
        "search_path=pg_catalog",
        "routine body(a integer) is not defined as in the others",
        "trigger people.stamped is `",
        ", always enabled`",
        "view names is not defined as in the others",
        "rule people.nothing is not in the others",
        "type age is `integer age_check CHECK ((VALUE > 0)) age_check1 CHECK",
        "type place is `street text, town text`",
        "index people.by_name is `btree (name text_pattern_ops DESC)`, and `btree (name)`",
        "table parts is `logged, partition by LIST (day)`",
    ];
    shows(&drift, &parts);
}

#[tokio::test]
async fn drift_of_postgresql_includes_keys_that_are_not_enforced() {
    let create = "CREATE TABLE people (id integer PRIMARY KEY, boss integer REFERENCES people (id));";
    // Only a superuser may do this.
    let drift = of_postgresql(create, "ALTER TABLE people DISABLE TRIGGER ALL").await;
    shows(
        &drift,
        &["constraint people.people_boss_fkey is `FOREIGN KEY (boss) REFERENCES people(id), its triggers disabled`"],
    );
}

#[tokio::test]
async fn drift_of_mariadb_includes_rules_checks_and_lengths() {
    let create =
        "CREATE TABLE people (id integer PRIMARY KEY, name varchar(50), age integer, twice integer AS (age * 2) STORED,
                    other varchar(20) CHARACTER SET utf8mb4, boss integer,
                    KEY by_name (name(10)), CONSTRAINT old CHECK (age < 200),
                    CONSTRAINT of_boss FOREIGN KEY (boss) REFERENCES people (id) ON DELETE CASCADE);
                  CREATE VIEW names AS SELECT name FROM people WHERE age > 3;
                  CREATE FUNCTION next(a integer) RETURNS integer DETERMINISTIC RETURN a + 1;";
    let by_hand = "ALTER TABLE people MODIFY other varchar(20) CHARACTER SET latin1;
                   ALTER TABLE people DROP FOREIGN KEY of_boss;
                   ALTER TABLE people ADD CONSTRAINT of_boss FOREIGN KEY (boss) REFERENCES people (id) ON DELETE SET NULL;
                   ALTER TABLE people DROP CONSTRAINT old, ADD CONSTRAINT old CHECK (age < 100);
                   ALTER TABLE people DROP KEY by_name, ADD KEY by_name (name(20));
                   ALTER TABLE people MODIFY twice integer AS (age * 3) STORED;
                   ALTER SQL SECURITY INVOKER VIEW names AS SELECT name FROM people WHERE age > 3 WITH CHECK OPTION;
                   ALTER FUNCTION next SQL SECURITY INVOKER;
                   CREATE EVENT nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM people";
    let drift = of_mariadb(create, by_hand).await;
    let parts = [
        "charset latin1",
        "constraint people.of_boss is `foreign key (boss) references people (id) on delete set null on update restrict`, \
         and `foreign key (boss) references people (id) on delete cascade on update restrict` in the others",
        "constraint people.old is `check (`age` < 100)`",
        "index people.by_name is `btree (name(20))`, and `btree (name(10))`",
        "as (`age` * 3)",
        "view names is `sql security invoker ",
        "with check option CASCADED",
        "function next is `(int(11), IN a int(11)) deterministic contains sql sql security invoker",
        "event nightly is not in the others",
    ];
    shows(&drift, &parts);
}

#[tokio::test]
async fn drift_of_sqlite_includes_checks_collations_and_expressions() {
    let secrets = ["a", "b", "c"].map(sqlite);
    let create = "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT);
                  CREATE TABLE checked (id INTEGER PRIMARY KEY, age INTEGER CHECK (age > 0));
                  CREATE TABLE twice (age INTEGER, twice INTEGER AS (age * 2), more text);
                  CREATE INDEX by_name ON people (lower(name));
                  CREATE TABLE same (id INTEGER, name TEXT);";
    let drift = drift_after("sqlite", secrets, create, async |project: &Project| {
        let sql = "DROP TABLE checked; CREATE TABLE checked (id INTEGER PRIMARY KEY, age INTEGER CHECK (age > 1));
                   DROP TABLE twice; CREATE TABLE twice (age INTEGER, twice INTEGER AS (age * 3), more text);
                   DROP INDEX by_name; CREATE INDEX by_name ON people (upper(name));
                   DROP TABLE same; CREATE TABLE \"same\" (\n  id INTEGER,\n  name TEXT\n);
                   ALTER TABLE people ADD nick TEXT";
        execute(&project.path().join("c.db"), sql).await;
    })
    .await;
    let expected = json!([
        "column people.nick is not in the others",
        "index people.by_name is `(expression) as (upper(name))`, and `(expression) as (lower(name))` in the others",
        "table definition checked is not defined as in the others",
        "table definition twice is not defined as in the others",
    ]);
    assert_eq!(drift, expected.to_string());
}
