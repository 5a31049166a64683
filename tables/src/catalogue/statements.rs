//! The statements that read a catalogue. Each column comes as a text, so that one reader serves
//! all.

use std::collections::BTreeSet;

use sea_orm::{DbBackend, DbErr, QueryResult, Statement, Value};

use super::{ForeignKey, FoundColumn, FoundTable, Named, kinds};
use crate::sql::Dialect;

/// The most columns of a database that are read. One more is asked for, to notice that there are
/// more.
pub(super) const MOST_COLUMNS: usize = 50_000;

/// The most values of an `IN` list: Oracle takes no more (ORA-01795).
const MOST_IN_LIST: usize = 1000;

/// The end of a collation of PostgreSQL that finds texts equal which are not the same.
pub(super) const LAX: &str = " lax";

/// A domain may be one over another domain: `t` is the type below all of them.
const POSTGRESQL_COLUMNS: &str = "\
WITH RECURSIVE step(oid, below, modifier, is_strict, has_default) AS (\
SELECT oid, typbasetype, typtypmod, typnotnull, typdefault IS NOT NULL FROM pg_type WHERE typtype = 'd' \
UNION ALL SELECT s.oid, d.typbasetype, d.typtypmod, s.is_strict OR d.typnotnull, s.has_default OR d.typdefault IS NOT NULL \
FROM step AS s JOIN pg_type AS d ON d.oid = s.below WHERE d.typtype = 'd'), \
domain AS (SELECT s.* FROM step AS s JOIN pg_type AS b ON b.oid = s.below WHERE b.typtype <> 'd') \
SELECT n.nspname::text, c.relname::text, a.attname::text, \
format_type(t.oid, COALESCE(o.modifier, a.atttypmod))::text, \
CASE WHEN a.attnotnull OR o.is_strict THEN '0' ELSE '1' END, \
CASE WHEN a.atthasdef OR a.attidentity <> '' OR o.has_default THEN '1' ELSE '0' END, \
CASE WHEN a.attidentity <> '' OR a.attgenerated <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' THEN '1' ELSE '0' END, \
CASE WHEN t.typtype = 'e' THEN quote_ident(tn.nspname) || '.' || quote_ident(t.typname) END::text, \
(SELECT json_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid)::text, \
col_description(c.oid, a.attnum)::text, obj_description(c.oid, 'pg_class')::text, \
CASE WHEN pg_table_is_visible(c.oid) THEN '1' ELSE '0' END, \
(SELECT l.oid::text || CASE WHEN to_jsonb(l) ->> 'collisdeterministic' = 'false' THEN ' lax' ELSE '' END \
FROM pg_collation AS l WHERE l.oid = a.attcollation AND l.collname <> 'default'), \
CASE WHEN c.relkind IN ('v', 'p', 'f') THEN '1' ELSE '0' END \
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
LEFT JOIN domain AS o ON o.oid = a.atttypid JOIN pg_type AS t ON t.oid = COALESCE(o.below, a.atttypid) JOIN pg_namespace AS tn ON tn.oid = t.typnamespace \
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum \
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped \
AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%' \
AND c.relname <> 'tenantry_migrations'";

const MYSQL_COLUMNS: &str = "\
SELECT NULL, CAST(c.TABLE_NAME AS CHAR), CAST(c.COLUMN_NAME AS CHAR), CAST(c.COLUMN_TYPE AS CHAR), \
CASE WHEN c.IS_NULLABLE = 'YES' THEN '1' ELSE '0' END, \
CASE WHEN c.COLUMN_DEFAULT IS NULL OR c.COLUMN_DEFAULT = 'NULL' THEN '0' ELSE '1' END, \
CASE WHEN c.EXTRA LIKE '%auto_increment%' OR c.EXTRA LIKE '%VIRTUAL%' OR c.EXTRA LIKE '%STORED%' THEN '1' ELSE '0' END, \
NULL, NULL, CAST(c.COLUMN_COMMENT AS CHAR), CAST(CASE WHEN t.TABLE_TYPE = 'BASE TABLE' THEN t.TABLE_COMMENT END AS CHAR), '1', CAST(c.COLLATION_NAME AS CHAR), NULL \
FROM information_schema.COLUMNS AS c JOIN information_schema.TABLES AS t \
ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME \
WHERE c.TABLE_SCHEMA = DATABASE() AND c.TABLE_NAME NOT IN ('tenantry_migrations', 'tenantry_migration_lock')";

