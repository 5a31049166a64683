//! What the handles and descriptors that ODPI-C holds point to.

use std::{collections::HashMap, ffi::c_void, slice, sync::Arc};

use crate::{date_time::Stamp, failure::Failure, lob::Lob, oci, session::Session, statement::Statement};

/// Behind every handle and descriptor.
pub(crate) enum Handle {
    /// Environments and what else has nothing to keep.
    Plain,
    Error(Option<Failure>),
    Server {
        descriptor: String,
        session: Option<Arc<Session>>,
    },
    /// User and password, by their attribute.
    User(HashMap<u32, String>),
    Service(Service),
    Statement(Box<Statement>),
    Bind(usize, *mut Handle),
    Define,
    /// A column of a statement. Its name outlives this descriptor.
    Column(*const crate::column::Column),
    Stamp(Stamp),
    Lob(Lob),
}

/// A service context: a server, a user, and the session of both.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) server: Option<*mut Handle>,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) call_timeout: u32,
}

impl Handle {
    pub(crate) fn of_type(handle_type: u32) -> Self {
        match handle_type {
            oci::HTYPE_ERROR => Self::Error(None),
            oci::HTYPE_SERVER => Self::Server {
                descriptor: String::new(),
                session: None,
            },
            oci::HTYPE_SESSION => Self::User(HashMap::new()),
            oci::HTYPE_SVCCTX => Self::Service(Service::default()),
            oci::DTYPE_LOB => Self::Lob(Lob::default()),
            oci::DTYPE_TIMESTAMP | oci::DTYPE_TIMESTAMP_TZ | oci::DTYPE_TIMESTAMP_LTZ => Self::Stamp(Stamp::default()),
            _ => Self::Plain,
        }
    }

    /// Gives it away, as a pointer of C.
    pub(crate) fn give(self) -> *mut c_void {
        Box::into_raw(Box::new(self)).cast()
    }

    pub(crate) fn service(&mut self) -> Option<&mut Service> {
        match self {
            Self::Service(service) => Some(service),
            _ => None,
        }
    }

    pub(crate) fn lob(&mut self) -> Option<&mut Lob> {
        match self {
            Self::Lob(lob) => Some(lob),
            _ => None,
        }
    }

    pub(crate) fn statement(&mut self) -> Option<&mut Statement> {
        match self {
            Self::Statement(statement) => Some(statement),
            _ => None,
        }
    }
}

/// The handle behind a pointer of C.
///
/// # Safety
/// It came from [`Handle::give`] and was not freed; no other code uses it now.
pub(crate) unsafe fn handle<'a>(pointer: *mut c_void) -> Option<&'a mut Handle> {
    unsafe { pointer.cast::<Handle>().as_mut() }
}

/// Takes a handle back.
///
/// # Safety
/// As [`handle`], and it is not used any more.
pub(crate) unsafe fn free(pointer: *mut c_void) {
    if !pointer.is_null() {
        drop(unsafe { Box::from_raw(pointer.cast::<Handle>()) });
    }
}

/// A text of C with its length.
///
/// # Safety
/// There are so many bytes.
pub(crate) unsafe fn text(pointer: *const u8, length: usize) -> String {
    if pointer.is_null() {
        return String::new();
    }
    String::from_utf8_lossy(unsafe { slice::from_raw_parts(pointer, length) }).into_owned()
}

/// Stores the error in the error handle, and returns the status.
///
/// # Safety
/// As [`handle`].
pub(crate) unsafe fn status(error_handle: *mut c_void, outcome: Result<i32, Failure>) -> i32 {
    match outcome {
        Ok(status) => status,
        Err(failure) => {
            if let Some(Handle::Error(place)) = unsafe { handle(error_handle) } {
                *place = Some(failure);
            }
            oci::ERROR
        }
    }
}

/// What the caller was given by another call is not what it hands in: a defect of the caller or of
/// the stand-in.
pub(crate) fn misused() -> Failure {
    Failure::beyond("a handle of another type")
}
