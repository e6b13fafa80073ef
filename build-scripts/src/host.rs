//! The machine that builds, in the words of `vendor/pins.toml`.

use std::env::consts;
use std::fmt;
use std::process::Command;

/// Operating system and architecture of the building machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    os: String,
    arch: String,
}

impl Host {
    /// The machine this program runs on.
    pub fn current() -> Self {
        Self {
            os: consts::OS.to_owned(),
            arch: consts::ARCH.to_owned(),
        }
    }

    /// A machine of this kind.
    pub(crate) fn of(os: &str, arch: &str) -> Self {
        Self {
            os: os.to_owned(),
            arch: arch.to_owned(),
        }
    }

    /// Whether this is macOS.
    pub fn is_macos(&self) -> bool {
        self.os == "macos"
    }

    /// The file name of a shared library called `name`.
    pub fn shared_library(&self, name: &str) -> String {
        if self.is_macos() {
            format!("lib{name}.dylib")
        } else {
            format!("lib{name}.so")
        }
    }

    /// The major version of macOS, or 0 elsewhere.
    pub(crate) fn macos_version(&self) -> u32 {
        if !self.is_macos() {
            return 0;
        }
        let output = Command::new("sw_vers").arg("-productVersion").output();
        output
            .ok()
            .and_then(|o| String::from_utf8(o.stdout).ok())
            .and_then(|v| {
                v.trim()
                    .split('.')
                    .next()
                    .and_then(|major| major.parse().ok())
            })
            .unwrap_or(14)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.os, self.arch)
    }
}
