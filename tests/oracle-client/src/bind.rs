//! The places of a statement: the sources of its values and the targets of its results.

use std::{ffi::c_void, ptr};

use crate::{
    failure::Failure,
    handle::{Handle, handle, misused, status},
    oci,
    statement::Statement,
    value::{Value, from_c, is_descriptor, to_c},
};

type InCallback = unsafe extern "C" fn(
    *mut c_void,
    *mut c_void,
    u32,
    u32,
    *mut *mut c_void,
    *mut u32,
    *mut u8,
    *mut *mut c_void,
) -> i32;
type OutCallback = unsafe extern "C" fn(
    *mut c_void,
    *mut c_void,
    u32,
    u32,
    *mut *mut c_void,
    *mut *mut u32,
    *mut u8,
    *mut *mut c_void,
    *mut *mut u16,
) -> i32;

/// The source or target of a value: the caller's buffers, or functions that return buffers.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) handle: *mut c_void,
    pub(crate) oracle_type: u16,
    value: *mut c_void,
    size: usize,
    indicator: *mut i16,
    length: *mut u32,
    code: *mut u16,
    input: Option<(*mut c_void, InCallback)>,
    output: Option<(*mut c_void, OutCallback)>,
}

impl Place {
    /// The value that is bound.
    ///
    /// # Safety
    /// The caller's buffers are there until the statement has run, as the interface demands.
    pub(crate) unsafe fn get(&self) -> Result<Value, Failure> {
        unsafe {
            let Some((context, callback)) = self.input else {
                if !self.indicator.is_null() && *self.indicator == -1 {
                    return Ok(Value::Null);
                }
                let length = if self.length.is_null() {
                    self.size
                } else {
                    *self.length as usize
                };
                let value = if is_descriptor(self.oracle_type) {
                    *self.value.cast::<*mut c_void>()
                } else {
                    self.value
                };
                return from_c(self.oracle_type, value, length);
            };
            let (mut buffer, mut length, mut piece, mut indicator) = (ptr::null_mut(), 0u32, 0u8, ptr::null_mut());
            let status = callback(
                context,
                self.handle,
                0,
                0,
                &mut buffer,
                &mut length,
                &mut piece,
                &mut indicator,
            );
            if status != oci::CONTINUE {
                return Err(Failure::new(24344, "the caller gave no value to bind"));
            }
            if !indicator.is_null() && *indicator.cast::<i16>() == -1 {
                return Ok(Value::Null);
            }
            from_c(self.oracle_type, buffer, length as usize)
        }
    }

    /// Gives a value back, as the so-manieth of its place.
    ///
    /// # Safety
    /// As [`get`](Self::get).
    pub(crate) unsafe fn give_back(&self, index: u32, value: &Value) -> Result<(), Failure> {
        unsafe {
            let Some((context, callback)) = self.output else {
                return self.put(index as usize, value);
            };
            let mut length = 0u32;
            let (mut buffer, mut lengths, mut piece) = (ptr::null_mut(), &raw mut length, 0u8);
            let (mut indicator, mut code) = (ptr::null_mut(), ptr::null_mut());
            let status = callback(
                context,
                self.handle,
                0,
                index,
                &mut buffer,
                &mut lengths,
                &mut piece,
                &mut indicator,
                &mut code,
            );
            if status != oci::CONTINUE {
                return Err(Failure::new(24344, "the caller gave no place for a value"));
            }
            let indicator = indicator.cast::<i16>();
            if *value == Value::Null {
                *indicator = -1;
                return Ok(());
            }
            let room = if lengths.is_null() {
                self.size
            } else {
                *lengths as usize
            };
            let Some(written) = to_c(value, self.oracle_type, buffer, room)? else {
                return Err(Failure::new(1406, "fetched column value was truncated"));
            };
            *indicator = 0;
            if !lengths.is_null() {
                *lengths = written as u32;
            }
            if !code.is_null() {
                *code = 0;
            }
            Ok(())
        }
    }

    /// Writes a value into the so-manieth of its buffers.
    ///
    /// # Safety
    /// As [`get`](Self::get), and there are so many buffers.
    pub(crate) unsafe fn put(&self, index: usize, value: &Value) -> Result<(), Failure> {
        unsafe {
            if self.value.is_null() {
                return Err(Failure::beyond("a value fetched in pieces"));
            }
            if *value == Value::Null {
                *self.indicator.add(index) = -1;
                return Ok(());
            }
            let place = self.value.cast::<u8>().add(index * self.size).cast::<c_void>();
            let place = if is_descriptor(self.oracle_type) {
                *place.cast::<*mut c_void>()
            } else {
                place
            };
            let written = to_c(value, self.oracle_type, place, self.size)?;
            *self.indicator.add(index) = 0;
            if !self.length.is_null() {
                *self.length.add(index) = written.unwrap_or(self.size) as u32;
            }
            if !self.code.is_null() {
                *self.code.add(index) = if written.is_some() { 0 } else { 1406 };
            }
            Ok(())
        }
    }
}

