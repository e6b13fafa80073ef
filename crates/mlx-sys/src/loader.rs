//! Finds the native library and opens it, once.
//!
//! Searched in this order: the folder that `MLX_NATIVE_DIR` names when the program starts; a
//! `native` folder beside the executable, for an archive that is unpacked anywhere; the prefixes of
//! the checkout that this crate was compiled in. The last one is what lets a program outside the
//! workspace run with no setting at all.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::bindings::{Api, MLXB_ABI_VERSION};
use crate::error;

/// Which of the built libraries to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// Metal on macOS; elsewhere CUDA if its library and an NVIDIA driver are there, else the CPU.
    #[default]
    Auto,
    /// The library that computes on the processor.
    Cpu,
    /// The library for NVIDIA GPUs; it computes on the processor too.
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

/// Why the native library could not be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// No library where one could be.
    #[error(
        "the native MLX library for {choice} was not found; looked in {}; build it with \
         `cargo xtask build{}`", list(looked), build_option(*choice)
    )]
    Missing {
        /// What was asked for.
        choice: Choice,
        /// Every folder that was looked in.
        looked: Vec<PathBuf>,
    },
    /// The library is there, and the system could not open it.
    #[error("cannot open {}: {reason}; rebuild it with `cargo xtask build`", path.display())]
    Open {
        /// The library.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The library is of another version of this project.
    #[error(
        "{} was built from another version of this project (interface {found}, needed {needed}); \
         rebuild it with `cargo xtask build`", path.display()
    )]
    Version {
        /// The library.
        path: PathBuf,
        /// The version of its interface.
        found: i32,
        /// The version that this crate was compiled with.
        needed: i32,
    },
    /// A choice was made after another library had been opened.
    #[error(
        "the native MLX library for {asked} was asked for, but the one for {loaded} is in use; a \
         program opens one"
    )]
    AlreadyLoaded {
        /// The choice that came too late.
        asked: Choice,
        /// The choice in effect.
        loaded: Choice,
    },
}

fn list(folders: &[PathBuf]) -> String {
    folders
        .iter()
        .map(|f| f.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn build_option(choice: Choice) -> String {
    if choice == Choice::Auto {
        String::new()
    } else {
        format!(" --backend {choice}")
    }
}

/// The opened library.
pub struct Loaded {
    /// Its functions.
    pub api: Api,
    /// The file.
    pub path: PathBuf,
    /// Which of the libraries it is; [`Choice::Auto`] where its folder does not tell.
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
static LOADED: OnceLock<Result<Loaded, LoadError>> = OnceLock::new();

/// Chooses the library before its first use.
///
/// # Errors
/// [`LoadError::AlreadyLoaded`] if another library was opened already.
pub fn init(choice: Choice) -> Result<(), LoadError> {
    // The lock is held over the check: a first use on another thread waits for it, and then opens
    // what was chosen here.
    let mut chosen = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(Ok(loaded)) = LOADED.get() {
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
/// Where the library was looked for in vain, or why it could not be opened. The answer is the same
/// for the whole run of the program.
pub fn api() -> Result<&'static Api, LoadError> {
    loaded().map(|loaded| &loaded.api)
}

/// Like [`api`], with the file that was opened.
///
/// # Errors
/// As [`api`].
pub fn loaded() -> Result<&'static Loaded, LoadError> {
    let result = match LOADED.get() {
        Some(result) => result,
        None => {
            let choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
            LOADED.get_or_init(|| open(*choice))
        }
    };
    result.as_ref().map_err(Clone::clone)
}

fn open(choice: Choice) -> Result<Loaded, LoadError> {
    let candidates = candidates(choice);
    let found = candidates
        .iter()
        .find(|(_, folder)| folder.join(library_name()).is_file());
    let Some((backend, folder)) = found else {
        let looked = candidates.into_iter().map(|(_, folder)| folder).collect();
        return Err(LoadError::Missing { choice, looked });
    };
    let path = folder.join(library_name());
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
    // no data.
    unsafe { api.mlx_set_error_handler(Some(error::keep), std::ptr::null_mut(), None) };
    Ok(Loaded {
        api,
        path,
        backend: *backend,
    })
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

/// Every folder that may have the library, best first.
fn candidates(choice: Choice) -> Vec<(Choice, PathBuf)> {
    let mut folders = Vec::new();
    if let Some(dir) = env::var_os("MLX_NATIVE_DIR").filter(|dir| !dir.is_empty()) {
        // An explicit order: nothing else is tried.
        let backend = backend_of(Path::new(&dir));
        push_layouts(&mut folders, backend, Path::new(&dir));
        return folders;
    }
    let beside = env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("native")));
    let roots = beside
        .into_iter()
        .chain([PathBuf::from(env!("MLX_SYS_PREFIXES"))]);
    for root in roots {
        for backend in backends(choice) {
            push_layouts(&mut folders, backend, &root.join(backend.to_string()));
        }
    }
    if let Some(dir) = option_env!("MLX_SYS_NATIVE_DIR") {
        let dir = PathBuf::from(dir);
        folders.insert(0, (backend_of(&dir), dir));
    }
    folders
}

/// A prefix keeps the wheel's folders; an archive may have the files at its top or in `lib`.
fn push_layouts(folders: &mut Vec<(Choice, PathBuf)>, backend: Choice, root: &Path) {
    for dir in [
        root.join("mlx").join("lib"),
        root.join("lib"),
        root.to_owned(),
    ] {
        folders.push((backend, dir));
    }
}

/// What a folder's path says about its library.
fn backend_of(dir: &Path) -> Choice {
    let named = |name: &OsStr| {
        [Choice::Cpu, Choice::Cuda, Choice::Metal]
            .into_iter()
            .find(|choice| *name == *choice.to_string())
    };
    dir.iter().rev().find_map(named).unwrap_or_default()
}

/// The libraries that fulfil a choice, best first.
fn backends(choice: Choice) -> Vec<Choice> {
    match choice {
        Choice::Auto if cfg!(target_os = "macos") => vec![Choice::Metal],
        Choice::Auto if has_nvidia_driver() => vec![Choice::Cuda, Choice::Cpu],
        Choice::Auto => vec![Choice::Cpu],
        chosen => vec![chosen],
    }
}

/// Whether libcuda, which comes with the driver and not with any package, can be opened.
fn has_nvidia_driver() -> bool {
    // SAFETY: the driver's library has no initialiser that touches our state; it is closed again.
    cfg!(target_os = "linux") && unsafe { libloading::Library::new("libcuda.so.1") }.is_ok()
}

fn library_name() -> &'static str {
    if cfg!(target_os = "macos") {
        "libmlxbridge.dylib"
    } else {
        "libmlxbridge.so"
    }
}

/// libloading keeps the dynamic linker's words in the source of its error.
fn describe(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}
