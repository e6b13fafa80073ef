//! What is in the cache.

use std::fs;

use hub::{Cache, Name};

use crate::hub::{COMMIT, MODEL, TestHub};

#[test]
fn models_are_listed_and_removed() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    let client = hub.client(cache.path(), None);
    assert!(client.cache().list().unwrap().is_empty());
    let names =
        [MODEL.to_owned(), format!("{MODEL}@refs/pr/7")].map(|name| name.parse::<Name>().unwrap());
    for name in &names {
        client.pull(name, &|_| {}).unwrap();
    }
    fs::create_dir_all(cache.path().join("datasets--a--b/snapshots/c")).unwrap();

    let listed = client.cache().list().unwrap();
    assert_eq!(
        listed.iter().map(|model| &model.name).collect::<Vec<_>>(),
        [&names[0], &names[1]]
    );
    for model in &listed {
        assert_eq!((model.commit.as_str(), model.whole), (COMMIT, true));
        assert_eq!(model.bytes, 12_345 + 23 + 2);
    }
    // Two names of one commit: the first goes, and its files stay for the other.
    let removed = client.cache().remove(&names[1]).unwrap();
    assert_eq!((removed.bytes, removed.snapshots), (0, 0));
    assert!(client.cache().find(&names[0]).unwrap().is_some());
    assert!(client.cache().find(&names[1]).unwrap().is_none());
    let main = format!("{MODEL}@main").parse().unwrap();
    let removed = client.cache().remove(&main).unwrap();
    assert_eq!(removed.snapshots, 1);
    assert!(removed.bytes >= 12_345, "{removed:?}");
    assert!(client.cache().list().unwrap().is_empty());
    let error = client.cache().remove(&names[0]).unwrap_err();
    assert!(error.to_string().contains("is not in the cache"), "{error}");
}

#[test]
fn a_half_of_a_model_is_none() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    let name: Name = MODEL.parse().unwrap();
    let client = hub.client(cache.path(), None);
    let dir = client.pull(&name, &|_| {}).unwrap();
    fs::remove_file(dir.join("config.json")).unwrap();
    assert_eq!(client.cache().find(&name).unwrap(), None);
    assert!(!client.cache().list().unwrap()[0].whole);
}

#[test]
fn a_ref_that_leads_out_is_none() {
    let cache = tempfile::tempdir().unwrap();
    let refs = cache.path().join("models--someone--small/refs");
    fs::create_dir_all(&refs).unwrap();
    fs::write(refs.join("main"), "../../..").unwrap();
    let name: Name = MODEL.parse().unwrap();
    assert_eq!(Cache::new(cache.path()).find(&name).unwrap(), None);
}
