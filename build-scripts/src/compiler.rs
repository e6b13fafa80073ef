//! Finds a C++ compiler and checks that it speaks C++20 before anything long begins.

use std::env;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::command::{self, capture, on_path};
use crate::error::{Error, IoContext, Result};

/// A program that only a C++20 compiler with its standard library accepts.
const PROBE: &str = "#include <concepts>\n#include <span>\n#include <source_location>\n\
                     template <std::integral T> T twice(T x) { return x + x; }\n\
                     int main() { int a[1]{0}; return twice(std::span(a)[0]); }\n";

/// A C++ compiler: a program, perhaps behind a launcher such as ccache.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    words: Vec<String>,
}

impl Compiler {
    /// `$CXX`, else the first of c++, g++ and clang++ on PATH; checked.
    pub(crate) fn find() -> Result<Self> {
        match env::var("CXX") {
            Ok(chosen) if !chosen.trim().is_empty() => Self::parse(&chosen),
            _ => ["c++", "g++", "clang++"]
                .iter()
                .find_map(on_path)
                .map(|path| Self::at(&path))
                .ok_or(Error::NoCompiler)?,
        }
        .checked()
    }

    /// The program at `path`.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            words: vec![path.to_string_lossy().into_owned()],
        }
    }

    /// What CXX says: a path, or words such as `ccache g++`.
    pub(crate) fn parse(chosen: &str) -> Self {
        if Path::new(chosen).is_file() {
            return Self {
                words: vec![chosen.to_owned()],
            };
        }
        Self {
            words: chosen.split_whitespace().map(str::to_owned).collect(),
        }
    }

    /// As cmake takes it in CMAKE_CXX_COMPILER: a list.
    pub(crate) fn for_cmake(&self) -> String {
        self.words.join(";")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.words.first().map_or("c++", String::as_str));
        command.args(self.words.iter().skip(1));
        command
    }

    /// Itself, if it speaks C++20.
    pub(crate) fn checked(self) -> Result<Self> {
        let folder = env::temp_dir();
        let mut builder = tempfile::Builder::new();
        let mut probe = builder
            .suffix(".cpp")
            .tempfile()
            .at("cannot create a file in", &folder)?;
        probe
            .write_all(PROBE.as_bytes())
            .at("cannot write", probe.path())?;
        let mut command = self.command();
        command
            .args(["-std=c++20", "-fsyntax-only"])
            .arg(probe.path());
        let finished = capture(&mut command).map_err(|_| Error::NoCompiler)?;
        if finished.ok {
            return Ok(self);
        }
        Err(Error::OldCompiler {
            compiler: self.words.join(" "),
            reason: command::reason(&finished.stderr, "it said nothing"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_before_the_compiler_is_kept() {
        assert_eq!(Compiler::parse("ccache g++").for_cmake(), "ccache;g++");
        let folder = tempfile::tempdir().unwrap();
        let spaced = folder.path().join("my compiler");
        std::fs::write(&spaced, "").unwrap();
        let spaced = spaced.display().to_string();
        assert_eq!(Compiler::parse(&spaced).for_cmake(), spaced);
    }

    #[test]
    fn a_program_that_is_no_compiler_is_refused_with_its_own_words() {
        let error = Compiler::parse("sh -c false")
            .checked()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c false cannot compile C++20"),
            "{error}"
        );
        let error = Compiler::parse("/nowhere/c++")
            .checked()
            .unwrap_err()
            .to_string();
        assert!(error.contains("none was found"), "{error}");
    }
}
