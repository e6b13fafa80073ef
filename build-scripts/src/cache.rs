//! Where everything lies that is fetched or built: a folder of the user's, and never the source.
//!
//! A source may be read-only, or cargo's own copy of a git repository. What lies in the cache is
//! named by a digest of what it was made from, is put there complete, and is not changed again; so
//! any number of checkouts and programs share one, and `cargo clean` does not cost a download.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Names the folder to use instead of the system's.
pub const CACHE_VARIABLE: &str = "MLX_BACKEND_CACHE";

/// The folders of one cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The folder that `MLX_BACKEND_CACHE` names, else one in the user's cache: in `XDG_CACHE_HOME`
    /// or `~/.cache` on Linux, in `~/Library/Caches` on macOS.
    ///
    /// # Errors
    /// If there is no home folder either, or the variable names a relative path.
    pub fn of_user() -> Result<Self> {
        place(|name| env::var_os(name), cfg!(target_os = "macos")).map(Self::at)
    }

    /// The cache at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of all that is below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Wheels as they came.
    pub fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    /// Unpacked wheels, of tools and of MLX.
    pub(crate) fn wheels(&self) -> PathBuf {
        self.root.join("wheels")
    }

    /// The unpacked mlx-c source, one folder a version.
    pub(crate) fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// Where cmake works; kept, so that a change to the bridge recompiles one file.
    pub(crate) fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// The finished libraries, each with libmlx beside it.
    pub(crate) fn native(&self) -> PathBuf {
        self.root.join("native")
    }

    /// All folders of things.
    pub(crate) fn folders(&self) -> [PathBuf; 5] {
        [
            self.downloads(),
            self.wheels(),
            self.sources(),
            self.builds(),
            self.native(),
        ]
    }
}

/// The cache's folder, by what the environment says.
fn place(variable: impl Fn(&str) -> Option<OsString>, macos: bool) -> Result<PathBuf> {
    let path = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|path| *path != *"")
    };
    if let Some(chosen) = path(CACHE_VARIABLE) {
        // A build script and a task run in different folders.
        return match chosen.is_absolute() {
            true => Ok(chosen),
            false => Err(Error::RelativeCache { path: chosen }),
        };
    }
    // XDG's specification has relative paths ignored.
    let home = || path("HOME").filter(|home| home.is_absolute());
    let caches = if macos {
        home().map(|home| home.join("Library").join("Caches"))
    } else {
        let xdg = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        xdg.or_else(|| home().map(|home| home.join(".cache")))
    };
    let caches = caches.ok_or(Error::NoCache)?;
    Ok(caches.join("mlx-backend"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_wish_comes_first_and_then_the_systems_custom() {
        let at = |set: &[(&str, &str)], macos| {
            let variable = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            place(variable, macos)
        };
        let (home, xdg) = (("HOME", "/home/a"), ("XDG_CACHE_HOME", "/big"));
        let ours = (CACHE_VARIABLE, "/mine");
        let is = |found: Result<PathBuf>, path: &str| assert_eq!(found.unwrap(), Path::new(path));
        is(at(&[home, xdg, ours], false), "/mine");
        is(
            at(&[home, xdg, (CACHE_VARIABLE, "")], false),
            "/big/mlx-backend",
        );
        is(at(&[home], false), "/home/a/.cache/mlx-backend");
        is(at(&[home, xdg], true), "/home/a/Library/Caches/mlx-backend");
        is(
            at(&[home, ("XDG_CACHE_HOME", "relative")], false),
            "/home/a/.cache/mlx-backend",
        );
        let told = at(&[("HOME", "")], false).unwrap_err().to_string();
        assert!(told.contains("set MLX_BACKEND_CACHE"), "{told}");
        let told = at(&[home, (CACHE_VARIABLE, "here")], false).unwrap_err();
        assert!(told.to_string().contains("absolute"), "{told}");
    }
}
