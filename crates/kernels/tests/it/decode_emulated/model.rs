//! Small models with random weights, as the kernel reads them and as numbers.

use std::collections::HashMap;

use half::bf16;
use kernels::decode::{Packing, Sizes, Target};

use super::units;
use crate::common::Rng;

/// Few blocks, since each is hundreds of fibers, but more than row blocks have ends, and than eight tokens.
pub(super) const TARGET: Target = Target {
    multiprocessors: 9,
    shared_memory: 227 << 10,
};

const MATRICES: [&str; 7] = ["q", "k", "v", "o", "gate", "up", "down"];
const NORMS: [&str; 6] = [
    "input_norm",
    "q_norm",
    "k_norm",
    "mlp_norm",
    "attention_out_norm",
    "mlp_out_norm",
];
const BIASES: [&str; 3] = ["q_bias", "k_bias", "v_bias"];
/// Where the norms that matrices stand behind are zero.
const HUSHED: usize = 5;
/// Words of a layer in the table, and of what is behind the layers.
const ROW: usize = 32;

/// Memory that begins where 16 bytes may be read at once.
pub(crate) struct Memory(Vec<u128>);

impl Memory {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let words = bytes.chunks(16).map(|chunk| {
            let mut word = [0; 16];
            word[..chunk.len()].copy_from_slice(chunk);
            u128::from_ne_bytes(word)
        });
        Self(words.collect())
    }

    pub(super) fn of_halves(halves: &[bf16]) -> Self {
        let bytes = halves.iter().flat_map(|x| x.to_bits().to_ne_bytes());
        Self::new(&bytes.collect::<Vec<u8>>())
    }

    pub(crate) fn of_floats(floats: &[f32]) -> Self {
        Self::new(
            &floats
                .iter()
                .flat_map(|x| x.to_ne_bytes())
                .collect::<Vec<u8>>(),
        )
    }

    pub(crate) fn of_words(words: &[u32]) -> Self {
        Self::new(
            &words
                .iter()
                .flat_map(|x| x.to_ne_bytes())
                .collect::<Vec<u8>>(),
        )
    }

    pub(super) fn of_addresses(words: &[u64]) -> Self {
        Self::new(
            &words
                .iter()
                .flat_map(|x| x.to_ne_bytes())
                .collect::<Vec<u8>>(),
        )
    }

    /// Where it begins, for the kernel to read.
    pub(crate) fn address(&self) -> u64 {
        self.0.as_ptr().expose_provenance() as u64
    }

    /// Where it begins, for the kernel to write.
    pub(crate) fn address_mut(&mut self) -> u64 {
        self.0.as_mut_ptr().expose_provenance() as u64
    }

    /// Puts bytes in the place of those at `at`.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let mut all = self.bytes();
        all[at..at + bytes.len()].copy_from_slice(bytes);
        let moved = Self::new(&all);
        self.0.copy_from_slice(&moved.0);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    pub(super) fn halves(&self) -> Vec<bf16> {
        let bytes = self.bytes();
        let halves = bytes.as_chunks().0.iter();
        halves
            .map(|&x| bf16::from_bits(u16::from_ne_bytes(x)))
            .collect()
    }

    pub(super) fn floats(&self) -> Vec<f32> {
        let bytes = self.bytes();
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|&x| f32::from_ne_bytes(x))
            .collect()
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The numbers of a tensor, and the up to three pieces of memory that the kernel reads.
struct Weight {
    numbers: Vec<f64>,
    parts: Vec<Memory>,
    /// To which places in the parts lead.
    _lists: Vec<Memory>,
}

/// A model that the kernel is for, with weights.
pub(super) struct Model {
    pub(super) sizes: Sizes,
    /// Keys of a layer with a sliding window, at most.
    pub(super) window: usize,
    /// Wavelengths over two pi of the planes of a head, in full layers and in those with windows.
    pub(super) periods: [Vec<f32>; 2],
    weights: HashMap<String, Weight>,
    period_memory: [Memory; 2],
}

impl Model {
    pub(super) fn random(sizes: Sizes, window: usize, rng: &mut Rng) -> Self {
        let (hidden, inter, dim) = (sizes.hidden, sizes.intermediate, sizes.head_dim);
        let (q, kv) = (sizes.heads * dim, sizes.kv_heads * dim);
        let shapes = [
            (q, hidden),
            (kv, hidden),
            (kv, hidden),
            (hidden, q),
            (inter, hidden),
            (inter, hidden),
            (hidden, inter),
        ];
        let mut weights = HashMap::new();
        for layer in 0..sizes.sliding.len() {
            for (name, (rows, columns)) in MATRICES.into_iter().zip(shapes) {
                let hushed = !matches!(name, "o" | "down");
                let matrix = matrix(rng, sizes.layers, rows, columns, hushed);
                weights.insert(format!("{layer}.{name}"), matrix);
            }
            for name in NORMS {
                let of_head = matches!(name, "q_norm" | "k_norm");
                let mut norm = normal(rng, if of_head { dim } else { hidden }, 1.0, 0.2);
                if matches!(name, "input_norm" | "mlp_norm") {
                    norm[HUSHED] = bf16::ZERO;
                }
                let norm = plain(&norm);
                weights.insert(format!("{layer}.{name}"), norm);
            }
            for (name, rows) in BIASES.into_iter().zip([q, kv, kv]) {
                weights.insert(
                    format!("{layer}.{name}"),
                    plain(&normal(rng, rows, 0.0, 0.5)),
                );
            }
        }
        weights.insert(
            "embed".into(),
            matrix(rng, sizes.embedding, sizes.vocab, hidden, false),
        );
        weights.insert(
            "head".into(),
            matrix(rng, sizes.head, sizes.vocab, hidden, false),
        );
        weights.insert("norm".into(), plain(&normal(rng, hidden, 1.0, 0.2)));
        let periods = [1e6_f64, 1e4].map(|theta| {
            let plane = |i| theta.powf(i as f64 / (dim / 2) as f64) as f32;
            (0..dim / 2).map(plane).collect::<Vec<f32>>()
        });
        let period_memory = [0, 1].map(|kind| Memory::of_floats(&periods[kind]));
        Self {
            sizes,
            window,
            periods,
            weights,
            period_memory,
        }
    }

