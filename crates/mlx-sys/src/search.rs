//! Where the native library is looked for.
//!
//! In this order: the folder that `MLX_NATIVE_DIR` names when the program starts, and then nothing
//! else; a folder beside the executable, for an archive that is unpacked anywhere; the prefixes of
//! the checkout that this crate was compiled in. The last one is what lets a program outside the
//! workspace run with no setting at all.

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
    // Set where MLX_NATIVE_DIR was when this crate was compiled.
    let given = option_env!("MLX_SYS_NATIVE_DIR").map(PathBuf::from);
    if given.is_none() {
        roots.push(PathBuf::from(env!("MLX_SYS_PREFIXES")));
    }
    let backends = backends(choice);
    let each = |root: PathBuf| {
        backends
            .iter()
            .map(move |backend| root.join(backend.to_string()))
    };
    // Not by backend first: what lies beside the program belongs to it.
    roots.into_iter().flat_map(each).chain(given).collect()
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
    fn the_checkout_that_compiled_this_is_searched_last_and_every_choice_names_its_folder() {
        for choice in [Choice::Cpu, Choice::Cuda, Choice::Metal] {
            let found = prefixes(choice);
            let folder = backends(choice)[0].to_string();
            let checkout = Path::new(env!("MLX_SYS_PREFIXES")).join(&folder);
            assert!(option_env!("MLX_SYS_NATIVE_DIR").is_some() || found.last() == Some(&checkout));
        }
    }
}
