//! A stand-in for Oracle's client library, `libclntsh.so`, for machines on which there is no Oracle. Tests give it that name in a folder of
//! its own, which they name in `LD_LIBRARY_PATH`.
//!
//! It exports the functions of the Oracle Call Interface that ODPI-C calls for the driver `oracle`, and runs the SQL it is given on a
//! real PostgreSQL, turning only what Oracle spells otherwise.
//!
//! **What it proves.** The real crate `oracle` and the real ODPI-C run in every test: handles, sessions, binds, defines, fetches by
//! arrays, `RETURNING ... INTO`, LOBs, Oracle's numbers, dates and time stamps in their own formats, errors by their numbers, time-outs
//! and breaks from another thread. Statements, transactions, locks, deadlocks and constraints are those of a real database. An empty
//! string is NULL, a failed statement undoes itself only, a change of tables commits, names fold to upper case: as on Oracle.
//!
//! **What it cannot prove.** That Oracle itself accepts the SQL: PostgreSQL reads it here, and the tests parse it with a parser of
//! Oracle's SQL besides. How Oracle plans, locks and waits; character sets; TLS and wallets; the network; PL/SQL beyond one
//! assignment. Run the same tests with `TENANTRY_TEST_ORACLE_URL` to have these from a real Oracle.
//!
//! With `TENANTRY_TEST_ORACLE_SQL` set, every statement it is given is appended to that file, each on a line of its own.

mod attributes;
mod bind;
mod column;
mod date_time;
mod environment;
mod failure;
mod handle;
mod lob;
mod number;
mod record;
mod session;
mod sql;
mod statement;
mod value;

/// The constants of the Oracle Call Interface, as in `oci.h`.
mod oci {
    pub(crate) const SUCCESS: i32 = 0;
    pub(crate) const ERROR: i32 = -1;
    pub(crate) const INVALID_HANDLE: i32 = -2;
    pub(crate) const NO_DATA: i32 = 100;
    pub(crate) const CONTINUE: i32 = -24200;

    pub(crate) const HTYPE_ENV: u32 = 1;
    pub(crate) const HTYPE_ERROR: u32 = 2;
    pub(crate) const HTYPE_SVCCTX: u32 = 3;
    pub(crate) const HTYPE_SERVER: u32 = 8;
    pub(crate) const HTYPE_SESSION: u32 = 9;

    pub(crate) const DTYPE_LOB: u32 = 50;
    pub(crate) const DTYPE_TIMESTAMP: u32 = 68;
    pub(crate) const DTYPE_TIMESTAMP_TZ: u32 = 69;
    pub(crate) const DTYPE_TIMESTAMP_LTZ: u32 = 70;

    pub(crate) const SQLT_CHR: u16 = 1;
    pub(crate) const SQLT_NUM: u16 = 2;
    pub(crate) const SQLT_INT: u16 = 3;
    pub(crate) const SQLT_VNU: u16 = 6;
    pub(crate) const SQLT_DAT: u16 = 12;
    pub(crate) const SQLT_BFLOAT: u16 = 21;
    pub(crate) const SQLT_BDOUBLE: u16 = 22;
    pub(crate) const SQLT_BIN: u16 = 23;
    pub(crate) const SQLT_AFC: u16 = 96;
    pub(crate) const SQLT_IBFLOAT: u16 = 100;
    pub(crate) const SQLT_IBDOUBLE: u16 = 101;
    pub(crate) const SQLT_CLOB: u16 = 112;
    pub(crate) const SQLT_BLOB: u16 = 113;
    pub(crate) const SQLT_ODT: u16 = 156;
    pub(crate) const SQLT_TIMESTAMP: u16 = 187;
    pub(crate) const SQLT_TIMESTAMP_TZ: u16 = 188;
    pub(crate) const SQLT_TIMESTAMP_LTZ: u16 = 232;

    /// AL32UTF8.
    pub(crate) const CHARSET_UTF8: u16 = 873;
    pub(crate) const COMMIT_ON_SUCCESS: u32 = 0x20;
}
