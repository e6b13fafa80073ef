//! Reading the fixtures that `tools/reference` made with transformers and mlx-lm.
//!
//! Tests run on the CPU, or on the device that `ML_TEST_DEVICE` names; `metal-on-cpu` is a CPU that passes for
//! an Apple GPU.

use std::path::{Path, PathBuf};

use kernels::graph;
use mlx_core::device::{self, Choice, stand_in};
use mlx_core::{Array, Dtype};
use models::cache::Cache;
use models::{LoadOptions, Logits, Model};
use safetensors::SafeTensors;

/// Starts MLX on a CPU that passes for an Apple GPU.
pub(crate) fn open_metal_on_cpu() {
    stand_in::play(Some(stand_in::Mac {
        memory_bytes: 64 << 30,
        recommended_working_set: 48 << 30,
    }));
    device::open(Choice::Metal).unwrap();
}

/// Starts MLX on the device under test.
pub(crate) fn open_device() {
    if std::env::var("ML_TEST_DEVICE").is_ok_and(|name| name == "metal-on-cpu") {
        return open_metal_on_cpu();
    }
    let choice = std::env::var("ML_TEST_DEVICE").map_or(Choice::Cpu, |name| name.parse().unwrap());
    device::open(choice).unwrap();
}

/// With our kernels where the device has them, and with MLX's own operations; on the CPU also as on an Apple
/// GPU.
pub(crate) fn on_both_paths(check: impl Fn()) {
    if std::env::var_os("ML_TEST_DEVICE").is_none() {
        println!("as on Metal");
        open_metal_on_cpu();
        check();
    }
    open_device();
    for plain_mlx in [false, true] {
        println!("plain MLX: {plain_mlx}");
        graph::force_mlx(plain_mlx);
        check();
    }
}

/// The directory of one case.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Every case whose directory begins with `prefix` and has expectations.
pub(crate) fn cases(prefix: &str) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no fixture begins with {prefix}");
    names
}

pub(crate) fn load(name: &str, dtype: Option<Dtype>) -> Model {
    load_from(&fixture(name), dtype)
}

pub(crate) fn load_from(dir: &Path, dtype: Option<Dtype>) -> Model {
    load_with(dir, &LoadOptions::new().dtype(dtype))
}

pub(crate) fn load_with(dir: &Path, options: &LoadOptions) -> Model {
    let model = Model::load(dir, options, &mut |_| {});
    model.unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

/// What the reference says of one case.
pub(crate) struct Expected(Vec<u8>);

impl Expected {
    pub(crate) fn read(name: &str) -> Self {
        Self(std::fs::read(fixture(name).join("expected.safetensors")).unwrap())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0)
            .unwrap()
            .tensor(name)
            .is_ok()
    }

    /// Whether the case is one of `tools/reference/quantized.py`.
    pub(crate) fn is_quantized(&self) -> bool {
        self.has("logits_f64")
    }

    pub(crate) fn ints(&self, name: &str) -> Vec<i32> {
        self.words(name)
            .into_iter()
            .map(i32::from_le_bytes)
            .collect()
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.words(name)
            .into_iter()
            .map(f32::from_le_bytes)
            .collect()
    }

    fn words(&self, name: &str) -> Vec<[u8; 4]> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(4)
            .map(|word| word.try_into().unwrap())
            .collect()
    }
}

/// `ids` in chunks of `sizes`, in turn.
fn chunks<'a>(mut ids: &'a [i32], sizes: &[usize]) -> Vec<&'a [i32]> {
    let mut chunks = Vec::new();
    for &size in sizes.iter().cycle() {
        if ids.is_empty() {
            break;
        }
        let (chunk, rest) = ids.split_at(size.min(ids.len()));
        chunks.push(chunk);
        ids = rest;
    }
    chunks
}

/// Logits `[L, vocab]` of `ids`, in chunks of these sizes in turn, through `cache`.
pub(crate) fn logits_in_chunks(
    model: &Model,
    cache: &mut Cache,
    ids: &[i32],
    sizes: &[usize],
) -> Vec<f32> {
    let mut all = Vec::new();
    for part in chunks(ids, sizes) {
        let ids = Array::from_slice(part, &[part.len() as i32]).unwrap();
        let logits = model.forward(&ids, cache, Logits::All).unwrap().unwrap();
        all.extend(
            logits
                .cast(Dtype::Float32)
                .unwrap()
                .to_vec::<f32>()
                .unwrap(),
        );
    }
    all
}

/// Greedy continuation: the prompt in chunks of which only the last gives logits, then one by one.
pub(crate) fn greedy(
    model: &Model,
    cache: &mut Cache,
    prompt: &[i32],
    sizes: &[usize],
    n: usize,
) -> Vec<i32> {
    let mut logits = None;
    let parts = chunks(prompt, sizes);
    let count = parts.len();
    for (i, part) in parts.into_iter().enumerate() {
        let ids = Array::from_slice(part, &[part.len() as i32]).unwrap();
        let want = if i + 1 == count {
            Logits::Last
        } else {
            Logits::None
        };
        logits = model.forward(&ids, cache, want).unwrap();
        cache.eval().unwrap();
    }
    let mut out = Vec::new();
    while out.len() < n {
        let next = argmax(&logits.take().unwrap());
        out.push(next);
        let ids = Array::from_slice(&[next], &[1]).unwrap();
        logits = model.forward(&ids, cache, Logits::Last).unwrap();
    }
    out
}

fn argmax(logits: &Array) -> i32 {
    let values = logits
        .cast(Dtype::Float32)
        .unwrap()
        .to_vec::<f32>()
        .unwrap();
    let best = values
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .unwrap();
    best.0 as i32
}

/// The largest relative error of a position: `|found - expected| / |expected|`, Euclidean over the
/// vocabulary.
pub(crate) fn relative_error(found: &[f32], expected: &[f32], vocab: usize) -> f64 {
    assert_eq!(found.len(), expected.len());
    let rows = found.chunks_exact(vocab).zip(expected.chunks_exact(vocab));
    rows.map(|(f, e)| {
        let norm =
            |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let difference = norm(&mut f.iter().zip(e).map(|(f, e)| f64::from(*f) - f64::from(*e)));
        let error = difference / norm(&mut e.iter().map(|e| f64::from(*e)));
        // A NaN must fail, and `max` would drop it.
        if error.is_nan() { f64::INFINITY } else { error }
    })
    .fold(0.0, f64::max)
}