/// The type of a column, in the statement above.
const MYSQL_TYPE: &str = "c.COLUMN_TYPE";
/// The same on MariaDB, which has JSON as a text with a check. MySQL takes `/*M! */` for a comment.
/// The look-up is slow, so only `tables pull` makes it.
const MARIADB_TYPE: &str = "\
COALESCE(/*M! CASE WHEN c.DATA_TYPE = 'longtext' THEN (SELECT 'json' FROM information_schema.CHECK_CONSTRAINTS AS k \
WHERE k.CONSTRAINT_SCHEMA = c.TABLE_SCHEMA AND k.TABLE_NAME = c.TABLE_NAME AND k.CONSTRAINT_NAME = c.COLUMN_NAME \
AND k.CHECK_CLAUSE LIKE 'json_valid(%' LIMIT 1) END, */ c.COLUMN_TYPE)";

/// The kinds of tables, in the statement below.
const SQLITE_KINDS: &str = "m.type IN ('table', 'view')";
/// The same without views. One that refers to something missing would make the statement fail, so
/// `tables pull` reads each view by itself.
const SQLITE_TABLES: &str = "m.type = 'table'";

pub(super) const SQLITE_VIEWS: &str = "SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name";

const SQLITE_COLUMNS: &str = "\
SELECT NULL, m.name, p.name, p.type, CASE WHEN p.\"notnull\" OR p.pk > 0 THEN '0' ELSE '1' END, \
CASE WHEN p.dflt_value IS NULL THEN '0' ELSE '1' END, \
CASE WHEN p.hidden IN (2, 3) OR (p.pk = 1 AND upper(p.type) = 'INTEGER' \
AND NOT EXISTS (SELECT 1 FROM pragma_table_list(m.name) AS l WHERE l.schema = 'main' AND l.wr = 1) \
AND (SELECT count(*) FROM pragma_table_info(m.name) AS k WHERE k.pk > 0) = 1) THEN '1' ELSE '0' END, \
NULL, NULL, NULL, NULL, '1', NULL, NULL \
FROM sqlite_schema AS m JOIN pragma_table_xinfo(m.name) AS p \
WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite~_%' ESCAPE '~' AND m.name <> 'tenantry_migrations'";

const ORACLE_COLUMNS: &str = "\
SELECT c.owner, c.table_name, c.column_name, c.data_type || ',' || c.data_precision || ',' || c.data_scale || ',' || \
CASE WHEN c.data_type = 'RAW' THEN c.data_length ELSE c.char_length END, \
CASE WHEN c.nullable = 'Y' THEN '1' ELSE '0' END, CASE WHEN c.default_length IS NULL THEN '0' ELSE '1' END, \
CASE WHEN c.identity_column = 'YES' THEN '1' ELSE '0' END, NULL, NULL, NULL, NULL, \
CASE WHEN c.owner = current_schema() THEN '1' ELSE '0' END, NULL, NULL \
FROM all_tab_columns AS c WHERE c.table_name NOT IN ('TENANTRY_MIGRATIONS', 'TENANTRY_MIGRATION_LOCK')";

