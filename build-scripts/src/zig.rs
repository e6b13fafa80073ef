//! A C++ compiler for macOS on a machine that is not a Mac.
//!
//! What it makes cannot run here; that it compiles and links is the one check of the Metal side
//! that needs no Mac. The compiler and linker are zig's, from a pinned wheel, with the C and C++
//! libraries of macOS that it carries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::build::Build;
use crate::error::{IoContext, Result};
use crate::files;

/// What zig calls the target: a Mac, and the oldest macOS that MLX runs on.
const TARGET: &str = "aarch64-macos.14.0";

/// Where a Mac has iconv. Rust's libc crate links it by name, which nothing here calls into; zig does
/// not know of it.
const ICONV: &str = "--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos ]
install-name: '/usr/lib/libiconv.2.dylib'
exports:
  - targets: [ arm64-macos ]
    symbols: [ ]
...
";

/// A program that links for macOS, as rustc takes a linker.
///
/// # Errors
/// As [`crate::ensure`].
pub fn mac_linker(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let build = Build::new(progress)?;
    let folder = build.cache.builds().join("zig");
    let libraries = folder.join("libraries");
    let command = format!("cc -target {TARGET} -L{}", quoted(&libraries));
    build.locked(|| {
        files::create_dir(&libraries)?;
        files::write_atomic(&libraries.join("libiconv.tbd"), ICONV.as_bytes())?;
        build.zig_script(&folder, "zig-cc", &command)
    })
}

impl Build<'_> {
    /// A script in `folder` that calls zig's C++ compiler for macOS, because cmake wants one program.
    ///
    /// The two macros stand for those of Apple's math.h, which name a function of its library
    /// where MLX's headers need a constant.
    pub(crate) fn zig_compiler(&self, folder: &Path) -> Result<PathBuf> {
        // The first use of zig compiles a C++ library for the target; afterwards it is cached.
        self.say("preparing the compiler for macOS (the first time takes a minute)");
        let command = format!(
            "c++ -target {TARGET} '-DINFINITY=__builtin_inff()' '-DNAN=__builtin_nanf(\"\")'"
        );
        self.zig_script(folder, "zig-c++", &command)
    }

    /// A script `name` in `folder` that is one of zig's commands.
    fn zig_script(&self, folder: &Path, name: &str, command: &str) -> Result<PathBuf> {
        let zig = self.tool("ziglang")?.join("ziglang/zig");
        let cache = self.cache.builds().join("zig");
        let script = format!(
            "#!/bin/sh\n\
             export ZIG_GLOBAL_CACHE_DIR={cache} ZIG_LOCAL_CACHE_DIR={cache}\n\
             exec {zig} {command} \"$@\"\n",
            cache = quoted(&cache),
            zig = quoted(&zig),
        );
        files::create_dir(folder)?;
        let file = folder.join(name);
        files::write_atomic(&file, script.as_bytes())?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).at("cannot change", &file)?;
        Ok(file)
    }
}

/// A path as the shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}
