//! Bodies of Metal kernels as C++ programs: their arithmetic, without a Mac.

use std::io::Write;
use std::process::{Command, Stdio};

/// What bodies find in Metal's language.
const LANGUAGE: &str = r"
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>
#define device
#define constant
typedef unsigned int uint;
typedef float T;
struct uint3 { uint x, y, z; };
namespace metal { namespace precise { inline float exp(float x) { return std::exp(x); } } }
template <typename E> std::vector<E> read(size_t n) {
  std::vector<E> made(n);
  if (fread(made.data(), sizeof(E), n, stdin) != n) throw 1;
  return made;
}
void write(const std::vector<float>& x) { fwrite(x.data(), sizeof(float), x.size(), stdout); }
";

/// What a program of `source` prints that is given `input`, both as numbers.
pub(crate) fn run(source: &str, input: &[f32]) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    let (file, program) = (folder.path().join("body.cpp"), folder.path().join("body"));
    std::fs::write(&file, format!("{LANGUAGE}{source}")).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let compiled = Command::new(&compiler)
        .args(["-std=c++17", "-O1", "-o"])
        .args([&program, &file])
        .output()
        .unwrap_or_else(|e| panic!("{compiler}, which the native library was built with: {e}"));
    let log = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{log}");
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = input.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || pipe.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let numbers = output.stdout.chunks_exact(4);
    numbers
        .map(|word| f32::from_ne_bytes(word.try_into().unwrap()))
        .collect()
}
