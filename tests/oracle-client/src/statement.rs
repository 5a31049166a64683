//! Statements: prepared, run, fetched.

use std::{
    ffi::{c_char, c_void},
    sync::Arc,
};

use postgres::{Row, types::Type};

use crate::{
    bind::Place,
    column::Column,
    failure::Failure,
    handle::{Handle, free, handle, misused, status, text},
    oci,
    record::record,
    session::{CallError, Session, State, session},
    sql::{self, Kind, Sql},
    value::{Value, bound_type},
};

pub(crate) struct Statement {
    session: Arc<Session>,
    sql: Sql,
    names: Vec<String>,
    binds: Vec<Option<Place>>,
    defines: Vec<Option<Place>>,
    columns: Vec<Column>,
    rows: std::vec::IntoIter<Vec<Value>>,
    touched: u64,
    fetched: u32,
}

impl Statement {
    fn prepare(session: Arc<Session>, oracle: &str) -> Result<Self, Failure> {
        record(oracle);
        let sql = sql::read(oracle)?;
        Ok(Self {
            session,
            names: (1..=sql.binds).map(|number| format!("P{number}")).collect(),
            binds: vec![None; sql.binds],
            defines: Vec::new(),
            columns: Vec::new(),
            rows: Vec::new().into_iter(),
            touched: 0,
            fetched: 0,
            sql,
        })
    }

    pub(crate) fn kind(&self) -> u16 {
        self.sql.kind.number()
    }

    pub(crate) fn is_returning(&self) -> bool {
        self.sql.kind.is_change() && self.sql.first_out < self.sql.binds
    }

    pub(crate) fn bind_count(&self) -> usize {
        self.sql.binds
    }

    pub(crate) fn place_name(&self, index: usize) -> &str {
        &self.names[index]
    }

    pub(crate) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(crate) fn touched(&self) -> u64 {
        self.touched
    }

    pub(crate) fn fetched(&self) -> u32 {
        self.fetched
    }

    pub(crate) fn bind(&mut self, index: usize, place: Place) {
        if let Some(old) = self.binds[index].replace(place) {
            unsafe { free(old.handle) };
        }
    }

    pub(crate) fn define(&mut self, index: usize, place: Place) {
        if self.defines.len() <= index {
            self.defines.resize(index + 1, None);
        }
        if let Some(old) = self.defines[index].replace(place) {
            unsafe { free(old.handle) };
        }
    }

    pub(crate) fn place(&mut self, index: usize) -> Option<&mut Place> {
        self.binds.get_mut(index)?.as_mut()
    }

    /// The in places: all places of a change except those after INTO, all but the first of a block.
    fn inputs(&self) -> std::ops::Range<usize> {
        if self.sql.kind == Kind::Block {
            1..self.sql.binds
        } else {
            0..self.sql.first_out
        }
    }

    unsafe fn run(&mut self, commits: bool) -> Result<(), Failure> {
        let mut values = Vec::new();
        let mut types = Vec::new();
        for index in self.inputs() {
            let Some(place) = &self.binds[index] else {
                return Err(Failure::new(1008, "not all variables bound"));
            };
            values.push(unsafe { place.get() }?);
            // 0 has PostgreSQL find the type.
            types.push(bound_type(place.oracle_type).unwrap_or(Type::UNKNOWN));
        }
        self.touched = 0;
        let session = Arc::clone(&self.session);
        let (rows, touched) = session.try_call(|state| execute(state, &self.sql, &values, &types, commits))?;
        self.touched = touched;
        // The caller keeps pointers to the names from the first time on.
        if let Some(described) = rows.columns
            && self.columns.is_empty()
        {
            self.columns = described;
        }
        match self.sql.kind {
            Kind::Select => self.rows = rows.rows.into_iter(),
            Kind::Block => {
                if let (Some(place), Some(value)) = (&self.binds[0], rows.rows.first().and_then(|row| row.first())) {
                    unsafe { place.give_back(0, value) }?;
                }
            }
            _ => {
                for (index, row) in rows.rows.iter().enumerate() {
                    for (place, value) in self.binds[self.sql.first_out..].iter().zip(row) {
                        let Some(place) = place else {
                            return Err(Failure::new(1008, "not all variables bound"));
                        };
                        unsafe { place.give_back(index as u32, value) }?;
                    }
                }
            }
        }
        Ok(())
    }

    unsafe fn fetch(&mut self, count: u32) -> Result<i32, Failure> {
        self.fetched = 0;
        while self.fetched < count {
            let Some(row) = self.rows.next() else {
                return Ok(oci::NO_DATA);
            };
            for (place, value) in self.defines.iter().zip(&row) {
                if let Some(place) = place {
                    unsafe { place.put(self.fetched as usize, value) }?;
                }
            }
            self.fetched += 1;
        }
        Ok(oci::SUCCESS)
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        for place in self.binds.iter().chain(&self.defines).flatten() {
            unsafe { free(place.handle) };
        }
    }
}

/// What a statement gave.
#[derive(Default)]
struct Answer {
    columns: Option<Vec<Column>>,
    rows: Vec<Vec<Value>>,
}

