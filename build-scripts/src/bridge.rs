//! Compiles mlx-c and the project's own bridge into one shared library beside libmlx.
//!
//! cmake is driven directly: the `cmake` crate expects to run inside a build script and panics
//! when a step fails, where a user should read one line. The build folder is kept, so a change to
//! the bridge recompiles one file.

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
use crate::host::Host;

/// The name of the library that this module makes, without `lib` and the extension.
pub(crate) const LIBRARY: &str = "mlxbridge";

/// What the bridge is built for, and with what.
pub(crate) struct Target<'a> {
    /// The folder into which the wheel was unpacked.
    pub(crate) prefix: &'a Path,
    /// The machine that will run it.
    pub(crate) host: Host,
    /// The C++ compiler.
    pub(crate) compiler: Compiler,
    /// What it computes on.
    pub(crate) backend: Backend,
    /// More settings for cmake, as `-DNAME=value`.
    pub(crate) settings: &'a [&'a str],
}

impl Build<'_> {
    /// Builds the bridge against the unpacked wheel and puts it beside libmlx.
    pub(crate) fn bridge(&self, target: &Target<'_>) -> Result<()> {
        let (cmake, ninja, mlx_c) = (self.cmake()?, self.ninja()?, self.mlx_c()?);
        let Target {
            prefix,
            host,
            compiler,
            backend,
            settings,
        } = target;
        let (library, libraries) = (host.shared_library(LIBRARY), library_dir(prefix));
        let folder = prefix.join("build");

        let mut configure = Command::new(&cmake);
        configure
            .arg("-S")
            .arg(self.layout.csrc())
            .arg("-B")
            .arg(&folder);
        configure
            .args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"])
            .args(*settings);
        configure.arg(define("CMAKE_MAKE_PROGRAM", &ninja));
        configure.arg(define("CMAKE_CXX_COMPILER", compiler.for_cmake()));
        configure.arg(define("MLXB_BACKEND", backend.name()));
        configure.arg(define("MLX_C_DIR", &mlx_c));
        configure.arg(define("MLX_DIR", prefix.join("mlx")));
        configure.arg(define(
            "MLX_LIBRARY",
            libraries.join(host.shared_library("mlx")),
        ));
        self.configure(&folder, &mut configure)?;

        let mut make = Command::new(&ninja);
        make.arg("-C").arg(&folder).arg("-j").arg(jobs());
        step(
            "compiling the MLX bridge",
            &mut make,
            &prefix.join("compile.log"),
            |line| {
                if let Some(short) = shorten(line) {
                    self.say(short);
                }
            },
        )?;
        files::copy_atomic(&folder.join(&library), &libraries.join(&library))?;
        self.headers(&mlx_c, prefix)
    }

    /// Runs cmake, from nothing if its settings are others than last time or it did not finish.
    fn configure(&self, folder: &Path, command: &mut Command) -> Result<()> {
        let settings = format!("{command:?}");
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
        step("configuring the MLX bridge", command, &log, |_| {})?;
        files::write_atomic(&marker, settings.as_bytes())
    }

    /// Puts the C headers into the prefix, which then has all that bindgen reads.
    fn headers(&self, mlx_c: &Path, prefix: &Path) -> Result<()> {
        let target = prefix.join("include");
        let temporary = files::temp_beside(&target)?;
        let fresh = temporary.path().join("fresh");
        files::copy_dir(&mlx_c.join("mlx"), &fresh.join("mlx"))?;
        let own = self.layout.csrc().join("mlxb.h");
        fs::copy(&own, fresh.join("mlxb.h")).at("cannot copy", &own)?;
        files::replace_dir(&fresh, &target)
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
        let line = "[2/31] Building CXX object CMakeFiles/m.dir/a/vendor/mlx-c/closure.cpp.o";
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
