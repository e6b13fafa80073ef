//! Compiles mlx-c and the project's own bridge into one shared library beside libmlx.
//!
//! cmake is driven directly: the `cmake` crate expects to run inside a build script and panics
//! when a step fails, where a user should read one line. The build folder is kept, so a change to
//! the bridge recompiles one file.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::Build;
use crate::command::step;
use crate::error::{IoContext, Result};
use crate::{compiler, files};

/// The name of the library that this module makes, without `lib` and the extension.
pub(crate) const LIBRARY: &str = "mlxbridge";

impl Build<'_> {
    /// Builds the bridge against the unpacked wheel in `prefix` and puts it beside libmlx.
    pub(crate) fn bridge(&self, prefix: &Path) -> Result<()> {
        let compiler = compiler::find()?;
        let (cmake, ninja, mlx_c) = (self.cmake()?, self.ninja()?, self.mlx_c()?);
        let library = self.host.shared_library(LIBRARY);
        let folder = prefix.join("build");

        let mut configure = Command::new(&cmake);
        configure
            .arg("-S")
            .arg(self.layout.csrc())
            .arg("-B")
            .arg(&folder);
        configure.args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]);
        configure.arg(define("CMAKE_MAKE_PROGRAM", &ninja));
        configure.arg(define("CMAKE_CXX_COMPILER", &compiler));
        configure.arg(define("MLX_C_DIR", &mlx_c));
        configure.arg(define("MLX_DIR", &prefix.join("mlx")));
        configure.arg(define(
            "MLX_LIBRARY",
            &prefix.join("mlx/lib").join(self.libmlx()),
        ));
        self.configure(&folder, &mut configure)?;

        let mut make = Command::new(&ninja);
        make.arg("-C").arg(&folder).arg("-j").arg(jobs());
        step(
            "compiling the MLX bridge",
            &mut make,
            &prefix.join("compile.log"),
            |line| {
                if line.starts_with('[') {
                    self.say(line);
                }
            },
        )?;
        self.publish(
            &folder.join(&library),
            &prefix.join("mlx/lib").join(&library),
        )?;
        self.headers(&mlx_c, prefix)
    }

    /// Runs cmake, from nothing if its settings are others than last time or it did not finish.
    fn configure(&self, folder: &Path, command: &mut Command) -> Result<()> {
        let settings = format!("{command:?}");
        let marker = folder.join("settings");
        if std::fs::read_to_string(&marker).is_ok_and(|found| found == settings) {
            return Ok(());
        }
        if folder.exists() {
            std::fs::remove_dir_all(folder).at("cannot remove", folder)?;
        }
        files::create_dir(folder)?;
        self.say("configuring the MLX bridge");
        step(
            "configuring the MLX bridge",
            command,
            &folder.with_extension("log"),
            |_| {},
        )?;
        files::write_atomic(&marker, settings.as_bytes())
    }

    /// A copy beside the target and a rename: a program that has the old library open keeps it.
    fn publish(&self, from: &Path, to: &Path) -> Result<()> {
        let new = to.with_extension("new");
        std::fs::copy(from, &new).at("cannot copy", from)?;
        std::fs::rename(&new, to).at("cannot put in place", to)
    }

    /// Puts the C headers into the prefix, which then has all that bindgen reads.
    fn headers(&self, mlx_c: &Path, prefix: &Path) -> Result<()> {
        let target = prefix.join("include");
        let temporary = files::temp_beside(&target)?;
        let fresh = temporary.path().join("fresh");
        files::copy_dir(&mlx_c.join("mlx"), &fresh.join("mlx"))?;
        let own = self.layout.csrc().join("mlxb.h");
        std::fs::copy(&own, fresh.join("mlxb.h")).at("cannot copy", &own)?;
        files::replace_dir(&fresh, &target)
    }

    fn libmlx(&self) -> String {
        self.host.shared_library("mlx")
    }
}

fn define(name: &str, value: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(format!("-D{name}="));
    argument.push(value);
    argument
}

/// One compiler a core; each takes most of a gigabyte, so not one more.
fn jobs() -> String {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .to_string()
}

/// The folder of a prefix that has the libraries.
pub(crate) fn library_dir(prefix: &Path) -> PathBuf {
    prefix.join("mlx").join("lib")
}
