//! The calls into a loaded OpenSlide library: the only place of this crate with `unsafe`.
//!
//! Everything that comes out is copied and everything that goes in is checked here, so nothing outside needs to know
//! that C is behind it. The functions have had these signatures since OpenSlide 3.4.0 (`openslide.h`).
#![expect(unsafe_code, reason = "a C library is loaded and called; each block says why it is sound")]

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::ptr::NonNull;

use crate::native::Unusable;

/// `openslide_t`, opaque.
type Osr = *mut c_void;
/// `openslide_cache_t`, opaque.
type CachePtr = *mut c_void;

/// A loaded library and its functions. The functions are valid as long as `_object`, which is never unloaded before.
#[derive(Debug)]
pub(super) struct Library {
    get_version: unsafe extern "C" fn() -> *const c_char,
    detect_vendor: unsafe extern "C" fn(*const c_char) -> *const c_char,
    open: unsafe extern "C" fn(*const c_char) -> Osr,
    close: unsafe extern "C" fn(Osr),
    get_error: unsafe extern "C" fn(Osr) -> *const c_char,
    get_level_count: unsafe extern "C" fn(Osr) -> i32,
    get_level_dimensions: unsafe extern "C" fn(Osr, i32, *mut i64, *mut i64),
    get_level_downsample: unsafe extern "C" fn(Osr, i32) -> f64,
    read_region: unsafe extern "C" fn(Osr, *mut u32, i64, i64, i32, i64, i64),
    get_property_value: unsafe extern "C" fn(Osr, *const c_char) -> *const c_char,
    cache: Option<CacheFunctions>,
    _object: libloading::Library,
}

/// Functions that OpenSlide has since 4.0.
#[derive(Debug)]
struct CacheFunctions {
    create: unsafe extern "C" fn(usize) -> CachePtr,
    set: unsafe extern "C" fn(Osr, CachePtr),
    release: unsafe extern "C" fn(CachePtr),
}

impl Library {
    /// Loads the library of this path, or of this name by the rules of the system's loader.
    pub(super) fn load(name: &OsStr) -> Result<Self, Unusable> {
        // SAFETY: loading runs the initialisers of the library that the site's administrator named or installed; those
        // of OpenSlide prepare its own tables and ask nothing of the caller. It is never unloaded while in use: the
        // functions below live in the same value, and the program keeps that value until it ends.
        let library = unsafe { libloading::Library::new(name) }.map_err(|e| Unusable::unloadable(&e))?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: each field's type is the function's signature in openslide.h (int32_t is i32, int64_t is
                // i64, double is f64, uint32_t is u32, size_t is usize, pointers are thin).
                *unsafe { library.get($name) }.map_err(|_| Unusable::Symbol($name))?
            };
        }
        let cache = || {
            Ok::<_, Unusable>(CacheFunctions {
                create: function!("openslide_cache_create"),
                set: function!("openslide_set_cache"),
                release: function!("openslide_cache_release"),
            })
        };
        Ok(Self {
            get_version: function!("openslide_get_version"),
            detect_vendor: function!("openslide_detect_vendor"),
            open: function!("openslide_open"),
            close: function!("openslide_close"),
            get_error: function!("openslide_get_error"),
            get_level_count: function!("openslide_get_level_count"),
            get_level_dimensions: function!("openslide_get_level_dimensions"),
            get_level_downsample: function!("openslide_get_level_downsample"),
            read_region: function!("openslide_read_region"),
            get_property_value: function!("openslide_get_property_value"),
            cache: cache().ok(),
            _object: library,
        })
    }

    /// The version, such as `4.0.1`.
    pub(super) fn version(&self) -> String {
        // SAFETY: takes nothing and returns a constant string.
        text(unsafe { (self.get_version)() }).unwrap_or_default()
    }

    /// The vendor of a file by OpenSlide's names; `None` for a file that it does not read.
    pub(super) fn vendor(&self, path: &CStr) -> Option<String> {
        // SAFETY: the path ends with NUL and outlives the call; the result is a constant string or null.
        text(unsafe { (self.detect_vendor)(path.as_ptr()) })
    }

    /// A cache of at most `bytes` for decoded tiles; `None` before OpenSlide 4.
    pub(super) fn cache(&'static self, bytes: usize) -> Option<Cache> {
        let functions = self.cache.as_ref()?;
        // SAFETY: takes a size only.
        let cache = NonNull::new(unsafe { (functions.create)(bytes) })?;
        Some(Cache { functions, cache })
    }

    /// Opens a slide.
    pub(super) fn open(&'static self, path: &CStr, cache: Option<&Cache>) -> Result<Handle, String> {
        // SAFETY: the path ends with NUL and outlives the call.
        let osr = unsafe { (self.open)(path.as_ptr()) };
        let osr = NonNull::new(osr).ok_or("it is no slide that OpenSlide knows")?;
        let handle = Handle { api: self, osr };
        handle.sound()?;
        if let Some(cache) = cache {
            // SAFETY: both are alive and error-free; the handle takes a reference of its own to the cache.
            unsafe { (cache.functions.set)(osr.as_ptr(), cache.cache.as_ptr()) };
        }
        Ok(handle)
    }
}

