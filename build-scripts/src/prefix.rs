//! Makes sure that a backend's prefix is there and current.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::bridge::{LIBRARY, Target, library_dir};
use crate::build::Build;
use crate::error::{Error, IoContext, Result};
use crate::layout::Layout;
use crate::{Backend, compiler, files, stamp};

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
    let layout = Layout::of_this_repository();
    let build = Build::new(&layout, progress)?;
    if let Some(dir) = env::var_os(NATIVE_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        return build.given(Path::new(&dir));
    }
    let folder = layout.prefix(backend);
    let library = library_dir(&folder).join(build.host.shared_library(LIBRARY));
    let inputs = stamp::of_inputs(&layout, &build.host, backend.name())?;
    make(&build, &folder, &library, &inputs, || {
        // Before anything is fetched: it is no use without a compiler.
        let compiler = compiler::find()?;
        build.wheels(&build.wheels_of(backend)?, &folder)?;
        build.bridge(&Target {
            prefix: &folder,
            host: build.host.clone(),
            compiler,
            settings: &[],
        })
    })?;
    Ok(NativePrefix {
        library_dir: library_dir(&folder),
        include_dirs: vec![folder.join("include")],
        libclang_dir: build.libclang()?,
    })
}

/// Runs `work` unless `library` is there and its prefix was made from `inputs`; one process at a
/// time does.
pub(crate) fn make(
    build: &Build<'_>,
    prefix: &Path,
    library: &Path,
    inputs: &str,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stamp = prefix.join(STAMP);
    let current =
        || library.is_file() && fs::read_to_string(&stamp).is_ok_and(|found| found == inputs);
    if current() {
        return Ok(());
    }
    build.locked(|| {
        if current() {
            return Ok(());
        }
        work()?;
        files::write_atomic(&stamp, inputs.as_bytes())
    })
}

impl Build<'_> {
    /// The pinned wheels that make up a backend's prefix.
    fn wheels_of(&self, backend: Backend) -> Result<Vec<&crate::pins::Wheel>> {
        Ok(match backend {
            Backend::Cpu => vec![self.pins.one("mlx-cpu", &self.host)?],
            Backend::Metal => vec![self.pins.one("mlx-metal", &self.host)?],
            Backend::Cuda => self.pins.all("mlx-cuda", &self.host)?,
        })
    }

    /// The prefix that `MLX_NATIVE_DIR` names.
    fn given(&self, dir: &Path) -> Result<NativePrefix> {
        let library = self.host.shared_library(LIBRARY);
        let library_dir = [library_dir(dir), dir.join("lib"), dir.to_owned()]
            .into_iter()
            .find(|candidate| candidate.join(&library).is_file())
            .ok_or_else(|| Error::NativeDir {
                dir: dir.to_owned(),
                library,
            })?;
        let own = dir.join("include");
        let include_dirs = if own.join("mlxb.h").is_file() {
            vec![own]
        } else {
            vec![self.locked(|| self.mlx_c())?, self.layout.csrc()]
        };
        Ok(NativePrefix {
            library_dir,
            include_dirs,
            libclang_dir: self.libclang()?,
        })
    }

    /// Runs `work` while no other process builds in this checkout.
    pub(crate) fn locked<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let folder = self.layout.prefixes();
        files::create_dir(&folder)?;
        let path = folder.join(".lock");
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.at("cannot open", &path)?;
        if file.try_lock().is_err() {
            self.say("waiting for another build to finish");
            file.lock().at("cannot lock", &path)?;
        }
        work()
    }
}
