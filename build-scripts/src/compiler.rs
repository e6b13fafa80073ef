//! Finds a C++ compiler and checks that it speaks C++20 before anything long begins.

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{self, capture, on_path};
use crate::error::{Error, IoContext, Result};

/// A program that only a C++20 compiler with its standard library accepts.
const PROBE: &str = "#include <concepts>\n#include <span>\n#include <source_location>\n\
                     template <std::integral T> T twice(T x) { return x + x; }\n\
                     int main() { int a[1]{0}; return twice(std::span(a)[0]); }\n";

/// `$CXX`, else the first of c++, g++ and clang++ on PATH; checked.
pub(crate) fn find() -> Result<PathBuf> {
    let compiler = match env::var_os("CXX").filter(|cxx| !cxx.is_empty()) {
        Some(chosen) => PathBuf::from(chosen),
        None => ["c++", "g++", "clang++"]
            .iter()
            .find_map(on_path)
            .ok_or(Error::NoCompiler)?,
    };
    check(&compiler)?;
    Ok(compiler)
}

fn check(compiler: &PathBuf) -> Result<()> {
    let temp = env::temp_dir();
    let mut probe = tempfile::Builder::new()
        .suffix(".cpp")
        .tempfile()
        .at("cannot create a file in", &temp)?;
    probe
        .write_all(PROBE.as_bytes())
        .at("cannot write", probe.path())?;
    let mut command = Command::new(compiler);
    command
        .args(["-std=c++20", "-fsyntax-only"])
        .arg(probe.path());
    let finished = capture(&mut command).map_err(|_| Error::NoCompiler)?;
    if finished.ok {
        return Ok(());
    }
    Err(Error::OldCompiler {
        compiler: compiler.display().to_string(),
        reason: command::reason(&finished.stderr, "it said nothing"),
    })
}