    /// The numbers of a weight, by rows.
    pub(super) fn numbers(&self, name: &str) -> &[f64] {
        &self.weights[name].numbers
    }

    /// The table of addresses, a row a layer and one behind them.
    pub(super) fn table(&self) -> Memory {
        let mut table = Vec::new();
        let mut add = |row: Vec<u64>| {
            table.extend_from_slice(&row);
            table.resize(table.len().next_multiple_of(ROW), 0);
        };
        for layer in 0..self.sizes.sliding.len() {
            let matrices = MATRICES.map(|name| self.words(&format!("{layer}.{name}")));
            let mut row = matrices.concat();
            for name in NORMS.into_iter().chain(BIASES) {
                row.push(self.words(&format!("{layer}.{name}"))[0]);
            }
            add(row);
        }
        let mut row = [self.words("embed"), self.words("head")].concat();
        row.push(self.words("norm")[0]);
        row.extend(self.period_memory.iter().map(Memory::address));
        add(row);
        Memory::of_addresses(&table)
    }

    fn words(&self, name: &str) -> [u64; 3] {
        let parts = &self.weights[name].parts;
        [0, 1, 2].map(|i| parts.get(i).map_or(0, Memory::address))
    }
}

fn normal(rng: &mut Rng, width: usize, mean: f64, deviation: f64) -> Vec<bf16> {
    let numbers = (0..width).map(|_| mean + deviation * rng.normal());
    numbers.map(bf16::from_f64).collect()
}

fn plain(halves: &[bf16]) -> Weight {
    Weight {
        numbers: halves.iter().map(|x| x.to_f64()).collect(),
        parts: vec![Memory::of_halves(halves)],
        _lists: Vec::new(),
    }
}

/// `hushed` says that the column [`HUSHED`] meets a zero.
fn matrix(rng: &mut Rng, packing: Packing, rows: usize, columns: usize, hushed: bool) -> Weight {
    let width = (columns as f64).sqrt();
    if let Packing::Affine { bits, group } = packing {
        return affine(rng, bits, group, rows, columns);
    }
    let mut halves = normal(rng, rows * columns, 0.0, 1.0 / width);
    if packing == Packing::Dense {
        return plain(&halves);
    }
    make_rare(rng, &mut halves, columns, hushed);
    let (bytes, lists) = units::encode(&halves, rows, columns);
    let mut units = Memory::new(&bytes);
    let lists: Vec<(usize, Memory)> = lists
        .into_iter()
        .map(|(at, list)| (at, Memory::of_words(&list)))
        .collect();
    assert!(!lists.is_empty(), "some units have many rare elements");
    for (at, list) in &lists {
        units.put(*at, &list.address().to_ne_bytes());
    }
    Weight {
        parts: vec![units],
        _lists: lists.into_iter().map(|(_, list)| list).collect(),
        ..plain(&halves)
    }
}

/// Makes few elements too small for a code, or zeros. In a tenth of the rows of a matrix whose column [`HUSHED`]
/// meets a zero, that column is so large that all beside it are rare, and all that counts.
fn make_rare(rng: &mut Rng, halves: &mut [bf16], columns: usize, hushed: bool) {
    for (at, x) in halves.iter_mut().enumerate() {
        let draw = rng.bits() % 1000;
        match draw {
            0..2 => *x = bf16::from_f64(x.to_f64() * 2.0_f64.powi(-30)),
            2..4 => *x = bf16::from_f64(x.to_f64() * 2.0_f64.powi(-100)),
            4 => *x = bf16::ZERO,
            _ => {}
        }
        if hushed && at % columns == HUSHED && draw < 100 {
            *x = bf16::from_f64(2.0_f64.powi(14));
        }
    }
}

fn affine(rng: &mut Rng, bits: usize, group: usize, rows: usize, columns: usize) -> Weight {
    let words: Vec<u32> = (0..rows * columns * bits / 32)
        .map(|_| rng.bits() as u32)
        .collect();
    let top = f64::from(1 << bits);
    let spread = 12.0_f64.sqrt() / ((columns as f64).sqrt() * top);
    let mut scales = Vec::new();
    let mut biases = Vec::new();
    for _ in 0..rows * columns / group {
        let scale = bf16::from_f64(spread * (1.0 + 0.5 * rng.unit()));
        scales.push(scale);
        biases.push(bf16::from_f64(
            -scale.to_f64() * top * (0.5 + 0.1 * rng.unit()),
        ));
    }
    let number = |at: usize| {
        let q = words[at * bits / 32] >> (at * bits % 32) & ((1 << bits) - 1);
        f64::from(q) * scales[at / group].to_f64() + biases[at / group].to_f64()
    };
    Weight {
        numbers: (0..rows * columns).map(number).collect(),
        parts: vec![
            Memory::of_words(&words),
            Memory::of_halves(&scales),
            Memory::of_halves(&biases),
        ],
        _lists: Vec::new(),
    }
}
