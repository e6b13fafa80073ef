//! What a native library is built for, and whether and how it can be built here.
//!
//! A library for another machine than the one that builds gets a prefix of its own, because the
//! target is part of what its name says. It needs a compiler for the target: zig's, which is
//! pinned, for a Mac; for Linux one that the user names or has.

use std::env;
use std::path::Path;

use crate::Backend;
use crate::build::Build;
use crate::command::on_path;
use crate::compiler::Compiler;
use crate::error::{Error, Result};
use crate::machine::{Machine, under_rosetta};

/// The oldest macOS that the bridge runs on: that of the oldest build of MLX.
const MACOS: &str = "14.0";

/// Refuses a library that cannot be, before anything is fetched.
pub(crate) fn check(backend: Backend, target: &Machine) -> Result<()> {
    if target.is_intel_mac() {
        return Err(Error::IntelMac {
            rosetta: under_rosetta(),
        });
    }
    let advice = match (backend, target.is_macos()) {
        (Backend::Metal, false) => "it needs a Mac; `cargo xtask check-metal` compiles it here",
        (Backend::Cpu, true) => "the metal library computes on the processor too",
        (Backend::Cuda, true) => "it needs Linux",
        _ => return Ok(()),
    };
    Err(Error::UnsupportedBackend {
        backend,
        target: target.to_string(),
        advice,
    })
}

/// cmake's settings for a target.
pub(crate) fn settings(target: &Machine, host: &Machine) -> Vec<String> {
    let mut settings = Vec::new();
    if target.is_macos() {
        // Not what the builder's macOS and environment happen to say: an archive shall run on
        // older ones, and a cmake that Rosetta translates builds for Intel if it is not told.
        settings.push(format!("-DCMAKE_OSX_DEPLOYMENT_TARGET={MACOS}"));
        settings.push("-DCMAKE_OSX_ARCHITECTURES=arm64".to_owned());
    }
    if !target.is_native_to(host) {
        let (system, processor) = match (target.is_macos(), target.arch()) {
            (true, _) => ("Darwin", "arm64"),
            (false, arch) => ("Linux", arch),
        };
        settings.push(format!("-DCMAKE_SYSTEM_NAME={system}"));
        settings.push(format!("-DCMAKE_SYSTEM_PROCESSOR={processor}"));
    }
    settings
}

impl Build<'_> {
    /// The compiler for a target; `folder` is for what it needs on disk.
    pub(crate) fn compiler(&self, target: &Machine, folder: &Path) -> Result<Compiler> {
        if target.is_native_to(&self.host) {
            return Compiler::find();
        }
        if target.is_macos() {
            return Ok(Compiler::at(&self.zig_compiler(folder)?));
        }
        let variables = cross_variables(target);
        let named = variables.iter().find_map(|name| env::var(name).ok());
        if let Some(named) = named.filter(|named| !named.trim().is_empty()) {
            return Compiler::parse(&named).checked();
        }
        let usual = format!("{}-linux-gnu-g++", target.arch());
        let found = on_path(&usual).ok_or_else(|| Error::NoCrossCompiler {
            target: target.to_string(),
            usual,
            variable: variables[0].clone(),
        })?;
        Compiler::at(&found).checked()
    }
}

/// Variables that name a compiler for another Linux, as the `cc` crate has them.
pub(crate) fn cross_variables(target: &Machine) -> [String; 2] {
    let triple = format!("CXX_{}_unknown_linux_gnu", target.arch());
    [triple, "TARGET_CXX".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::Pins;

    #[test]
    fn a_backend_of_another_system_is_refused_with_advice() {
        let refused = |backend, os, arch| {
            let told = check(backend, &Machine::of(os, arch)).unwrap_err();
            told.to_string()
        };
        assert!(refused(Backend::Metal, "linux", "aarch64").contains("check-metal"));
        let told = refused(Backend::Cpu, "macos", "aarch64");
        assert!(told.contains("cannot be built for macos-aarch64"), "{told}");
        assert!(refused(Backend::Cuda, "macos", "aarch64").contains("Linux"));
        let told = refused(Backend::Metal, "macos", "x86_64");
        assert!(
            told.contains("Apple silicon") && told.contains("rustup"),
            "{told}"
        );
        for (backend, os) in [
            (Backend::Cpu, "linux"),
            (Backend::Cuda, "linux"),
            (Backend::Metal, "macos"),
        ] {
            check(backend, &Machine::of(os, "aarch64")).unwrap();
        }
    }

    #[test]
    fn what_is_told_to_cmake_depends_on_the_target_and_not_on_the_builder() {
        let (x86, arm) = (
            Machine::of("linux", "x86_64"),
            Machine::of("linux", "aarch64"),
        );
        let mac = Machine::of("macos", "aarch64");
        assert_eq!(settings(&x86, &x86), [""; 0]);
        assert_eq!(
            settings(&arm, &x86),
            [
                "-DCMAKE_SYSTEM_NAME=Linux",
                "-DCMAKE_SYSTEM_PROCESSOR=aarch64"
            ]
        );
        let on_a_mac = settings(&mac, &mac);
        assert_eq!(
            on_a_mac,
            [
                "-DCMAKE_OSX_DEPLOYMENT_TARGET=14.0",
                "-DCMAKE_OSX_ARCHITECTURES=arm64"
            ]
        );
        assert!(settings(&mac, &x86).starts_with(&on_a_mac));
        let oldest = Pins::of_this_project().unwrap();
        let oldest = oldest.all("mlx-metal", &mac).unwrap();
        let oldest = oldest.iter().map(|wheel| wheel.min_macos).min().unwrap();
        assert_eq!(oldest.to_string(), MACOS);
    }
}