/// A bounded cache of decoded tiles that several handles share.
#[derive(Debug)]
pub(super) struct Cache {
    functions: &'static CacheFunctions,
    cache: NonNull<c_void>,
}

// SAFETY: OpenSlide's caches are made to be shared by slides that are read by several threads (openslide.h: "all
// functions except openslide_close are thread-safe"); this value only hands the pointer to such functions.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: the pointer came from openslide_cache_create and is released once, here; handles hold references.
        unsafe { (self.functions.release)(self.cache.as_ptr()) };
    }
}

/// One open slide. After its first error it only gives that error, so it must then be opened anew.
#[derive(Debug)]
pub(super) struct Handle {
    api: &'static Library,
    osr: NonNull<c_void>,
}

// SAFETY: openslide.h: "all functions except openslide_close are thread-safe"; closing is in `drop`, which has the
// handle alone.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// How many levels there are.
    pub(super) fn level_count(&self) -> Result<i32, String> {
        // SAFETY: the handle is open as long as `self` lives.
        let count = unsafe { (self.api.get_level_count)(self.osr.as_ptr()) };
        self.sound().map(|()| count)
    }

    /// Width and height of a level.
    pub(super) fn dimensions(&self, level: i32) -> Result<(i64, i64), String> {
        let (mut width, mut height) = (-1, -1);
        // SAFETY: the handle is open and both pointers are to live integers; an unknown level gives -1.
        unsafe { (self.api.get_level_dimensions)(self.osr.as_ptr(), level, &raw mut width, &raw mut height) };
        self.sound().map(|()| (width, height))
    }

    /// Level-0 pixels a pixel of a level.
    pub(super) fn downsample(&self, level: i32) -> Result<f64, String> {
        // SAFETY: the handle is open; an unknown level gives -1.
        let downsample = unsafe { (self.api.get_level_downsample)(self.osr.as_ptr(), level) };
        self.sound().map(|()| downsample)
    }

    /// The value of a property, if the slide has it.
    pub(super) fn property(&self, name: &str) -> Option<String> {
        let name = CString::new(name).ok()?;
        // SAFETY: the handle is open, the name ends with NUL; the result is null or a string that lives as long as the
        // handle, and is copied here.
        text(unsafe { (self.api.get_property_value)(self.osr.as_ptr(), name.as_ptr()) })
    }

    /// A region of `w * h` pixels as premultiplied ARGB, one word a pixel. `x` and `y` are level-0 coordinates.
    ///
    /// The caller bounds `w` and `h`: the memory for the region is taken here.
    pub(super) fn read(&self, level: i32, x: i64, y: i64, w: u32, h: u32) -> Result<Vec<u32>, String> {
        let mut pixels = vec![0u32; w as usize * h as usize];
        let out = pixels.as_mut_ptr();
        // SAFETY: the handle is open and OpenSlide writes exactly w * h words to `out`, which has that many; both sides
        // fit i64 and are not negative. On an error it fills them with zero.
        unsafe { (self.api.read_region)(self.osr.as_ptr(), out, x, y, level, i64::from(w), i64::from(h)) };
        self.sound().map(|()| pixels)
    }

    /// Whether no call has failed so far, by this thread or another.
    fn sound(&self) -> Result<(), String> {
        // SAFETY: the handle is open; the result is null or a string that lives as long as it, and is copied here.
        text(unsafe { (self.api.get_error)(self.osr.as_ptr()) }).map_or(Ok(()), Err)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the pointer came from openslide_open and is closed once, here; `&mut self` means that no other
        // thread is in a call with it.
        unsafe { (self.api.close)(self.osr.as_ptr()) };
    }
}

/// A copy of a C string; `None` for null.
fn text(string: *const c_char) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: not null, and every caller passes a NUL-terminated string that OpenSlide keeps alive during the call.
    let string = unsafe { CStr::from_ptr(string) };
    Some(string.to_string_lossy().into_owned())
}
