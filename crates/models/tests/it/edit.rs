//! Directories that differ from a fixture in one way, as other programs leave them.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::fixture;

/// A tensor apart from its file.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    /// The same with other values: its bytes from back to front.
    pub(crate) fn changed(&self) -> Self {
        let mut other = self.clone();
        other.bytes.reverse();
        assert!(other.bytes != self.bytes);
        other
    }
}

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// A directory that begins as a copy of a fixture.
pub(crate) struct Edited {
    dir: TempDir,
    pub(crate) tensors: Tensors,
}

impl Edited {
    /// The configuration of the fixture `name`; its tensors are in memory, and none in files.
    pub(crate) fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = fixture(name).join("config.json");
        std::fs::copy(config, dir.path().join("config.json")).unwrap();
        let mut tensors = Tensors::new();
        for entry in std::fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if file.starts_with("model") && file.ends_with(".safetensors") {
                tensors.extend(read(&path));
            }
        }
        Self { dir, tensors }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(self, change: impl FnOnce(&mut Value)) -> Self {
        edit_config(self.path(), change);
        self
    }

    /// Gives tensors other names; those without a new one are left out.
    pub(crate) fn renamed(mut self, rename: impl Fn(&str) -> Option<String>) -> Self {
        let tensors = std::mem::take(&mut self.tensors).into_iter();
        self.tensors = tensors
            .filter_map(|(name, tensor)| Some((rename(&name)?, tensor)))
            .collect();
        self
    }

    /// Writes what is in memory to `model.safetensors`.
    pub(crate) fn single(self) -> Self {
        write(&self.path().join("model.safetensors"), &self.tensors);
        self
    }

    /// Writes what is in memory to `count` shards.
    pub(crate) fn sharded(self, count: usize) -> Self {
        for i in 0..count {
            write(&self.path().join(shard(i, count)), &self.shard(i, count));
        }
        self
    }

    /// What shard `i`, from 0, of `count` has.
    pub(crate) fn shard(&self, i: usize, count: usize) -> Tensors {
        let tensors = self.tensors.iter().enumerate();
        tensors
            .filter(|(n, _)| n * count / self.tensors.len() == i)
            .map(|(_, (name, tensor))| (name.clone(), tensor.clone()))
            .collect()
    }

    /// Writes an index of `count` shards, there or not.
    pub(crate) fn index(self, count: usize) -> Self {
        let mut map = serde_json::Map::new();
        for i in 0..count {
            let names = self.shard(i, count).into_keys();
            map.extend(names.map(|name| (name, json!(shard(i, count)))));
        }
        let index = json!({"metadata": {}, "weight_map": map});
        let path = self.path().join("model.safetensors.index.json");
        std::fs::write(path, index.to_string()).unwrap();
        self
    }
}

/// The name of shard `i`, from 0, of `count`.
pub(crate) fn shard(i: usize, count: usize) -> String {
    format!("model-{:05}-of-{count:05}.safetensors", i + 1)
}

pub(crate) fn edit_config(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
}

pub(crate) fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap();
        (name, view)
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let copied = tensors.iter().map(|(name, view)| {
        let tensor = Tensor {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        (name.to_owned(), tensor)
    });
    copied.collect()
}
