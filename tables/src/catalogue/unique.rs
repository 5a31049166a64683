//! Which columns of a table are unique together. PostgreSQL itself says so for `ON CONFLICT`.

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use crate::sql::Dialect;

const MYSQL: &str = "\
SELECT CAST(INDEX_NAME AS CHAR), CAST(CASE WHEN SUB_PART IS NULL THEN COLUMN_NAME END AS CHAR) FROM information_schema.STATISTICS \
WHERE NON_UNIQUE = 0 AND TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?";

const SQLITE: &str = "\
SELECT l.name, i.name FROM pragma_index_list(?1) AS l JOIN pragma_index_info(l.name) AS i WHERE l.\"unique\" = 1 AND l.partial = 0 \
UNION ALL SELECT 'key', name FROM pragma_table_info(?1) WHERE pk > 0";

const ORACLE: &str = "\
SELECT i.index_name, c.column_name FROM user_indexes AS i JOIN user_ind_columns AS c ON c.index_name = i.index_name \
WHERE i.uniqueness = 'UNIQUE' AND c.table_name = $1";

/// Returns the columns of each unique index of a table, one a row; `None` for PostgreSQL.
pub(crate) fn unique_columns(dialect: Dialect, table: &str) -> Option<Statement> {
    let (backend, sql, table) = match dialect {
        Dialect::Postgresql => return None,
        Dialect::Mysql => (DbBackend::MySql, MYSQL, table.to_owned()),
        Dialect::Sqlite => (DbBackend::Sqlite, SQLITE, table.to_owned()),
        Dialect::Oracle => (DbBackend::Postgres, ORACLE, table.to_uppercase()),
    };
    Some(Statement::from_sql_and_values(backend, sql, [table.into()]))
}

/// Whether one of these indexes has exactly these columns.
pub(crate) fn is_unique(rows: &[QueryResult], columns: &[&str]) -> Result<bool, DbErr> {
    let mut indexes: Vec<(String, Vec<Option<String>>)> = Vec::new();
    for row in rows {
        let index: String = row.try_get_by_index(0)?;
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
