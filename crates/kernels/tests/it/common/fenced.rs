//! Bytes that end where none can be read.

use std::ffi::{c_int, c_void};

unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        len: usize,
        access: c_int,
        flags: c_int,
        file: c_int,
        from: i64,
    ) -> *mut c_void;
    fn mprotect(at: *mut c_void, len: usize, access: c_int) -> c_int;
    fn munmap(at: *mut c_void, len: usize) -> c_int;
}

/// A multiple of any machine's pages.
const PAGE: usize = 64 * 1024;

pub(crate) struct Fenced {
    base: *mut c_void,
    bytes: usize,
}

impl Fenced {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        assert!(bytes.len() <= PAGE);
        // SAFETY: two new pages of nobody's, of which the first can be written and the second not even read.
        unsafe {
            let (read_write, private_anonymous) = (3, 0x22);
            let base = mmap(
                std::ptr::null_mut(),
                2 * PAGE,
                read_write,
                private_anonymous,
                -1,
                0,
            );
            assert_ne!(base as isize, -1);
            assert_eq!(mprotect(base.byte_add(PAGE), PAGE, 0), 0);
            let to = base.cast::<u8>().add(PAGE - bytes.len());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            Self {
                base,
                bytes: bytes.len(),
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as many bytes as were copied there, which nobody changes.
        unsafe {
            let from = self.base.cast::<u8>().add(PAGE - self.bytes);
            std::slice::from_raw_parts(from, self.bytes)
        }
    }
}

impl Drop for Fenced {
    fn drop(&mut self) {
        // SAFETY: what `new` has mapped.
        unsafe { munmap(self.base, 2 * PAGE) };
    }
}
