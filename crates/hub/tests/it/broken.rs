//! A hub that breaks off, lies, and refuses.

use std::fs;
use std::path::Path;
use std::process::Command;

use hub::{Error, Name};

use crate::fetched::assert_is_small;
use crate::hub::{Faults, MODEL, TestHub};

fn name() -> Name {
    MODEL.parse().expect("a name")
}

/// The model comes in spite of all.
fn assert_pulls(hub: &TestHub, cache: &Path) {
    let dir = hub.client(cache, None).pull(&name(), &|_| {});
    assert_is_small(&dir.expect("a folder"));
}

/// What pulling the model fails with.
fn failure(hub: &TestHub, faults: Faults) -> Error {
    let cache = tempfile::tempdir().expect("a folder");
    hub.fails(faults);
    let error = hub
        .client(cache.path(), None)
        .pull(&name(), &|_| {})
        .expect_err("a failure");
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(
        hub.client(cache.path(), None)
            .cache()
            .find(&name())
            .expect("a folder"),
        None
    );
    error
}

#[test]
fn what_breaks_off_goes_on_where_it_was() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    hub.fails(Faults {
        ends_after: Some((300, 20)),
        ..Faults::default()
    });
    let dir = hub
        .client(cache.path(), None)
        .pull(&name(), &|_| {})
        .unwrap();
    assert_is_small(&dir);
    let ranges: Vec<_> = hub
        .seen()
        .into_iter()
        .filter_map(|seen| seen.range)
        .collect();
    assert!(
        ranges.iter().any(|range| range.starts_with("bytes=300-")),
        "{ranges:?}"
    );
}

#[test]
fn what_failed_for_good_goes_on_in_the_next_run() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    let client = hub.client(cache.path(), None);
    let listing = client.look_up(&name()).unwrap();
    assert_eq!(listing.files.len(), 3);
    // With the first piece the hub is gone for longer than anybody tries.
    let stopped = client.pull(&name(), &|event| {
        if let hub::Event::Fetched(1000) = event {
            hub.fails(Faults {
                status: Some((503, 1000)),
                ..Faults::default()
            });
        }
    });
    assert!(
        matches!(stopped, Err(Error::Connection { .. })),
        "{stopped:?}"
    );
    assert_eq!(client.cache().find(&name()).unwrap(), None);
    hub.fails(Faults::default()).forget();
    assert_is_small(&client.pull(&name(), &|_| {}).unwrap());
    let pieces = hub.seen().iter().filter(|seen| seen.at_storage).count();
    assert!(
        (1..13).contains(&pieces),
        "{pieces} of 13 pieces were missing"
    );
}

#[test]
fn an_overloaded_hub_is_asked_again() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    for status in [429, 500, 503] {
        hub.fails(Faults {
            status: Some((status, 3)),
            ..Faults::default()
        });
        assert_pulls(&hub, cache.path());
        fs::remove_dir_all(cache.path().join("models--someone--small")).unwrap();
    }
}

#[test]
fn addresses_behind_the_hub_may_expire() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    hub.fails(Faults {
        expires_after: Some(5),
        ..Faults::default()
    });
    assert_pulls(&hub, cache.path());
}

#[test]
fn a_server_without_ranges_serves_files_whole() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    hub.fails(Faults {
        no_ranges: true,
        ..Faults::default()
    });
    let mut settings = hub.settings(cache.path(), None);
    settings.piece = 1 << 20;
    assert_is_small(&hub::Hub::new(settings).pull(&name(), &|_| {}).unwrap());
}

#[test]
fn a_list_without_sizes_and_digests_is_filled_in() {
    let (hub, cache) = (TestHub::small(), tempfile::tempdir().unwrap());
    hub.fails(Faults {
        short_list: true,
        ..Faults::default()
    });
    assert_pulls(&hub, cache.path());
}

#[test]
fn what_is_not_what_was_told_is_thrown_away() {
    let hub = TestHub::small();
    let error = failure(
        &hub,
        Faults {
            wrong_content: true,
            ..Faults::default()
        },
    );
    assert!(
        matches!(error, Error::Mismatch { what: "digest", .. }),
        "{error}"
    );
    let error = failure(
        &hub,
        Faults {
            wrong_size: true,
            ..Faults::default()
        },
    );
    assert!(
        matches!(error, Error::Mismatch { what: "size", .. }),
        "{error}"
    );
}

#[test]
fn refusals_say_what_to_do() {
    let hub = TestHub::small();
    let gated = failure(
        &hub,
        Faults {
            token: Some("secret".to_owned()),
            ..Faults::default()
        },
    );
    assert!(gated.to_string().contains("set HF_TOKEN"), "{gated}");
    hub.fails(Faults::default());
    let cache = tempfile::tempdir().unwrap();
    let client = hub.client(cache.path(), None);
    let pull = |name: &str| {
        client
            .pull(&name.parse().unwrap(), &|_| {})
            .unwrap_err()
            .to_string()
    };
    assert!(pull("no/such").contains("the hub has no model no/such"));
    assert!(pull("someone/small@none").contains("has no revision \"none\""));

    let empty = TestHub::with(&[("config.json", b"{}".to_vec()), ("model.gguf", vec![0; 9])]);
    let error = empty
        .client(cache.path(), None)
        .pull(&name(), &|_| {})
        .unwrap_err();
    assert!(
        error.to_string().contains("has no *.safetensors"),
        "{error}"
    );

    let mut settings = hub.settings(cache.path(), None);
    settings.offline = true;
    let error = hub::Hub::new(settings).pull(&name(), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    let mut settings = hub.settings(cache.path(), None);
    settings.endpoint = "http://127.0.0.1:1".to_owned();
    let error = hub::Hub::new(settings).pull(&name(), &|_| {}).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot reach http://127.0.0.1:1/"),
        "{error}"
    );
}

/// A process that is killed while it fetches leaves nothing wrong, and what it had is used.
#[test]
fn who_is_killed_loses_a_piece_at_the_most() {
    const CACHE: &str = "HUB_TEST_CACHE";
    if let Some(cache) = std::env::var_os(CACHE) {
        // The process that is killed: its own hub, slow enough, by an exit in the middle of a file.
        let hub = TestHub::small();
        let _ = hub.client(cache.as_ref(), None).pull(&name(), &|event| {
            if let hub::Event::Fetched(1000) = event
                && hub.seen().iter().filter(|seen| seen.at_storage).count() > 9
            {
                std::process::abort();
            }
        });
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let this = std::env::current_exe().unwrap();
    let status = Command::new(this)
        .args(["--exact", "broken::who_is_killed_loses_a_piece_at_the_most"])
        .env(CACHE, cache.path())
        .output()
        .unwrap()
        .status;
    assert!(!status.success());
    let hub = TestHub::small();
    let client = hub.client(cache.path(), None);
    assert_eq!(client.cache().find(&name()).unwrap(), None);
    assert_is_small(&client.pull(&name(), &|_| {}).unwrap());
    let pieces = hub.seen().iter().filter(|seen| seen.at_storage).count();
    assert!(
        (1..13).contains(&pieces),
        "{pieces} of 13 pieces were fetched again"
    );
}
