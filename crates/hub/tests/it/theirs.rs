//! `huggingface_hub`, the program that everybody else fetches with: our hub is one for it, and either reads what the
//! other wrote. Needs a Python that has it: `ML_TEST_PYTHON=python3`.

use std::fs;
use std::path::Path;
use std::process::Command;

use hub::Name;

use crate::fetched::assert_is_small;
use crate::hub::{MODEL, TestHub};

/// What a line of Python prints.
fn python(python: &str, hub: &TestHub, cache: &Path, offline: bool, code: &str) -> String {
    let output = Command::new(python)
        .args(["-c", code])
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_HUB_CACHE", cache)
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .output()
        .expect("python starts");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn each_reads_what_the_other_fetched() {
    let Ok(program) = std::env::var("ML_TEST_PYTHON") else {
        println!("skipped: ML_TEST_PYTHON names no Python with huggingface_hub");
        return;
    };
    let hub = TestHub::small();
    let name: Name = MODEL.parse().unwrap();
    let download =
        format!("from huggingface_hub import snapshot_download as d; print(d('{MODEL}'))");

    // Theirs, by our hub; read by ours without a hub.
    let cache = tempfile::tempdir().unwrap();
    let theirs = python(&program, &hub, cache.path(), false, &download);
    let mut settings = hub.settings(cache.path(), None);
    settings.offline = true;
    let found = hub::Hub::new(settings).pull(&name, &|_| {}).unwrap();
    assert_eq!(found, Path::new(&theirs));
    // What theirs fetched is not fetched again.
    hub.forget();
    hub.client(cache.path(), None).pull(&name, &|_| {}).unwrap();
    assert_eq!(hub.seen().len(), 1);

    // Ours; read by theirs without a hub, and taken up with one.
    let cache = tempfile::tempdir().unwrap();
    let ours = hub.client(cache.path(), None).pull(&name, &|_| {}).unwrap();
    assert_is_small(&ours);
    assert_eq!(
        Path::new(&python(&program, &hub, cache.path(), true, &download)),
        ours
    );
    hub.forget();
    let kinds = format!(
        "from huggingface_hub import snapshot_download as d; print(d('{MODEL}', allow_patterns=['*.safetensors', '*.json']))"
    );
    assert_eq!(
        Path::new(&python(&program, &hub, cache.path(), false, &kinds)),
        ours
    );
    assert!(
        hub.seen()
            .iter()
            .all(|seen| !seen.at_storage || seen.range.is_none()),
        "no weights came again"
    );
    assert_eq!(hub.seen().iter().filter(|seen| seen.at_storage).count(), 0);
    assert_eq!(fs::read_dir(ours.parent().unwrap()).unwrap().count(), 1);
}
