//! Makes sure that a backend's prefix is there and current.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::bridge::{LIBRARY, Target, library_dir};
use crate::build::Build;
use crate::compiler::Compiler;
use crate::error::{Error, IoContext, Result};
use crate::host::Host;
use crate::layout::Layout;
use crate::pins::Wheel;
use crate::{Backend, files, glibc, stamp};

/// Names a prefix to use instead of building one.
pub const NATIVE_DIR_VARIABLE: &str = "MLX_NATIVE_DIR";

/// The file in a prefix that holds the digest of what it was made from.
const STAMP: &str = "stamp";

/// A folder with the native libraries.
#[derive(Clone, Debug)]
pub struct NativePrefix {
    /// The folder that has libmlx and the bridge.
    pub library_dir: PathBuf,
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
    check_host(backend, &build.host)?;
    let folder = layout.prefix(backend);
    let library = library_dir(&folder).join(build.host.shared_library(LIBRARY));
    let inputs = stamp::of_inputs(&layout, &build.host, backend.name())?;
    make(&build, &folder, &library, &inputs, || {
        // Before anything is fetched, which is no use without a compiler.
        let compiler = Compiler::find()?;
        build.wheels(&build.wheels_of(backend)?, &folder)?;
        let host = build.host.clone();
        build.bridge(&Target {
            prefix: &folder,
            host,
            compiler,
            backend,
            settings: &[],
        })
    })?;
    Ok(NativePrefix {
        library_dir: library_dir(&folder),
    })
}

/// Refuses a backend that is another system's, before anything is fetched.
fn check_host(backend: Backend, host: &Host) -> Result<()> {
    let advice = match (backend, host.is_macos()) {
        (Backend::Metal, false) => "it needs a Mac; `cargo xtask check-metal` compiles it here",
        (Backend::Cpu, true) => "the metal library computes on the processor too",
        (Backend::Cuda, true) => "it needs Linux",
        _ => return Ok(()),
    };
    Err(Error::UnsupportedBackend {
        backend,
        host: host.to_string(),
        advice,
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
    fn wheels_of(&self, backend: Backend) -> Result<Vec<&Wheel>> {
        let wheels = match backend {
            Backend::Cpu => vec![self.pins.one("mlx-cpu", &self.host)?],
            Backend::Metal => vec![self.pins.one("mlx-metal", &self.host)?],
            Backend::Cuda => self.pins.all("mlx-cuda", &self.host)?,
        };
        wheels.iter().try_for_each(|wheel| glibc::check(wheel))?;
        Ok(wheels)
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
        let library_dir = library_dir
            .canonicalize()
            .at("cannot resolve", &library_dir)?;
        Ok(NativePrefix { library_dir })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_of_another_system_is_refused_with_advice() {
        let refused = |backend, os| {
            check_host(backend, &Host::of(os, "aarch64"))
                .unwrap_err()
                .to_string()
        };
        assert!(refused(Backend::Metal, "linux").contains("check-metal"));
        assert!(refused(Backend::Cpu, "macos").contains("cannot be built on macos-aarch64"));
        assert!(refused(Backend::Cuda, "macos").contains("Linux"));
        for (backend, os) in [
            (Backend::Cpu, "linux"),
            (Backend::Cuda, "linux"),
            (Backend::Metal, "macos"),
        ] {
            check_host(backend, &Host::of(os, "aarch64")).unwrap();
        }
    }
}
