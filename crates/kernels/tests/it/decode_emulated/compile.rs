//! A kernel's source as C++ of this machine.

use std::process::{Command, Stdio};

/// Stands for the files below, which are instructions of a GPU.
pub(crate) const HEADER: &str = include_str!("../../../../../tools/decode/emulated.h");
const INSTRUCTIONS: [&str; 2] = [
    include_str!("../../../src/decode/cuda/instructions.cuh"),
    include_str!("../../../src/cuda/tiles.cuh"),
];

/// The C++ compiler's name. `None`, which is said, where there is none; with the variable CI, where all is to be
/// tested, that is a failure.
pub(crate) fn compiler() -> Option<String> {
    let name = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let runs = Command::new(&name)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if runs {
        return Some(name);
    }
    let line = format!("there is no C++ compiler `{name}`; install one, or name it in CXX");
    assert!(std::env::var_os("CI").is_none(), "{line}");
    eprintln!("skipped: {line}");
    None
}

/// A launch of the kernel with a seed of the order in which threads run, and its arguments in a word each. False
/// if all threads wait for each other.
type Entry = unsafe extern "C" fn(u64, *const u64) -> bool;

/// A library with an entry for each kernel of a source.
pub(crate) struct Library(libloading::Library);

impl Library {
    /// Compiles `source` to a library of its own, `name` in messages: of one library, one kernel runs at a time.
    pub(super) fn compile(compiler: &str, name: &str, source: &str, kernels: &[&str]) -> Self {
        Self::of_text(compiler, name, &text(source, kernels))
    }

    /// Of C++ that has the entries.
    pub(crate) fn of_text(compiler: &str, name: &str, text: &str) -> Self {
        // A folder of its own, so that whoever else runs the tests writes over no library that is in use.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let file = |end: &str| folder.path().join(format!("{name}.{end}"));
        std::fs::write(file("cpp"), text).unwrap();
        // Without contraction, as the kernel says itself what is rounded when.
        let options = "-std=c++20 -O1 -ffp-contract=off -shared -fPIC -fvisibility=hidden -w -o";
        let output = Command::new(compiler)
            .args(options.split(' '))
            .args([file("so"), file("cpp")])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}");
        // SAFETY: nothing in it runs when it is loaded but the constructors of its few variables.
        Self(unsafe { libloading::Library::new(file("so")) }.unwrap())
    }

    /// Launches `kernel`; false if its threads wait for each other.
    ///
    /// # Safety
    /// `arguments` are those of the kernel, with addresses of as much memory as it reads and writes.
    pub(crate) unsafe fn launch(&mut self, kernel: &str, seed: u64, arguments: &[u64]) -> bool {
        // SAFETY: `text` has made it, with these parameters.
        let entry = unsafe { self.0.get::<Entry>(format!("emulated_{kernel}")) }.unwrap();
        // SAFETY: by this function's own contract; nobody else runs a kernel of this library.
        unsafe { entry(seed, arguments.as_ptr()) }
    }
}

/// The source as C++, with the header, the emulator's shared memory, and an entry for each kernel.
fn text(source: &str, kernels: &[&str]) -> String {
    let [first, other] = INSTRUCTIONS;
    let around: Vec<&str> = source.split(first).collect();
    let [sizes, rest] = around[..] else {
        panic!("the source has the instructions once")
    };
    assert!(rest.contains(other), "the source has the tiles");
    let mut text = format!("{sizes}#define THREADS (WARPS * 32)\n{HEADER}");
    text += &shared_memory(&rest.replace(other, ""));
    for kernel in kernels {
        text += &format!(
            "EMULATED_ENTRY bool emulated_{kernel}(u64 seed, const u64* arguments) {{\n    \
             return emulated::launch_kernel(GRID, WARPS, SMEM, seed, {kernel}, arguments);\n}}\n"
        );
    }
    text
}

/// The same with what is declared in shared memory as the emulator's: the array, and variables of a word.
pub(crate) fn shared_memory(source: &str) -> String {
    let mut text = String::new();
    let mut rest = source;
    let mut cells = 0;
    while let Some(at) = rest.find("__shared__") {
        let (before, from) = rest.split_at(at);
        let (declared, behind) = from.split_once(';').unwrap();
        let (_, name) = declared.rsplit_once(' ').unwrap();
        if let Some(array) = name.strip_suffix("[]") {
            text += before.trim_end().strip_suffix("extern").unwrap();
            text += &format!("unsigned char* {array} = emulated::array();");
        } else {
            text += before;
            for variable in declared.strip_prefix("__shared__ u32 ").unwrap().split(',') {
                text += &format!("u32& {} = emulated::cell({cells}); ", variable.trim());
                cells += 1;
            }
        }
        rest = behind;
    }
    assert!(cells <= 16, "the emulator has 16 variables a block");
    text + rest
}
