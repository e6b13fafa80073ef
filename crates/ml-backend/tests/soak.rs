//! The short form of `cargo xtask soak`. A test binary of its own: what it measures is this process.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

#[path = "../examples/soak/run.rs"]
mod run;

use std::path::{Path, PathBuf};

use ml_backend::Device;
use run::{Curve, Soak, pages_left};

/// A model that goes takes its threads and its memory along, and an answer leaves nothing behind, with the
/// kernels and without. Always on the CPU: what is resident says little of a GPU.
#[test]
fn loads_and_generations_leave_nothing_behind() {
    if let Some(status) = run::again().unwrap() {
        assert!(status.success(), "{status}");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // MLX's own operations take a minute for a long prompt of a demo model.
    let tiny = root.join("crates/models/tests/fixtures");
    let demo = root.join("assets/models");
    let of = |root: &Path, names: [&str; 2]| -> Vec<PathBuf> { names.map(|n| root.join(n)).into() };
    check(&of(&demo, ["qwen3-demo", "gemma3-demo"]), false, [500, 900]);
    check(&of(&tiny, ["qwen3-tied", "gemma3-between"]), true, [50, 90]);
}

fn check(models: &[PathBuf], plain_mlx: bool, prompts: [usize; 2]) {
    let soak = Soak {
        models,
        device: Device::Cpu,
        plain_mlx,
        load_prompt: prompts[0],
        longest_prompt: prompts[1],
    };
    let mut lines = Vec::new();
    let mut curve = Curve::new("loads", 20, 5, |line| lines.push(line));
    soak.loads(&mut curve).unwrap();
    let loads = curve.verdict();
    drop(curve);
    assert!(loads.holds(), "{loads}\n{}", lines.join("\n"));
    assert_eq!(pages_left(), 0, "of models that have gone");

    let mut curve = Curve::new("generations", 20, 5, |line| lines.push(line));
    soak.generations(&mut curve).unwrap();
    let generations = curve.verdict();
    drop(curve);
    assert!(generations.holds(), "{generations}\n{}", lines.join("\n"));
    assert_eq!(pages_left(), 0, "of a model that has gone");
}
