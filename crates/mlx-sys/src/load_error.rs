//! Why the native library could not be used.

use std::path::PathBuf;

use crate::Choice;

/// Why the native library could not be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// No library where one could be.
    #[error(
        "the native MLX library for {choice} was not found (looked in {}); build it with \
         `cargo xtask build{}` in the source of this program's backend, or, if the cache was \
         emptied, build this program again", list(looked), build_option(*choice)
    )]
    Missing {
        /// What was asked for.
        choice: Choice,
        /// Every folder that was looked in.
        looked: Vec<PathBuf>,
    },
    /// No library where `MLX_NATIVE_DIR` says.
    #[error(
        "MLX_NATIVE_DIR is {}, which has no native MLX library (looked in it and in its lib and \
         mlx/lib folders); correct it, or unset it to use the library of `cargo xtask build`",
        dir.display()
    )]
    NativeDir {
        /// What the variable says.
        dir: PathBuf,
    },
    /// The library is there, and the system could not open it.
    #[error("cannot open {}: {reason}; {}", path.display(), remedy(reason))]
    Open {
        /// The library.
        path: PathBuf,
        /// What the dynamic linker said.
        reason: String,
    },
    /// The library is of another version of this project.
    #[error(
        "{} was built from another version of this project (interface {found}, needed {needed}); \
         rebuild it with `cargo xtask build`", path.display()
    )]
    Version {
        /// The library.
        path: PathBuf,
        /// The version of its interface; 0 if it does not say.
        found: i32,
        /// The version that this crate was compiled with.
        needed: i32,
    },
    /// `MLX_NATIVE_DIR` names a library that does not compute on the device asked for.
    #[error(
        "{} is the MLX library for {found}, but {wanted} was asked for; change MLX_NATIVE_DIR",
        path.display()
    )]
    Backend {
        /// The library.
        path: PathBuf,
        /// What it was built for.
        found: Choice,
        /// What was asked for.
        wanted: Choice,
    },
    /// A choice was made after another library had been opened.
    #[error(
        "the native MLX library for {asked} was asked for, but the one for {loaded} is in use; a \
         program opens one"
    )]
    AlreadyLoaded {
        /// The choice that came too late.
        asked: Choice,
        /// The choice in effect.
        loaded: Choice,
    },
}

fn list(folders: &[PathBuf]) -> String {
    folders
        .iter()
        .map(|f| f.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn build_option(choice: Choice) -> String {
    if choice == Choice::Auto {
        String::new()
    } else {
        format!(" --backend {choice}")
    }
}

/// What to do about the dynamic linker's complaint.
fn remedy(reason: &str) -> String {
    if reason.contains("libcuda.so") {
        "it needs an NVIDIA GPU and its driver (580 or newer)".to_owned()
    } else if reason.contains("GLIBC") {
        "this system is older than MLX supports (glibc 2.35)".to_owned()
    } else if let Some(package) = nvidia_package(reason) {
        format!(
            "it needs NVIDIA's libraries: put the folder that has this one on LD_LIBRARY_PATH, or \
             `pip install {package}` with --target the folder that holds `mlx`"
        )
    } else {
        "rebuild it with `cargo xtask build`".to_owned()
    }
}

/// NVIDIA's libraries that MLX uses, and the packages of pip that bring them.
const NVIDIA: [(&str, &str); 7] = [
    ("libcublas", "nvidia-cublas"),
    ("libcudart", "nvidia-cuda-runtime"),
    ("libcudnn", "nvidia-cudnn-cu13"),
    ("libcufft", "nvidia-cufft"),
    ("libnccl", "nvidia-nccl-cu13"),
    ("libnvJitLink", "nvidia-nvjitlink"),
    ("libnvrtc", "nvidia-cuda-nvrtc"),
];

/// The package that brings the library which the dynamic linker did not find.
fn nvidia_package(reason: &str) -> Option<&'static str> {
    let found = NVIDIA.iter().find(|(library, _)| reason.contains(library));
    found
        .filter(|_| reason.contains("No such file"))
        .map(|(_, package)| *package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_where_it_comes_from() {
        let open = |reason: &str| LoadError::Open {
            path: "l.so".into(),
            reason: reason.to_owned(),
        };
        let missing = "libcuda.so.1: cannot open shared object file: No such file or directory";
        assert!(open(missing).to_string().ends_with("driver (580 or newer)"));
        let old = "/lib/libc.so.6: version `GLIBC_2.35' not found";
        assert!(open(old).to_string().contains("older than MLX supports"));
        let absent = "libcudnn.so.9: cannot open shared object file: No such file or directory";
        let told = open(absent).to_string();
        assert!(told.contains("libcudnn.so.9") && told.contains("pip install nvidia-cudnn-cu13"));
        assert!(
            open("invalid ELF header")
                .to_string()
                .contains("cargo xtask build")
        );
    }
}
