//! Warns of statements that keep a tenant's requests waiting while a large table is rewritten,
//! checked or indexed, and shows the better form. Nothing is refused: a table may be small.

use sqlparser::{
    ast::{
        AlterColumnOperation, AlterTable, AlterTableOperation, ColumnDef, ColumnOption, CreateIndex, Expr, ObjectName,
        Statement, TableConstraint,
    },
    dialect::{Dialect, MySqlDialect, PostgreSqlDialect},
    parser::Parser,
};
use tenantry_core::DatabaseDriver;

use super::{Warning, files::Migration, script::verb};

/// Functions with another value for each row: a default with one of them is written into every row.
const VOLATILE: [&str; 7] = [
    "clock_timestamp",
    "gen_random_uuid",
    "nextval",
    "random",
    "timeofday",
    "uuid_generate_v4",
    "uuidv7",
];

/// Looks at one file. Tables that the file itself creates are empty, so nothing is said of those.
pub(super) fn lint(driver: &dyn DatabaseDriver, migration: &Migration) -> Vec<Warning> {
    let sql = migration.text();
    let dialect: &dyn Dialect = match driver.migration_dialect() {
        "postgresql" => &PostgreSqlDialect {},
        "mysql" => &MySqlDialect {},
        _ => return Vec::new(),
    };
    let is_postgresql = driver.migration_dialect() == "postgresql";
    let Ok(statements) = driver.statements(sql) else {
        return Vec::new();
    };
    let mut created = Vec::new();
    let mut warnings = Vec::new();
    for statement in &statements {
        let mut warn = |text: String| {
            warnings.push(Warning {
                file: migration.name.clone(),
                line: statement.line,
                text,
            });
        };
        if let Some(text) = of_verb(statement.sql, is_postgresql) {
            warn(text);
            continue;
        }
        // What it cannot read, it says nothing of.
        let Ok(parsed) = Parser::parse_sql(dialect, statement.sql) else {
            continue;
        };
        for parsed in parsed {
            match parsed {
                Statement::CreateTable(table) => created.push(name(&table.name)),
                Statement::CreateIndex(index) if is_postgresql && !created.contains(&name(&index.table_name)) => {
                    of_index(&index).into_iter().for_each(&mut warn);
                }
                Statement::AlterTable(AlterTable {
                    name: table,
                    operations,
                    ..
                }) if !created.contains(&name(&table)) => {
                    let texts = operations.iter().filter_map(|operation| match is_postgresql {
                        true => of_postgresql(&name(&table), operation),
                        false => of_mysql(operation),
                    });
                    texts.for_each(&mut warn);
                }
                _ => {}
            }
        }
    }
    warnings
}

fn name(name: &ObjectName) -> String {
    name.to_string().to_lowercase()
}

/// Statements that are known by their first words.
fn of_verb(sql: &str, is_postgresql: bool) -> Option<String> {
    let upper = sql.to_ascii_uppercase();
    let mut words = upper.split_whitespace();
    let (first, second) = (verb(sql), words.nth(1).unwrap_or_default());
    let is_concurrent = upper.contains("CONCURRENTLY");
    let instead = match (first.as_str(), second) {
        _ if !is_postgresql => return None,
        ("VACUUM", second) if second.contains("FULL") || upper.contains("(FULL") => {
            "`VACUUM FULL` locks the table and writes it anew; leave it to autovacuum, or use `pg_repack`"
        }
        ("CLUSTER", _) => "`CLUSTER` locks the table and writes it anew; use `pg_repack`",
        ("REINDEX", _) if !is_concurrent => {
            "`REINDEX` locks the table against writes; write `REINDEX ... CONCURRENTLY` in a file that begins with \
             `-- no-transaction`"
        }
        ("REFRESH", "MATERIALIZED") if !is_concurrent => {
            "`REFRESH MATERIALIZED VIEW` locks the view against reads; write `REFRESH MATERIALIZED VIEW CONCURRENTLY`"
        }
        _ => return None,
    };
    Some(instead.to_owned())
}

