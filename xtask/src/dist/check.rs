//! What an archive promises: it runs from anywhere, with nothing of this checkout.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use build_scripts::{Backend, Machine, NATIVE_DIR_VARIABLE};
use serde_json::Value;

use super::{Profile, archive, archive_name, make, target};

/// Makes the archive of the processor, unpacks it somewhere else and lets it answer.
pub(crate) fn check() -> Result<()> {
    let backend = Backend::default_for(&Machine::current());
    let scratch = tempfile::tempdir()?;
    let file = make(backend, target(None), Profile::Dev, scratch.path())?;
    let elsewhere = scratch.path().join("else where");
    archive::unpack(&file, &elsewhere)?;
    let folder = elsewhere.join(archive_name(backend)).canonicalize()?;

    let info = output(&folder, &["info", "--json", "--device", "cpu"])?;
    let info: Value = serde_json::from_str(&info).context("`ml info --json` prints JSON")?;
    let library = info["device"]["library"].as_str().unwrap_or_default();
    ensure!(
        Path::new(library).starts_with(&folder),
        "the unpacked `ml` took the library {library:?}, not its own"
    );
    let answer = output(
        &folder,
        &[
            "generate",
            "--device",
            "cpu",
            "--temp",
            "0",
            "--prompt",
            "What is 17 + 25?",
        ],
    )?;
    ensure!(answer.trim() == "42", "the unpacked `ml` says {answer:?}");
    println!("dist: an unpacked archive answers with its own library");
    Ok(())
}

/// What the unpacked `ml` prints.
fn output(folder: &Path, args: &[&str]) -> Result<String> {
    let mut ml = Command::new(folder.join("ml"));
    ml.args(args).arg("--model").arg("models/qwen3-demo");
    ml.current_dir(folder).env_remove(NATIVE_DIR_VARIABLE);
    let output = ml.output().context("cannot start the unpacked `ml`")?;
    ensure!(
        output.status.success(),
        "the unpacked `ml` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}
