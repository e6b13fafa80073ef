//! Finds a C++ compiler, checks that it speaks C++20 before anything long begins, and asks it where
//! the C headers are.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, capture, on_path};
use crate::error::{Error, IoContext, Result};
use crate::host::Host;

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
        let compiler = match env::var("CXX") {
            Ok(chosen) if !chosen.trim().is_empty() => Self::parse(&chosen),
            _ => ["c++", "g++", "clang++"]
                .iter()
                .find_map(on_path)
                .map(|path| Self::at(&path))
                .ok_or(Error::NoCompiler)?,
        };
        compiler.check()?;
        Ok(compiler)
    }

    /// The program at `path`.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            words: vec![path.to_string_lossy().into_owned()],
        }
    }

    /// What CXX says: a path, or words such as `ccache g++`.
    fn parse(chosen: &str) -> Self {
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

    fn check(&self) -> Result<()> {
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
            return Ok(());
        }
        Err(Error::OldCompiler {
            compiler: self.words.join(" "),
            reason: command::reason(&finished.stderr, "it said nothing"),
        })
    }
}

/// Arguments with which clang finds the C headers that pip's libclang comes without.
pub(crate) fn system_headers(host: &Host) -> Vec<String> {
    let ask = |words: &[&str]| {
        let (program, arguments) = words.split_first()?;
        let said = capture(Command::new(program).args(arguments)).ok()?.stdout;
        let path = PathBuf::from(said.trim());
        path.is_dir().then(|| path.display().to_string())
    };
    if host.is_macos() {
        let sdk = ask(&["xcrun", "--show-sdk-path"]).map(|sdk| format!("-isysroot{sdk}"));
        let own = ask(&["xcrun", "clang", "-print-resource-dir"])
            .map(|resources| format!("-isystem{resources}/include"));
        return sdk.into_iter().chain(own).collect();
    }
    let chosen = env::var("CXX").unwrap_or_default();
    let chosen = Compiler::parse(&chosen).words;
    let named = ["c++", "cc", "g++", "gcc", "clang++", "clang"].map(|name| vec![name.to_owned()]);
    std::iter::once(chosen)
        .chain(named)
        .find_map(|words| {
            let words = words
                .iter()
                .map(String::as_str)
                .chain(["-print-file-name=include"]);
            ask(&words.collect::<Vec<_>>())
        })
        .map(|headers| format!("-isystem{headers}"))
        .into_iter()
        .collect()
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
            .check()
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c false cannot compile C++20"),
            "{error}"
        );
        let error = Compiler::parse("/nowhere/c++")
            .check()
            .unwrap_err()
            .to_string();
        assert!(error.contains("none was found"), "{error}");
    }
}
