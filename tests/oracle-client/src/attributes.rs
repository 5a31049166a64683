//! The attributes of handles that ODPI-C reads and sets.

use std::ffi::c_void;

use crate::{
    column::Column,
    failure::Failure,
    handle::{Handle, handle, misused, status, text},
    oci,
};

const DATA_SIZE: u32 = 1;
const DATA_TYPE: u32 = 2;
const NAME: u32 = 4;
const PRECISION: u32 = 5;
const SCALE: u32 = 6;
const IS_NULL: u32 = 7;
const CHARSET_FORM: u32 = 32;
const CHAR_SIZE: u32 = 286;

const SERVER: u32 = 6;
const FUNCTION_CODE: u32 = 10;
const PARAM_COUNT: u32 = 18;
pub(crate) const USERNAME: u32 = 22;
pub(crate) const PASSWORD: u32 = 23;
const STATEMENT_TYPE: u32 = 24;
const CHARSET_ID: u32 = 31;
const ROWS_RETURNED: u32 = 42;
const PARSE_ERROR_OFFSET: u32 = 129;
const SERVER_STATUS: u32 = 143;
const STATEMENT_CACHE_SIZE: u32 = 176;
const BIND_COUNT: u32 = 190;
const ROWS_FETCHED: u32 = 197;
const IS_RETURNING: u32 = 218;
const NCHARSET_ID: u32 = 262;
const ROW_COUNT: u32 = 457;
const IS_RECOVERABLE: u32 = 472;
const IN_TRANSACTION: u32 = 484;
const CALL_TIMEOUT: u32 = 531;

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIAttrGet(
    pointer: *const c_void,
    handle_type: u32,
    place: *mut c_void,
    size: *mut u32,
    attribute: u32,
    error: *mut c_void,
) -> i32 {
    let place = Place { place, size };
    let outcome = match unsafe { handle(pointer.cast_mut()) } {
        None => return oci::INVALID_HANDLE,
        Some(target) => unsafe { get(target, handle_type, attribute, &place) },
    };
    unsafe { status(error, outcome.map(|()| oci::SUCCESS)) }
}

/// The buffer for an attribute.
struct Place {
    place: *mut c_void,
    size: *mut u32,
}

impl Place {
    unsafe fn put<T>(&self, value: T) {
        unsafe { self.place.cast::<T>().write_unaligned(value) };
    }

    unsafe fn put_text(&self, text: &str) {
        unsafe {
            self.put(text.as_ptr());
            if !self.size.is_null() {
                *self.size = text.len() as u32;
            }
        }
    }
}

unsafe fn get(target: &mut Handle, handle_type: u32, attribute: u32, place: &Place) -> Result<(), Failure> {
    let unknown = || Failure::beyond(format!("the attribute {attribute} of a handle of type {handle_type}"));
    unsafe {
        match target {
            Handle::Plain if handle_type == oci::HTYPE_ENV => match attribute {
                CHARSET_ID | NCHARSET_ID => place.put(oci::CHARSET_UTF8),
                _ => return Err(unknown()),
            },
            Handle::Error(_) => match attribute {
                IS_RECOVERABLE => place.put(0i32),
                _ => return Err(unknown()),
            },
            Handle::Server { session, .. } => match attribute {
                CHARSET_ID => place.put(oci::CHARSET_UTF8),
                SERVER_STATUS => place.put(u32::from(session.as_ref().is_some_and(|session| session.is_alive()))),
                _ => return Err(unknown()),
            },
            Handle::Service(service) => match attribute {
                CALL_TIMEOUT => place.put(service.call_timeout),
                STATEMENT_CACHE_SIZE => place.put(0u32),
                _ => return Err(unknown()),
            },
            // Asked of the user's handle when a session ends: rolling back once too often does no
            // harm.
            Handle::User(_) if attribute == IN_TRANSACTION => place.put(1i32),
            Handle::Statement(statement) => match attribute {
                STATEMENT_TYPE => place.put(statement.kind()),
                IS_RETURNING => place.put(u8::from(statement.is_returning())),
                BIND_COUNT => place.put(statement.bind_count() as u32),
                PARAM_COUNT => place.put(statement.columns().len() as u32),
                ROW_COUNT => place.put(statement.touched()),
                ROWS_FETCHED => place.put(statement.fetched()),
                PARSE_ERROR_OFFSET => place.put(0u16),
                FUNCTION_CODE => place.put(1u16),
                _ => return Err(unknown()),
            },
            Handle::Bind(_, statement) if attribute == ROWS_RETURNED => {
                let statement = handle(statement.cast())
                    .and_then(Handle::statement)
                    .ok_or_else(misused)?;
                place.put(statement.touched() as u32);
            }
            Handle::Column(column) => get_of_column(&**column, attribute, place)?,
            _ => return Err(unknown()),
        }
    }
    Ok(())
}

unsafe fn get_of_column(column: &Column, attribute: u32, place: &Place) -> Result<(), Failure> {
    unsafe {
        match attribute {
            NAME => place.put_text(&column.name),
            DATA_TYPE => place.put(column.oracle_type),
            DATA_SIZE => place.put(column.bytes),
            CHAR_SIZE => place.put(column.characters),
            PRECISION => place.put(column.precision),
            SCALE => place.put(column.scale),
            IS_NULL => place.put(1u8),
            CHARSET_FORM => place.put(1u8),
            _ => return Err(Failure::beyond(format!("the attribute {attribute} of a column"))),
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIAttrSet(
    pointer: *mut c_void,
    _type: u32,
    value: *mut c_void,
    size: u32,
    attribute: u32,
    error: *mut c_void,
) -> i32 {
    let outcome = match unsafe { handle(pointer) } {
        None => return oci::INVALID_HANDLE,
        Some(Handle::User(given)) => {
            if matches!(attribute, USERNAME | PASSWORD) {
                given.insert(attribute, unsafe { text(value.cast(), size as usize) });
            }
            Ok(())
        }
        Some(Handle::Service(service)) => match attribute {
            SERVER => {
                service.server = Some(value.cast());
                Ok(())
            }
            CALL_TIMEOUT => {
                service.call_timeout = unsafe { value.cast::<u32>().read_unaligned() };
                match &service.session {
                    Some(session) => session.limit(service.call_timeout),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        },
        // Sizes, character sets and prefetching, which are no concern here.
        Some(_) => Ok(()),
    };
    unsafe { status(error, outcome.map(|()| oci::SUCCESS)) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIParamGet(
    pointer: *const c_void,
    _type: u32,
    error: *mut c_void,
    place: *mut *mut c_void,
    position: u32,
) -> i32 {
    let statement = unsafe { handle(pointer.cast_mut()) }.and_then(Handle::statement);
    let column = statement.and_then(|statement| statement.columns().get((position as usize).wrapping_sub(1)));
    let outcome = match column {
        Some(column) => {
            unsafe { *place = Handle::Column(column).give() };
            Ok(oci::SUCCESS)
        }
        None => Err(Failure::beyond("a column that is not there")),
    };
    unsafe { status(error, outcome) }
}
