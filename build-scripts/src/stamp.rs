//! One digest over everything that a thing in the cache is made from; its name ends with it.
//!
//! It is what lets a second run do nothing: the inputs are a few small files, so reading them all
//! takes a millisecond, and unlike modification times a digest survives a clone or a restored
//! cache.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{IoContext, Result};
use crate::files;

/// Raise it when a step changes what it makes from the same inputs.
const STEPS_VERSION: u32 = 2;

/// How many characters of a digest a name has.
const LENGTH: usize = 16;

/// The digest of named inputs.
pub(crate) fn of(inputs: &[(&str, &[u8])]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(STEPS_VERSION.to_le_bytes());
    for part in inputs
        .iter()
        .flat_map(|(name, content)| [name.as_bytes(), content])
    {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let mut digest = files::hex(&hasher.finalize());
    digest.truncate(LENGTH);
    digest
}

/// The digest of the files below a folder, by their names in it, wherever it is.
pub(crate) fn of_folder(folder: &Path) -> Result<String> {
    let mut inputs = Vec::new();
    for file in files_below(folder)? {
        let name = file.strip_prefix(folder).unwrap_or(&file);
        let content = fs::read(&file).at("cannot read", &file)?;
        inputs.push((name.to_string_lossy().into_owned(), content));
    }
    let borrowed: Vec<_> = inputs
        .iter()
        .map(|(name, content)| (&**name, &**content))
        .collect();
    Ok(of(&borrowed))
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).at("cannot list", &folder)? {
            let path = entry.at("cannot list", &folder)?.path();
            if path.is_dir() {
                pending.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_names_and_contents_and_of_nothing_else() {
        let make = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let file = folder.path().join(name);
                files::create_dir(file.parent().unwrap()).unwrap();
                fs::write(file, content).unwrap();
            }
            of_folder(folder.path()).unwrap()
        };
        let first = make(&[("a.cpp", "1"), ("deep/b.h", "2")]);
        assert_eq!(make(&[("deep/b.h", "2"), ("a.cpp", "1")]), first);
        for other in [
            &[("a.cpp", "1"), ("deep/b.h", "3")][..],
            &[("a.cpp", "1"), ("b.h", "2")],
            &[("a.cpp", "1")],
            // The same bytes one after the other.
            &[("a.cpp", "1deep/b.h"), ("", "2")][..1],
        ] {
            assert_ne!(make(other), first, "{other:?}");
        }
    }
}
