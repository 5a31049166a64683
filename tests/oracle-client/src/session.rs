//! A session: a connection to PostgreSQL that behaves as one to Oracle.

use std::{
    ffi::{c_char, c_void},
    ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use postgres::{CancelToken, Client, Config, NoTls, config::SslMode};

use crate::{
    attributes::{PASSWORD, USERNAME},
    failure::Failure,
    handle::{Handle, Service, handle, misused, status, text},
    oci,
};

/// What every database has beside its own tables.
const HELPERS: &str = include_str!("helpers.sql");

/// Helpers are made once, by one session at a time.
const HELPERS_LOCK: i64 = 71_521_521;

pub(crate) struct Session {
    state: Mutex<State>,
    cancel: CancelToken,
    /// The running call was interrupted.
    broken: AtomicBool,
    lost: AtomicBool,
}

/// What one call at a time may use.
pub(crate) struct State {
    pub(crate) client: Client,
    pub(crate) in_transaction: bool,
}

impl Session {
    fn begin(descriptor: &str, user: &str, password: &str) -> Result<Self, Failure> {
        let field = |name: &str| {
            let start = descriptor.find(&format!("({name}="))? + name.len() + 2;
            let end = descriptor[start..].find(')')?;
            Some(&descriptor[start..start + end])
        };
        let missing = || Failure::new(12154, "could not resolve the connect identifier specified");
        let mut config = Config::new();
        config
            .host(field("HOST").ok_or_else(missing)?)
            .port(field("PORT").and_then(|port| port.parse().ok()).ok_or_else(missing)?)
            .dbname(field("SERVICE_NAME").or_else(|| field("SID")).ok_or_else(missing)?)
            .user(user)
            .password(password)
            .application_name("stand-in for Oracle's client");
        if let Some(seconds) = field("CONNECT_TIMEOUT").and_then(|seconds| seconds.parse().ok()) {
            config.connect_timeout(Duration::from_secs(seconds));
        }
        // There is no TLS here, and what demands it is refused, not given less.
        let encrypted = field("PROTOCOL").is_some_and(|protocol| protocol.eq_ignore_ascii_case("TCPS"));
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        let mut client = config.connect(NoTls).map_err(|error| Failure::of_connect(&error))?;
        prepare_database(&mut client).map_err(|error| Failure::of_statement(&error, false))?;
        Ok(Self {
            cancel: client.cancel_token(),
            state: Mutex::new(State {
                client,
                in_transaction: false,
            }),
            broken: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.lost.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something that talks to the server.
    pub(crate) fn call<T>(&self, work: impl FnOnce(&mut State) -> Result<T, postgres::Error>) -> Result<T, Failure> {
        self.try_call(|state| work(state).map_err(CallError::Server))
    }

    /// The same, of something that may fail here too.
    pub(crate) fn try_call<T>(&self, work: impl FnOnce(&mut State) -> Result<T, CallError>) -> Result<T, Failure> {
        if !self.is_alive() {
            return Err(Failure::new(3114, "not connected to ORACLE"));
        }
        self.broken.store(false, Ordering::Relaxed);
        let mut state = self.state();
        match work(&mut state) {
            Ok(done) => Ok(done),
            Err(CallError::Here(failure)) => Err(failure),
            Err(CallError::Server(error)) => {
                let failure = Failure::of_statement(&error, self.broken.load(Ordering::Relaxed));
                if matches!(failure.code, 28 | 3113) || state.client.is_closed() {
                    self.lost.store(true, Ordering::Relaxed);
                    return Err(if failure.code == 28 { failure } else { Failure::lost() });
                }
                Err(failure)
            }
        }
    }

    /// How long a call may take, in milliseconds; 0 for as long as it likes.
    pub(crate) fn limit(&self, milliseconds: u32) -> Result<(), Failure> {
        self.call(|state| {
            state
                .client
                .batch_execute(&format!("SET statement_timeout = {milliseconds}"))
        })
    }

    pub(crate) fn end_transaction(&self, keep: bool) -> Result<(), Failure> {
        let ended = self.call(|state| {
            if std::mem::take(&mut state.in_transaction) {
                state.client.batch_execute(if keep { "COMMIT" } else { "ROLLBACK" })
            } else {
                Ok(())
            }
        });
        match ended {
            Err(failure) if keep && self.is_alive() => Err(failure.of_commit()),
            ended => ended,
        }
    }
}

/// The part of a call that failed.
pub(crate) enum CallError {
    Server(postgres::Error),
    Here(Failure),
}

impl From<postgres::Error> for CallError {
    fn from(error: postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

fn prepare_database(client: &mut Client) -> Result<(), postgres::Error> {
    let there = "SELECT to_regclass('oracle_stand_in.complete') IS NOT NULL";
    if !client.query_one(there, &[])?.get::<_, bool>(0) {
        let mut transaction = client.transaction()?;
        transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&HELPERS_LOCK])?;
        if !transaction.query_one(there, &[])?.get::<_, bool>(0) {
            transaction.batch_execute(HELPERS)?;
        }
        transaction.commit()?;
    }
    client.batch_execute("SET search_path = public, oracle_stand_in; SET TIME ZONE 'UTC'; SET default_transaction_isolation = 'read committed'")
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIServerAttach(
    server: *mut c_void,
    error: *mut c_void,
    link: *const c_char,
    length: i32,
    _mode: u32,
) -> i32 {
    let outcome = match unsafe { handle(server) } {
        Some(Handle::Server { descriptor, .. }) => {
            *descriptor = unsafe { text(link.cast(), length.max(0) as usize) };
            Ok(oci::SUCCESS)
        }
        _ => Err(misused()),
    };
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIServerDetach(server: *mut c_void, error: *mut c_void, _mode: u32) -> i32 {
    let outcome = match unsafe { handle(server) } {
        Some(Handle::Server { session, .. }) => {
            *session = None;
            Ok(oci::SUCCESS)
        }
        _ => Err(misused()),
    };
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCISessionBegin(
    service: *mut c_void,
    error: *mut c_void,
    user: *mut c_void,
    _credentials: u32,
    _mode: u32,
) -> i32 {
    let begin = || unsafe {
        let Some(Handle::User(given)) = handle(user) else {
            return Err(misused());
        };
        let service = handle(service).and_then(Handle::service).ok_or_else(misused)?;
        let server = service.server.ok_or_else(misused)?;
        let Some(Handle::Server { descriptor, session }) = handle(server.cast()) else {
            return Err(misused());
        };
        let name = |attribute: u32| given.get(&attribute).map(String::as_str).unwrap_or_default();
        let begun = Arc::new(Session::begin(descriptor, name(USERNAME), name(PASSWORD))?);
        *session = Some(Arc::clone(&begun));
        service.session = Some(begun);
        Ok(oci::SUCCESS)
    };
    unsafe { status(error, begin()) }
}

/// The session of a service context.
///
/// # Safety
/// As [`handle`].
pub(crate) unsafe fn session(service: *mut c_void) -> Result<Arc<Session>, Failure> {
    let service: &mut Service = unsafe { handle(service) }
        .and_then(Handle::service)
        .ok_or_else(misused)?;
    service
        .session
        .clone()
        .ok_or_else(|| Failure::new(1012, "not logged on"))
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCISessionEnd(
    service: *mut c_void,
    error: *mut c_void,
    _user: *mut c_void,
    _mode: u32,
) -> i32 {
    let outcome = match unsafe { handle(service) }.and_then(Handle::service) {
        Some(service) => {
            service.session = None;
            Ok(oci::SUCCESS)
        }
        None => Err(misused()),
    };
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIServerRelease2(
    _: *mut c_void,
    _error: *mut c_void,
    buffer: *mut c_char,
    size: u32,
    _type: u8,
    version: *mut u32,
    _mode: u32,
) -> i32 {
    // 19.3, in the way of versions from 18 on.
    unsafe { *version = (19 << 24) | (3 << 16) };
    let name = b"Stand-in for Oracle on PostgreSQL\0";
    if !buffer.is_null() && size as usize >= name.len() {
        unsafe { ptr::copy_nonoverlapping(name.as_ptr(), buffer.cast::<u8>(), name.len()) };
    }
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIPing(service: *mut c_void, error: *mut c_void, _mode: u32) -> i32 {
    let ping = || {
        unsafe { session(service) }?.call(|state| state.client.batch_execute("SELECT 1"))?;
        Ok(oci::SUCCESS)
    };
    unsafe { status(error, ping()) }
}

/// Comes from another thread, while a call runs: it must not touch what that call uses.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIBreak(service: *mut c_void, error: *mut c_void) -> i32 {
    let stop = || {
        let session = unsafe { session(service) }?;
        session.broken.store(true, Ordering::Relaxed);
        session
            .cancel
            .cancel_query(NoTls)
            .map_err(|error| Failure::of_connect(&error))?;
        Ok(oci::SUCCESS)
    };
    unsafe { status(error, stop()) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCITransCommit(service: *mut c_void, error: *mut c_void, _flags: u32) -> i32 {
    let outcome = unsafe { session(service) }.and_then(|session| session.end_transaction(true));
    unsafe { status(error, outcome.map(|()| oci::SUCCESS)) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCITransRollback(service: *mut c_void, error: *mut c_void, _flags: u32) -> i32 {
    let outcome = unsafe { session(service) }.and_then(|session| session.end_transaction(false));
    unsafe { status(error, outcome.map(|()| oci::SUCCESS)) }
}
