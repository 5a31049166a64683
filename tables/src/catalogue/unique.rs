//! Which columns of a table are unique together.

use sea_orm::{DbBackend, DbErr, QueryResult, Statement, Value};

use crate::{model::Table, sql::Dialect};

/// An upsert takes no deferrable constraint.
const POSTGRESQL: &str = "\
SELECT x.indexrelid::text, a.attname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
LEFT JOIN (SELECT i.indrelid, i.indexrelid, k.attnum FROM pg_index AS i \
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place) \
WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND k.place <= i.indnkeyatts) AS x ON x.indrelid = c.oid \
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = x.attnum \
WHERE c.relkind IN ('r', 'p') AND c.relname = $1 AND (n.nspname = $2 OR ($2::text IS NULL AND pg_table_is_visible(c.oid)))";

const MYSQL: &str = "\
SELECT CAST(s.INDEX_NAME AS CHAR), CAST(CASE WHEN s.SUB_PART IS NULL THEN s.COLUMN_NAME END AS CHAR) \
FROM information_schema.TABLES AS t LEFT JOIN information_schema.STATISTICS AS s \
ON s.TABLE_SCHEMA = t.TABLE_SCHEMA AND s.TABLE_NAME = t.TABLE_NAME AND s.NON_UNIQUE = 0 \
WHERE t.TABLE_SCHEMA = DATABASE() AND t.TABLE_TYPE = 'BASE TABLE' AND t.TABLE_NAME = ?";

/// No index has a name that begins with `sqlite_`, but those of SQLite itself.
const SQLITE: &str = "\
SELECT l.name, i.name FROM pragma_index_list(?1) AS l JOIN pragma_index_info(l.name) AS i WHERE l.\"unique\" = 1 AND l.partial = 0 \
UNION ALL SELECT 'sqlite_key', name FROM pragma_table_info(?1) WHERE pk > 0 \
UNION ALL SELECT NULL, NULL FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";

const ORACLE: &str = "\
SELECT i.index_name, c.column_name FROM all_tables AS t \
LEFT JOIN all_ind_columns AS c ON c.table_owner = t.owner AND c.table_name = t.table_name \
LEFT JOIN all_indexes AS i ON i.owner = c.index_owner AND i.index_name = c.index_name AND i.uniqueness = 'UNIQUE' \
WHERE t.table_name = $1 AND t.owner = COALESCE($2, current_schema())";

/// Returns the columns of each unique index of a table, one a row. A table has at least one row; a
/// view has none.
pub(crate) fn unique_columns(dialect: Dialect, table: &Table) -> Statement {
    let name = table.source.as_str();
    let (backend, sql, values): (_, _, Vec<Value>) = match dialect {
        Dialect::Postgresql => {
            let schema = Value::String(table.schema.clone());
            (DbBackend::Postgres, POSTGRESQL, vec![name.into(), schema])
        }
        Dialect::Mysql => (DbBackend::MySql, MYSQL, vec![name.into()]),
        Dialect::Sqlite => (DbBackend::Sqlite, SQLITE, vec![name.into()]),
        Dialect::Oracle => {
            let schema = Value::String(table.schema.as_ref().map(|schema| schema.to_uppercase()));
            (DbBackend::Postgres, ORACLE, vec![name.to_uppercase().into(), schema])
        }
    };
    Statement::from_sql_and_values(backend, sql, values)
}

/// Whether one of these indexes has exactly these columns.
pub(crate) fn is_unique(rows: &[QueryResult], columns: &[&str]) -> Result<bool, DbErr> {
    let mut indexes: Vec<(String, Vec<Option<String>>)> = Vec::new();
    for row in rows {
        let Some(index) = row.try_get_by_index::<Option<String>>(0)? else {
            continue;
        };
        let column: Option<String> = row.try_get_by_index(1)?;
        match indexes.iter_mut().find(|(known, _)| *known == index) {
            Some((_, columns)) => columns.push(column),
            None => indexes.push((index, vec![column])),
        }
    }
    let is_one_of = |column: &Option<String>| {
        let column = column.as_deref().unwrap_or_default();
        columns.iter().any(|wanted| wanted.eq_ignore_ascii_case(column))
    };
    Ok(indexes
        .iter()
        .any(|(_, found)| found.len() == columns.len() && found.iter().all(is_one_of)))
}
