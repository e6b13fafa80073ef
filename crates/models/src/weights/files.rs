//! Which files of a directory are the model's weights.
//!
//! Directories hold more than one answer: an index of the model that was quantized lies beside the one
//! file that came of it, or beside shards of another count. So there are several sets of files to try,
//! in this order:
//!
//! 1. `model.safetensors`, at which transformers looks first, too;
//! 2. the files that the index names, if all are there; before the former where it is one of them;
//! 3. shards of one count that are all there, if there is only one such count;
//! 4. every `model*.safetensors`, which is what mlx-lm reads.
//!
//! The first set that holds the whole model is the one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use arch::read_json;

use crate::{Error, Result};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// Files that may be the model's weights, each once, in order of name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct FileSet {
    pub(super) paths: Vec<PathBuf>,
    /// The file that counts for a tensor, by the tensor's name, as far as an index says.
    pub(super) index: HashMap<String, PathBuf>,
}

impl FileSet {
    fn without_index(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            index: HashMap::new(),
        }
    }
}

/// The sets of files to try, one at the least.
#[derive(Debug)]
pub(super) struct FileSets {
    pub(super) sets: Vec<FileSet>,
    /// What is wrong with the index; what to say if no set holds the model.
    pub(super) problem: Option<Error>,
}

impl FileSets {
    /// Looks at the names in `dir` and into its index.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let all = weight_files(dir)?;
        let index = dir.join(INDEX);
        let (indexed, mut problem) = match index.exists().then(|| read_index(dir, &index)) {
            Some(Ok(set)) => (Some(set), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let single = dir.join(SINGLE);
        let single = all.contains(&single).then_some(single);
        if single.is_some() {
            // transformers and mlx-lm do not read an index beside it: the file's own faults count.
            problem = None;
        }

        let mut sets = Vec::new();
        let index_has_single = match (&indexed, &single) {
            (Some(set), Some(single)) => set.paths.contains(single),
            _ => false,
        };
        let single = single.map(|path| FileSet::without_index(vec![path]));
        match index_has_single {
            true => sets.extend(indexed.into_iter().chain(single)),
            false => sets.extend(single.into_iter().chain(indexed)),
        }
        sets.extend(complete_shards(&all).map(FileSet::without_index));
        if !all.is_empty() {
            sets.push(FileSet::without_index(all));
        }
        let mut seen = BTreeSet::new();
        sets.retain(|set| seen.insert(set.paths.clone()));
        if sets.is_empty() {
            return Err(problem.unwrap_or_else(|| {
                Error::read(dir, "has no model*.safetensors; fetch the model's weights")
            }));
        }
        Ok(Self { sets, problem })
    }
}

/// Every `model*.safetensors` of `dir`.
fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::read(dir, e))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = name_of(path);
            name.starts_with("model") && name.ends_with(".safetensors")
        })
        .collect();
    files.sort();
    Ok(files)
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default()
}

/// The shards of one count, such as `model-00001-of-00002.safetensors`, if all of them are among
/// `files` and there is no other such count.
fn complete_shards(files: &[PathBuf]) -> Option<Vec<PathBuf>> {
    let mut counts: BTreeMap<(&str, usize), BTreeMap<usize, &PathBuf>> = BTreeMap::new();
    for path in files {
        if let Some((stem, number, count)) = shard(name_of(path)) {
            let shards = counts.entry((stem, count)).or_default();
            shards.insert(number, path);
        }
    }
    // Numbers are of 1 to the count.
    counts.retain(|(_, count), shards| shards.len() == *count);
    let mut complete = counts.into_values();
    match (complete.next(), complete.next()) {
        (Some(shards), None) => Some(shards.into_values().cloned().collect()),
        _ => None,
    }
}

/// `stem-NUMBER-of-COUNT.safetensors` in its parts.
fn shard(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    (1..=count)
        .contains(&number)
        .then_some((stem, number, count))
}

fn read_index(dir: &Path, index: &Path) -> Result<FileSet> {
    let value = read_json(index)?;
    let bad = |problem: &str| Error::checkpoint(index, problem);
    let map = value
        .get("weight_map")
        .and_then(|m| m.as_object())
        .ok_or_else(|| bad("has no object 'weight_map'; fetch the file again"))?;
    let mut set = FileSet::default();
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let name = file
            .as_str()
            .ok_or_else(|| bad("'weight_map' maps a tensor to no file name"))?;
        // An index names files beside itself; anything else would reach outside the directory.
        if Path::new(name).components().count() != 1 || name.contains("..") {
            return Err(bad(&format!(
                "names '{name}', which is not a file beside it"
            )));
        }
        names.insert(name);
        set.index.insert(tensor.clone(), dir.join(name));
    }
    if names.is_empty() {
        return Err(bad("names no file"));
    }
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|n| !dir.join(n).is_file())
        .collect();
    if let Some(first) = missing.first() {
        let problem = format!(
            "names '{first}', which is missing ({} of {} files are); fetch it into the same directory",
            missing.len(),
            names.len()
        );
        return Err(bad(&problem));
    }
    set.paths = names.into_iter().map(|name| dir.join(name)).collect();
    Ok(set)
}
