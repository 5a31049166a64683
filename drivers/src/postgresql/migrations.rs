//! What migrations need of PostgreSQL.

use tenantry_core::{MigrationLock, MigrationQueries};

/// How migrations are kept from running twice at once; `is_pooled` is whether each transaction may
/// run in another session of the server.
pub(super) fn lock(is_pooled: bool) -> MigrationLock {
    // The key is the bytes of "tenantry"; advisory locks are a database's own.
    if is_pooled {
        return MigrationLock::EachTransaction {
            lock: "SELECT CASE WHEN pg_try_advisory_xact_lock(8387231245791425145) THEN 1 ELSE 0 END::bigint",
            prepare: "SET LOCAL statement_timeout = 0",
            reset: RESET,
            mark: MARK,
            running: "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_stat_activity WHERE \
                      datname = pg_catalog.current_database() AND state = 'active' \
                      AND pid <> pg_catalog.pg_backend_pid() \
                      AND query LIKE '/* a migration of tenantry */%') THEN 1 ELSE 0 END::bigint",
        };
    }
    MigrationLock::Session {
        lock: "SELECT CASE WHEN pg_try_advisory_lock(8387231245791425145) THEN 1 ELSE 0 END::bigint",
        prepare: "SET statement_timeout = 0",
    }
}

/// What migrations ask of the database.
pub(super) const QUERIES: MigrationQueries = MigrationQueries {
    schema: Some(
        "SELECT n.nspname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n \
         ON n.oid = c.relnamespace WHERE c.oid = pg_catalog.to_regclass('tenantry_migrations')",
    ),
    left_behind: Some(INVALID_INDEXES),
    tables: Some(
        "SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = ANY (pg_catalog.current_schemas(false)) AND c.relkind IN ('r', 'p')",
    ),
    structure: Some(crate::structure::POSTGRESQL),
};

/// Resets the settings that a file made, within its transaction; `DISCARD ALL` is not allowed in
/// one.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; DISCARD TEMP; \
    DISCARD SEQUENCES; SELECT pg_catalog.pg_advisory_unlock_all()";

/// A comment by which a migration's statement is seen in `pg_stat_activity`.
const MARK: &str = "/* a migration of tenantry */ ";

/// Indexes that `CREATE INDEX CONCURRENTLY` or `REINDEX CONCURRENTLY` left when it failed, less
/// those that are being built.
const INVALID_INDEXES: &str = "SELECT c.relname::text, \
    pg_catalog.format('DROP INDEX CONCURRENTLY %I.%I', n.nspname, c.relname) \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname NOT LIKE 'pg!_%' ESCAPE '!' \
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = c.oid) \
    ORDER BY c.relname";
