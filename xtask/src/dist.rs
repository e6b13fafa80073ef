//! `cargo xtask dist`: one archive that runs wherever it is unpacked.
//!
//! The binary, the native library in the layout that its own search paths expect, and the demo
//! models. `ml` looks for the library beside itself first. NVIDIA's libraries are not in it: they
//! are a gigabyte and a half that pip or the machine has, and the README in the archive says how.

mod archive;
mod check;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use build_scripts::{Backend, Machine, NATIVE_DIR_VARIABLE, Version};

use self::archive::Entry;
use crate::process::{cargo, root, run};

pub(crate) use check::check;

/// Options of `cargo xtask dist`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// cpu, cuda or metal [default: metal on macOS, cpu elsewhere]
    #[arg(long)]
    backend: Option<Backend>,
    /// On a Mac: the oldest macOS that shall run it; 26.2 takes the library that uses what is new
    /// there [default: the oldest that MLX runs on]
    #[arg(long, value_name = "VERSION")]
    min_macos: Option<Version>,
    /// Only try whether an archive for the processor works: unpack it elsewhere and let it answer
    #[arg(long, conflicts_with = "backend")]
    check: bool,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    if args.check {
        return check();
    }
    let backend = args
        .backend
        .unwrap_or_else(|| Backend::default_for(&Machine::current()));
    let target = target(args.min_macos);
    let file = make(backend, target, Profile::Release, &root().join("dist"))?;
    let megabytes = std::fs::metadata(&file)?.len() as f64 / 1e6;
    println!("{} ({megabytes:.0} MB)", file.display());
    Ok(())
}

/// The machines that an archive is for: like this one, but not only those with as new a macOS.
fn target(min_macos: Option<Version>) -> Machine {
    let here = Machine::current();
    if here.is_macos() {
        return Machine::mac(min_macos.unwrap_or(Version(14, 0)));
    }
    here
}

/// How the binary is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Release,
    /// As the tests are.
    Dev,
}

/// Makes the archive in `folder`.
fn make(backend: Backend, target: Machine, profile: Profile, folder: &Path) -> Result<PathBuf> {
    let prefix = crate::build::native(backend, target)?.folder;
    let ml = compile(profile)?;
    let name = archive_name(backend);
    let mut entries = vec![
        Entry::program("ml", ml),
        Entry::file("LICENSE", root().join("LICENSE")),
    ];
    for model in ["qwen3-demo", "gemma3-demo"] {
        let dir = root().join("assets/models").join(model);
        archive::add_folder(&mut entries, &format!("models/{model}"), &dir)?;
    }
    add_native(&mut entries, backend, &prefix)?;
    let readme = readme(backend, &nvidia_packages(&prefix)?);
    entries.push(Entry::text("README.txt", readme));

    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let file = folder.join(format!("{name}.tar.gz"));
    archive::write(&file, &name, entries)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn archive_name(backend: Backend) -> String {
    use std::env::consts::{ARCH, OS};
    let version = env!("CARGO_PKG_VERSION");
    format!("ml-{version}-{OS}-{ARCH}-{backend}")
}

/// The binary, which must not remember a library that only this machine has.
fn compile(profile: Profile) -> Result<PathBuf> {
    let mut build = cargo(&["build", "--locked", "--package", "ml-cli"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    run(build.env_remove(NATIVE_DIR_VARIABLE))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let folder = match profile {
        Profile::Release => "release",
        Profile::Dev => "debug",
    };
    Ok(root().join(target).join(folder).join("ml"))
}

/// The native library as its prefix has it, without what only compiling needs.
fn add_native(entries: &mut Vec<Entry>, backend: Backend, prefix: &Path) -> Result<()> {
    let at = format!("native/{backend}");
    let mut parts = vec!["mlx/lib".to_owned()];
    if backend == Backend::Cuda {
        // What MLX compiles its kernels with on the user's machine.
        parts.extend(["cccl", "cute", "cutlass"].map(|part| format!("mlx/include/{part}")));
    }
    for name in folders(prefix)? {
        if name.ends_with(".libs") {
            parts.push(name);
        } else if name.starts_with("mlx") && name.ends_with(".dist-info") {
            parts.push(format!("{name}/licenses"));
        }
    }
    for part in parts {
        archive::add_folder(entries, &format!("{at}/{part}"), &prefix.join(&part))?;
    }
    Ok(())
}

/// NVIDIA's packages that the prefix was made with, as pip names them.
fn nvidia_packages(prefix: &Path) -> Result<Vec<String>> {
    let packages = folders(prefix)?.into_iter().filter_map(|name| {
        let (package, version) = name.strip_suffix(".dist-info")?.rsplit_once('-')?;
        let nvidia = package.starts_with("nvidia_");
        nvidia.then(|| format!("{}=={version}", package.replace('_', "-")))
    });
    Ok(packages.collect())
}

/// The names of the folders in `dir`, in order.
fn folders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "{} is empty", dir.display());
    Ok(names)
}

fn readme(backend: Backend, nvidia: &[String]) -> String {
    let mut text = String::from(
        "ml: language models on MLX. It runs from wherever this folder is.\n\n    \
         ./ml generate --model models/qwen3-demo --prompt \"What is 17 + 25?\"\n    \
         ./ml --help\n",
    );
    if backend == Backend::Cuda {
        text += &format!(
            "\nIt needs an NVIDIA GPU with its driver (580 or newer) and these libraries of \
             NVIDIA's, beside MLX:\n\n    pip install --target native/cuda --no-deps {}\n\nThose of \
             this machine serve as well: put their folders on LD_LIBRARY_PATH, and let CUDA_HOME \
             name the toolkit, whose headers MLX compiles kernels with.\n",
            nvidia.join(" ")
        );
    }
    if backend == Backend::Metal {
        text += "\nmacOS keeps what a browser downloaded from being run; in this folder,\n\n    \
                 xattr -dr com.apple.quarantine .\n\nlifts that. The libraries are signed ad hoc. A \
                 program with the hardened runtime that loads\nthem needs the entitlement \
                 com.apple.security.cs.disable-library-validation, or the three in\n\
                 native/metal/mlx/lib signed again with its own identity (codesign --force --sign).\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_every_nvidia_package_of_the_prefix() {
        let prefix = tempfile::tempdir().unwrap();
        for name in [
            "nvidia_cublas-13.10.0.20.dist-info",
            "nvidia_nccl_cu13-2.32.3.dist-info",
            "mlx_cuda_13-0.32.2.dist-info",
            "nvidia",
        ] {
            std::fs::create_dir(prefix.path().join(name)).unwrap();
        }
        let packages = nvidia_packages(prefix.path()).unwrap();
        assert_eq!(
            packages,
            ["nvidia-cublas==13.10.0.20", "nvidia-nccl-cu13==2.32.3"]
        );
        let text = readme(Backend::Cuda, &packages);
        assert!(text.contains("native/cuda --no-deps nvidia-cublas==13.10.0.20 nvidia-nccl"));
        assert!(!readme(Backend::Cpu, &[]).contains("NVIDIA"));
    }

    #[test]
    fn the_readme_for_a_mac_says_how_a_download_is_let_run_and_signed() {
        let text = readme(Backend::Metal, &[]);
        assert!(text.contains("\n    xattr -dr com.apple.quarantine .\n"));
        assert!(text.contains("disable-library-validation"));
        assert!(!readme(Backend::Cpu, &[]).contains("quarantine"));
    }
}
