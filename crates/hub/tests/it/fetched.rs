//! A model that is fetched.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use hub::{Event, Name};

use crate::hub::{COMMIT, Faults, MODEL, TestHub, git, sha256, small};

fn name() -> Name {
    MODEL.parse().expect("a name")
}

/// Whether a folder has what a model needs, and nothing else.
pub(crate) fn assert_is_small(dir: &Path) {
    for (path, content) in small() {
        let needed = !["README.md", "pytorch_model.bin"].contains(&path);
        assert_eq!(
            fs::read(dir.join(path)).ok(),
            needed.then_some(content),
            "{path}"
        );
    }
}

#[test]
fn a_model_lies_where_huggingface_hub_looks_for_it() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    let (told, came) = (AtomicU64::new(0), AtomicU64::new(0));
    let dir = hub
        .client(cache.path(), None)
        .pull(&name(), &|event| match event {
            Event::Begins { files, bytes } => {
                assert_eq!(files, 3);
                told.store(bytes, Ordering::Relaxed);
            }
            Event::Fetched(bytes) => {
                came.fetch_add(bytes, Ordering::Relaxed);
            }
            _ => {}
        })
        .unwrap();
    assert_is_small(&dir);
    assert_eq!(came.into_inner(), told.into_inner());

    let model = cache.path().join("models--someone--small");
    assert_eq!(dir, model.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    let files = small();
    let weights = &files
        .iter()
        .find(|(path, _)| *path == "model.safetensors")
        .unwrap()
        .1;
    let config = &files
        .iter()
        .find(|(path, _)| *path == "config.json")
        .unwrap()
        .1;
    let link = |file: &str| fs::read_link(dir.join(file)).unwrap();
    assert_eq!(
        link("model.safetensors"),
        Path::new("../../blobs").join(sha256(weights))
    );
    assert_eq!(
        link("config.json"),
        Path::new("../../blobs").join(git(config))
    );
    // Nothing is left of how it came.
    assert_eq!(fs::read_dir(model.join("blobs")).unwrap().count(), 3);
}

#[test]
fn large_files_come_in_pieces_and_the_token_goes_to_the_hub_alone() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    hub.fails(Faults {
        token: Some("hf_secret".to_owned()),
        ..Faults::default()
    });
    let dir = hub
        .client(cache.path(), Some("hf_secret"))
        .pull(&name(), &|_| {})
        .unwrap();
    assert_is_small(&dir);
    let (storage, asked): (Vec<_>, Vec<_>) =
        hub.seen().into_iter().partition(|seen| seen.at_storage);
    assert_eq!(storage.len(), 13, "12345 bytes in pieces of 1000");
    assert!(
        storage
            .iter()
            .all(|seen| seen.token.is_none() && seen.range.is_some())
    );
    assert!(
        asked
            .iter()
            .all(|seen| seen.token.as_deref() == Some("Bearer hf_secret"))
    );
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    let client = hub.client(cache.path(), None);
    let dir = client.pull(&name(), &|_| {}).unwrap();
    hub.forget();
    assert_eq!(client.pull(&name(), &|_| {}).unwrap(), dir);
    assert_eq!(hub.seen().len(), 1, "the list alone");
    // A file that lost its end comes anew.
    let weights = fs::canonicalize(dir.join("model.safetensors")).unwrap();
    fs::write(&weights, b"half").unwrap();
    client.pull(&name(), &|_| {}).unwrap();
    assert_is_small(&dir);
}

#[test]
fn a_revision_may_be_named_and_a_renamed_model_is_found() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    let client = hub.client(cache.path(), None);
    for text in [
        format!("{MODEL}@refs/pr/7"),
        format!("{MODEL}@{COMMIT}"),
        "someone/old".to_owned(),
    ] {
        let name: Name = text.parse().unwrap();
        assert_eq!(client.cache().find(&name).unwrap(), None, "{text}");
        let dir = client.pull(&name, &|_| {}).unwrap();
        assert_is_small(&dir);
        assert_eq!(client.cache().find(&name).unwrap(), Some(dir), "{text}");
        client.cache().remove(&name).unwrap();
    }
}

#[test]
fn several_at_once_fetch_a_model_once() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                assert_is_small(
                    &hub.client(cache.path(), None)
                        .pull(&name(), &|_| {})
                        .unwrap(),
                )
            });
        }
    });
    let pieces = hub.seen().iter().filter(|seen| seen.at_storage).count();
    assert_eq!(pieces, 13);
}

#[test]
fn an_index_says_which_weights_are_needed() {
    let index =
        br#"{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#;
    let hub = TestHub::with(&[
        ("config.json", b"{}".to_vec()),
        ("model-1-of-2.safetensors", vec![1; 10]),
        ("model-2-of-2.safetensors", vec![2; 10]),
        ("model.safetensors", vec![3; 20]),
        ("model.safetensors.index.json", index.to_vec()),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let client = hub.client(cache.path(), None);
    let listing = client.look_up(&name()).unwrap();
    assert_eq!((listing.files.len(), listing.left_out), (4, 20));
    let dir = client.pull(&name(), &|_| {}).unwrap();
    assert!(!dir.join("model.safetensors").exists());
    assert_eq!(client.cache().find(&name()).unwrap(), Some(dir.clone()));
    fs::remove_file(dir.join("model-2-of-2.safetensors")).unwrap();
    assert_eq!(
        client.cache().find(&name()).unwrap(),
        None,
        "a part is missing"
    );
}

#[test]
fn a_preview_has_the_heads_of_weights_and_holes() {
    let head = br#"{"a":{"dtype":"F32","shape":[250],"data_offsets":[0,1000]}}"#;
    let mut weights = (head.len() as u64).to_le_bytes().to_vec();
    weights.extend(head);
    let headed = weights.len();
    weights.extend(std::iter::repeat_n(7, 1000));
    let hub = TestHub::with(&[
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", weights.clone()),
    ]);
    let (cache, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let client = hub.client(cache.path(), None);
    let listing = client.look_up(&name()).unwrap();
    client.preview(&name(), &listing, into.path()).unwrap();
    let seen = fs::read(into.path().join("model.safetensors")).unwrap();
    assert_eq!(seen.len(), weights.len());
    assert_eq!(seen[..headed], weights[..headed]);
    assert!(seen[headed..].iter().all(|byte| *byte == 0));
    assert_eq!(fs::read(into.path().join("config.json")).unwrap(), b"{}");
}
