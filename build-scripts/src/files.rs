//! Small file operations that never leave half a result behind.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::error::{IoContext, Result};

pub(crate) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).at("cannot create", path)
}

/// How the names of unfinished files and folders begin.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// A temporary folder beside `path`, on the same file system, so that a rename can publish it.
pub(crate) fn temp_beside(path: &Path) -> Result<TempDir> {
    let parent = path.parent().unwrap_or(path);
    create_dir(parent)?;
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempdir_in(parent)
        .at("cannot create in", parent)
}

/// Gives the finished folder `from` its name, which nothing has yet: it is never seen half filled.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).at("cannot put in place", to)
}

/// Writes a file so that a reader sees the old content or the new, never a part.
///
/// Only one process writes at a time (see `lock.rs`), so the name beside it is free.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let new = beside(path);
    fs::write(&new, content).at("cannot write", &new)?;
    fs::rename(&new, path).at("cannot put in place", path)
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(TEMPORARY);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Copies a folder with all below it; `to` must not exist.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    each_file(from, to, &|source, target| {
        fs::copy(source, target).map(drop)
    })
}

/// Makes a folder like `from`, whose files are the same ones by another name and take no room.
///
/// Where the file system has no such names they are copied.
pub(crate) fn link_dir(from: &Path, to: &Path) -> Result<()> {
    each_file(from, to, &|source, target| {
        fs::hard_link(source, target).or_else(|_| fs::copy(source, target).map(drop))
    })
}

fn each_file(from: &Path, to: &Path, put: &dyn Fn(&Path, &Path) -> io::Result<()>) -> Result<()> {
    create_dir(to)?;
    for entry in fs::read_dir(from).at("cannot list", from)? {
        let entry = entry.at("cannot list", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().at("cannot read", &source)?.is_dir() {
            each_file(&source, &target, put)?;
        } else {
            put(&source, &target).at("cannot copy", &source)?;
        }
    }
    Ok(())
}

/// How many bytes the files of a folder have, as far as they can be seen.
pub(crate) fn size_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size_below(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The SHA-256 of a file, in lower-case hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).at("cannot open", path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer).at("cannot read", path)?;
        if n == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..n]);
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