/// Runs a statement as Oracle would: in a transaction that begins with the first change and goes on
/// when a statement fails.
fn execute(
    state: &mut State,
    sql: &Sql,
    values: &[Value],
    types: &[Type],
    commits: bool,
) -> Result<(Answer, u64), CallError> {
    if let Some(begin) = set_transaction(&sql.text) {
        state.client.batch_execute(begin)?;
        state.in_transaction = true;
        return Ok(Default::default());
    }
    if sql.kind.is_definition() && std::mem::take(&mut state.in_transaction) {
        state.client.batch_execute("COMMIT")?;
    }
    let is_point = sql.kind == Kind::Other;
    let begins = sql.kind.is_change() || sql.locks || is_point;
    if begins && !state.in_transaction && (is_point || !commits) {
        state.client.batch_execute("BEGIN")?;
        state.in_transaction = true;
    }
    let guarded = state.in_transaction && !is_point;
    if guarded {
        state.client.batch_execute("SAVEPOINT stand_in")?;
    }
    let outcome = statement(state, sql, values, types);
    if guarded {
        let end = if outcome.is_ok() {
            "RELEASE SAVEPOINT stand_in"
        } else {
            "ROLLBACK TO SAVEPOINT stand_in; RELEASE SAVEPOINT stand_in"
        };
        // Of two errors the first says what was wrong.
        if let (Ok(_), Err(error)) = (&outcome, state.client.batch_execute(end)) {
            return Err(error.into());
        }
    }
    let outcome = outcome?;
    if commits && std::mem::take(&mut state.in_transaction) {
        state.client.batch_execute("COMMIT")?;
    }
    Ok(outcome)
}

fn statement(state: &mut State, sql: &Sql, values: &[Value], types: &[Type]) -> Result<(Answer, u64), CallError> {
    let gives_rows = matches!(sql.kind, Kind::Select | Kind::Block) || sql.first_out < sql.binds;
    if values.is_empty() && !gives_rows {
        if sql.kind.is_change() {
            return Ok((Answer::default(), state.client.execute(&sql.text, &[])?));
        }
        state.client.batch_execute(&sql.text)?;
        if sql.kind == Kind::Create {
            state.client.batch_execute("SELECT oracle_stand_in.watch()")?;
        }
        return Ok(Default::default());
    }
    let prepared = state.client.prepare_typed(&sql.text, types)?;
    let parameters: Vec<&(dyn postgres::types::ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    if !gives_rows {
        return Ok((Answer::default(), state.client.execute(&prepared, &parameters)?));
    }
    let columns = prepared
        .columns()
        .iter()
        .map(Column::of)
        .collect::<Result<Vec<_>, _>>()?;
    let rows: Vec<Vec<Value>> = state
        .client
        .query(&prepared, &parameters)?
        .iter()
        .map(cells)
        .collect::<Result<_, _>>()?;
    let touched = rows.len() as u64;
    let columns = (sql.kind == Kind::Select).then_some(columns);
    Ok((Answer { columns, rows }, touched))
}

fn cells(row: &Row) -> Result<Vec<Value>, postgres::Error> {
    (0..row.len()).map(|index| row.try_get(index)).collect()
}

/// `SET TRANSACTION`, with which a transaction begins. Oracle's SERIALIZABLE and READ ONLY read
/// what was there at the beginning.
fn set_transaction(sql: &str) -> Option<&'static str> {
    let words = sql.to_ascii_uppercase();
    let rest = words.strip_prefix("SET TRANSACTION ")?;
    Some(match rest.trim() {
        "READ ONLY" => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "ISOLATION LEVEL SERIALIZABLE" => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        _ => "BEGIN",
    })
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIStmtPrepare2(
    service: *mut c_void,
    place: *mut *mut c_void,
    error: *mut c_void,
    sql: *const c_char,
    length: u32,
    _key: *const c_char,
    _key_length: u32,
    _language: u32,
    _mode: u32,
) -> i32 {
    let prepare = || unsafe {
        let statement = Statement::prepare(session(service)?, &text(sql.cast(), length as usize))?;
        *place = Handle::Statement(Box::new(statement)).give();
        Ok(oci::SUCCESS)
    };
    unsafe { status(error, prepare()) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIStmtRelease(
    pointer: *mut c_void,
    _error: *mut c_void,
    _key: *const c_char,
    _length: u32,
    _mode: u32,
) -> i32 {
    unsafe { free(pointer) };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIStmtExecute(
    _service: *mut c_void,
    pointer: *mut c_void,
    error: *mut c_void,
    times: u32,
    _offset: u32,
    _in: *const c_void,
    _out: *mut c_void,
    mode: u32,
) -> i32 {
    let run = || unsafe {
        let statement = handle(pointer).and_then(Handle::statement).ok_or_else(misused)?;
        if times > 1 {
            return Err(Failure::beyond("a statement that runs several times at once"));
        }
        statement.run(mode & oci::COMMIT_ON_SUCCESS != 0)?;
        Ok(oci::SUCCESS)
    };
    unsafe { status(error, run()) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIStmtFetch2(
    pointer: *mut c_void,
    error: *mut c_void,
    count: u32,
    _orientation: u16,
    _offset: i32,
    _mode: u32,
) -> i32 {
    let fetch = || unsafe {
        let statement = handle(pointer).and_then(Handle::statement).ok_or_else(misused)?;
        statement.fetch(count)
    };
    unsafe { status(error, fetch()) }
}
