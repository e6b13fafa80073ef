//! Compiles mlx-c and the project's own bridge into one shared library beside libmlx.
//!
//! cmake is driven directly: the `cmake` crate expects to run inside a build script and panics
//! when a step fails, where a user should read one line. The build folder is kept, so a change to
//! the bridge recompiles one file.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Backend;
use crate::build::Build;
use crate::command::step;
use crate::compiler::Compiler;
use crate::error::{IoContext, Result};
use crate::files;
use crate::machine::Machine;
use crate::prefix::COMPILER_VARIABLES;
use crate::target;

/// The name of the library that this module makes, without `lib` and the extension.
pub(crate) const LIBRARY: &str = "mlxbridge";

/// By this a Mac's compilers build for an older macOS; cmake is told which, so it has no say.
const DEPLOYMENT_TARGET: &str = "MACOSX_DEPLOYMENT_TARGET";

/// What the bridge is built from, with what, and for what.
pub(crate) struct Bridge<'a> {
    /// Its sources.
    pub(crate) csrc: &'a Path,
    /// MLX's unpacked wheel.
    pub(crate) mlx: &'a Path,
    /// The folder that cmake may keep.
    pub(crate) work: &'a Path,
    /// The machine that will run it.
    pub(crate) target: &'a Machine,
    /// The C++ compiler.
    pub(crate) compiler: Compiler,
    /// What it computes on.
    pub(crate) backend: Backend,
}

/// The finished bridge.
pub(crate) struct Built {
    library: PathBuf,
    /// Folders and files of C headers.
    headers: [PathBuf; 2],
}

impl Build<'_> {
    /// Compiles the bridge and links it against the unpacked wheel.
    pub(crate) fn bridge(&self, bridge: &Bridge<'_>) -> Result<Built> {
        let (cmake, ninja, mlx_c) = (self.cmake()?, self.ninja()?, self.mlx_c()?);
        let libmlx = library_dir(bridge.mlx).join(bridge.target.shared_library("mlx"));
        let folder = bridge.work.join("build");

        let mut configure = Command::new(&cmake);
        configure.arg("-S").arg(bridge.csrc).arg("-B").arg(&folder);
        configure
            .args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"])
            .args(target::settings(bridge.target, &self.host));
        configure.arg(define("CMAKE_MAKE_PROGRAM", &ninja));
        configure.arg(define("CMAKE_CXX_COMPILER", bridge.compiler.for_cmake()));
        configure.arg(define("MLXB_BACKEND", bridge.backend.name()));
        configure.arg(define("MLX_C_DIR", &mlx_c));
        configure.arg(define("MLX_DIR", bridge.mlx.join("mlx")));
        configure.arg(define("MLX_LIBRARY", libmlx));
        self.configure(&folder, &mut configure)?;

        let mut make = Command::new(&ninja);
        make.arg("-C").arg(&folder).arg("-j").arg(jobs());
        step(
            "compiling the MLX bridge",
            make.env_remove(DEPLOYMENT_TARGET),
            &bridge.work.join("compile.log"),
            |line| {
                if let Some(short) = shorten(line) {
                    self.say(short);
                }
            },
        )?;
        Ok(Built {
            library: folder.join(bridge.target.shared_library(LIBRARY)),
            headers: [mlx_c.join("mlx"), bridge.csrc.join("mlxb.h")],
        })
    }

    /// Runs cmake, from nothing if its settings are others than last time or it did not finish.
    fn configure(&self, folder: &Path, command: &mut Command) -> Result<()> {
        let flags = COMPILER_VARIABLES.map(|name| env::var_os(name).unwrap_or_default());
        let settings = format!("{command:?} {flags:?}");
        let marker = folder.join("settings");
        if fs::read_to_string(&marker).is_ok_and(|found| found == settings) {
            return Ok(());
        }
        if folder.exists() {
            fs::remove_dir_all(folder).at("cannot remove", folder)?;
        }
        files::create_dir(folder)?;
        self.say("configuring the MLX bridge");
        let log = folder.with_file_name("configure.log");
        command.env_remove(DEPLOYMENT_TARGET);
        step("configuring the MLX bridge", command, &log, |_| {})?;
        files::write_atomic(&marker, settings.as_bytes())
    }
}

impl Built {
    /// Puts the bridge beside the libmlx of a prefix, and the C headers into the prefix.
    pub(crate) fn install(&self, prefix: &Path) -> Result<()> {
        let copy = |from: &Path, to: PathBuf| fs::copy(from, to).at("cannot copy", from).map(drop);
        let name = self.library.file_name().unwrap_or_default();
        copy(&self.library, library_dir(prefix).join(name))?;
        let ([mlx_c, own], include) = (&self.headers, prefix.join("include"));
        files::copy_dir(mlx_c, &include.join("mlx"))?;
        copy(own, include.join("mlxb.h"))
    }
}

fn define(name: &str, value: impl AsRef<OsStr>) -> OsString {
    let mut argument = OsString::from(format!("-D{name}="));
    argument.push(value.as_ref());
    argument
}

/// One compiler a core; each takes most of a gigabyte, so not one more.
fn jobs() -> String {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .to_string()
}

/// ninja's `[3/32] Building CXX object <long path>/ops.cpp.o`, without what a user need not read.
fn shorten(line: &str) -> Option<String> {
    let (count, rest) = line.strip_prefix('[')?.split_once("] ")?;
    let file = rest.rsplit(['/', ' ']).next()?;
    let doing = match rest.split_whitespace().next()? {
        "Building" => "compiling",
        "Linking" => "linking",
        _ => return None,
    };
    Some(format!("[{count}] {doing} {}", file.trim_end_matches(".o")))
}

/// The folder of a prefix that has the libraries.
pub(crate) fn library_dir(prefix: &Path) -> PathBuf {
    prefix.join("mlx").join("lib")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_names_the_file_and_leaves_the_path_out() {
        let line = "[2/31] Building CXX object CMakeFiles/m.dir/a/sources/mlx-c/closure.cpp.o";
        assert_eq!(
            shorten(line).as_deref(),
            Some("[2/31] compiling closure.cpp")
        );
        let line = "[31/31] Linking CXX shared library libmlxbridge.so";
        assert_eq!(
            shorten(line).as_deref(),
            Some("[31/31] linking libmlxbridge.so")
        );
        assert_eq!(shorten("[0/2] Re-checking globbed directories..."), None);
        assert_eq!(shorten("FAILED: something"), None);
    }
}
