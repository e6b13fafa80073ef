//! Everything that can stop a native build, each as one line that says what to do.
//!
//! These messages are read by somebody who has just cloned the repository and knows nothing about
//! how it is built, so none of them is a backtrace or the raw output of a tool: the tool's own
//! words come last, shortened to the line that matters.

use std::io;
use std::path::{Path, PathBuf};

use crate::Backend;
use crate::machine::Version;

/// The result of a step of the native build.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the native library could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pins do not cover this machine.
    #[error(
        "there is no {what} for {host}; supported hosts are linux-x86_64, linux-aarch64 and \
         macos-aarch64"
    )]
    UnsupportedHost {
        /// What was looked for in the pins.
        what: String,
        /// The machine, as `os-arch`.
        host: String,
    },

    /// The backend is another system's.
    #[error("the {backend} library cannot be built for {target}; {advice}")]
    UnsupportedBackend {
        /// What was asked for.
        backend: Backend,
        /// The machine, as `os-arch`.
        target: String,
        /// What to do instead.
        advice: &'static str,
    },

    /// MLX has no library for Macs with processors of Intel's.
    #[error(
        "MLX needs a Mac with Apple silicon and a Rust toolchain for it{}",
        if *rosetta {
            ": this one is for Intel and runs under Rosetta; run `rustup default \
             stable-aarch64-apple-darwin`"
        } else {
            "; if this Mac has it, run `rustup default stable-aarch64-apple-darwin`"
        }
    )]
    IntelMac {
        /// Whether the Mac has Apple silicon, and only the toolchain is one for Intel.
        rosetta: bool,
    },

    /// MLX has no library for a macOS as old as this one.
    #[error("MLX needs macOS {needed} or newer, and this is {found}; update it")]
    OldMacos {
        /// The oldest that there is a library for.
        needed: Version,
        /// The version here.
        found: Version,
    },

    /// The C library is older than the one that MLX was built for.
    #[error(
        "MLX needs glibc {needed} or newer and this system has {found}; use a newer one (Ubuntu \
         22.04, Debian 12, Fedora 36)"
    )]
    OldGlibc {
        /// The version that the wheel names.
        needed: Version,
        /// The version here.
        found: Version,
    },

    /// `vendor/wheels.toml` does not say what it should.
    #[error("vendor/wheels.toml: {0}")]
    Pins(String),

    /// There is no folder for the cache.
    #[error(
        "no folder for the native library: HOME is not set; set MLX_BACKEND_CACHE to a folder \
         that can be written"
    )]
    NoCache,

    /// The cache is named by a path that means another folder for each program.
    #[error("MLX_BACKEND_CACHE is {}; set it to an absolute path", path.display())]
    RelativeCache {
        /// What the variable says.
        path: PathBuf,
    },

    /// The folder for the cache cannot be made or written.
    #[error(
        "cannot write to the folder for the native library, {}: {reason}; make it writable or set \
         MLX_BACKEND_CACHE to another folder", path.display()
    )]
    UnusableCache {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },

    /// No Python 3 was found.
    #[error(
        "Python 3 is needed to fetch MLX and was not found on PATH; install it (Debian/Ubuntu: \
         `sudo apt install python3 python3-pip`, macOS: `xcode-select --install`) or set PYTHON \
         to its path"
    )]
    NoPython,

    /// Python was found, but not its package client.
    #[error(
        "{python} has no pip, which is needed to fetch MLX; install it (Debian/Ubuntu: \
         `sudo apt install python3-pip`, elsewhere: `{python} -m ensurepip --user`) or set PYTHON \
         to a Python that has it"
    )]
    NoPip {
        /// The Python that was tried.
        python: String,
    },

    /// No C++ compiler was found.
    #[error(
        "a C++20 compiler is needed to build the MLX bridge and none was found; install one \
         (Debian/Ubuntu: `sudo apt install g++`, macOS: `xcode-select --install`) or set CXX to \
         its path"
    )]
    NoCompiler,

    /// No C++ compiler for another Linux was found.
    #[error(
        "a C++20 compiler for {target} is needed to build the MLX bridge and none was found; \
         install {usual} or set {variable} to the path of one"
    )]
    NoCrossCompiler {
        /// The machine that the library is for, as `os-arch`.
        target: String,
        /// The name that such a compiler has.
        usual: String,
        /// The variable.
        variable: String,
    },

    /// A C++ compiler was found that cannot compile C++20.
    #[error(
        "{compiler} cannot compile C++20 ({reason}); the MLX bridge needs GCC 11, Clang 14, Xcode \
         15 or newer; set CXX to such a compiler"
    )]
    OldCompiler {
        /// The compiler that was tried.
        compiler: String,
        /// The first line of its complaint.
        reason: String,
    },

    /// The package client could not fetch a file.
    #[error(
        "could not download {file}: {reason}; check the network connection and run again, or put \
         the file into {} yourself", folder.display()
    )]
    Download {
        /// The file's name.
        file: String,
        /// pip's own last words.
        reason: String,
        /// Where a file fetched by hand would be found.
        folder: PathBuf,
    },

    /// The mlx-c source could not be fetched.
    #[error(
        "could not fetch the mlx-c source (crate mlx-sys 0.7.0): {reason}; check the network \
         connection and run again"
    )]
    FetchMlxC {
        /// cargo's own words.
        reason: String,
    },

    /// A file that was here already is not the pinned one.
    #[error(
        "checksum of {} differs: expected sha256 {expected}, found {found}; delete the file and \
         run again", file.display()
    )]
    Checksum {
        /// The file.
        file: PathBuf,
        /// The pinned digest, in hexadecimal.
        expected: String,
        /// The digest of what is there.
        found: String,
    },

    /// A file that was just fetched is not the pinned one.
    #[error(
        "checksum of {file} as downloaded differs: expected sha256 {expected}, found {found}; it \
         was not kept; if that happens again, do not trust the index that pip is set to use"
    )]
    DownloadChecksum {
        /// The file's name.
        file: String,
        /// The pinned digest, in hexadecimal.
        expected: String,
        /// The digest of what came.
        found: String,
    },

    /// A tool that was found and started did not succeed.
    #[error("{step} failed: {reason}{}", log_hint(.log))]
    Step {
        /// What was being done.
        step: String,
        /// The line of its output that says why.
        reason: String,
        /// A file with the whole output, where there is one.
        log: Option<PathBuf>,
    },

    /// The prefix named by `MLX_NATIVE_DIR` is not one.
    #[error(
        "MLX_NATIVE_DIR is {}, which has no {library} (looked in it and in its lib and mlx/lib \
         folders)", dir.display()
    )]
    NativeDir {
        /// What the variable says.
        dir: PathBuf,
        /// The file that should be there.
        library: String,
    },

    /// The file system refused.
    #[error("{action} {}: {reason}", path.display())]
    Io {
        /// What was being done, such as "cannot read".
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
}

fn log_hint(log: &Option<PathBuf>) -> String {
    log.as_ref()
        .map(|log| format!(" (whole output in {})", log.display()))
        .unwrap_or_default()
}

/// Adds what was attempted, and on which path, to an [`io::Error`].
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|reason| Error::Io {
            action,
            path: path.to_owned(),
            reason,
        })
    }
}
