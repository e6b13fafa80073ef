//! What macOS says of the machine.

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn sysctlbyname(
        name: *const c_char,
        old: *mut c_void,
        old_len: *mut usize,
        new: *const c_void,
        new_len: usize,
    ) -> c_int;
}

/// The number of this name, such as `hw.memsize`; `None` where there is none.
pub fn number(name: &CStr) -> Option<u64> {
    // Some are of four bytes, which on a little-endian machine come first.
    let mut number = 0u64;
    let mut len = size_of::<u64>();
    // SAFETY: the name is NUL-terminated, `number` has room for `len` bytes, nothing is set.
    let status = unsafe {
        sysctlbyname(
            name.as_ptr(),
            (&raw mut number).cast(),
            &mut len,
            std::ptr::null(),
            0,
        )
    };
    (status == 0).then_some(number)
}
