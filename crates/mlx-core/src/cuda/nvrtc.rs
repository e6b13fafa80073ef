//! NVIDIA's run-time compiler as a table of C functions.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

use libloading::Library;

type Program = *mut c_void;

/// `NVRTC_SUCCESS`.
const SUCCESS: c_int = 0;
/// `NVRTC_ERROR_COMPILATION`: the log says what is wrong.
const COMPILATION: c_int = 6;

type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Get = unsafe extern "C" fn(Program, *mut c_char) -> c_int;

/// The functions of nvrtc.h that are used here, and the library that they are in.
pub(super) struct Nvrtc {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    create: Create,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    compile: Compile,
    log_size: Size,
    log: Get,
    cubin_size: Size,
    cubin: Get,
    _library: Library,
}

impl Nvrtc {
    /// The functions of an opened library.
    pub(super) fn new(library: Library) -> Result<Nvrtc, libloading::Error> {
        // SAFETY: these are the types in nvrtc.h since CUDA 11.1; the pointers are used no longer
        // than the library, which is kept beside them.
        unsafe {
            Ok(Nvrtc {
                version: *library.get(b"nvrtcVersion\0")?,
                error_string: *library.get(b"nvrtcGetErrorString\0")?,
                create: *library.get(b"nvrtcCreateProgram\0")?,
                destroy: *library.get(b"nvrtcDestroyProgram\0")?,
                compile: *library.get(b"nvrtcCompileProgram\0")?,
                log_size: *library.get(b"nvrtcGetProgramLogSize\0")?,
                log: *library.get(b"nvrtcGetProgramLog\0")?,
                cubin_size: *library.get(b"nvrtcGetCUBINSize\0")?,
                cubin: *library.get(b"nvrtcGetCUBIN\0")?,
                _library: library,
            })
        }
    }

    /// Its version, such as 13 and 0.
    pub(super) fn version(&self) -> Result<(i32, i32), String> {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both are written by the call.
        self.check(unsafe { (self.version)(&mut major, &mut minor) })?;
        Ok((major, minor))
    }

    /// The machine code and the log of `source`; the log alone where it has errors.
    pub(super) fn compile(
        &self,
        name: &CStr,
        source: &CStr,
        options: &[CString],
    ) -> Result<(Vec<u8>, String), String> {
        let mut program = Owned {
            nvrtc: self,
            raw: null_mut(),
        };
        // SAFETY: `raw` is written by the call, which copies the strings; there are no headers.
        self.check(unsafe {
            let (source, name) = (source.as_ptr(), name.as_ptr());
            (self.create)(&mut program.raw, source, name, 0, null(), null())
        })?;
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        let count = c_int::try_from(options.len()).map_err(|_| "too many options")?;
        // SAFETY: the program is alive, the options are `count` strings alive for the call.
        let status = unsafe { (self.compile)(program.raw, count, options.as_ptr()) };
        let log = String::from_utf8_lossy(&program.read(self.log_size, self.log)?)
            .trim_end_matches(['\0', '\n'])
            .to_owned();
        if status == COMPILATION {
            return Err(log);
        }
        self.check(status).map_err(|error| {
            if log.is_empty() {
                error
            } else {
                format!("{error}: {log}")
            }
        })?;
        Ok((program.read(self.cubin_size, self.cubin)?, log))
    }

    fn check(&self, status: c_int) -> Result<(), String> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: takes any number and returns a string constant.
        let text = unsafe { CStr::from_ptr((self.error_string)(status)) };
        Err(text.to_string_lossy().into_owned())
    }
}

/// A program, destroyed at the end.
struct Owned<'a> {
    nvrtc: &'a Nvrtc,
    raw: Program,
}

impl Owned<'_> {
    /// One of the program's results, whose bytes `size` counts and `get` writes.
    fn read(&self, size: Size, get: Get) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        // SAFETY: the program is alive, `bytes` is written by the call.
        self.nvrtc.check(unsafe { size(self.raw, &mut bytes) })?;
        let mut result = vec![0u8; bytes];
        // SAFETY: the program is alive and writes as many bytes as it said.
        let status = unsafe { get(self.raw, result.as_mut_ptr().cast()) };
        self.nvrtc.check(status)?;
        Ok(result)
    }
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: the program is owned here and destroyed once.
            unsafe { (self.nvrtc.destroy)(&mut self.raw) };
        }
    }
}