fn of_index(index: &CreateIndex) -> Option<String> {
    let unique = if index.unique { "UNIQUE " } else { "" };
    let named = index.name.as_ref().map(ToString::to_string).unwrap_or_default();
    let table = &index.table_name;
    (!index.concurrently).then(|| {
        format!(
            "`CREATE INDEX` locks `{table}` against writes until the index is built; write `CREATE {unique}INDEX \
             CONCURRENTLY {named} ON {table} ...` in a file that begins with `-- no-transaction`"
        )
    })
}

fn of_postgresql(table: &str, operation: &AlterTableOperation) -> Option<String> {
    match operation {
        AlterTableOperation::AlterColumn {
            column_name,
            op: AlterColumnOperation::SetDataType { .. },
        } => Some(format!(
            "`ALTER COLUMN {column_name} TYPE` may write `{table}` anew under a lock that stops reads too; add another column, \
             fill it in batches, and let the program change over"
        )),
        AlterTableOperation::AlterColumn {
            column_name,
            op: AlterColumnOperation::SetNotNull,
        } => Some(format!(
            "`SET NOT NULL` reads all of `{table}` under a lock that stops reads too; first `ADD CONSTRAINT c CHECK \
             ({column_name} IS NOT NULL) NOT VALID`, in the next file `VALIDATE CONSTRAINT c`, then `SET NOT NULL`"
        )),
        AlterTableOperation::AddColumn { column_def, .. } => of_column(table, column_def),
        AlterTableOperation::AddConstraint { constraint, not_valid } => of_constraint(table, constraint, *not_valid),
        AlterTableOperation::DropColumn { .. } | AlterTableOperation::RenameColumn { .. } => Some(format!(
            "requests of a program that still uses the column of `{table}` fail from now on; do this once no such program runs"
        )),
        _ => None,
    }
}

fn of_column(table: &str, column: &ColumnDef) -> Option<String> {
    let name = &column.name;
    let mut default = None;
    let mut is_required = false;
    for option in &column.options {
        match &option.option {
            ColumnOption::Default(value) => default = Some(value),
            ColumnOption::NotNull => is_required = true,
            _ => {}
        }
    }
    match default {
        Some(value) if is_volatile(value) => Some(format!(
            "`ADD COLUMN {name}` with the default `{value}` writes `{table}` anew under a lock that stops reads too; add it without \
             a default, then `ALTER COLUMN {name} SET DEFAULT {value}`, and fill the old rows in batches"
        )),
        None if is_required => Some(format!(
            "`ADD COLUMN {name} ... NOT NULL` without a default fails if `{table}` has rows; give it a default, or add it \
             without `NOT NULL` and fill it first"
        )),
        _ => None,
    }
}

fn is_volatile(value: &Expr) -> bool {
    let text = value.to_string().to_lowercase();
    VOLATILE.iter().any(|function| text.contains(&format!("{function}(")))
}

fn of_constraint(table: &str, constraint: &TableConstraint, not_valid: bool) -> Option<String> {
    match constraint {
        TableConstraint::ForeignKey(_) | TableConstraint::Check(_) if !not_valid => Some(format!(
            "`ADD CONSTRAINT` reads all of `{table}` under a lock against writes; add `NOT VALID`, and `VALIDATE CONSTRAINT` in \
             the next file"
        )),
        TableConstraint::Unique(_) | TableConstraint::PrimaryKey(_) => Some(format!(
            "`ADD CONSTRAINT` builds an index of `{table}` under a lock that stops reads too; first `CREATE UNIQUE INDEX \
             CONCURRENTLY i ON {table} ...` in a file that begins with `-- no-transaction`, then `ADD CONSTRAINT ... USING INDEX i`"
        )),
        _ => None,
    }
}

