//! The files of a directory that say how texts become embeddings, which come from strangers.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// None of these files is larger in honest directories; a tokenizer's configuration has tens of thousands of tokens.
const MOST_BYTES: u64 = 16 << 20;

/// The folder `name` of `dir`, which `modules`, a file of it, names: inside it, and no link that leads elsewhere.
/// (Files in it may be links, as the caches of downloads have them for all files of a model.)
pub(super) fn folder(dir: &Path, modules: &Path, name: &str) -> Result<PathBuf> {
    let mut parts = Path::new(name).components();
    let inside = parts.all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !inside || name.contains(char::is_control) {
        let problem = format!("{name:?} is no folder of this directory");
        return Err(refused(modules, problem));
    }
    let mut path = dir.to_owned();
    for part in Path::new(name).components() {
        path.push(part);
        if path.is_symlink() {
            let problem = format!("{name:?} is a symbolic link; put the folder itself there");
            return Err(refused(modules, problem));
        }
    }
    Ok(path)
}

/// A file's JSON; `None` where there is no such file.
pub(super) fn json(path: &Path) -> Result<Option<Value>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, format!("cannot be read: {error}"))),
    };
    let mut text = String::new();
    let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| refused(path, format!("cannot be read: {error}")))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(refused(path, "is larger than 16 MiB; fetch the file again"));
    }
    let value = serde_json::from_str(&text);
    let value = value.map_err(|error| refused(path, format!("is no JSON: {error}")))?;
    Ok(Some(value))
}

/// The JSON of a file that has to be there.
pub(super) fn needed(path: &Path) -> Result<Value> {
    json(path)?.ok_or_else(|| refused(path, "is missing; fetch the directory whole"))
}

pub(super) fn refused(path: &Path, problem: impl Into<String>) -> Error {
    Error::Embedding {
        path: path.to_owned(),
        problem: problem.into(),
    }
}
