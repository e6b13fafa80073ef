//! `cargo xtask check-metal`: the macOS library, compiled and linked on Linux, and looked into.
//!
//! The linker refuses undefined symbols; this task does not take its word for it and reads the
//! library: a Mach-O dylib for arm64, every import bound to a library that is named, those from
//! libmlx present in it, and every function of the C headers exported. Of each pinned build of
//! libmlx it reads what dyld would: which libraries it loads and whether they are found, and on
//! which macOS it starts.

mod headers;
pub(crate) mod macho;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use build_scripts::{Backend, Machine, MetalWheel, NativePrefix, Version};

use self::macho::Library;
use crate::build;

/// Options of `cargo xtask check-metal`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Look only into the build of libmlx that the library is linked against: the others are 80 MB
    /// more to fetch
    #[arg(long)]
    pub(crate) only_oldest: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if Machine::current().is_macos() {
        // There the real build is the check.
        return build::run(&build::Args {
            backend: Some(Backend::Metal),
        });
    }
    let say = |line: &str| eprintln!("{line}");
    let wheels = build_scripts::metal_wheels(args.only_oldest, &say)?;
    let oldest = wheels.first().context("no build of MLX for Macs")?;
    let built = build::native(Backend::Metal, Machine::mac(oldest.min_macos))?;
    let functions = check_bridge(&built, oldest.min_macos)
        .with_context(|| built.library.display().to_string())?;
    println!("check-metal: {functions} functions, no undefined symbols");
    for wheel in &wheels {
        check_wheel(wheel, &built).with_context(|| wheel.folder.display().to_string())?;
        println!(
            "check-metal: libmlx for macOS {} has all that the bridge uses and finds what it loads",
            wheel.min_macos
        );
    }
    Ok(())
}

/// Checks the bridge by itself; returns how many functions of the headers it exports.
fn check_bridge(built: &NativePrefix, oldest: Version) -> Result<usize> {
    let bytes = read(&built.library)?;
    let bridge = Library::parse(&bytes)?;
    ensure!(
        bridge.rpaths()?.iter().any(|path| path == "@loader_path"),
        "has no rpath @loader_path, by which it finds libmlx beside it"
    );
    let minimum = bridge.minimum()?;
    ensure!(
        minimum <= oldest,
        "needs macOS {minimum}, and MLX runs on {oldest}"
    );
    let exported = bridge.exports()?;
    let declared = headers::functions(&built.folder.join("include"))?;
    let missing: Vec<_> = declared
        .iter()
        .filter(|name| !exported.contains(&format!("_{name}")))
        .collect();
    ensure!(missing.is_empty(), "does not export {missing:?}");
    Ok(declared.len())
}

/// Checks that a build of libmlx serves the bridge on the macOS that the pins give it to.
fn check_wheel(wheel: &MetalWheel, built: &NativePrefix) -> Result<()> {
    let lib = wheel.folder.join("mlx/lib");
    ensure!(
        lib.join("mlx.metallib").is_file(),
        "has no mlx.metallib beside libmlx"
    );
    let bridge = read(&built.library)?;
    let bridge = Library::parse(&bridge)?;
    let libmlx = read(&lib.join("libmlx.dylib"))?;
    let libmlx = Library::parse(&libmlx)?;
    check_imports(&bridge, &libmlx.exports()?)?;

    // What dyld does from the bridge on; it lies in this folder, and its rpath reaches them all.
    let mut pending = vec![("the bridge".to_owned(), built.library.clone())];
    let (mut seen, mut minimum) = (BTreeSet::new(), Version(0, 0));
    while let Some((name, file)) = pending.pop() {
        let bytes = read(&file)?;
        let library = Library::parse(&bytes).with_context(|| name.clone())?;
        minimum = minimum.max(library.minimum().with_context(|| name.clone())?);
        for loaded in library.loads()? {
            if let Some(found) = resolved(&loaded, &lib).with_context(|| name.clone())?
                && seen.insert(found.clone())
            {
                pending.push((loaded, found));
            }
        }
    }
    ensure!(
        seen.contains(&lib.join("libmlx.dylib")),
        "the bridge does not load libmlx"
    );
    ensure!(
        minimum == wheel.min_macos,
        "needs macOS {minimum}, and the pins give it to {}",
        wheel.min_macos
    );
    Ok(())
}

/// The file that a load command means, or none if macOS has it.
fn resolved(loaded: &str, lib: &Path) -> Result<Option<PathBuf>> {
    if loaded.starts_with("/usr/lib/") || loaded.starts_with("/System/Library/") {
        return Ok(None);
    }
    let found = loaded.strip_prefix("@rpath/").map(|name| lib.join(name));
    let found = found.filter(|file| file.is_file());
    let found = found.with_context(|| format!("loads {loaded}, which is not there"))?;
    Ok(Some(found))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Every import names a library, and those from libmlx are there.
fn check_imports(bridge: &Library<'_>, libmlx: &BTreeSet<String>) -> Result<()> {
    let mut from_mlx = 0;
    for import in bridge.imports()? {
        ensure!(
            !import.from.is_empty() || import.everywhere,
            "undefined symbol {}",
            import.name
        );
        if import.from.ends_with("libmlx.dylib") {
            ensure!(
                libmlx.contains(&import.name),
                "{} is not in libmlx",
                import.name
            );
            from_mlx += 1;
        }
    }
    ensure!(from_mlx > 0, "uses nothing of libmlx");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_loads_is_macos_own_or_lies_beside_it() {
        let lib = tempfile::tempdir().unwrap();
        let lib = lib.path();
        std::fs::write(lib.join("libjaccl.dylib"), "").unwrap();
        let found = resolved("@rpath/libjaccl.dylib", lib).unwrap();
        assert_eq!(found, Some(lib.join("libjaccl.dylib")));
        let metal = "/System/Library/Frameworks/Metal.framework/Versions/A/Metal";
        for system in ["/usr/lib/libc++.1.dylib", metal] {
            assert_eq!(resolved(system, lib).unwrap(), None);
        }
        for missing in ["@rpath/libother.dylib", "/opt/homebrew/lib/libomp.dylib"] {
            let told = resolved(missing, lib).unwrap_err().to_string();
            assert!(told.contains(missing), "{told}");
        }
    }
}