pub(super) fn columns(dialect: Dialect, tables: Option<&[Named]>) -> Statement {
    let (backend, text, name, order) = match dialect {
        Dialect::Postgresql => (
            DbBackend::Postgres,
            POSTGRESQL_COLUMNS,
            "c.relname",
            "n.nspname, c.relname, a.attnum",
        ),
        Dialect::Mysql => (
            DbBackend::MySql,
            MYSQL_COLUMNS,
            "c.TABLE_NAME",
            "c.TABLE_NAME, c.ORDINAL_POSITION",
        ),
        // SQLite finds tables by names in capitals and in small letters.
        Dialect::Sqlite => (
            DbBackend::Sqlite,
            SQLITE_COLUMNS,
            "m.name COLLATE NOCASE",
            "m.name, p.cid",
        ),
        Dialect::Oracle => (
            DbBackend::Postgres,
            ORACLE_COLUMNS,
            "c.table_name",
            "c.owner, c.table_name, c.column_id",
        ),
    };
    let mut sql = match tables {
        None => text
            .replace(MYSQL_TYPE, MARIADB_TYPE)
            .replace(SQLITE_KINDS, SQLITE_TABLES),
        Some(_) => text.to_owned(),
    };
    let mut values: Vec<Value> = Vec::new();
    if let Some(tables) = tables {
        let names = tables.iter().map(|named| match dialect {
            Dialect::Oracle => named.table.to_uppercase(),
            _ => named.table.clone(),
        });
        let names = one_of(backend, name, names.collect(), &mut values);
        sql.push_str(&format!(" AND {names}"));
        if dialect == Dialect::Postgresql {
            // Many schemas may have tables of the same names.
            let schemas: BTreeSet<String> = tables.iter().filter_map(|named| named.schema.clone()).collect();
            let schemas = one_of(backend, "n.nspname", schemas.into_iter().collect(), &mut values);
            sql.push_str(&format!(" AND (pg_table_is_visible(c.oid) OR {schemas})"));
        }
        if dialect == Dialect::Oracle {
            let schemas = tables.iter().filter_map(|named| named.schema.as_deref());
            let schemas: BTreeSet<String> = schemas.map(str::to_uppercase).collect();
            let schemas = one_of(backend, "c.owner", schemas.into_iter().collect(), &mut values);
            sql.push_str(&format!(" AND (c.owner = current_schema() OR {schemas})"));
        }
    } else if dialect == Dialect::Oracle {
        // Others are Oracle's own, mostly.
        sql.push_str(" AND c.owner = current_schema()");
    }
    sql.push_str(&format!(" ORDER BY {order} LIMIT {}", MOST_COLUMNS + 1));
    Statement::from_sql_and_values(backend, sql, values)
}

/// That a column is one of these texts, which are added to the statement's values.
fn one_of(backend: DbBackend, column: &str, texts: Vec<String>, values: &mut Vec<Value>) -> String {
    let lists = texts.chunks(MOST_IN_LIST).map(|some| {
        let places = some.iter().map(|text| {
            values.push(text.as_str().into());
            match backend {
                DbBackend::Postgres => format!("${}", values.len()),
                _ => "?".to_owned(),
            }
        });
        format!("{column} IN ({})", places.collect::<Vec<_>>().join(", "))
    });
    let lists: Vec<String> = lists.collect();
    match lists.is_empty() {
        true => "1 = 0".to_owned(),
        false => format!("({})", lists.join(" OR ")),
    }
}

const POSTGRESQL_KEYS: &str = "\
SELECT n.nspname::text, c.relname::text, con.conname::text, con.contype::text, h.attname::text, fc.relname::text, f.attname::text, fn.nspname::text \
FROM pg_constraint AS con JOIN pg_class AS c ON c.oid = con.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace \
LEFT JOIN pg_class AS fc ON fc.oid = con.confrelid LEFT JOIN pg_namespace AS fn ON fn.oid = fc.relnamespace \
CROSS JOIN LATERAL unnest(con.conkey, con.confkey) WITH ORDINALITY AS k(here, there, place) \
JOIN pg_attribute AS h ON h.attrelid = con.conrelid AND h.attnum = k.here \
LEFT JOIN pg_attribute AS f ON f.attrelid = con.confrelid AND f.attnum = k.there \
WHERE con.contype IN ('p', 'f') AND con.conparentid = 0 AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
ORDER BY 1, 2, 4 DESC, 3, k.place";

const MYSQL_KEYS: &str = "\
SELECT NULL, CAST(TABLE_NAME AS CHAR), CAST(CONSTRAINT_NAME AS CHAR), \
CASE WHEN CONSTRAINT_NAME = 'PRIMARY' THEN 'p' ELSE 'f' END, CAST(COLUMN_NAME AS CHAR), \
CAST(REFERENCED_TABLE_NAME AS CHAR), CAST(REFERENCED_COLUMN_NAME AS CHAR), NULL \
FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = DATABASE() \
AND (CONSTRAINT_NAME = 'PRIMARY' OR REFERENCED_TABLE_NAME IS NOT NULL) \
ORDER BY TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION";

