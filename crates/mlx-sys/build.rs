//! Makes the native library.
//!
//! It is opened at run time and not linked: a dependency's rpath does not reach the program that
//! uses it, so linking would need an environment variable at every start, and one program could
//! not choose between CUDA and the CPU. So the place of the prefixes is compiled in.

use std::env;
use std::error::Error;

use build_scripts::{Backend, Host, Layout, NATIVE_DIR_VARIABLE};

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
    for variable in [NATIVE_DIR_VARIABLE, "CXX"] {
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
    Ok(())
}
