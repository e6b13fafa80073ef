//! Makes sure that the native library for a target is there.

use std::env;
use std::path::{Path, PathBuf};

use crate::bridge::{Bridge, LIBRARY, library_dir};
use crate::build::Build;
use crate::error::{Error, IoContext, Result};
use crate::machine::Machine;
use crate::pins::Wheel;
use crate::{Backend, files, glibc, stamp, target};

/// Names a prefix to use instead of building one.
pub const NATIVE_DIR_VARIABLE: &str = "MLX_NATIVE_DIR";

/// Variables that change what the compiler makes.
pub const COMPILER_VARIABLES: [&str; 4] = ["CXX", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"];

/// A native library to be made.
#[derive(Clone, Debug)]
pub struct Native<'a> {
    /// The folder of the C++ bridge and of the CMake project that builds it together with mlx-c.
    pub csrc: &'a Path,
    /// What it computes on.
    pub backend: Backend,
    /// The machine that will run it.
    pub target: Machine,
}

/// A folder with the native libraries.
#[derive(Clone, Debug)]
pub struct NativePrefix {
    /// All of it: MLX's wheel as it is unpacked, the bridge, and the C headers in `include`.
    pub folder: PathBuf,
    /// The folder in it that has libmlx and the bridge.
    pub library_dir: PathBuf,
    /// The bridge.
    pub library: PathBuf,
}

impl NativePrefix {
    fn new(folder: PathBuf, library_dir: PathBuf, target: &Machine) -> Self {
        Self {
            library: library_dir.join(target.shared_library(LIBRARY)),
            library_dir,
            folder,
        }
    }
}

/// Makes a native library unless it is there.
///
/// `progress` gets a line for each thing being done, and none where there is nothing to do.
/// With `MLX_NATIVE_DIR` set, the prefix it names is used and nothing is built.
///
/// # Errors
/// What is missing (Python, pip, a compiler, the network), which file has a wrong checksum, or
/// which step failed: each [`Error`] is one line that says what to do.
pub fn ensure(native: &Native<'_>, progress: &dyn Fn(&str)) -> Result<NativePrefix> {
    if let Some(dir) = env::var_os(NATIVE_DIR_VARIABLE).filter(|dir| !dir.is_empty()) {
        return given(Path::new(&dir), &native.target);
    }
    target::check(native.backend, &native.target)?;
    let build = Build::new(progress)?;
    let made = build.prefix(native)?;
    // It is put in place complete, so there is nothing else to look at.
    if !made.library.is_file() {
        build.locked(|| match made.library.is_file() {
            true => Ok(()),
            false => build.make(native, &made.folder),
        })?;
    }
    Ok(made)
}

/// Where a native library is, or will be once [`ensure`] made it.
///
/// # Errors
/// If there can be none for the target, or no cache.
pub fn place(native: &Native<'_>) -> Result<NativePrefix> {
    target::check(native.backend, &native.target)?;
    Build::new(&|_| {})?.prefix(native)
}

/// The prefix that `MLX_NATIVE_DIR` names.
fn given(dir: &Path, target: &Machine) -> Result<NativePrefix> {
    let library = target.shared_library(LIBRARY);
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
    Ok(NativePrefix::new(dir.to_owned(), library_dir, target))
}

