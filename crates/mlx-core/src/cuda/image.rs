//! Machine code that was compiled before, kept on disk.
//!
//! A file is named by a digest of all that the code was made from and begins with a digest of the
//! code, so a file that is cut off or damaged is seen. The cache only saves time: whatever is wrong
//! with it, the code is compiled anew.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

use sha2::{Digest, Sha256};

use super::{Architecture, Compiler};
use crate::Result;

const DIGEST: usize = 32;

/// The machine code of `source`, from the user's cache if it is there.
pub(super) fn load_or_compile(
    compiler: &Compiler,
    name: &str,
    source: &str,
    architecture: Architecture,
    options: &[&str],
) -> Result<Vec<u8>> {
    let folder = folder(env::var_os("XDG_CACHE_HOME"), env::var_os("HOME"));
    let file =
        folder.map(|folder| folder.join(key(compiler.version(), source, architecture, options)));
    if let Some(code) = file.as_deref().and_then(read) {
        return Ok(code);
    }
    let code = compiler.compile(name, source, architecture, options)?.code;
    if let Some(file) = file {
        write(&file, &code);
    }
    Ok(code)
}

/// The cache's folder, as the XDG base directory specification has it.
fn folder(cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |dir: OsString| Some(PathBuf::from(dir)).filter(|dir| dir.is_absolute());
    let root = cache_home
        .and_then(absolute)
        .or_else(|| Some(home.and_then(absolute)?.join(".cache")))?;
    Some(root.join("mlx-core").join("cuda"))
}

/// The name of the file for these inputs.
fn key(compiler: (i32, i32), source: &str, architecture: Architecture, options: &[&str]) -> String {
    let mut hasher = Sha256::new();
    let mut add = |part: &str| {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    add(&format!("nvrtc {}.{}", compiler.0, compiler.1));
    add(&architecture.to_string());
    add(source);
    options.iter().for_each(|option| add(option));
    let digest = hasher.finalize();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.cubin")
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(file).ok()?;
    let (digest, code) = bytes.split_at_checked(DIGEST)?;
    (digest == &Sha256::digest(code)[..]).then(|| code.to_vec())
}

/// Puts the file in place with a rename, so that nobody sees half of one.
fn write(file: &Path, code: &[u8]) {
    let Some(folder) = file.parent() else { return };
    let temporary = file.with_extension(format!("{}.tmp", process::id()));
    let bytes = [&Sha256::digest(code)[..], code].concat();
    let written = fs::create_dir_all(folder)
        .and_then(|()| fs::write(&temporary, bytes))
        .and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SM_90: Architecture = Architecture::new(9, 0);

    #[test]
    fn the_key_changes_with_every_input() {
        let keys = [
            key((13, 0), "a", SM_90, &[]),
            key((13, 1), "a", SM_90, &[]),
            key((13, 0), "b", SM_90, &[]),
            key((13, 0), "a", Architecture::new(8, 0), &[]),
            key((13, 0), "a", SM_90, &["-DX"]),
            key((13, 0), "a", SM_90, &["-D", "X"]),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0], key((13, 0), "a", SM_90, &[]));
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep").join("x.cubin");
        assert_eq!(read(&file), None);
        let code: Vec<u8> = (0..=255).cycle().take(1000).collect();
        write(&file, &code);
        assert_eq!(read(&file).as_deref(), Some(&code[..]));
        let whole = fs::read(&file).unwrap();
        for broken in [&whole[..whole.len() - 1], &whole[..7], &[]] {
            fs::write(&file, broken).unwrap();
            assert_eq!(read(&file), None);
        }
        write(&file, &code);
        assert_eq!(read(&file), Some(code));
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let in_the_way = dir.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        write(&in_the_way.join("x.cubin"), &[1, 2, 3]);
        assert_eq!(fs::read(&in_the_way).unwrap(), b"");
    }

    #[test]
    fn the_folder_is_the_users() {
        let of = |cache: Option<&str>, home: Option<&str>| {
            folder(cache.map(OsString::from), home.map(OsString::from))
        };
        let below = |root: &str| Some(PathBuf::from(root).join("mlx-core/cuda"));
        assert_eq!(of(Some("/c"), Some("/h")), below("/c"));
        assert_eq!(of(None, Some("/h")), below("/h/.cache"));
        // A relative path is to be ignored.
        assert_eq!(of(Some("c"), Some("/h")), below("/h/.cache"));
        assert_eq!(of(None, None), None);
    }
}
