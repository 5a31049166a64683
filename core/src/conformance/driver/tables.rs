//! The tables that the suite works on.

use sea_orm::{
    QueryResult,
    sea_query::{Alias, Expr, ExprTrait, InsertStatement, IntoIden, Query, SelectStatement},
};

use super::Suite;

/// Creates the tables, after dropping old ones.
pub(super) async fn create(suite: &Suite<'_>) {
    let mut session = suite.connect().await;
    for table in ["conformance_child", "conformance_parent", "conformance_types"] {
        let drop = format!("DROP TABLE IF EXISTS {table}");
        session
            .connection
            .execute_script(&drop)
            .await
            .expect("an old table is dropped");
    }
    session
        .connection
        .execute_script(definition(suite.dialect()))
        .await
        .expect("the tables are created");
    session.close().await;
}

/// The same tables in each dialect; the columns of `conformance_types` have the types that SeaORM
/// gives an entity's fields.
fn definition(dialect: &str) -> &'static str {
    match dialect {
        "postgresql" => {
            "CREATE TABLE conformance_parent (id bigint PRIMARY KEY, name varchar(20) NOT NULL UNIQUE);
             CREATE TABLE conformance_child (id bigint PRIMARY KEY, parent bigint NOT NULL REFERENCES conformance_parent (id));
             CREATE TABLE conformance_types (id bigint PRIMARY KEY, small smallint, int integer, big bigint, flag boolean,
               float real, double double precision, text text, bytes bytea, at timestamptz, day date, uid uuid,
               amount numeric(28, 10), doc jsonb);"
        }
        "mysql" => {
            "CREATE TABLE conformance_parent (id bigint PRIMARY KEY, name varchar(20) NOT NULL UNIQUE);
             CREATE TABLE conformance_child (id bigint PRIMARY KEY, parent bigint NOT NULL,
               FOREIGN KEY (parent) REFERENCES conformance_parent (id));
             CREATE TABLE conformance_types (id bigint PRIMARY KEY, `small` smallint, `int` integer, big bigint, flag boolean,
               `float` float, `double` double, `text` longtext, bytes longblob, at datetime(6), day date, uid binary(16),
               amount decimal(28, 10), doc json) CHARACTER SET utf8mb4;"
        }
        "sqlite" => {
            "CREATE TABLE conformance_parent (id bigint PRIMARY KEY, name varchar(20) NOT NULL UNIQUE CHECK (length(name) <= 20));
             CREATE TABLE conformance_child (id bigint PRIMARY KEY, parent bigint NOT NULL REFERENCES conformance_parent (id));
             CREATE TABLE conformance_types (id bigint PRIMARY KEY, small smallint, int integer, big bigint, flag boolean,
               float float, double double, text text, bytes blob, at timestamp_with_timezone_text, day date_text, uid uuid_text,
               amount real_decimal, doc json_text);"
        }
        "oracle" => {
            "CREATE TABLE conformance_parent (id NUMBER(19) PRIMARY KEY, name VARCHAR2(20 CHAR) NOT NULL UNIQUE);
             CREATE TABLE conformance_child (id NUMBER(19) PRIMARY KEY, parent NUMBER(19) NOT NULL REFERENCES conformance_parent (id));
             CREATE TABLE conformance_types (id NUMBER(19) PRIMARY KEY, small NUMBER(5), int NUMBER(10), big NUMBER(19), flag NUMBER(1),
               \"FLOAT\" BINARY_FLOAT, double BINARY_DOUBLE, text CLOB, bytes BLOB, at TIMESTAMP(6) WITH TIME ZONE, day DATE, \"UID\" RAW(16),
               amount NUMBER(28, 10), doc CLOB CHECK (doc IS JSON));"
        }
        other => panic!("the suite has no tables for the dialect `{other}`"),
    }
}

fn name(name: &str) -> impl IntoIden {
    Alias::new(name)
}

/// Inserts a parent.
pub(super) fn parent(id: i64, parent_name: Option<&str>) -> InsertStatement {
    Query::insert()
        .into_table(Alias::new("conformance_parent"))
        .columns([name("id"), name("name")])
        .values_panic([id.into(), parent_name.map(str::to_owned).into()])
        .to_owned()
}

/// Inserts a child.
pub(super) fn child(id: i64, parent: i64) -> InsertStatement {
    Query::insert()
        .into_table(Alias::new("conformance_child"))
        .columns([name("id"), name("parent")])
        .values_panic([id.into(), parent.into()])
        .to_owned()
}

/// Counts the parents with ids from `hundred` times a hundred on; each case has a hundred of its
/// own, and number 0 stays empty.
pub(super) fn count(hundred: i64) -> SelectStatement {
    Query::select()
        .expr_as(Expr::col(name("id")).count(), name("n"))
        .from(Alias::new("conformance_parent"))
        .and_where(Expr::col(name("id")).gte(hundred * 100))
        .and_where(Expr::col(name("id")).lt((hundred + 1) * 100))
        .to_owned()
}

/// Reads what [`count`] counted.
pub(super) fn counted(rows: &[QueryResult]) -> i64 {
    rows[0].try_get::<i64>("", "n").expect("a count is a number")
}
