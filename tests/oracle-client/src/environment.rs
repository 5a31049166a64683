//! Environments, handles, descriptors, errors, and what belongs to a thread.

use std::{
    cell::RefCell,
    collections::HashMap,
    ffi::{c_char, c_int, c_void},
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    handle::{Handle, free, handle},
    oci,
};

/// The version that it claims: the first with a time-out for calls, without the column attributes
/// that came later.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIClientVersion(
    major: *mut c_int,
    minor: *mut c_int,
    update: *mut c_int,
    patch: *mut c_int,
    port: *mut c_int,
) {
    for (place, number) in [(major, 18), (minor, 5), (update, 0), (patch, 0), (port, 0)] {
        unsafe { *place = number };
    }
}

#[unsafe(no_mangle)]
pub(crate) extern "C" fn OCIThreadProcessInit() {}

static KEYS: AtomicUsize = AtomicUsize::new(0);

type Destroy = unsafe extern "C" fn(*mut c_void);

/// What one thread keeps under each key, and how it is freed when the thread ends.
#[derive(Default)]
struct Kept(HashMap<usize, (*mut c_void, Option<Destroy>)>);

impl Drop for Kept {
    fn drop(&mut self) {
        for (value, destroy) in self.0.values() {
            if let (Some(destroy), false) = (destroy, value.is_null()) {
                unsafe { destroy(*value) };
            }
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

struct Key {
    number: usize,
    destroy: Option<Destroy>,
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIThreadKeyInit(
    _: *mut c_void,
    _: *mut c_void,
    key: *mut *mut c_void,
    destroy: Option<Destroy>,
) -> i32 {
    let number = KEYS.fetch_add(1, Ordering::Relaxed);
    unsafe { *key = Box::into_raw(Box::new(Key { number, destroy })).cast() };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIThreadKeyDestroy(_: *mut c_void, _: *mut c_void, key: *mut *mut c_void) -> i32 {
    unsafe {
        if !(*key).is_null() {
            drop(Box::from_raw((*key).cast::<Key>()));
            *key = ptr::null_mut();
        }
    }
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIThreadKeyGet(
    _: *mut c_void,
    _: *mut c_void,
    key: *mut c_void,
    value: *mut *mut c_void,
) -> i32 {
    let Some(key) = (unsafe { key.cast::<Key>().as_ref() }) else {
        return oci::INVALID_HANDLE;
    };
    // At the program's exit the main thread has forgotten its keys before ODPI-C asks for one.
    let kept = KEPT.try_with(|kept| kept.borrow().0.get(&key.number).map(|(value, _)| *value));
    unsafe { *value = kept.ok().flatten().unwrap_or(ptr::null_mut()) };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIThreadKeySet(
    _: *mut c_void,
    _: *mut c_void,
    key: *mut c_void,
    value: *mut c_void,
) -> i32 {
    let Some(key) = (unsafe { key.cast::<Key>().as_ref() }) else {
        return oci::INVALID_HANDLE;
    };
    let set = KEPT.try_with(|kept| kept.borrow_mut().0.insert(key.number, (value, key.destroy)));
    if set.is_ok() { oci::SUCCESS } else { oci::ERROR }
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIEnvNlsCreate(
    environment: *mut *mut c_void,
    _mode: u32,
    _context: *mut c_void,
    _allocate: *mut c_void,
    _reallocate: *mut c_void,
    _free: *mut c_void,
    _extra: usize,
    _user: *mut *mut c_void,
    _charset: u16,
    _ncharset: u16,
) -> i32 {
    unsafe { *environment = Handle::Plain.give() };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCINlsNumericInfoGet(
    _: *mut c_void,
    _: *mut c_void,
    value: *mut i32,
    _item: u16,
) -> i32 {
    // The most bytes of a character in UTF-8.
    unsafe { *value = 4 };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCINlsCharSetNameToId(_: *mut c_void, _name: *const c_char) -> u16 {
    oci::CHARSET_UTF8
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCINlsEnvironmentVariableGet(
    value: *mut c_void,
    _: usize,
    _: u16,
    _: u16,
    size: *mut usize,
) -> i32 {
    unsafe {
        *value.cast::<u16>() = oci::CHARSET_UTF8;
        *size = 2;
    }
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIHandleAlloc(
    _: *const c_void,
    place: *mut *mut c_void,
    handle_type: u32,
    _: usize,
    _: *mut *mut c_void,
) -> i32 {
    unsafe { *place = Handle::of_type(handle_type).give() };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIHandleFree(pointer: *mut c_void, _handle_type: u32) -> i32 {
    unsafe { free(pointer) };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDescriptorAlloc(
    _: *const c_void,
    place: *mut *mut c_void,
    descriptor_type: u32,
    _: usize,
    _: *mut *mut c_void,
) -> i32 {
    unsafe { *place = Handle::of_type(descriptor_type).give() };
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIDescriptorFree(pointer: *mut c_void, _descriptor_type: u32) -> i32 {
    unsafe { free(pointer) };
    oci::SUCCESS
}

/// How many descriptors were allocated at once, by the first of them: they are freed by it.
static ARRAYS: std::sync::Mutex<Option<HashMap<usize, usize>>> = std::sync::Mutex::new(None);

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIArrayDescriptorAlloc(
    _: *const c_void,
    places: *mut *mut c_void,
    descriptor_type: u32,
    count: u32,
    _: usize,
    _: *mut *mut c_void,
) -> i32 {
    for index in 0..count as usize {
        unsafe { *places.add(index) = Handle::of_type(descriptor_type).give() };
    }
    if let Ok(mut arrays) = ARRAYS.lock() {
        arrays
            .get_or_insert_default()
            .insert(unsafe { *places } as usize, count as usize);
    }
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIArrayDescriptorFree(places: *mut *mut c_void, _descriptor_type: u32) -> i32 {
    // ODPI-C also frees what it has not allocated yet.
    if places.is_null() {
        return oci::SUCCESS;
    }
    let first = unsafe { *places } as usize;
    let count = ARRAYS
        .lock()
        .ok()
        .and_then(|mut arrays| arrays.get_or_insert_default().remove(&first));
    for index in 0..count.unwrap_or_default() {
        unsafe { free(*places.add(index)) };
    }
    oci::SUCCESS
}

#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn OCIErrorGet(
    pointer: *mut c_void,
    _record: u32,
    _state: *mut c_char,
    code: *mut i32,
    buffer: *mut c_char,
    size: u32,
    _type: u32,
) -> i32 {
    let Some(Handle::Error(Some(failure))) = (unsafe { handle(pointer) }) else {
        return oci::NO_DATA;
    };
    let message = format!("ORA-{:05}: {}", failure.code, failure.message.replace('\0', " "));
    let length = message.len().min((size as usize).saturating_sub(1));
    unsafe {
        *code = failure.code;
        ptr::copy_nonoverlapping(message.as_ptr(), buffer.cast::<u8>(), length);
        *buffer.add(length) = 0;
    }
    oci::SUCCESS
}
