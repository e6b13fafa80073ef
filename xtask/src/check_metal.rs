//! `cargo xtask check-metal`: the macOS library, compiled and linked on Linux.
//!
//! The linker refuses undefined symbols; this task does not take its word for it and reads the
//! library: a Mach-O dylib for arm64, every import bound to a library that is named, those from
//! libmlx present in it, and every function of the C headers exported.

mod headers;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use build_scripts::{Backend, CrossMetal, Host};
use object::read::macho::{LoadCommandVariant, MachHeader, MachOFile64};
use object::read::{ImportFlags, NameOrOrdinal};
use object::{Architecture, Endianness, Object, ObjectKind, macho};

use crate::build;

/// Options of `cargo xtask check-metal`: none.
#[derive(clap::Args, Default)]
pub(crate) struct Args {}

type Library<'data> = MachOFile64<'data, Endianness>;

pub(crate) fn run(_args: &Args) -> Result<()> {
    if Host::current().is_macos() {
        // There the real build is the check.
        return build::run(&build::Args {
            backend: Some(Backend::Metal),
        });
    }
    let built = build_scripts::cross_metal(&|line| eprintln!("{line}"))?;
    let functions = check(&built).with_context(|| built.library.display().to_string())?;
    println!(
        "check-metal: {functions} functions, no undefined symbols: {}",
        built.library.display()
    );
    Ok(())
}

/// Checks the library; returns how many functions of the headers it exports.
fn check(built: &CrossMetal) -> Result<usize> {
    let (bytes, mlx_bytes) = (read(&built.library)?, read(&built.libmlx)?);
    let library = Library::parse(&*bytes).context("not a Mach-O file")?;
    let libmlx = Library::parse(&*mlx_bytes).context("libmlx is not a Mach-O file")?;
    ensure!(
        library.architecture() == Architecture::Aarch64,
        "not for arm64"
    );
    ensure!(
        library.kind() == ObjectKind::Dynamic,
        "not a dynamic library"
    );
    check_rpath(&library)?;
    check_imports(&library, &exports(&libmlx)?)?;

    let exported = exports(&library)?;
    let declared = headers::functions(&built.include_dir)?;
    let missing: Vec<_> = declared
        .iter()
        .filter(|name| !exported.contains(&format!("_{name}")))
        .collect();
    ensure!(missing.is_empty(), "does not export {missing:?}");
    Ok(declared.len())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Without it the library would not find libmlx beside it.
fn check_rpath(library: &Library<'_>) -> Result<()> {
    let (endian, data) = (library.endian(), library.data());
    let mut commands = library.macho_header().load_commands(endian, data, 0)?;
    while let Some(command) = commands.next()? {
        if let LoadCommandVariant::Rpath(rpath) = command.variant()?
            && command.string(endian, rpath.path)? == b"@loader_path"
        {
            return Ok(());
        }
    }
    bail!("has no rpath @loader_path")
}

/// Every symbol that a library exports.
fn exports(library: &Library<'_>) -> Result<BTreeSet<String>> {
    library
        .exports()?
        .map(|export| Ok(text(export?.name())))
        .collect()
}

/// Every import names a library, and those from libmlx are there.
fn check_imports(library: &Library<'_>, libmlx: &BTreeSet<String>) -> Result<()> {
    let mut from_mlx = 0;
    for import in library.imports()? {
        let import = import?;
        let (name, from) = (
            text(import.name()),
            String::from_utf8_lossy(import.library()),
        );
        // A weak C++ symbol, such as an inline function, is looked for everywhere by design: the
        // library has a copy of its own.
        let everywhere = matches!(
            import.flags(),
            ImportFlags::MachOBind {
                dylib: macho::BIND_SPECIAL_DYLIB_WEAK_LOOKUP,
                ..
            }
        );
        ensure!(!from.is_empty() || everywhere, "undefined symbol {name}");
        if from.ends_with("libmlx.dylib") {
            ensure!(libmlx.contains(&name), "{name} is not in libmlx");
            from_mlx += 1;
        }
    }
    ensure!(from_mlx > 0, "uses nothing of libmlx");
    Ok(())
}

fn text(name: NameOrOrdinal<&[u8]>) -> String {
    match name {
        NameOrOrdinal::Name(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        NameOrOrdinal::Ordinal(ordinal) => format!("#{ordinal}"),
    }
}