impl Build<'_> {
    /// Where the library is: its name has the digest of all that it is made from.
    pub(crate) fn prefix(&self, native: &Native<'_>) -> Result<NativePrefix> {
        let Native {
            csrc,
            backend,
            target,
        } = native;
        let (bridge, settings) = (
            stamp::of_folder(csrc)?,
            target::settings(target, &self.host),
        );
        let wheels = self.wheels_of(*backend, target)?;
        let mut variables = COMPILER_VARIABLES.map(str::to_owned).to_vec();
        if !target.is_native_to(&self.host) {
            variables.extend(target::cross_variables(target));
        }
        let values: Vec<_> = variables.iter().map(env::var_os).collect();

        let mut inputs = vec![
            ("bridge", bridge.as_bytes()),
            ("mlx-c", vendor::MLX_C_LOCK.as_bytes()),
        ];
        inputs.extend(
            wheels
                .iter()
                .map(|wheel| ("wheel", wheel.sha256.as_bytes())),
        );
        inputs.extend(
            settings
                .iter()
                .map(|setting| ("setting", setting.as_bytes())),
        );
        for (name, value) in variables.iter().zip(&values) {
            let value = value.as_deref().unwrap_or_default();
            inputs.push((name, value.as_encoded_bytes()));
        }
        let name = format!("{backend}-{target}-{}", stamp::of(&inputs));
        let folder = self.cache.native().join(name);
        let library_dir = library_dir(&folder);
        Ok(NativePrefix::new(folder, library_dir, target))
    }

    /// The pinned wheels that make up a library.
    pub(crate) fn wheels_of(&self, backend: Backend, target: &Machine) -> Result<Vec<&Wheel>> {
        Ok(match backend {
            Backend::Cpu => vec![self.pins.one("mlx-cpu", target)?],
            Backend::Metal => vec![self.pins.one("mlx-metal", target)?],
            Backend::Cuda => self.pins.all("mlx-cuda", target)?,
        })
    }

    /// Where the wheels of a library are unpacked; several libraries may share them.
    pub(crate) fn mlx_folder(&self, backend: Backend, wheels: &[&Wheel]) -> PathBuf {
        self.unpacked_folder(&format!("mlx-{backend}"), wheels)
    }

    /// Makes a library in `folder`, which is complete or absent.
    fn make(&self, native: &Native<'_>, folder: &Path) -> Result<()> {
        let Native {
            csrc,
            backend,
            target,
        } = native;
        let wheels = self.wheels_of(*backend, target)?;
        if target.is_native_to(&self.host) {
            wheels.iter().try_for_each(|wheel| glibc::check(wheel))?;
        }
        let work = self.work_folder(native);
        // Before anything is fetched, which is no use without a compiler.
        let compiler = self.compiler(target, &work)?;
        let mlx = self.unpacked(&format!("mlx-{backend}"), &wheels)?;
        let bridge = self.bridge(&Bridge {
            csrc,
            mlx: &mlx,
            work: &work,
            target,
            compiler,
            backend: *backend,
        })?;

        let temporary = files::temp_beside(folder)?;
        let fresh = temporary.path().join("fresh");
        files::link_dir(&mlx, &fresh)?;
        bridge.install(&fresh)?;
        files::publish(&fresh, folder)
    }

    /// Where cmake works for a library of this checkout.
    pub(crate) fn work_folder(&self, native: &Native<'_>) -> PathBuf {
        let checkout = stamp::of(&[("csrc", native.csrc.as_os_str().as_encoded_bytes())]);
        let name = format!("{}-{}-{checkout}", native.backend, native.target);
        self.cache.builds().join(name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cache::Cache;
    use crate::pins::Pins;

    #[test]
    fn the_name_changes_with_whatever_the_library_is_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let csrc = folder.path().join("csrc");
        fs::create_dir(&csrc).unwrap();
        let source = csrc.join("a.cpp");
        fs::write(&source, "first").unwrap();
        let pins = |digest: &str| {
            let wheel = |role: &str, host: &str, name: &str| {
                format!(
                    "[[wheel]]\nrole = '{role}'\nhost = '{host}'\n\
                     file = '{name}-1-py3-none-any.whl'\nsha256 = '{}'\n",
                    digest.repeat(64)
                )
            };
            let wheels = [
                wheel("mlx-cpu", "linux-x86_64", "a"),
                wheel("mlx-cpu", "linux-aarch64", "a"),
                wheel("mlx-cuda", "linux-x86_64", "a"),
            ];
            Pins::parse(&wheels.concat()).unwrap()
        };
        let name = |pins: Pins, backend, arch: &str| {
            let build = Build::with(pins, Cache::at("/cache"), &|_| {});
            let target = Machine::of("linux", arch);
            let native = Native {
                csrc: &csrc,
                backend,
                target,
            };
            let prefix = build.prefix(&native).unwrap();
            assert!(prefix.library.starts_with("/cache/native"));
            prefix.folder
        };
        let first = name(pins("0"), Backend::Cpu, "x86_64");
        assert_eq!(name(pins("0"), Backend::Cpu, "x86_64"), first);
        assert_ne!(name(pins("1"), Backend::Cpu, "x86_64"), first);
        assert_ne!(name(pins("0"), Backend::Cuda, "x86_64"), first);
        assert_ne!(name(pins("0"), Backend::Cpu, "aarch64"), first);
        fs::write(&source, "other").unwrap();
        assert_ne!(name(pins("0"), Backend::Cpu, "x86_64"), first);
    }
}
