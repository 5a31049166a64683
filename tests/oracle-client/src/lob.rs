//! LOBs. Their whole contents are kept here: PostgreSQL sends a value in one piece.

use std::{ffi::c_void, ptr, slice};

use crate::{
    failure::Failure,
    handle::{Handle, handle, misused, status},
    oci,
};

/// What a locator stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lob {
    pub(crate) bytes: Vec<u8>,
    /// Counted in halves of UTF-16, as Oracle counts a CLOB.
    pub(crate) is_text: bool,
    /// Whether it stands for anything yet.
    pub(crate) is_set: bool,
    is_temporary: bool,
}

impl Lob {
    pub(crate) fn of(bytes: Vec<u8>, is_text: bool) -> Self {
        Self {
            bytes,
            is_text,
            is_set: true,
            is_temporary: false,
        }
    }

    fn length(&self) -> u64 {
        if self.is_text {
            String::from_utf8_lossy(&self.bytes).encode_utf16().count() as u64
        } else {
            self.bytes.len() as u64
        }
    }

    /// The bytes from an offset on, so many characters or bytes; an offset or an end within a character is an error.
    fn part(&self, offset: u64, amount: u64) -> Result<&[u8], Failure> {
        let skipped = offset.saturating_sub(1);
        if !self.is_text {
            let start = (skipped as usize).min(self.bytes.len());
            let end = start.saturating_add(amount as usize).min(self.bytes.len());
            return Ok(&self.bytes[start..end]);
        }
        let text = std::str::from_utf8(&self.bytes).map_err(|_| Failure::beyond("a CLOB that is not UTF-8"))?;
        let place = |wanted: u64| {
            let mut at = 0;
            for (byte, c) in text.char_indices() {
                if at >= wanted {
                    return (at == wanted).then_some(byte);
                }
                at += c.len_utf16() as u64;
            }
            Some(text.len())
        };
        let split = || Failure::beyond("a CLOB read in the middle of a character");
        let start = place(skipped).ok_or_else(split)?;
        let end = place(skipped.saturating_add(amount)).ok_or_else(split)?;
        Ok(&self.bytes[start..end])
    }
}

unsafe fn set<'a>(pointer: *mut c_void) -> Result<&'a mut Lob, Failure> {
    let lob = unsafe { handle(pointer) }.and_then(Handle::lob).ok_or_else(misused)?;
    if lob.is_set {
        Ok(lob)
    } else {
        Err(Failure::new(22275, "invalid LOB locator specified"))
    }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCILobCreateTemporary(
    _: *mut c_void,
    error: *mut c_void,
    pointer: *mut c_void,
    _: u16,
    _: u8,
    lob_type: u8,
    _: i32,
    _: u16,
) -> i32 {
    let outcome = match unsafe { handle(pointer) }.and_then(Handle::lob) {
        Some(lob) => {
            *lob = Lob::of(Vec::new(), lob_type == 2);
            lob.is_temporary = true;
            Ok(oci::SUCCESS)
        }
        None => Err(misused()),
    };
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCILobIsTemporary(
    _: *mut c_void,
    error: *mut c_void,
    pointer: *mut c_void,
    flag: *mut i32,
) -> i32 {
    let outcome = unsafe { handle(pointer) }.and_then(Handle::lob).ok_or_else(misused);
    let outcome = outcome.map(|lob| {
        unsafe { *flag = i32::from(lob.is_temporary) };
        oci::SUCCESS
    });
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCILobFreeTemporary(_: *mut c_void, error: *mut c_void, pointer: *mut c_void) -> i32 {
    let outcome = unsafe { set(pointer) }.map(|lob| {
        *lob = Lob::default();
        oci::SUCCESS
    });
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCILobGetLength2(
    _: *mut c_void,
    error: *mut c_void,
    pointer: *mut c_void,
    length: *mut u64,
) -> i32 {
    let outcome = unsafe { set(pointer) }.map(|lob| {
        unsafe { *length = lob.length() };
        oci::SUCCESS
    });
    unsafe { status(error, outcome) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCILobRead2(
    _: *mut c_void,
    error: *mut c_void,
    pointer: *mut c_void,
    byte_amount: *mut u64,
    character_amount: *mut u64,
    offset: u64,
    buffer: *mut c_void,
    size: u64,
    _piece: u8,
    _context: *mut c_void,
    _callback: *mut c_void,
    _charset: u16,
    _form: u8,
) -> i32 {
    let read = || unsafe {
        let lob = set(pointer)?;
        let amount = if lob.is_text { *character_amount } else { *byte_amount };
        let part = lob.part(offset, amount)?;
        if part.len() as u64 > size {
            return Err(Failure::beyond("a LOB read into a buffer that is too small"));
        }
        ptr::copy_nonoverlapping(part.as_ptr(), buffer.cast::<u8>(), part.len());
        *byte_amount = part.len() as u64;
        *character_amount = String::from_utf8_lossy(part).encode_utf16().count() as u64;
        Ok(oci::SUCCESS)
    };
    unsafe { status(error, read()) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCILobWrite2(
    _: *mut c_void,
    error: *mut c_void,
    pointer: *mut c_void,
    byte_amount: *mut u64,
    _character_amount: *mut u64,
    offset: u64,
    buffer: *mut c_void,
    _size: u64,
    _piece: u8,
    _context: *mut c_void,
    _callback: *mut c_void,
    _charset: u16,
    _form: u8,
) -> i32 {
    let write = || unsafe {
        let lob = set(pointer)?;
        let length = *byte_amount as usize;
        if length == 0 {
            return Err(Failure::new(24801, "illegal parameter value in OCI lob function"));
        }
        if offset != lob.length() + 1 {
            return Err(Failure::beyond("a LOB written elsewhere than at its end"));
        }
        lob.bytes
            .extend_from_slice(slice::from_raw_parts(buffer.cast::<u8>(), length));
        Ok(oci::SUCCESS)
    };
    unsafe { status(error, write()) }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCILobTrim2(
    _: *mut c_void,
    error: *mut c_void,
    pointer: *mut c_void,
    length: u64,
) -> i32 {
    let outcome = unsafe { set(pointer) }.and_then(|lob| {
        if length > 0 {
            return Err(Failure::beyond("a LOB cut to a length"));
        }
        lob.bytes.clear();
        Ok(oci::SUCCESS)
    });
    unsafe { status(error, outcome) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_clob_counts_in_halves_of_utf_16() {
        let lob = Lob::of("aé🦀z".into(), true);
        assert_eq!(lob.length(), 5);
        assert_eq!(lob.part(2, 3).unwrap(), "é🦀".as_bytes());
        assert_eq!(lob.part(5, 9).unwrap(), b"z");
        assert!(lob.part(1, 3).is_err());
        assert!(lob.part(4, 2).is_err());
    }
}
