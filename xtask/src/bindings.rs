//! `cargo xtask bindings`: Rust's view of the C headers, as bindgen makes it.
//!
//! The result is in git, so building the project needs neither bindgen nor libclang. It is the same
//! for every platform: the headers use no type whose size differs among the ones that MLX has, and
//! the few C headers that they include are stood in for by the lines below, so nothing of the
//! generating system gets in. That is not believed but seen, each time: it is made for three targets.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bindgen::{Builder, EnumVariation, Formatter};

use crate::process::{csrc, root};

/// Options of `cargo xtask bindings`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only say whether the ones in git are current
    #[arg(long)]
    check: bool,
}

/// The variable by which bindgen is told where libclang is.
const LIBCLANG: &str = "LIBCLANG_PATH";

/// What MLX runs on; the bindings of the first are written, those of the others must be equal.
const TARGETS: [&str; 3] = [
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-gnu",
    "aarch64-apple-darwin",
];

/// The C library's headers that mlx-c includes, with what it takes from them.
const C_HEADERS: [(&str, &str); 7] = [
    ("complex.h", "#define complex _Complex\n"),
    ("float.h", ""),
    ("stdbool.h", "#define bool _Bool\n"),
    ("stddef.h", "typedef __SIZE_TYPE__ size_t;\n"),
    (
        "stdint.h",
        "typedef __INT8_TYPE__ int8_t;\ntypedef __UINT8_TYPE__ uint8_t;\n\
         typedef __INT16_TYPE__ int16_t;\ntypedef __UINT16_TYPE__ uint16_t;\n\
         typedef __INT32_TYPE__ int32_t;\ntypedef __UINT32_TYPE__ uint32_t;\n\
         typedef __INT64_TYPE__ int64_t;\ntypedef __UINT64_TYPE__ uint64_t;\n\
         typedef __UINTPTR_TYPE__ uintptr_t;\n",
    ),
    // Only pointers to it are passed.
    ("stdio.h", "#include <stddef.h>\ntypedef void FILE;\n"),
    ("stdlib.h", "#include <stddef.h>\n"),
];

/// Says whether the bindings in git are current.
pub(crate) fn check() -> Result<()> {
    run_task(&Args { check: true })
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    if std::env::var_os(LIBCLANG).is_none() {
        return with_libclang(args);
    }
    let mlx_c = build_scripts::mlx_c_source(&|line| eprintln!("{line}"))?;
    let fresh = generate(&[mlx_c, csrc()])?;
    let file = root().join("crates/mlx-sys/src/bindings.rs");
    let shown = "crates/mlx-sys/src/bindings.rs";
    let current = std::fs::read_to_string(&file).is_ok_and(|found| found == fresh);
    if args.check {
        ensure!(
            current,
            "{shown} is not what bindgen makes of the headers; run `cargo xtask bindings`"
        );
    } else if !current {
        std::fs::write(&file, fresh).with_context(|| format!("cannot write {shown}"))?;
        println!("bindings: {shown} written");
        return Ok(());
    }
    println!("bindings: {shown} is current");
    Ok(())
}

/// Runs this task again with libclang found: the pinned one, so that everybody gets the same.
fn with_libclang(args: &Args) -> Result<()> {
    let libclang = build_scripts::libclang(&|line| eprintln!("{line}"))?;
    let mut again = Command::new(std::env::current_exe().context("where is this program?")?);
    again.arg("bindings").args(args.check.then_some("--check"));
    let status = again.env(LIBCLANG, libclang).status();
    let status = status.context("cannot start this program again")?;
    // It said why.
    ensure!(status.success(), "the bindings were not made");
    Ok(())
}

/// The bindings of the headers in these folders, if they are the same for every target.
fn generate(folders: &[PathBuf]) -> Result<String> {
    let stand_ins = tempfile::tempdir()?;
    for (name, content) in C_HEADERS {
        std::fs::write(stand_ins.path().join(name), content)?;
    }
    let made = TARGETS.map(|target| bindings(target, stand_ins.path(), folders));
    let [first, others @ ..] = made;
    let first = first?;
    for (target, other) in TARGETS[1..].iter().zip(others) {
        ensure!(
            other? == first,
            "the headers do not mean the same for {} and {target}",
            TARGETS[0]
        );
    }
    Ok(first)
}

fn bindings(target: &str, c_headers: &Path, folders: &[PathBuf]) -> Result<String> {
    let include = |folder: &Path| format!("-I{}", folder.display());
    let builder = Builder::default()
        .header_contents("api.h", "#include \"mlx/c/mlx.h\"\n#include \"mlxb.h\"\n")
        .clang_arg(format!("--target={target}"))
        .clang_args(["-nostdinc", "-isystem"])
        .clang_arg(c_headers.to_string_lossy())
        .clang_args(folders.iter().map(|folder| include(folder)))
        // Its guard, so that half.h is skipped: the half-precision accessors exist on some
        // processors only.
        .clang_arg("-DMLX_HALF_H")
        .allowlist_item("_?mlxb?_.*|MLXB?_.*")
        // A static variable of each C file, which no library exports.
        .blocklist_var("mlx_array_empty")
        // Variadic; only C++ calls it.
        .blocklist_function("_mlx_error")
        .dynamic_library_name("Api")
        .dynamic_link_require_all(true)
        .default_enum_style(EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(true)
        .layout_tests(true)
        .merge_extern_blocks(true)
        .raw_line("// By `cargo xtask bindings`.")
        .raw_line("use std::ffi;")
        .ctypes_prefix("ffi")
        // Of a version that Cargo.lock pins, while rustfmt is whichever the toolchain has.
        .formatter(Formatter::Prettyplease);
    Ok(builder.generate()?.to_string())
}
