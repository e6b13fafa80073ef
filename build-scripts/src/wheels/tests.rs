//! Downloading and unpacking, with a pip that is a shell script.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::cache::Cache;
use crate::pins::Pins;
use crate::python::Python;
use crate::testing::make_program;

const NAME: &str = "thing-1.0-py3-none-any.whl";
const CONTENT: &str = "the pinned bytes";

/// An empty cache, pins that name one wheel, and an index that a fake pip serves.
struct Checkout {
    folder: tempfile::TempDir,
    cache: Cache,
    pins: RefCell<String>,
    said: RefCell<Vec<String>>,
}

impl Checkout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let made = folder.path().join("made");
        fs::write(&made, CONTENT).unwrap();
        let digest = files::sha256(&made).unwrap();
        let pin = format!(
            "[[wheel]]\nrole = 'thing'\nhost = 'any'\nfile = '{NAME}'\nsha256 = '{digest}'\n"
        );
        Self {
            folder,
            cache,
            pins: RefCell::new(pin),
            said: RefCell::default(),
        }
    }

    /// Serves these bytes from the index.
    fn serve(&self, content: &str) {
        fs::write(self.folder.path().join(NAME), content).unwrap();
    }

    /// A pip that takes wheels from the index's folder, and "unpacks" one into a file of its name.
    fn pip(&self) -> PathBuf {
        let script = r#"#!/bin/sh
            while [ $# -gt 0 ]; do
                case "$1" in
                    download|install) action=$1 ;;
                    --dest|--target) folder=$2; shift ;;
                    --platform|--retries) shift ;;
                    -*) ;;
                    *) last=$1 ;;
                esac
                shift
            done
            echo "$action $last" >> "$(dirname "$0")/calls"
            case "$action" in
                download)
                    test "$last" = thing==1.0 || { echo "ERROR: asked for $last" >&2; exit 1; }
                    cp "$(dirname "$0")"/thing-1.0-*.whl "$folder" 2>/dev/null && exit 0
                    echo "ERROR: No matching distribution found for $last" >&2
                    exit 1 ;;
                install) cp "$last" "$folder/unpacked" ;;
            esac
        "#;
        let path = self.folder.path().join("python");
        make_program(&path, script);
        path
    }

    /// What pip was asked to do so far.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls
            .lines()
            .map(|l| l.split(' ').next().unwrap().to_owned())
            .collect()
    }

    /// Brings the wheel to a folder of its own.
    fn bring(&self) -> Result<PathBuf> {
        let progress = |line: &str| self.said.borrow_mut().push(line.to_owned());
        let pins = Pins::parse(&self.pins.borrow())?;
        let build = Build::with(pins, self.cache.clone(), &progress);
        build.python.set(Python::at(self.pip())).unwrap();
        build.tool("thing")
    }

    fn cached(&self) -> PathBuf {
        self.cache.downloads().join(NAME)
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn a_wheel_is_fetched_verified_and_unpacked_once() {
    let checkout = Checkout::new();
    checkout.serve(CONTENT);
    let folder = checkout.bring().unwrap();
    assert_eq!(read(&folder.join("unpacked")), CONTENT);
    assert_eq!(
        checkout.said.take(),
        [format!("downloading {NAME}"), format!("unpacking {NAME}")]
    );
    checkout.bring().unwrap();
    assert_eq!(checkout.calls(), ["download", "install"]);
    assert_eq!(checkout.said.take(), [""; 0], "nothing to do, nothing said");
}

#[test]
fn a_cached_wheel_needs_no_network() {
    let checkout = Checkout::new();
    files::create_dir(&checkout.cache.downloads()).unwrap();
    fs::write(checkout.cached(), CONTENT).unwrap();
    let folder = checkout.bring().unwrap();
    assert_eq!(read(&folder.join("unpacked")), CONTENT);
    assert_eq!(checkout.calls(), ["install"]);
}

#[test]
fn a_cached_wheel_that_was_changed_stops_the_build_and_is_named() {
    let checkout = Checkout::new();
    files::create_dir(&checkout.cache.downloads()).unwrap();
    fs::write(checkout.cached(), "the pinned bytez").unwrap();
    let error = checkout.bring().unwrap_err();
    assert!(matches!(error, Error::Checksum { .. }), "{error}");
    let message = error.to_string();
    let found = files::sha256(&checkout.cached()).unwrap();
    for part in [
        &checkout.cached().display().to_string(),
        &found,
        "delete the file",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(checkout.calls(), [""; 0], "pip never saw it");
}

#[test]
fn a_download_that_is_not_the_pinned_one_is_refused_and_not_kept() {
    let checkout = Checkout::new();
    checkout.serve("something else");
    let message = checkout.bring().unwrap_err().to_string();
    assert!(
        message.contains(&format!("checksum of {NAME}")),
        "{message}"
    );
    assert!(!checkout.cached().exists());
    checkout.serve(CONTENT);
    checkout.bring().unwrap();
}

#[test]
fn a_download_that_fails_says_why_and_where_the_file_could_be_put() {
    let checkout = Checkout::new();
    let message = checkout.bring().unwrap_err().to_string();
    for part in [NAME, "No matching distribution", "check the network"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(
        message.contains(&checkout.cache.downloads().display().to_string()),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_new_pin_gets_a_folder_of_its_own_and_the_old_one_stays() {
    let checkout = Checkout::new();
    checkout.serve(CONTENT);
    let old = checkout.bring().unwrap();

    checkout.serve("newer bytes");
    let digest = |path: &Path| files::sha256(path).unwrap();
    let (was, is) = (
        digest(&checkout.cached()),
        digest(&checkout.folder.path().join(NAME)),
    );
    let pins = checkout.pins.take().replace(&was, &is);
    checkout.pins.replace(pins);
    fs::remove_file(checkout.cached()).unwrap();
    let new = checkout.bring().unwrap();
    assert_eq!(read(&new.join("unpacked")), "newer bytes");
    assert_eq!(
        read(&old.join("unpacked")),
        CONTENT,
        "another program may use it"
    );
}