fn of_mysql(operation: &AlterTableOperation) -> Option<String> {
    let copies = matches!(
        operation,
        AlterTableOperation::ModifyColumn { .. } | AlterTableOperation::ChangeColumn { .. }
    );
    copies.then(|| {
        "another type of a column copies the table while writes wait; add `, ALGORITHM=INPLACE, LOCK=NONE`, so that the statement \
         fails instead, and change the column with `gh-ost` or `pt-online-schema-change` then"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tenantry_core::{BuildContext, Registry};
    use tenantry_drivers::{MysqlDriver, PostgresqlDriver};

    use super::*;
    use crate::migrations::files::Files;

    async fn warnings(dialect: &str, sql: &str) -> Vec<(usize, String)> {
        let mut registry = Registry::new();
        registry.driver::<PostgresqlDriver>().driver::<MysqlDriver>();
        let context = BuildContext::for_tests(Registry::new());
        let driver = registry.build_driver(json!({"type": dialect}), &context).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(dialect)).unwrap();
        std::fs::write(folder.path().join(dialect).join("0001_x.sql"), sql).unwrap();
        let files = Files::load(folder.path()).await.unwrap();
        let found = files.of(dialect).unwrap().flat_map(|file| lint(&*driver, file));
        found.map(|warning| (warning.line, warning.text)).collect()
    }

    #[tokio::test]
    async fn blocking_statements_are_shown_with_a_better_form() {
        for (sql, better) in [
            ("CREATE INDEX i ON users (name)", "CONCURRENTLY i ON users"),
            (
                "CREATE UNIQUE INDEX i ON users (name)",
                "CREATE UNIQUE INDEX CONCURRENTLY",
            ),
            ("ALTER TABLE users ALTER COLUMN id TYPE bigint", "add another column"),
            ("ALTER TABLE users ALTER name SET DATA TYPE text", "add another column"),
            ("ALTER TABLE users ALTER COLUMN name SET NOT NULL", "NOT VALID"),
            (
                "ALTER TABLE users ADD COLUMN k uuid DEFAULT gen_random_uuid()",
                "SET DEFAULT gen_random_uuid()",
            ),
            ("ALTER TABLE users ADD COLUMN k int NOT NULL", "give it a default"),
            ("ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0)", "NOT VALID"),
            (
                "ALTER TABLE users ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES b (c)",
                "NOT VALID",
            ),
            ("ALTER TABLE users ADD CONSTRAINT c UNIQUE (name)", "USING INDEX"),
            ("ALTER TABLE users DROP COLUMN name", "no such program"),
            ("VACUUM FULL users", "autovacuum"),
            ("REINDEX TABLE users", "CONCURRENTLY"),
        ] {
            let found = warnings("postgresql", &format!("SELECT 1;\n{sql};\n")).await;
            assert!(
                found.len() == 1 && found[0].0 == 2 && found[0].1.contains(better),
                "{sql}: {found:?}"
            );
        }
        let found = warnings("mysql", "ALTER TABLE users MODIFY COLUMN name varchar(500)").await;
        assert!(
            found.len() == 1 && found[0].1.contains("ALGORITHM=INPLACE"),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn what_keeps_no_request_waiting_is_not_warned_of() {
        for sql in [
            "CREATE TABLE t (i int); CREATE INDEX i ON t (i); ALTER TABLE t ALTER COLUMN i TYPE bigint",
            "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON users (name)",
            "ALTER TABLE users ADD COLUMN k int DEFAULT 0 NOT NULL",
            "ALTER TABLE users ADD COLUMN k timestamptz DEFAULT now()",
            "ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0) NOT VALID",
            "ALTER TABLE users ADD CONSTRAINT c UNIQUE USING INDEX i",
            "ALTER TABLE users VALIDATE CONSTRAINT c",
            "REINDEX TABLE CONCURRENTLY users",
            "UPDATE users SET name = 'x'",
            "this is no SQL",
        ] {
            let found = warnings("postgresql", sql).await;
            assert!(found.is_empty(), "{sql}: {found:?}");
        }
    }
}
