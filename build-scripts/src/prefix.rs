//! Makes sure that a backend's prefix is there and current.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::bridge::{LIBRARY, library_dir};
use crate::build::Build;
use crate::error::{Error, IoContext, Result};
use crate::host::Host;
use crate::layout::Layout;
use crate::{Backend, files, stamp};

/// Names a prefix to use instead of building one.
pub const NATIVE_DIR_VARIABLE: &str = "MLX_NATIVE_DIR";

/// The file in a prefix that holds the digest of what it was made from.
const STAMP: &str = "stamp";

/// A folder with the native libraries, their C headers, and what bindgen needs.
#[derive(Clone, Debug)]
pub struct NativePrefix {
    /// The folder that has libmlx and the bridge.
    pub library_dir: PathBuf,
    /// Folders for the compiler's `-I`.
    pub include_dirs: Vec<PathBuf>,
    /// The folder of libclang.
    pub libclang_dir: PathBuf,
}

/// Makes the prefix of `backend` in this repository unless it is there and current.
///
/// `progress` gets a line for each thing being done, and none where there is nothing to do.
/// With `MLX_NATIVE_DIR` set, the prefix it names is used and nothing is built.
///
/// # Errors
/// What is missing (Python, pip, a compiler, the network), which file has a wrong checksum, or
/// which step failed: each [`Error`] is one line that says what to do.
pub fn ensure(backend: Backend, progress: &dyn Fn(&str)) -> Result<NativePrefix> {
    ensure_in(&Layout::of_this_repository(), backend, progress)
}

/// [`ensure`] for the checkout that `layout` describes.
pub fn ensure_in(
    layout: &Layout,
    backend: Backend,
    progress: &dyn Fn(&str),
) -> Result<NativePrefix> {
    let build = Build::new(layout, progress)?;
    if let Some(dir) = env::var_os(NATIVE_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        return build.given(Path::new(&dir));
    }
    let prefix = layout.prefix(backend);
    let inputs = stamp::of_inputs(layout, &build.host, backend)?;
    if !is_current(&prefix, &inputs) || build.libclang_missing() {
        let _lock = lock(layout, progress)?;
        if !is_current(&prefix, &inputs) {
            build.wheels_of(backend, &prefix)?;
            build.bridge(&prefix)?;
            files::write_atomic(&prefix.join(STAMP), inputs.as_bytes())?;
        }
        build.libclang()?;
    }
    Ok(NativePrefix {
        library_dir: library_dir(&prefix),
        include_dirs: vec![prefix.join("include")],
        libclang_dir: build.libclang()?,
    })
}

impl Build<'_> {
    /// Unpacks the wheels of a backend into its prefix, unless they are there.
    fn wheels_of(&self, backend: Backend, prefix: &Path) -> Result<()> {
        let mut wheels = Vec::new();
        for role in backend.roles() {
            if *role == "nvidia" {
                wheels.extend(self.pins.all(role, &self.host)?);
            } else {
                wheels.push(self.pins.one(role, &self.host)?);
            }
        }
        let digests: String = wheels.iter().map(|w| format!("{}\n", w.sha256)).collect();
        let marker = prefix.join("wheels");
        if fs::read_to_string(&marker).is_ok_and(|found| found == digests) {
            return Ok(());
        }
        self.unpack(&wheels, prefix)?;
        files::write_atomic(&marker, digests.as_bytes())
    }

    /// Whether bindgen's libclang must still be unpacked.
    fn libclang_missing(&self) -> bool {
        !self.layout.tools().join("libclang").exists()
    }

    /// The prefix that `MLX_NATIVE_DIR` names.
    fn given(&self, dir: &Path) -> Result<NativePrefix> {
        let library = self.host.shared_library(LIBRARY);
        let library_dir = [dir.to_owned(), dir.join("lib"), library_dir(dir)]
            .into_iter()
            .find(|candidate| candidate.join(&library).is_file())
            .ok_or_else(|| Error::NativeDir {
                dir: dir.to_owned(),
                library,
            })?;
        let own = dir.join("include");
        let _lock = lock(self.layout, &|_| {})?;
        let include_dirs = if own.join("mlxb.h").is_file() {
            vec![own]
        } else {
            vec![self.mlx_c()?, self.layout.csrc()]
        };
        Ok(NativePrefix {
            library_dir,
            include_dirs,
            libclang_dir: self.libclang()?,
        })
    }
}

fn is_current(prefix: &Path, inputs: &str) -> bool {
    let library = library_dir(prefix).join(Host::current().shared_library(LIBRARY));
    library.is_file() && fs::read_to_string(prefix.join(STAMP)).is_ok_and(|found| found == inputs)
}

/// Waits until no other process builds in this checkout; held until dropped.
fn lock(layout: &Layout, progress: &dyn Fn(&str)) -> Result<File> {
    let folder = layout.prefixes();
    files::create_dir(&folder)?;
    let path = folder.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .at("cannot open", &path)?;
    if file.try_lock().is_err() {
        progress("waiting for another build to finish");
        file.lock().at("cannot lock", &path)?;
    }
    Ok(file)
}
