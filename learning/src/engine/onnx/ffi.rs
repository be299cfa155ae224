//! Loading ONNX Runtime: the only place of the engines with `unsafe`.
//!
//! A library is asked for its version before anything else, so one that is too old is refused by us: the crate `ort`
//! would panic. What passes here is handed to `ort`, whose functions then never look for a library themselves.
#![expect(
    unsafe_code,
    reason = "a C library is loaded and its table of functions is read; each block says why it is sound"
)]

use std::ffi::{CStr, OsStr};
use std::ptr::NonNull;

use ort::sys::{ORT_API_VERSION, OrtApi, OrtApiBase};

use super::library::ONNX_RUNTIME;
use crate::native::Unusable;

/// A library with the functions that are needed.
#[derive(Debug)]
pub(super) struct Library {
    api: NonNull<OrtApi>,
    version: String,
    object: libloading::Library,
}

impl Library {
    /// Loads the library of this path, or of this name by the rules of the system's loader.
    pub(super) fn load(name: &OsStr) -> Result<Self, Unusable> {
        // SAFETY: loading runs the initialisers of the library that the site's administrator named or installed; those of
        // ONNX Runtime prepare its own tables and ask nothing of the caller.
        let library = unsafe { libloading::Library::new(name) }.map_err(|e| Unusable::unloadable(&e))?;
        const BASE: &str = "OrtGetApiBase";
        // SAFETY: the function's signature in onnxruntime_c_api.h, the same since version 1.0; it takes nothing.
        let base = unsafe {
            let get = library.get::<unsafe extern "system" fn() -> *const OrtApiBase>(BASE);
            get.map_err(|_| Unusable::Symbol(BASE))?()
        };
        // SAFETY: what it returns is null or a constant table of the two functions, as old as itself.
        let base = unsafe { base.as_ref() }.ok_or(Unusable::Symbol(BASE))?;
        // SAFETY: takes nothing and returns a constant string that ends with NUL, or null.
        let version = unsafe { text((base.GetVersionString)()) };
        if ONNX_RUNTIME.is_too_old(&version) {
            return Err(Unusable::TooOld(version));
        }
        // SAFETY: takes a number; returns null or a constant table with at least the functions of that version.
        let api = unsafe { (base.GetApi)(ORT_API_VERSION) };
        let api = NonNull::new(api.cast_mut()).ok_or_else(|| Unusable::TooOld(version.clone()))?;
        Ok(Self { api, version, object: library })
    }

    /// The version, such as `1.31.1`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Makes it the library of this process, for ever. False where there is one already.
    pub(super) fn activate(self) -> bool {
        // The table's functions must outlive every session: it is never unloaded.
        std::mem::forget(self.object);
        // SAFETY: the table is at least as long as `OrtApi`, which is that of the version asked for, and is constant.
        ort::set_api(unsafe { self.api.as_ref() }.clone())
    }
}

/// A copy of a string of the library's; empty for null.
///
/// # Safety
/// Null, or a string that ends with NUL and stays during the call.
unsafe fn text(string: *const std::ffi::c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null; the rest is the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}
