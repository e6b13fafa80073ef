//! Build tools: taken from PATH where a good one is there, else from a pinned wheel.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::Build;
use crate::command::{capture, on_path};
use crate::error::Result;

/// The oldest cmake whose language the project's CMakeLists.txt speaks.
const MIN_CMAKE: (u32, u32) = (3, 24);

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
        let folder = self.layout.tools().join(role);
        self.wheels(&[self.pins.one(role, &self.host)?], &folder)?;
        Ok(folder)
    }
}

fn cmake_version(cmake: &Path) -> Option<(u32, u32)> {
    let said = capture(Command::new(cmake).arg("--version")).ok()?.stdout;
    let mut numbers = said.split_whitespace().nth(2)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
