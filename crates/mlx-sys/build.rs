//! Makes the native library.
//!
//! It is opened at run time and not linked: a dependency's rpath does not reach the program that
//! uses it, so linking would need an environment variable at every start, and one program could
//! not choose between CUDA and the CPU. So the places of the libraries are compiled in: that of
//! each backend, built yet or not.

use std::env;
use std::error::Error;
use std::path::Path;

use build_scripts::{
    Backend, CACHE_VARIABLE, COMPILER_VARIABLES, Machine, NATIVE_DIR_VARIABLE, Native,
};

fn main() {
    if let Err(error) = run() {
        // This line fails the build by itself. A panic or an exit status would bury it under
        // cargo's account of how the script ended.
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let csrc = Path::new(&env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo did not say where")?)
        .join("csrc");
    // Of the program and not of the machine that builds.
    let target = Machine::of(
        &env::var("CARGO_CFG_TARGET_OS")?,
        &env::var("CARGO_CFG_TARGET_ARCH")?,
    );
    for variable in [
        NATIVE_DIR_VARIABLE,
        CACHE_VARIABLE,
        "XDG_CACHE_HOME",
        "HOME",
    ]
    .into_iter()
    .chain(COMPILER_VARIABLES)
    {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-changed={}", csrc.display());

    let native = |backend| Native {
        csrc: &csrc,
        backend,
        target: target.clone(),
    };
    let prefix = build_scripts::ensure(&native(Backend::default_for(&target)), &|line| {
        eprintln!("{line}");
    })?;
    // Where it is gone, since the cache was emptied, it is built again.
    println!("cargo::rerun-if-changed={}", prefix.library.display());
    println!(
        "cargo::metadata=library_dir={}",
        prefix.library_dir.display()
    );
    if env::var_os(NATIVE_DIR_VARIABLE).is_some_and(|dir| !dir.is_empty()) {
        return compiled_in("MLX_SYS_NATIVE_DIR", &prefix.library_dir);
    }
    for &backend in Backend::all_for(&target) {
        let variable = format!("MLX_SYS_PREFIX_{}", backend.name().to_uppercase());
        compiled_in(&variable, &build_scripts::place(&native(backend))?.folder)?;
    }
    Ok(())
}

/// Has the crate's `option_env!(variable)` be this path.
fn compiled_in(variable: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let text = path.to_str().filter(|text| !text.contains('\n'));
    let text = text.ok_or_else(|| format!("{path:?} cannot be compiled in; use another folder"))?;
    println!("cargo::rustc-env={variable}={text}");
    Ok(())
}