unsafe fn statement<'a>(pointer: *mut c_void) -> Result<&'a mut Statement, Failure> {
    unsafe { handle(pointer) }
        .and_then(Handle::statement)
        .ok_or_else(misused)
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIBindByPos2(
    pointer: *mut c_void,
    bind: *mut *mut c_void,
    error: *mut c_void,
    position: u32,
    value: *mut c_void,
    size: i64,
    oracle_type: u16,
    indicator: *mut c_void,
    length: *mut u32,
    code: *mut u16,
    _array_length: u32,
    _array_count: *mut u32,
    _mode: u32,
) -> i32 {
    let outcome = unsafe { statement(pointer) }.and_then(|found| {
        let index = (position as usize).wrapping_sub(1);
        if index >= found.bind_count() {
            return Err(Failure::new(1036, "illegal variable name/number"));
        }
        let handle = Handle::Bind(index, pointer.cast()).give();
        unsafe { *bind = handle };
        found.bind(
            index,
            Place {
                handle,
                oracle_type,
                value,
                size: size.max(0) as usize,
                indicator: indicator.cast(),
                length,
                code,
                input: None,
                output: None,
            },
        );
        Ok(oci::SUCCESS)
    });
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIBindDynamic(
    bind: *mut c_void,
    error: *mut c_void,
    in_context: *mut c_void,
    input: Option<InCallback>,
    out_context: *mut c_void,
    output: Option<OutCallback>,
) -> i32 {
    let outcome = match unsafe { handle(bind) } {
        Some(Handle::Bind(index, pointer)) => unsafe { statement(pointer.cast()) }.map(|statement| {
            if let Some(place) = statement.place(*index) {
                place.input = input.map(|input| (in_context, input));
                place.output = output.map(|output| (out_context, output));
            }
            oci::SUCCESS
        }),
        _ => Err(misused()),
    };
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDefineByPos2(
    pointer: *mut c_void,
    define: *mut *mut c_void,
    error: *mut c_void,
    position: u32,
    value: *mut c_void,
    size: u64,
    oracle_type: u16,
    indicator: *mut c_void,
    length: *mut u32,
    code: *mut u16,
    _mode: u32,
) -> i32 {
    let outcome = unsafe { statement(pointer) }.map(|statement| {
        let handle = Handle::Define.give();
        unsafe { *define = handle };
        statement.define(
            (position as usize).wrapping_sub(1),
            Place {
                handle,
                oracle_type,
                value,
                size: size as usize,
                indicator: indicator.cast(),
                length,
                code,
                input: None,
                output: None,
            },
        );
        oci::SUCCESS
    });
    unsafe { status(error, outcome) }
}

/// Accepted, so that a column can be described; fetching into it is refused.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDefineDynamic(
    _define: *mut c_void,
    _error: *mut c_void,
    _context: *mut c_void,
    _callback: *mut c_void,
) -> i32 {
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIStmtGetBindInfo(
    pointer: *mut c_void,
    error: *mut c_void,
    size: u32,
    start: u32,
    found: *mut i32,
    names: *mut *mut u8,
    lengths: *mut u8,
    _indicators: *mut *mut u8,
    _indicator_lengths: *mut u8,
    duplicates: *mut u8,
    _handles: *mut *mut c_void,
) -> i32 {
    let outcome = unsafe { statement(pointer) }.map(|statement| {
        let count = statement.bind_count();
        if count == 0 {
            return oci::NO_DATA;
        }
        let start = start as usize - 1;
        for (slot, index) in (start..count).take(size as usize).enumerate() {
            let name = statement.place_name(index);
            unsafe {
                *names.add(slot) = name.as_ptr().cast_mut();
                *lengths.add(slot) = name.len() as u8;
                *duplicates.add(slot) = 0;
            }
        }
        // Below zero: there are more than were asked for.
        let total = count as i32;
        unsafe { *found = if count - start > size as usize { -total } else { total } };
        oci::SUCCESS
    });
    unsafe { status(error, outcome) }
}
