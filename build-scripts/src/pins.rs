//! Reads `vendor/wheels.toml`: which wheels, with which SHA-256, on which machine.
//!
//! A wheel's file name carries its project, version and platform (PEP 427), so the pins do not
//! repeat them and cannot contradict them.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::machine::{Machine, Version};

/// One pinned wheel.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wheel {
    /// What it is for: `mlx-cpu`, `cmake`, ...
    pub(crate) role: String,
    /// The host that uses it, or `any`.
    host: String,
    /// The oldest macOS that may use it.
    #[serde(default)]
    pub(crate) min_macos: Version,
    /// Its file name.
    pub(crate) file: String,
    /// The digest of its bytes, in lower-case hexadecimal.
    pub(crate) sha256: String,
}

impl Wheel {
    /// `name==version`, as pip wants it.
    pub(crate) fn requirement(&self) -> String {
        let mut parts = self.file.split('-');
        let (name, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        format!("{}=={version}", name.replace('_', "-"))
    }

    /// The platform tags, such as `manylinux_2_35_x86_64`.
    pub(crate) fn platforms(&self) -> impl Iterator<Item = &str> {
        let stem = self.file.strip_suffix(".whl").unwrap_or(&self.file);
        stem.rsplit('-').next().unwrap_or("").split('.')
    }

    fn check(&self) -> Result<()> {
        let digest = self.sha256.len() == 64
            && self
                .sha256
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let name = self.file.ends_with(".whl")
            && (5..=6).contains(&self.file.split('-').count())
            && !self.file.contains(['/', '\\']);
        match (name, digest) {
            (false, _) => Err(Error::Pins(format!(
                "{:?} is not the name of a wheel",
                self.file
            ))),
            (_, false) => Err(Error::Pins(format!(
                "{}: sha256 is not 64 hex digits",
                self.file
            ))),
            _ => Ok(()),
        }
    }
}

/// All pinned wheels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pins {
    #[serde(rename = "wheel")]
    wheels: Vec<Wheel>,
}

impl Pins {
    /// What this project is built from.
    pub(crate) fn of_this_project() -> Result<Self> {
        Self::parse(vendor::WHEELS)
    }

    /// Parses the text of a pins file and checks that each entry is usable.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let pins: Self = toml::from_str(text)
            .map_err(|e| Error::Pins(e.to_string().trim().replace('\n', " ")))?;
        pins.wheels.iter().try_for_each(Wheel::check)?;
        Ok(pins)
    }

    /// The file names of all of them.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.wheels.iter().map(|wheel| wheel.file.as_str())
    }

    /// Every wheel of a role that a machine uses; one or more.
    pub(crate) fn all(&self, role: &str, machine: &Machine) -> Result<Vec<&Wheel>> {
        let name = machine.to_string();
        let found: Vec<_> = self
            .wheels
            .iter()
            .filter(|w| w.role == role && (w.host == "any" || w.host == name))
            .collect();
        if found.is_empty() {
            return Err(Error::UnsupportedHost {
                what: role.to_owned(),
                host: name,
            });
        }
        Ok(found)
    }

    /// The one wheel of a role for a machine: of several builds the newest that its macOS can run,
    /// and the oldest where that is not known.
    pub(crate) fn one(&self, role: &str, machine: &Machine) -> Result<&Wheel> {
        let mut found = self.all(role, machine)?;
        found.sort_by_key(|wheel| wheel.min_macos);
        let Some(macos) = machine.macos else {
            return Ok(found[0]);
        };
        let needed = found[0].min_macos;
        let newest = found.into_iter().rfind(|wheel| wheel.min_macos <= macos);
        newest.ok_or(Error::OldMacos {
            needed,
            found: macos,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Pins {
        Pins::of_this_project().unwrap()
    }

    #[test]
    fn every_supported_host_has_what_its_build_needs() {
        let pins = repository();
        let linux = [
            "mlx-cpu", "mlx-cuda", "cmake", "ninja", "libclang", "ziglang",
        ];
        let macos = ["mlx-metal", "cmake", "ninja", "libclang"];
        let hosts = [
            ("linux", "x86_64"),
            ("linux", "aarch64"),
            ("macos", "aarch64"),
        ];
        for (os, arch) in hosts {
            for role in if os == "macos" {
                &macos[..]
            } else {
                &linux[..]
            } {
                assert!(
                    pins.one(role, &Machine::of(os, arch)).is_ok(),
                    "{role} for {os}-{arch}"
                );
            }
        }
        let error = pins
            .one("mlx-cpu", &Machine::of("windows", "x86_64"))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("there is no mlx-cpu for windows-x86_64"),
            "{error}"
        );
    }

    #[test]
    fn a_file_name_says_what_pip_is_asked_for() {
        let pins = repository();
        let cmake = pins.one("cmake", &Machine::of("linux", "x86_64")).unwrap();
        assert!(cmake.requirement().starts_with("cmake==4."));
        assert_eq!(
            cmake.platforms().collect::<Vec<_>>(),
            ["manylinux2014_x86_64", "manylinux_2_17_x86_64"]
        );
        let mlx = pins
            .one("mlx-cpu", &Machine::of("linux", "aarch64"))
            .unwrap();
        assert_eq!(mlx.requirement(), "mlx-cpu==0.32.2");
    }

    #[test]
    fn a_mac_gets_the_newest_build_that_it_can_run() {
        let pins = repository();
        let wheel = |version: &str| pins.one("mlx-metal", &Machine::mac(version.parse().unwrap()));
        for (version, tag) in [
            ("14.0", "macosx_14_0"),
            ("14.7", "macosx_14_0"),
            ("15.0", "macosx_15_0"),
            // The wheel is tagged 26.0, and its libmlx needs 26.2.
            ("26.0", "macosx_15_0"),
            ("26.1", "macosx_15_0"),
            ("26.2", "macosx_26_0"),
            ("27.0", "macosx_26_0"),
        ] {
            let file = &wheel(version).unwrap().file;
            assert!(file.contains(tag), "macOS {version} gets {file}");
        }
        let told = wheel("13.6").unwrap_err().to_string();
        assert!(
            told.contains("macOS 14.0 or newer") && told.contains("13.6"),
            "{told}"
        );
        // Made for others, or where the version cannot be told.
        let mut unknown = Machine::of("macos", "aarch64");
        unknown.macos = None;
        let any = pins.one("mlx-metal", &unknown).unwrap();
        assert!(any.file.contains("macosx_14_0"), "{}", any.file);
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let entry = |file: &str, sha256: &str| {
            format!("[[wheel]]\nrole = 'r'\nhost = 'any'\nfile = '{file}'\nsha256 = '{sha256}'")
        };
        let digest = "0".repeat(64);
        for (text, told) in [
            (
                entry("a-1-py3-none-any.whl", "abc"),
                "a-1-py3-none-any.whl: sha256 is not 64",
            ),
            (
                entry("../a-1-py3-none-any.whl", &digest),
                "is not the name of a wheel",
            ),
            (entry("a-1.tar.gz", &digest), "is not the name of a wheel"),
            ("[[wheel]]\nrole = 'r'".to_owned(), "missing field"),
            ("[[wheel]".to_owned(), "vendor/wheels.toml"),
        ] {
            let error = Pins::parse(&text).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains('\n'), "{error}");
        }
    }
}
