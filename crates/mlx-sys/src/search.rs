//! Where the native library is looked for.
//!
//! In this order: the folder that `MLX_NATIVE_DIR` names when the program starts, and then nothing
//! else; a folder beside the executable, for an archive that is unpacked anywhere; the prefixes in
//! the user's cache that this crate was compiled with. The last ones are what lets a program outside
//! the workspace run with no setting at all.

use std::env;
use std::path::{Path, PathBuf};

use crate::{Choice, LoadError};

/// The library, or where it was looked for in vain.
pub(crate) fn find(choice: Choice) -> Result<PathBuf, LoadError> {
    if let Some(dir) = env::var_os("MLX_NATIVE_DIR").filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        return library_in(&dir).ok_or(LoadError::NativeDir { dir });
    }
    let looked = prefixes(choice);
    let found = looked.iter().find_map(|prefix| library_in(prefix));
    found.ok_or(LoadError::Missing { choice, looked })
}

/// The folders that may be a prefix, best first.
fn prefixes(choice: Choice) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    if let Some(bin) = env::current_exe().ok().as_deref().and_then(Path::parent) {
        roots.push(bin.join("native"));
        roots.extend(bin.parent().map(|above| above.join("lib").join("native")));
    }
    let backends = backends(choice);
    let each = |root: PathBuf| {
        backends
            .iter()
            .map(move |backend| root.join(backend.to_string()))
    };
    // Not by backend first: what lies beside the program belongs to it.
    let compiled_in = backends.iter().filter_map(|backend| compiled_in(*backend));
    let mut found: Vec<_> = roots
        .into_iter()
        .flat_map(each)
        .chain(compiled_in)
        .collect();
    // All would be this one where MLX_NATIVE_DIR was set when this crate was compiled.
    found.dedup();
    found
}

/// Where build.rs says that the library of a backend is, or will be.
fn compiled_in(backend: Choice) -> Option<PathBuf> {
    let place = match backend {
        Choice::Auto => None,
        Choice::Cpu => option_env!("MLX_SYS_PREFIX_CPU"),
        Choice::Cuda => option_env!("MLX_SYS_PREFIX_CUDA"),
        Choice::Metal => option_env!("MLX_SYS_PREFIX_METAL"),
    };
    // Set where MLX_NATIVE_DIR was when this crate was compiled.
    option_env!("MLX_SYS_NATIVE_DIR")
        .or(place)
        .map(PathBuf::from)
}

/// The libraries that fulfil a choice, best first.
fn backends(choice: Choice) -> Vec<Choice> {
    match choice {
        // Apple's computes on the processor as well, and is the only one there is for a Mac.
        Choice::Auto | Choice::Cpu if cfg!(target_os = "macos") => vec![Choice::Metal],
        Choice::Auto if has_nvidia_gpu() => vec![Choice::Cuda, Choice::Cpu],
        Choice::Auto => vec![Choice::Cpu],
        chosen => vec![chosen],
    }
}

/// The library in a prefix.
///
/// A prefix of ours keeps the wheel's folders; an archive may have the files in `lib` or at its top.
fn library_in(prefix: &Path) -> Option<PathBuf> {
    let name = if cfg!(target_os = "macos") {
        "libmlxbridge.dylib"
    } else {
        "libmlxbridge.so"
    };
    [
        prefix.join("mlx").join("lib"),
        prefix.join("lib"),
        prefix.to_owned(),
    ]
    .into_iter()
    .map(|dir| dir.join(name))
    .find(|file| file.is_file())
}

/// Whether the NVIDIA driver finds a GPU.
///
/// The driver's own library is asked, because it may be there without a GPU, as in a container, and
/// MLX's CUDA library is then no use at all.
fn has_nvidia_gpu() -> bool {
    if !cfg!(target_os = "linux") {
        return false;
    }
    type CuInit = unsafe extern "C" fn(u32) -> i32;
    type CuDeviceGetCount = unsafe extern "C" fn(*mut i32) -> i32;
    let mut count = 0;
    // SAFETY: the two functions have these types since CUDA 2; they may be called in this order
    // from any thread, and `count` is valid for the call.
    let asked = unsafe {
        libloading::Library::new("libcuda.so.1").and_then(|driver| {
            let init: libloading::Symbol<'_, CuInit> = driver.get(b"cuInit\0")?;
            let get_count: libloading::Symbol<'_, CuDeviceGetCount> =
                driver.get(b"cuDeviceGetCount\0")?;
            let ok = init(0) == 0 && get_count(&mut count) == 0;
            // MLX opens it again; closing a driver that has been started is asking for trouble.
            std::mem::forget(driver);
            Ok(ok)
        })
    };
    asked.unwrap_or(false) && count > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compiled_in_is_searched_last() {
        let here = if cfg!(target_os = "macos") {
            &[Choice::Metal][..]
        } else {
            &[Choice::Cpu, Choice::Cuda]
        };
        for &choice in here {
            let place = compiled_in(choice).expect("build.rs names one for each backend");
            assert_eq!(prefixes(choice).last(), Some(&place));
            assert!(place.is_absolute(), "{}", place.display());
        }
        let other = if cfg!(target_os = "macos") {
            Choice::Cuda
        } else {
            Choice::Metal
        };
        assert!(option_env!("MLX_SYS_NATIVE_DIR").is_some() || compiled_in(other).is_none());
    }
}
