//! Which instance migrates a tenant's database: a row that names its session.
//!
//! Oracle commits with every `CREATE TABLE`, so no lock of a transaction outlives a migration, and
//! `DBMS_LOCK` needs a grant. Which sessions are alive anybody may ask, so a row can name its
//! holder, and is free when that session is over, in whatever way it ended.

use tenantry_core::{DatabaseError, MigrationLock};

use crate::{errors::Failure, session::Session};

/// Stands for [`try_lock`] among the statements of a connection.
const TRY_LOCK: &str = "SELECT tenantry_migration_lock()";

pub(crate) const LOCK: MigrationLock = MigrationLock::Session {
    lock: TRY_LOCK,
    // Scripts have no time-out, and what is written down in between is short.
    prepare: "",
};

/// ORA-00942: table or view does not exist.
const NO_TABLE: i32 = 942;
/// ORA-00955: name is already used by an existing object.
const EXISTS: i32 = 955;
/// ORA-00001: unique constraint violated.
const TAKEN: i32 = 1;

/// Whether a statement asks for the lock.
pub(crate) fn is_try_lock(sql: &str) -> bool {
    sql == TRY_LOCK
}

/// Tries to take the lock, which waits for nothing but another one that tries.
pub(crate) fn try_lock(session: &mut Session) -> Result<bool, DatabaseError> {
    match attempt(session)? {
        Some(taken) => Ok(taken),
        None => {
            session.native(
                "CREATE TABLE tenantry_migration_lock (id NUMBER(1) PRIMARY KEY, holder VARCHAR2(64))",
                Some(EXISTS),
            )?;
            Ok(attempt(session)?.unwrap_or_default())
        }
    }
}

/// `None` if its table does not exist yet.
fn attempt(session: &mut Session) -> Result<Option<bool>, DatabaseError> {
    session.unit(|session| {
        let found = session.prepared(
            "SELECT holder FROM tenantry_migration_lock WHERE id = 1 FOR UPDATE",
            |_, statement| statement.query_as::<Option<String>>(&[])?.next().transpose(),
        );
        let holder = match found {
            Ok(holder) => holder,
            Err(failure) if failure.ora == NO_TABLE => return Ok(None),
            Err(failure) => return Err(failure),
        };
        match holder {
            Some(Some(holder)) if is_alive(session, &holder)? => return Ok(Some(false)),
            Some(_) => {}
            None => {
                let inserted = session
                    .prepared("INSERT INTO tenantry_migration_lock (id) VALUES (1)", |_, statement| {
                        statement.execute(&[])
                    });
                match inserted {
                    Ok(()) => {}
                    Err(failure) if failure.ora == TAKEN => return Ok(Some(false)),
                    Err(failure) => return Err(failure),
                }
            }
        }
        session.prepared(
            "UPDATE tenantry_migration_lock SET holder = DBMS_SESSION.UNIQUE_SESSION_ID WHERE id = 1",
            |_, statement| statement.execute(&[]),
        )?;
        Ok(Some(true))
    })
}

/// Whether that session still is. One that holds the lock already does not get it again.
fn is_alive(session: &Session, holder: &str) -> Result<bool, Failure> {
    // The function returns a boolean, which SQL supports only since 23ai.
    let block = "BEGIN :p1 := CASE WHEN DBMS_SESSION.IS_SESSION_ALIVE(:p2) THEN 1 ELSE 0 END; END;";
    session.prepared(block, |_, statement| {
        statement.execute(&[&oracle::sql_type::OracleType::Int64, &holder])?;
        Ok(statement.bind_value::<_, i64>(1)? == 1)
    })
}
