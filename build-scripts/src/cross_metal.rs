//! Builds the library for Apple GPUs on a machine that is not a Mac.
//!
//! It cannot run here; that it compiles and links is the one check of the Metal side that needs no
//! Mac. The compiler and linker are zig's, from a pinned wheel, with the C and C++ libraries of
//! macOS 14 that it carries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Backend;
use crate::bridge::{LIBRARY, Target, library_dir};
use crate::build::Build;
use crate::compiler::Compiler;
use crate::error::{IoContext, Result};
use crate::host::Host;
use crate::layout::Layout;
use crate::{files, prefix, stamp};

/// The folder of its prefix.
const NAME: &str = "metal-cross";

/// What [`cross_metal`] made.
#[derive(Clone, Debug)]
pub struct CrossMetal {
    /// The bridge, a Mach-O library for arm64.
    pub library: PathBuf,
    /// The libmlx that it was linked against.
    pub libmlx: PathBuf,
    /// The folder of the C headers whose functions it must have.
    pub include_dir: PathBuf,
}

/// Makes the macOS arm64 library in this repository unless it is there and current.
///
/// # Errors
/// As [`crate::ensure`]; a symbol that libmlx does not have fails at the linking step.
pub fn cross_metal(progress: &dyn Fn(&str)) -> Result<CrossMetal> {
    let layout = Layout::of_this_repository();
    let build = Build::new(&layout, progress)?;
    let (folder, mac) = (layout.prefixes().join(NAME), Host::of("macos", "aarch64"));
    let library = library_dir(&folder).join(mac.shared_library(LIBRARY));
    let inputs = stamp::of_inputs(&layout, &build.host, NAME)?;
    prefix::make(&build, &folder, &library, &inputs, || {
        build.wheels(&[build.pins.one("mlx-metal", &build.host)?], &folder)?;
        let compiler = Compiler::at(&build.zig_compiler(&folder)?);
        // The first use of zig compiles a C++ library for the target; afterwards it is cached.
        build.say("preparing the compiler for macOS (the first time takes a minute)");
        build.bridge(&Target {
            prefix: &folder,
            host: mac.clone(),
            compiler,
            backend: Backend::Metal,
            settings: &[
                "-DCMAKE_SYSTEM_NAME=Darwin",
                "-DCMAKE_SYSTEM_PROCESSOR=arm64",
            ],
        })
    })?;
    Ok(CrossMetal {
        library,
        libmlx: library_dir(&folder).join(mac.shared_library("mlx")),
        include_dir: folder.join("include"),
    })
}

impl Build<'_> {
    /// A script that calls zig's C++ compiler for macOS, because cmake wants one program.
    ///
    /// The two macros stand for those of Apple's math.h, which name a function of its library
    /// where MLX's headers need a constant.
    fn zig_compiler(&self, folder: &Path) -> Result<PathBuf> {
        let zig = self.tool("ziglang")?.join("ziglang/zig");
        let cache = self.layout.tools().join("zig-cache");
        let script = format!(
            "#!/bin/sh\n\
             export ZIG_GLOBAL_CACHE_DIR={cache} ZIG_LOCAL_CACHE_DIR={cache}\n\
             exec {zig} c++ -target aarch64-macos.14.0 '-DINFINITY=__builtin_inff()' \
             '-DNAN=__builtin_nanf(\"\")' \"$@\"\n",
            cache = quoted(&cache),
            zig = quoted(&zig),
        );
        let file = folder.join("zig-c++");
        files::write_atomic(&file, script.as_bytes())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).at("cannot change", &file)?;
        Ok(file)
    }
}

/// A path as the shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
