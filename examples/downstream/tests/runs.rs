//! A program outside the workspace generates text, with no environment variable set for it.

use std::process::Command;

#[test]
fn it_answers_with_the_demo_model() {
    let output = Command::new(env!("CARGO_BIN_EXE_downstream"))
        .env_remove("MLX_NATIVE_DIR")
        .env_remove("LD_LIBRARY_PATH")
        .current_dir(std::env::temp_dir())
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.contains("42"), "{answer}");
}
