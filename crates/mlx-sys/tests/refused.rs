//! What a program says that cannot open the native library.
//!
//! A program opens it once, so each case runs in a process of its own: this one again, with
//! `MLX_NATIVE_DIR` set.

use std::env;
use std::path::Path;
use std::process::Command;

/// Set in the processes that try to open the library.
const CHILD: &str = "MLX_SYS_TEST_CHILD";

#[test]
fn child() {
    if env::var_os(CHILD).is_some() {
        match mlx_sys::api() {
            Ok(_) => println!("opened"),
            Err(error) => println!("refused: {error}"),
        }
    }
}

/// What a process with this `MLX_NATIVE_DIR` says.
fn with_native_dir(dir: &Path) -> String {
    let output = Command::new(env::current_exe().expect("this program has a path"))
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .env("MLX_NATIVE_DIR", dir)
        .output()
        .expect("this program starts");
    assert!(
        output.status.success(),
        "a library that is not there ended the process"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_folder_without_a_library_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let said = with_native_dir(folder.path());
    assert!(said.contains("refused: MLX_NATIVE_DIR is"), "{said}");
    assert!(
        said.contains(&folder.path().display().to_string()),
        "{said}"
    );
    assert!(said.contains("cargo xtask build"), "{said}");
}

#[test]
fn a_file_that_is_no_library_is_named_with_the_linkers_words() {
    let folder = tempfile::tempdir().unwrap();
    let name = if cfg!(target_os = "macos") {
        "libmlxbridge.dylib"
    } else {
        "libmlxbridge.so"
    };
    let library = folder.path().join(name);
    std::fs::write(
        &library,
        "not a library, but as long as the header of one: ".repeat(9),
    )
    .unwrap();
    let said = with_native_dir(folder.path());
    assert!(
        said.contains(&format!("refused: cannot open {}", library.display())),
        "{said}"
    );
    assert!(said.contains("cargo xtask build"), "{said}");
}

#[test]
fn the_prefix_itself_and_its_library_folder_both_serve() {
    let path = &mlx_sys::loaded().expect("the native library loads").path;
    let folder = path.parent().expect("a file is in a folder");
    assert!(with_native_dir(folder).contains("opened"));
    let prefix = folder.ancestors().nth(2).expect("a prefix has folders");
    assert!(with_native_dir(prefix).contains("opened"));
}
