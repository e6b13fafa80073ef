//! Whether a wheel for Linux can run here.
//!
//! pip is told which platform to fetch, so that it can fetch for another one (see `zig.rs`); it
//! then no longer checks that this machine is one of them.

use std::process::Command;

use crate::command::capture;
use crate::error::{Error, Result};
use crate::machine::Version;
use crate::pins::Wheel;

/// Refuses a wheel whose `manylinux_<major>_<minor>` tags are all newer than this system's glibc.
pub(crate) fn check(wheel: &Wheel) -> Result<()> {
    match (needed(wheel), found()) {
        (Some(needed), Some(found)) if found < needed => Err(Error::OldGlibc { needed, found }),
        // Where the version cannot be told, the dynamic linker has the last word.
        _ => Ok(()),
    }
}

fn needed(wheel: &Wheel) -> Option<Version> {
    let versions = wheel.platforms().filter_map(|platform| {
        let mut numbers = platform.strip_prefix("manylinux_")?.split('_');
        Some(Version(
            numbers.next()?.parse().ok()?,
            numbers.next()?.parse().ok()?,
        ))
    });
    versions.min()
}

fn found() -> Option<Version> {
    let said = capture(Command::new("getconf").arg("GNU_LIBC_VERSION"))
        .ok()?
        .stdout;
    said.trim().strip_prefix("glibc ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::pins::Pins;

    #[test]
    fn a_wheel_for_a_newer_system_is_refused_and_an_old_one_taken() {
        let check = |tag: &str| {
            let pin = format!(
                "[[wheel]]\nrole = 'mlx'\nhost = 'any'\nfile = 'mlx-1-py3-none-{tag}.whl'\n\
                 sha256 = '{}'",
                "0".repeat(64)
            );
            let pins = Pins::parse(&pin).unwrap();
            check(pins.one("mlx", &Machine::current()).unwrap())
        };
        check("manylinux2014_x86_64.manylinux_2_17_x86_64").unwrap();
        check("macosx_14_0_arm64").unwrap();
        if found().is_some() {
            let error = check("manylinux_9_99_x86_64").unwrap_err().to_string();
            assert!(error.contains("needs glibc 9.99 or newer"), "{error}");
        }
    }
}
