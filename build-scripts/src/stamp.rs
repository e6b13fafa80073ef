//! One digest over everything that a prefix is made from.
//!
//! It is what lets a second run do nothing: the inputs are a few small files, so reading them all
//! takes a millisecond, and unlike modification times a digest survives a clone or a restored
//! cache.

use std::env;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{IoContext, Result};
use crate::files;
use crate::host::Host;
use crate::layout::Layout;

/// Raise it when a step changes what it makes from the same inputs.
const STEPS_VERSION: u32 = 1;

/// Variables that change what the compiler makes.
pub(crate) const COMPILER_VARIABLES: [&str; 4] = ["CXX", "CXXFLAGS", "CPPFLAGS", "LDFLAGS"];

/// The digest of the inputs of the prefix of that name.
pub(crate) fn of_inputs(layout: &Layout, host: &Host, prefix: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    let mut add = |name: &str, content: &[u8]| {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((content.len() as u64).to_le_bytes());
        hasher.update(content);
    };
    add("steps", &STEPS_VERSION.to_le_bytes());
    add("host", host.to_string().as_bytes());
    add("prefix", prefix.as_bytes());
    for variable in COMPILER_VARIABLES {
        let value = env::var_os(variable).unwrap_or_default();
        add(variable, value.as_encoded_bytes());
    }
    let lock = layout.mlx_c_manifest().with_file_name("Cargo.lock");
    for file in [layout.pins(), lock] {
        add("file", &fs::read(&file).at("cannot read", &file)?);
    }
    for file in files_below(&layout.csrc())? {
        add(
            &file.to_string_lossy(),
            &fs::read(&file).at("cannot read", &file)?,
        );
    }
    Ok(files::hex(&hasher.finalize()))
}

fn files_below(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
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
    use crate::files::create_dir;

    #[test]
    fn the_digest_changes_with_every_input_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path());
        let lock = layout.mlx_c_manifest().with_file_name("Cargo.lock");
        let source = layout.csrc().join("deep").join("a.cpp");
        let inputs = [layout.pins(), lock, source.clone()];
        for file in &inputs {
            create_dir(file.parent().unwrap()).unwrap();
            fs::write(file, "first").unwrap();
        }
        let host = Host::of("linux", "x86_64");
        let digest = || of_inputs(&layout, &host, "cpu").unwrap();
        let first = digest();
        assert_eq!(digest(), first);
        fs::write(layout.vendor().join("README.md"), "prose").unwrap();
        assert_eq!(digest(), first);

        for file in &inputs {
            fs::write(file, "other").unwrap();
            assert_ne!(digest(), first, "{}", file.display());
            fs::write(file, "first").unwrap();
            assert_eq!(digest(), first);
        }
        assert_ne!(of_inputs(&layout, &host, "cuda").unwrap(), first);
        fs::rename(&source, source.with_file_name("b.cpp")).unwrap();
        assert_ne!(digest(), first);
    }
}
