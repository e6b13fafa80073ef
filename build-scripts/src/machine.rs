//! A machine in the words of `vendor/wheels.toml`: the one that builds, or the one that is built for.

use std::env::consts;
use std::fmt;
use std::process::Command;
use std::str::FromStr;

use serde::Deserialize;

use crate::command::capture;

/// The first two numbers of a version, such as 26.2; what follows them never matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Version(pub u32, pub u32);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |_| format!("{text:?} is not a version such as 26.2");
        let mut numbers = text.trim().split('.').map(str::parse);
        let major = numbers.next().unwrap_or(Ok(0)).map_err(wrong)?;
        Ok(Self(major, numbers.next().unwrap_or(Ok(0)).map_err(wrong)?))
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Operating system and architecture of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    os: String,
    arch: String,
    /// Its macOS, where that is known.
    pub(crate) macos: Option<Version>,
}

impl Machine {
    /// The machine this program runs on.
    pub fn current() -> Self {
        let mut machine = Self::of(consts::OS, consts::ARCH);
        if machine.is_macos() {
            machine.macos = running_macos();
        }
        machine
    }

    /// A machine of this kind, in cargo's words (`CARGO_CFG_TARGET_OS` and `CARGO_CFG_TARGET_ARCH`).
    ///
    /// A Mac is taken to have the macOS of the one that builds; built elsewhere, the oldest that
    /// MLX runs on.
    pub fn of(os: &str, arch: &str) -> Self {
        let macos = (os == "macos" && consts::OS == "macos").then(running_macos);
        Self {
            os: os.to_owned(),
            arch: arch.to_owned(),
            macos: macos.flatten(),
        }
    }

    /// A Mac with this version of macOS.
    pub fn mac(version: Version) -> Self {
        Self {
            os: "macos".to_owned(),
            arch: "aarch64".to_owned(),
            macos: Some(version),
        }
    }

    /// Whether this is macOS.
    pub fn is_macos(&self) -> bool {
        self.os == "macos"
    }

    /// Whether this is a Mac with a processor of Intel's, or what takes it for one.
    pub(crate) fn is_intel_mac(&self) -> bool {
        self.is_macos() && self.arch != "aarch64"
    }

    /// Whether the compiler of `host` makes programs for `self`, as that of a Mac does for each Mac.
    pub(crate) fn is_native_to(&self, host: &Self) -> bool {
        self.os == host.os && (self.arch == host.arch || self.is_macos())
    }

    /// Its architecture, in Rust's words.
    pub(crate) fn arch(&self) -> &str {
        &self.arch
    }

    /// The file name of a shared library called `name`.
    pub fn shared_library(&self, name: &str) -> String {
        if self.is_macos() {
            format!("lib{name}.dylib")
        } else {
            format!("lib{name}.so")
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.os, self.arch)
    }
}

/// The version of the macOS that runs.
fn running_macos() -> Option<Version> {
    let mut ask = Command::new("sw_vers");
    // With this set, macOS calls itself 10.16.
    ask.arg("-productVersion")
        .env_remove("SYSTEM_VERSION_COMPAT");
    capture(&mut ask).ok()?.stdout.parse().ok()
}

/// Whether this program is one for Intel on a Mac that has none: Rosetta translates it.
pub(crate) fn under_rosetta() -> bool {
    let mut ask = Command::new("sysctl");
    capture(ask.args(["-n", "sysctl.proc_translated"])).is_ok_and(|said| said.stdout.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_both_numbers() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert!(version("26.1.3") < version("26.2"));
        assert!(version("26.2") <= version("26.2\n"));
        assert!(version("15.7") < version("26"));
        assert!(version("26.10") > version("26.2"));
        assert_eq!(version("14").to_string(), "14.0");
        for wrong in ["", "x", "26.x", "-1"] {
            assert!(wrong.parse::<Version>().is_err(), "{wrong:?}");
        }
    }
}
