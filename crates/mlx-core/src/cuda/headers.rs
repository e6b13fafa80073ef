//! Where CUDA's own headers (`cuda_bf16.h` and the like) are.
//!
//! The compiler has none built in. They come with pip's libraries, beside the compiler's own
//! folder, or with a toolkit; a kernel that includes none of them needs neither.

use std::env;
use std::path::{Path, PathBuf};

/// A header that is in every such folder.
const ONE_OF_THEM: &str = "cuda_bf16.h";

/// The folder with CUDA's headers, if there is one: below the prefix of the native library, beside
/// `compiler` (a library's file) or a library that `LD_LIBRARY_PATH` leads to, or a toolkit's.
pub(super) fn find(compiler: Option<&Path>) -> Option<PathBuf> {
    let beside = |library_dir: &Path| library_dir.parent().map(|above| above.join("include"));
    let mut candidates = Vec::new();
    candidates.extend(compiler.and_then(Path::parent).and_then(beside));
    // <prefix>/mlx/lib/libmlxbridge.so
    let prefix = mlx_sys::loaded()
        .ok()
        .and_then(|loaded| loaded.path.ancestors().nth(3));
    candidates.extend(prefix.map(|prefix| prefix.join("nvidia/cu13/include")));
    if let Some(path) = env::var_os("LD_LIBRARY_PATH") {
        candidates.extend(env::split_paths(&path).filter_map(|dir| beside(&dir)));
    }
    let toolkits = ["CUDA_HOME", "CUDA_PATH"]
        .iter()
        .filter_map(|name| env::var_os(name).map(PathBuf::from))
        .chain([PathBuf::from("/usr/local/cuda")]);
    candidates.extend(toolkits.map(|toolkit| toolkit.join("include")));
    candidates
        .into_iter()
        .find(|dir| dir.join(ONE_OF_THEM).is_file())
}
