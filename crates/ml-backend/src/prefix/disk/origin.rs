//! What decides the numbers of a model: its files, and what computes with them.
//!
//! A digest of the files takes seconds a gigabyte to make, so it is kept, by their paths, sizes and times. The first time
//! it is made on a thread of its own, and nothing is read or written until it is there.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::key::hex;

/// Changes where parts of the same tokens are written otherwise, or computed otherwise by the same program.
const VERSION: u32 = 1;

/// A digest of the model in `dir`, of `how` it is computed, and of this program; digests of files are kept in `cache`.
///
/// # Errors
/// When a file cannot be read, or changes meanwhile, or it is to `stop`.
pub(super) fn of(dir: &Path, how: &str, cache: &Path, stop: &AtomicBool) -> io::Result<[u8; 32]> {
    all(dir, how, |path| of_file(path, cache, stop))
}

/// The same where all files were read before, without reading them now.
pub(super) fn known(dir: &Path, how: &str, cache: &Path) -> Option<[u8; 32]> {
    let known = |path: &Path| {
        let digest = recorded(&record(&stamp(path)?, cache));
        digest.ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    all(dir, how, known).ok()
}

fn all(
    dir: &Path,
    how: &str,
    of_file: impl Fn(&Path) -> io::Result<[u8; 32]>,
) -> io::Result<[u8; 32]> {
    let mut all = Sha256::new();
    all.update(VERSION.to_le_bytes());
    all.update(program().as_bytes());
    all.update(how.as_bytes());
    for path in files(dir)? {
        all.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        all.update(of_file(&path)?);
    }
    Ok(all.finalize().into())
}

/// The files that a model's numbers come from, by name.
fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_weights = path
            .extension()
            .is_some_and(|ending| ending == "safetensors");
        if is_weights || path.file_name().is_some_and(|name| name == "config.json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Which program this is: another one may round otherwise.
fn program() -> String {
    let stamp = std::env::current_exe().and_then(|path| stamp(&path));
    format!(
        "{} {}",
        env!("CARGO_PKG_VERSION"),
        stamp.unwrap_or_default()
    )
}

/// Where a file is, how large, and when it was written.
fn stamp(path: &Path) -> io::Result<String> {
    let path = path.canonicalize()?;
    let about = path.metadata()?;
    let written = about.modified()?.duration_since(UNIX_EPOCH);
    let written = written.map_or(0, |time| time.as_nanos());
    Ok(format!("{} {} {written}", path.display(), about.len()))
}

/// Where the digest of a file is kept.
fn record(stamp: &str, cache: &Path) -> PathBuf {
    cache.join(hex(&Sha256::digest(stamp.as_bytes())[..16]))
}

/// The digest in a record, if that is whole.
fn recorded(record: &Path) -> Option<[u8; 32]> {
    let bytes = fs::read(record).ok()?;
    let (digest, sum) = bytes.split_at_checked(32)?;
    let is_whole = crc32fast::hash(digest).to_le_bytes() == *sum;
    digest.try_into().ok().filter(|_| is_whole)
}

fn of_file(path: &Path, cache: &Path, stop: &AtomicBool) -> io::Result<[u8; 32]> {
    let before = stamp(path)?;
    let record = record(&before, cache);
    if let Some(digest) = recorded(&record) {
        return Ok(digest);
    }
    let mut digest = Sha256::new();
    let mut file = File::open(path)?;
    let mut some = vec![0; 1 << 20];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut some)? {
            0 => break,
            count => digest.update(&some[..count]),
        }
    }
    let digest: [u8; 32] = digest.finalize().into();
    if stamp(path)? != before {
        let message = format!("{} changed while it was read", path.display());
        return Err(io::Error::other(message));
    }
    let mut bytes = digest.to_vec();
    bytes.extend(crc32fast::hash(&digest).to_le_bytes());
    let unfinished = record.with_extension(format!("{}.tmp", std::process::id()));
    // Without it the digest is made again next time.
    let _ = fs::write(&unfinished, &bytes).and_then(|()| fs::rename(&unfinished, &record));
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_when_it_changes_and_only_then() {
        let [model, cache] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let weights = model.path().join("model.safetensors");
        fs::write(model.path().join("config.json"), "{}").unwrap();
        fs::write(&weights, [1; 5000]).unwrap();
        let now = |how| of(model.path(), how, cache.path(), &AtomicBool::new(false)).unwrap();
        let known = || super::known(model.path(), "avx2", cache.path());
        assert_eq!(known(), None);
        let first = now("avx2");
        assert_eq!([now("avx2"), known().unwrap()], [first; 2]);
        assert_ne!(now("neon"), first, "another processor");
        // What is known by path, size and time is believed.
        let time = weights.metadata().unwrap().modified().unwrap();
        fs::write(&weights, [2; 5000]).unwrap();
        File::options()
            .write(true)
            .open(&weights)
            .unwrap()
            .set_modified(time)
            .unwrap();
        assert_eq!(now("avx2"), first);
        fs::write(&weights, [2; 5001]).unwrap();
        assert_eq!(known(), None);
        let second = now("avx2");
        assert_ne!(second, first);
        // A damaged record is none.
        for record in fs::read_dir(cache.path()).unwrap() {
            fs::write(record.unwrap().path(), [7; 36]).unwrap();
        }
        assert_eq!(known(), None);
        assert_eq!(now("avx2"), second);
    }
}
