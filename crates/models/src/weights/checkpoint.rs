//! The safetensors files of a directory, memory-mapped, with headers that have been proven true.
//!
//! The files are found as `model.safetensors.index.json` names them, else as `model*.safetensors`.
//! After [`Checkpoint::open`] every tensor's byte range lies inside its file and has the size that
//! its dtype and shape ask for.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mlx_core::Dtype;
use mlx_core::io::MappedFile;
use safetensors::{SafeTensorError, SafeTensors};

use crate::config::read_json;

use crate::{Error, Result};

const INDEX: &str = "model.safetensors.index.json";

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct TensorEntry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<i32>,
    /// Index into the checkpoint's files.
    pub(crate) file: usize,
    /// Bytes inside that file.
    pub(crate) range: Range<usize>,
}

/// All tensors of a model directory.
pub(crate) struct Checkpoint {
    dir: PathBuf,
    files: Vec<(PathBuf, Arc<MappedFile>)>,
    tensors: HashMap<String, TensorEntry>,
}

impl Checkpoint {
    /// Maps and validates every file of `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let mut checkpoint = Self {
            dir: dir.to_owned(),
            files: Vec::new(),
            tensors: HashMap::new(),
        };
        for path in list_files(dir)? {
            checkpoint.add_file(path)?;
        }
        Ok(checkpoint)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn file_count(&self) -> usize {
        self.files.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name)
    }

    pub(crate) fn file(&self, entry: &TensorEntry) -> &Arc<MappedFile> {
        &self.files[entry.file].1
    }

    fn add_file(&mut self, path: PathBuf) -> Result<()> {
        let file = File::open(&path).map_err(|e| Error::read(&path, e))?;
        let map = MappedFile::new(&file).map_err(|e| Error::read(&path, e))?;
        let bytes: &[u8] = (*map).as_ref();
        let (header, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|e| damaged(&path, bytes, &e))?;
        let data_start = 8 + header;
        for (name, info) in metadata.tensors() {
            let Some(dtype) = dtype(info.dtype) else {
                let problem = format!(
                    "has dtype {:?}, which MLX does not have; convert the model",
                    info.dtype
                );
                return Err(Error::tensor(&path, &name, problem));
            };
            let shape: Option<Vec<i32>> =
                info.shape.iter().map(|&n| i32::try_from(n).ok()).collect();
            let Some(shape) = shape else {
                let problem = format!("has a dimension above 2147483647: {:?}", info.shape);
                return Err(Error::tensor(&path, &name, problem));
            };
            let (start, end) = info.data_offsets;
            let entry = TensorEntry {
                dtype,
                shape,
                file: self.files.len(),
                range: data_start + start..data_start + end,
            };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                let problem = format!(
                    "is also in {}; remove the file that does not belong to this model",
                    self.files[other.file].0.display()
                );
                return Err(Error::tensor(&path, &name, problem));
            }
        }
        self.files.push((path, map));
        Ok(())
    }
}

/// The weight files of `dir`, each once, in order of name.
fn list_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let index = dir.join(INDEX);
    if index.exists() {
        return files_of_index(dir, &index);
    }
    let entries = std::fs::read_dir(dir).map_err(|e| Error::read(dir, e))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            name.starts_with("model") && name.ends_with(".safetensors")
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::read(
            dir,
            "has no model*.safetensors; fetch the model's weights",
        ));
    }
    Ok(files)
}

fn files_of_index(dir: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let value = read_json(index)?;
    let bad = |problem: &str| Error::checkpoint(index, problem);
    let map = value
        .get("weight_map")
        .and_then(|m| m.as_object())
        .ok_or_else(|| bad("has no object 'weight_map'; fetch the file again"))?;
    let mut names = BTreeSet::new();
    for file in map.values() {
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
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

/// Says in a user's words what the header check found.
fn damaged(path: &Path, bytes: &[u8], error: &SafeTensorError) -> Error {
    let why = match error {
        SafeTensorError::HeaderTooSmall => "is too short to be a safetensors file".to_owned(),
        SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength => {
            "is cut off inside its header, or is no safetensors file".to_owned()
        }
        SafeTensorError::MetadataIncompleteBuffer => format!(
            "does not have the length that its header promises ({} bytes are there); it is truncated or damaged",
            bytes.len()
        ),
        SafeTensorError::InvalidOffset(name) => {
            format!(
                "has a header that gives tensor '{name}' bytes that overlap, leave a gap or run backwards"
            )
        }
        SafeTensorError::TensorInvalidInfo => {
            "has a header that gives a tensor more or fewer bytes than its shape and dtype take"
                .to_owned()
        }
        other => format!("has a damaged header ({other})"),
    };
    // A header that is a git-lfs pointer or an HTML page is the usual cause.
    let hint = if bytes.starts_with(b"version https://git-lfs") {
        "it is a git-lfs pointer: run `git lfs pull` in its directory"
    } else {
        "fetch the file again"
    };
    Error::checkpoint(path, format!("{why}; {hint}"))
}

fn dtype(dtype: safetensors::Dtype) -> Option<Dtype> {
    use safetensors::Dtype as S;
    Some(match dtype {
        S::BOOL => Dtype::Bool,
        S::U8 | S::F8_E8M0 | S::F8_E4M3 => Dtype::Uint8,
        S::I8 => Dtype::Int8,
        S::I16 => Dtype::Int16,
        S::U16 => Dtype::Uint16,
        S::F16 => Dtype::Float16,
        S::BF16 => Dtype::Bfloat16,
        S::I32 => Dtype::Int32,
        S::U32 => Dtype::Uint32,
        S::F32 => Dtype::Float32,
        S::C64 => Dtype::Complex64,
        S::F64 => Dtype::Float64,
        S::I64 => Dtype::Int64,
        S::U64 => Dtype::Uint64,
        _ => return None,
    })
}
