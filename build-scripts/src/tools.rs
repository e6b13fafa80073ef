//! Build tools: taken from PATH where a good one is there, else from a pinned wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::Build;
use crate::command::{capture, on_path};
use crate::error::Result;
use crate::machine::Version;

/// The oldest cmake whose language the project's CMakeLists.txt speaks.
const MIN_CMAKE: Version = Version(3, 24);

impl Build<'_> {
    /// cmake.
    pub(crate) fn cmake(&self) -> Result<PathBuf> {
        match on_path("cmake").filter(|cmake| cmake_version(cmake) >= Some(MIN_CMAKE)) {
            Some(found) => Ok(found),
            None => Ok(self.tool("cmake")?.join("cmake/data/bin/cmake")),
        }
    }

    /// ninja.
    pub(crate) fn ninja(&self) -> Result<PathBuf> {
        let works =
            |ninja: &PathBuf| capture(Command::new(ninja).arg("--version")).is_ok_and(|f| f.ok);
        match on_path("ninja").filter(works) {
            Some(found) => Ok(found),
            None => Ok(self.tool("ninja")?.join("bin/ninja")),
        }
    }

    /// The folder into which the wheel of a tool is unpacked; unpacks it on first use.
    pub(crate) fn tool(&self, role: &str) -> Result<PathBuf> {
        self.unpacked(role, &[self.pins.one(role, &self.host)?])
    }
}

fn cmake_version(cmake: &Path) -> Option<Version> {
    let said = capture(Command::new(cmake).arg("--version")).ok()?.stdout;
    said.split_whitespace().nth(2)?.parse().ok()
}
