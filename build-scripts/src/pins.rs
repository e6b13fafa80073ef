//! Reads `vendor/pins.toml`: which wheels, with which SHA-256, on which machine.
//!
//! A wheel's file name carries its project, version and platform (PEP 427), so the pins do not
//! repeat them and cannot contradict them.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::host::Host;

/// One pinned wheel.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wheel {
    /// What it is for: `mlx-cpu`, `cmake`, ...
    pub(crate) role: String,
    /// The host that uses it, or `any`.
    host: String,
    /// The lowest major version of macOS that may use it.
    #[serde(default)]
    min_macos: u32,
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
    /// Parses the text of a pins file and checks that each entry is usable.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let pins: Self = toml::from_str(text)
            .map_err(|e| Error::Pins(e.to_string().trim().replace('\n', " ")))?;
        pins.wheels.iter().try_for_each(Wheel::check)?;
        Ok(pins)
    }

    /// Every wheel of a role that `host` uses; one or more.
    pub(crate) fn all(&self, role: &str, host: &Host) -> Result<Vec<&Wheel>> {
        let name = host.to_string();
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

    /// The one wheel of a role for `host`: of several builds the newest that its macOS can run.
    pub(crate) fn one(&self, role: &str, host: &Host) -> Result<&Wheel> {
        let mut found = self.all(role, host)?;
        found.sort_by_key(|w| w.min_macos);
        let (oldest, macos) = (found[0], host.macos_version());
        Ok(found
            .into_iter()
            .rev()
            .find(|w| w.min_macos <= macos)
            .unwrap_or(oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layout;

    fn repository() -> Pins {
        Pins::parse(&std::fs::read_to_string(Layout::of_this_repository().pins()).unwrap()).unwrap()
    }

    #[test]
    fn every_supported_host_has_what_its_build_needs() {
        let pins = repository();
        let linux = [
            "mlx-cpu",
            "mlx-cuda",
            "mlx-metal",
            "cmake",
            "ninja",
            "libclang",
            "ziglang",
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
                    pins.one(role, &Host::of(os, arch)).is_ok(),
                    "{role} for {os}-{arch}"
                );
            }
        }
        let error = pins
            .one("mlx-cpu", &Host::of("windows", "x86_64"))
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
        let cmake = pins.one("cmake", &Host::of("linux", "x86_64")).unwrap();
        assert!(cmake.requirement().starts_with("cmake==4."));
        assert_eq!(
            cmake.platforms().collect::<Vec<_>>(),
            ["manylinux2014_x86_64", "manylinux_2_17_x86_64"]
        );
        let mlx = pins.one("mlx-cpu", &Host::of("linux", "aarch64")).unwrap();
        assert_eq!(mlx.requirement(), "mlx-cpu==0.32.2");
    }

    #[test]
    fn check_metal_links_against_the_build_for_the_oldest_macos() {
        let pins = repository();
        let any = pins.one("mlx-metal", &Host::of("linux", "x86_64")).unwrap();
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
            ("[[wheel]".to_owned(), "vendor/pins.toml"),
        ] {
            let error = Pins::parse(&text).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains('\n'), "{error}");
        }
    }
}