const SQLITE_KEYS: &str = "\
SELECT NULL, m.name, 'primary', 'p', p.name, NULL, NULL, NULL, p.pk AS place FROM sqlite_schema AS m \
JOIN pragma_table_info(m.name) AS p WHERE m.type = 'table' AND p.pk > 0 \
UNION ALL SELECT NULL, m.name, CAST(f.id AS TEXT), 'f', f.\"from\", f.\"table\", f.\"to\", NULL, f.seq FROM sqlite_schema AS m \
JOIN pragma_foreign_key_list(m.name) AS f WHERE m.type = 'table' ORDER BY 2, 3, 9";

const ORACLE_KEYS: &str = "\
SELECT NULL, c.table_name, c.constraint_name, CASE WHEN c.constraint_type = 'P' THEN 'p' ELSE 'f' END, h.column_name, \
f.table_name, f.column_name, NULL FROM user_constraints AS c \
JOIN user_cons_columns AS h ON h.constraint_name = c.constraint_name \
LEFT JOIN user_cons_columns AS f ON f.constraint_name = c.r_constraint_name AND f.position = h.position \
WHERE c.constraint_type IN ('P', 'R') ORDER BY c.table_name, c.constraint_name, h.position";

pub(super) fn keys(dialect: Dialect) -> Statement {
    let (backend, sql) = match dialect {
        Dialect::Postgresql => (DbBackend::Postgres, POSTGRESQL_KEYS),
        Dialect::Mysql => (DbBackend::MySql, MYSQL_KEYS),
        Dialect::Sqlite => (DbBackend::Sqlite, SQLITE_KEYS),
        Dialect::Oracle => (DbBackend::Postgres, ORACLE_KEYS),
    };
    Statement::from_string(backend, sql)
}

