//! Opens the native library, once, and makes its failures survivable.

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::bindings::{Api, MLXB_ABI_VERSION};
use crate::{LoadError, error, search};

/// Which of the built libraries to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Metal on macOS; elsewhere CUDA if its library and an NVIDIA GPU are there, else the CPU.
    #[default]
    Auto,
    /// The library that computes on the processor; on macOS that is Metal's.
    Cpu,
    /// The library for NVIDIA GPUs; it computes on the processor too, but needs a GPU.
    Cuda,
    /// The library for Apple GPUs; it computes on the processor too.
    Metal,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        })
    }
}

/// The opened library.
pub struct Loaded {
    /// Its functions.
    pub api: Api,
    /// The file.
    pub path: PathBuf,
    /// What it was built for; never [`Choice::Auto`].
    pub backend: Choice,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("path", &self.path)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

static CHOICE: Mutex<Choice> = Mutex::new(Choice::Auto);
static LOADED: OnceLock<Loaded> = OnceLock::new();

/// Chooses the library before its first use.
///
/// # Errors
/// [`LoadError::AlreadyLoaded`] if another library was opened already.
pub fn init(choice: Choice) -> Result<(), LoadError> {
    // The lock is held over the check: a first use on another thread waits for it, and then opens
    // what was chosen here.
    let mut chosen = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(loaded) = LOADED.get() {
        let same = choice == Choice::Auto || choice == *chosen || choice == loaded.backend;
        return if same {
            Ok(())
        } else {
            Err(LoadError::AlreadyLoaded {
                asked: choice,
                loaded: loaded.backend,
            })
        };
    }
    *chosen = choice;
    Ok(())
}

/// MLX's functions; opens the library on first use.
///
/// # Errors
/// Where the library was looked for in vain, or why it could not be opened. Another [`init`] may
/// then choose another one.
pub fn api() -> Result<&'static Api, LoadError> {
    loaded().map(|loaded| &loaded.api)
}

/// Like [`api`], with the file that was opened.
///
/// # Errors
/// As [`api`].
pub fn loaded() -> Result<&'static Loaded, LoadError> {
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    // While this thread waited for the lock another one may have opened it.
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let opened = open(*choice)?;
    Ok(LOADED.get_or_init(|| opened))
}

fn open(choice: Choice) -> Result<Loaded, LoadError> {
    let path = search::find(choice)?;
    let failed = |e: libloading::Error| LoadError::Open {
        path: path.clone(),
        reason: describe(&e),
    };
    // SAFETY: the file is our own build of mlx-c and the bridge, whose initialisers (and libmlx's)
    // do nothing but set up their own state.
    let library = unsafe { libloading::Library::new(&path) }.map_err(failed)?;
    check_version(&library, &path)?;
    // SAFETY: the version check says that it was built from the headers that the types come from.
    let api = unsafe { Api::from_library(library) }.map_err(failed)?;
    // SAFETY: the handler is a function that stays, reads a C string and does not unwind; it needs
    // no data. Nothing else of MLX was called yet.
    unsafe { api.mlx_set_error_handler(Some(error::keep), std::ptr::null_mut(), None) };

    // SAFETY: takes nothing and returns a string constant.
    let found = backend(unsafe { CStr::from_ptr(api.mlxb_backend()) });
    if matches!(choice, Choice::Cuda | Choice::Metal) && found != choice {
        return Err(LoadError::Backend {
            path,
            found,
            wanted: choice,
        });
    }
    if found == Choice::Cuda {
        set_cuda_defaults();
    }
    Ok(Loaded {
        api,
        path,
        backend: found,
    })
}

/// Settings of MLX's CUDA side that differ from its own defaults; what the user set stays.
///
/// MLX reads them at the first operation that asks, so they are set before there is one.
fn set_cuda_defaults() {
    let defaults = [
        // Rounds the operands of float32 products to 11 bits: float32 shall be float32.
        ("MLX_ENABLE_TF32", "0"),
        // Records each product by capturing the stream, which breaks, and takes the process with it, when
        // another thread has the driver load a kernel meanwhile; and launches graphs without looking
        // whether they could be updated. Our kernels are few and long, so plain launches are as fast.
        ("MLX_USE_CUDA_GRAPHS", "0"),
        // Fails an evaluation once plans of attention, or graphs, of many different forms were made, which
        // the lengths of prompts alone bring about in a program that runs for long.
        ("MLX_ENABLE_CACHE_THRASHING_CHECK", "0"),
    ];
    for (name, value) in defaults {
        if std::env::var_os(name).is_none() {
            // SAFETY: this happens once, in the call that opens the library, and Rust's own reads of
            // the environment wait for it. Foreign code that reads it at this moment on another
            // thread is what this cannot exclude, and MLX takes its settings from nowhere else: the
            // public docs say to open the device before there are such threads, or to set the
            // variables from outside, which then are not set here. MLX has no thread yet.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// Before the table is filled: a function that the library lacks would be reported by its name,
/// which tells a user nothing.
fn check_version(library: &libloading::Library, path: &Path) -> Result<(), LoadError> {
    let needed = MLXB_ABI_VERSION as i32;
    // SAFETY: where a symbol of this name exists it is our function, which takes nothing and
    // returns an int.
    let found = unsafe {
        library
            .get::<unsafe extern "C" fn() -> i32>(b"mlxb_abi_version\0")
            .map_or(0, |ask| ask())
    };
    if found == needed {
        Ok(())
    } else {
        Err(LoadError::Version {
            path: path.to_owned(),
            found,
            needed,
        })
    }
}

fn backend(name: &CStr) -> Choice {
    match name.to_bytes() {
        b"cuda" => Choice::Cuda,
        b"metal" => Choice::Metal,
        _ => Choice::Cpu,
    }
}

/// libloading keeps the dynamic linker's words in the source of its error.
fn describe(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
