//! Freed memory back to the system. Buffers of many sizes come and go for hours in several threads; glibc keeps what is
//! freed between those that stay, so that a long scan would seem to grow.

#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "the C library's allocator is asked to give pages back")
)]

/// Gives freed pages back, where the system's allocator keeps them. Takes some milliseconds.
pub(super) fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time from any thread; it only releases pages that nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}