fn text(row: &QueryResult, index: usize) -> Result<Option<String>, DbErr> {
    let text: Option<String> = row.try_get_by_index(index)?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn flag(row: &QueryResult, index: usize) -> Result<bool, DbErr> {
    Ok(text(row, index)?.as_deref() == Some("1"))
}

/// Oracle stores names in upper case that other databases store in lower case.
fn name(dialect: Dialect, name: String) -> String {
    match dialect {
        Dialect::Oracle if !name.chars().any(char::is_lowercase) => name.to_lowercase(),
        _ => name,
    }
}

/// A row of [`columns`].
pub(super) struct Column {
    pub(super) schema: Option<String>,
    pub(super) table: String,
    pub(super) table_comment: Option<String>,
    pub(super) visible: bool,
    pub(super) lacks_system_columns: bool,
    pub(super) found: FoundColumn,
}

impl Column {
    pub(super) fn read(dialect: Dialect, row: &QueryResult) -> Result<Self, DbErr> {
        let type_name = text(row, 3)?.unwrap_or_default();
        let values = text(row, 8)?.map(|values| serde_json::from_str(&values)).transpose();
        let values =
            values.map_err(|error| DbErr::Custom(format!("the labels of an enumeration cannot be read: {error}")))?;
        let (kind, max) = kinds::of(dialect, &type_name, values);
        let generated = flag(row, 6)?;
        Ok(Self {
            schema: text(row, 0)?.map(|schema| name(dialect, schema)),
            table: name(dialect, text(row, 1)?.unwrap_or_default()),
            table_comment: text(row, 10)?,
            visible: flag(row, 11)?,
            lacks_system_columns: flag(row, 13)?,
            found: FoundColumn {
                name: name(dialect, text(row, 2)?.unwrap_or_default()),
                kind,
                max,
                type_name,
                nullable: flag(row, 4)?,
                default: flag(row, 5)? && !generated,
                generated,
                enum_type: text(row, 7)?,
                comment: text(row, 9)?,
                collation: text(row, 12)?,
            },
        })
    }
}

/// A row of [`keys`].
pub(super) struct KeyColumn {
    pub(super) schema: Option<String>,
    pub(super) table: String,
    constraint: String,
    is_primary: bool,
    column: String,
    to: Option<String>,
    to_column: Option<String>,
    to_schema: Option<String>,
}

impl KeyColumn {
    pub(super) fn read(dialect: Dialect, row: &QueryResult) -> Result<Self, DbErr> {
        let text_or_none = |index| Ok::<_, DbErr>(text(row, index)?.map(|text| name(dialect, text)));
        let get = |index| Ok::<_, DbErr>(text_or_none(index)?.unwrap_or_default());
        Ok(Self {
            schema: text(row, 0)?,
            table: get(1)?,
            constraint: get(2)?,
            is_primary: get(3)? == "p",
            column: get(4)?,
            to: text_or_none(5)?,
            to_column: text_or_none(6)?,
            to_schema: text(row, 7)?,
        })
    }

    pub(super) fn add_to(self, table: &mut FoundTable) {
        if self.is_primary {
            table.key.push(self.column);
            return;
        }
        let Some(to) = self.to else { return };
        let known = table.foreign_keys.iter().position(|key| key.name == self.constraint);
        let place = known.unwrap_or_else(|| {
            table.foreign_keys.push(ForeignKey {
                name: self.constraint,
                to_schema: self.to_schema,
                to,
                ..ForeignKey::default()
            });
            table.foreign_keys.len() - 1
        });
        if let Some(key) = table.foreign_keys.get_mut(place) {
            key.columns.push(self.column);
            key.to_columns.push(self.to_column.unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_is_longer_than_oracle_s() {
        let named = |number: usize| Named {
            schema: None,
            table: format!("t{number}"),
        };
        let named: Vec<Named> = (0..2001).map(named).collect();
        for dialect in [Dialect::Oracle, Dialect::Postgresql, Dialect::Mysql, Dialect::Sqlite] {
            let statement = columns(dialect, Some(&named));
            assert_eq!(statement.values.unwrap().0.len(), 2001);
            let lists = statement.sql.split(" IN (").skip(1);
            let lengths = lists.map(|list| list.split(')').next().unwrap().split(',').count());
            assert!(lengths.max().unwrap() <= 1000, "{dialect:?}");
        }
    }

    #[test]
    fn postgresql_looks_into_no_schema_that_is_not_declared() {
        let named = ["billing", "billing"].map(|schema| Named {
            schema: Some(schema.to_owned()),
            table: "invoices".to_owned(),
        });
        let statement = columns(Dialect::Postgresql, Some(&named));
        let expected = "(pg_table_is_visible(c.oid) OR (n.nspname IN ($3)))";
        assert!(statement.sql.contains(expected), "{}", statement.sql);
    }

    #[test]
    fn the_names_of_oracle_are_folded_in_tables_and_their_keys() {
        let rows = |texts: &[&str]| {
            let names: Vec<String> = (0..texts.len()).map(|number| number.to_string()).collect();
            let text = |text: &&str| Value::String((!text.is_empty()).then(|| (*text).to_owned()));
            tenantry_core::rows::query_results(&names, vec![texts.iter().map(text).collect()]).unwrap()
        };
        let columns = rows(&[
            "APP",
            "ORDERS",
            "ID",
            "NUMBER,19,0,",
            "0",
            "0",
            "1",
            "",
            "",
            "",
            "",
            "1",
            "",
            "",
        ]);
        let keys = rows(&["", "ORDERS", "ORDERS_PK", "p", "ID", "", "", ""]);
        let reader = super::super::CatalogueReader::of_all("oracle", DbBackend::Postgres);
        let found = reader.read(&columns, &keys).unwrap().tables.remove(0);
        assert_eq!((found.schema.as_deref(), found.name.as_str()), (Some("app"), "orders"));
        assert_eq!(found.key, ["id"]);
    }

    #[test]
    fn oracle_looks_into_its_own_schema_and_declared_ones() {
        let named = [Some("billing"), None].map(|schema| Named {
            schema: schema.map(str::to_owned),
            table: "invoices".to_owned(),
        });
        let statement = columns(Dialect::Oracle, Some(&named));
        let expected = "(c.owner = current_schema() OR (c.owner IN ($3)))";
        assert!(statement.sql.contains(expected), "{}", statement.sql);
        let values: Vec<Value> = statement.values.unwrap().0;
        assert_eq!(values, ["INVOICES", "INVOICES", "BILLING"].map(Value::from));
        let all = columns(Dialect::Oracle, None).sql;
        assert!(all.contains(" AND c.owner = current_schema() ORDER BY"), "{all}");
    }
}
