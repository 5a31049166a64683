//! What migrations need of PostgreSQL.

use tenantry_core::{MigrationLock, MigrationQueries};

/// The key of the advisory lock: the bytes of "tenantry". Advisory locks are a database's own.
macro_rules! key {
    () => {
        "8387231245791425145"
    };
}

/// A comment by which a migration's statement is seen in `pg_stat_activity`.
macro_rules! mark {
    () => {
        "/* a migration of tenantry */ "
    };
}

/// Whether a session runs a statement with that mark. A transaction's settings may be sent before
/// the mark, and a query that looks for it does not contain it.
macro_rules! is_marked {
    () => {
        "state = 'active' AND query LIKE '%/* a migration ' || 'of tenantry */%'"
    };
}

/// How migrations are kept from running twice at once; `is_pooled` is whether each transaction may
/// run in another session of the server.
pub(super) fn lock(is_pooled: bool) -> MigrationLock {
    if is_pooled {
        return MigrationLock::EachTransaction {
            lock: concat!(
                "SELECT CASE WHEN pg_try_advisory_xact_lock(",
                key!(),
                ") THEN 1 ELSE 0 END::bigint"
            ),
            prepare: "SET LOCAL statement_timeout = 0",
            reset: RESET,
            mark: mark!(),
            running: concat!(
                "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity WHERE \
                 datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid() AND ",
                is_marked!(),
                ") THEN 1 ELSE 0 END::bigint"
            ),
        };
    }
    MigrationLock::Session {
        lock: concat!(
            "SELECT CASE WHEN pg_try_advisory_lock(",
            key!(),
            ") THEN 1 ELSE 0 END::bigint"
        ),
        prepare: "SET statement_timeout = 0",
    }
}

/// What migrations ask of the database.
pub(super) const QUERIES: MigrationQueries = MigrationQueries {
    schema: Some(SCHEMA),
    left_behind: Some(INVALID_INDEXES),
    holder: Some(HOLDER),
    tables: Some(
        "SELECT c.relname::text, NULLIF(n.nspname, pg_catalog.current_schema())::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY (pg_catalog.current_schemas(false)) AND c.relkind IN ('r', 'p') \
         AND pg_catalog.pg_table_is_visible(c.oid)",
    ),
    structure: Some(crate::structure::POSTGRESQL),
};

/// The tenant's own schema is the first of the search path, also if it may not be used: then the
/// next one is `current_schema`, which may be another tenant's. If it does not exist, it is still
/// the tenant's own if the session has set the path, as by the secret's `schema`. Only `"$user"`
/// stands for a schema that may be missing.
const SCHEMA: &str = "SELECT (SELECT n.nspname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
    ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass('tenantry_migrations')), \
    CASE WHEN p.first IN ('', '$user', '\"$user\"') OR pg_catalog.to_regnamespace(p.first) \
    = pg_catalog.to_regnamespace(pg_catalog.quote_ident(pg_catalog.current_schema())) \
    OR pg_catalog.to_regnamespace(p.first) IS NULL AND pg_catalog.current_schema() IS NOT NULL \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_settings s WHERE s.name = 'search_path' AND s.source IN ('client', 'session')) \
    THEN pg_catalog.current_schema()::text ELSE pg_catalog.btrim(p.first, '\"') END, \
    pg_catalog.current_schema()::text \
    FROM (SELECT pg_catalog.btrim(pg_catalog.substring(pg_catalog.current_setting('search_path'), \
    '^\\s*(\"(?:[^\"]|\"\")*\"|[^,\"]*)')) AS first) p";

/// The session with the lock, or one that runs a statement behind a pooler. Of a session of another
/// user the server may show the number only.
const HOLDER: &str = concat!(
    "SELECT pg_catalog.format('session %s%s%s%s', a.pid, ' of `' || NULLIF(a.application_name, '') || '`', \
     ' from ' || pg_catalog.host(a.client_addr), pg_catalog.to_char(a.backend_start AT TIME ZONE 'UTC', \
     '\", since\" YYYY-MM-DD HH24:MI:SS\" UTC\"')) \
     FROM pg_catalog.pg_stat_activity a WHERE a.datname = pg_catalog.current_database() \
     AND a.pid <> pg_catalog.pg_backend_pid() AND (",
    is_marked!(),
    " OR a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l \
     WHERE l.locktype = 'advisory' AND l.database = a.datid AND l.granted AND l.objsubid = 1 \
     AND (l.classid::bigint << 32) | l.objid::bigint = ",
    key!(),
    ")) LIMIT 1"
);

/// Resets the settings that a file made, within its transaction; `DISCARD ALL` is not allowed in
/// one.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; DISCARD TEMP; \
    DISCARD SEQUENCES; SELECT pg_catalog.pg_advisory_unlock_all()";

/// Indexes that `CREATE INDEX CONCURRENTLY`, `REINDEX CONCURRENTLY` or `DROP INDEX CONCURRENTLY`
/// left when it failed, less those that are being built. `$1` is the table of the new index `$2`;
/// without `$2` it is the table or index itself, of which there may be a half-built copy.
const INVALID_INDEXES: &str = "SELECT pg_catalog.format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname) \
    FROM pg_catalog.pg_class r JOIN pg_catalog.pg_class c ON c.relnamespace = r.relnamespace \
    JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, \
    LATERAL (SELECT pg_catalog.regexp_replace(c.relname::text, '_cc(new|old)[0-9]*$', '') AS name) copied \
    WHERE r.oid = pg_catalog.to_regclass($1::text) AND NOT i.indisvalid AND c.relkind = 'i' \
    AND CASE WHEN $2::text IS NOT NULL THEN c.relname = $2::text::name \
    WHEN c.oid = r.oid THEN true \
    WHEN copied.name = c.relname THEN false \
    WHEN r.relkind = 'i' THEN copied.name = pg_catalog.left(r.relname::text, \
    GREATEST(pg_catalog.length(copied.name), 50)) \
    ELSE i.indrelid = r.oid END \
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = c.oid) \
    ORDER BY c.relname";
