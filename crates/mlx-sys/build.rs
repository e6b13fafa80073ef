//! Makes the native library and generates the bindings to it.
//!
//! The library is opened at run time and not linked: a dependency's rpath does not reach the
//! program that uses it, so linking would need an environment variable at every start, and one
//! program could not choose between CUDA and the CPU. So bindgen makes a struct of function
//! pointers, and the place of the prefixes is compiled in.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use build_scripts::{Backend, Host, Layout, NATIVE_DIR_VARIABLE, NativePrefix};

fn main() {
    if let Err(error) = run() {
        // This line fails the build by itself. A panic or an exit status would bury it under
        // cargo's account of how the script ended.
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let (host, target) = (env::var("HOST")?, env::var("TARGET")?);
    if host != target && env::var_os(NATIVE_DIR_VARIABLE).is_none() {
        return Err(format!(
            "the native library can be built only for the building machine ({host}), not for \
             {target}; set {NATIVE_DIR_VARIABLE} to a prefix that was made there"
        )
        .into());
    }
    let (layout, backend) = (
        Layout::of_this_repository(),
        Backend::default_for(&Host::current()),
    );
    let prefix = build_scripts::ensure(backend, &|line| eprintln!("{line}"))?;

    for file in [
        layout.pins(),
        layout.mlx_c_manifest(),
        layout.csrc(),
        prefix.library_dir.clone(),
    ] {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    for variable in [NATIVE_DIR_VARIABLE, "LIBCLANG_PATH", "CXX"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!(
        "cargo::rustc-env=MLX_SYS_PREFIXES={}",
        layout.prefixes().display()
    );
    if env::var_os(NATIVE_DIR_VARIABLE).is_some_and(|dir| !dir.is_empty()) {
        println!(
            "cargo::rustc-env=MLX_SYS_NATIVE_DIR={}",
            prefix.library_dir.display()
        );
    }
    println!(
        "cargo::metadata=library_dir={}",
        prefix.library_dir.display()
    );
    bindings(&prefix)
}

fn bindings(prefix: &NativePrefix) -> Result<(), Box<dyn Error>> {
    // SAFETY: this program has one thread, and nothing before this line read the environment
    // concurrently.
    unsafe { env::set_var("LIBCLANG_PATH", &prefix.libclang_dir) };

    let mut builder = bindgen::Builder::default()
        .header_contents("api.h", "#include \"mlx/c/mlx.h\"\n#include \"mlxb.h\"\n")
        .allowlist_item("_?mlxb?_.*|MLXB?_.*")
        // A static variable of each C file, which no library exports.
        .blocklist_var("mlx_array_empty")
        // Variadic; only C++ calls it.
        .blocklist_function("_mlx_error")
        // Its guard, so that half.h is skipped: the half-precision accessors exist on some
        // processors only, and need headers that gcc and clang do not share.
        .clang_arg("-DMLX_HALF_H")
        .dynamic_library_name("Api")
        .dynamic_link_require_all(true)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(true)
        .layout_tests(false)
        .merge_extern_blocks(true);
    for argument in &prefix.clang_args {
        builder = builder.clang_arg(argument);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    builder.generate()?.write_to_file(out.join("bindings.rs"))?;
    Ok(())
}
