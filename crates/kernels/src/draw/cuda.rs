//! All stages between logits and a token as CUDA kernels: three launches for up to 16 rows, whatever is asked for. That
//! stands in the sequences' slots, so nothing is compiled for a stage, and a batch whose sequences ask for different
//! ones is no other work than one whose ask for the same.
//!
//! The first launch changes the logits (biases, penalties, masks), the second counts what lies how far below the
//! largest one, in bins, and the third puts the tokens by their bins. What blocks of a row are done last applies the
//! filters: the sums of the bins say in which one a bound lies, so no row is ever sorted or read again. Blocks never wait
//! for others, and clusters of them are no alternative: MLX updates graphs that it has launched, and a node that once
//! was a cluster's leaves out blocks of the kernel that comes into its place.

use std::sync::Arc;

use mlx_core::cuda::{Launch, Module, Scalar, failures};
use mlx_core::{Array, Dtype, Result, ops};

use super::slot::Stages;
use crate::argmax::drawn::Drawn;
use crate::arrays::exactly;
use crate::cuda::{Compiled, has_kernels};

/// Rows of a launch.
const ROWS: usize = 16;

/// Bins of a row, `BINS` in `row.cuh`, and the words of what is known of it beside its parts, `Work`.
const BINS: u32 = 2048;
const WORK_WORDS: u32 = 8 * BINS + 2;

/// How the kernels are compiled.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Threads of a block.
    pub threads: u32,
    /// Logits of a thread.
    pub each: u32,
    /// Rows of a launch.
    pub rows: usize,
}

/// The one in use.
pub const LAYOUT: Layout = Layout {
    threads: 512,
    each: 4,
    rows: ROWS,
};

/// What the source is compiled with: it runs once a token, and it is compiled before the first.
pub const OPTIONS: [&str; 1] = ["--ptxas-options=-O1"];

/// A kernel of its own source: MLX looks at the whole machine code at each launch.
pub struct Step {
    /// Its name.
    pub name: &'static str,
    /// What it is made of, beside `row.cuh` and `slot.cuh`.
    pub files: &'static str,
    /// Bytes of shared memory.
    pub bytes: fn(Layout) -> u32,
}

/// What is in front of each kernel.
pub const SHARED: &str = concat!(
    include_str!("../cuda/ordered.cuh"),
    include_str!("cuda/row.cuh"),
    include_str!("cuda/slot.cuh")
);

/// The launches.
pub const STEPS: [Step; 3] = [
    Step {
        name: "change",
        files: include_str!("cuda/change.cu"),
        bytes: |layout| 4 * layout.threads * layout.each,
    },
    Step {
        name: "count",
        files: include_str!("cuda/count.cu"),
        bytes: |_| 28 * BINS,
    },
    Step {
        name: "choose",
        files: concat!(
            include_str!("cuda/kept.cuh"),
            include_str!("cuda/choose.cu")
        ),
        bytes: |_| CHOOSE_BYTES,
    },
];

/// `Kept` in `kept.cuh`, and a little more.
const CHOOSE_BYTES: u32 = 97 << 10;

impl Layout {
    /// Blocks of a row.
    pub fn parts(&self, columns: u32) -> u32 {
        columns.div_ceil(self.threads * self.each)
    }

    /// Words of what blocks know of a row in common.
    pub fn work_words(&self, columns: u32) -> u32 {
        WORK_WORDS + 4 * self.parts(columns)
    }

    /// CUDA C++ that needs no header, without [`SHARED`] and the steps' files.
    pub fn definitions(&self) -> String {
        let Self {
            threads,
            each,
            rows,
        } = self;
        let slots: Vec<_> = (0..*rows).map(|i| format!("T s{i}")).collect();
        let picked = (1..*rows).fold("s0".to_owned(), |other, i| {
            format!("(n) == {i} ? s{i} : ({other})")
        });
        format!(
            "#define THREADS {threads}\n#define EACH {each}\n#define CHOOSE_BYTES {CHOOSE_BYTES}\n\
             #define SLOTS(T) {}\n#define PICKED(n) ({picked})\n",
            slots.join(", ")
        )
    }

    /// The source of a step.
    pub fn source(&self, step: &Step) -> String {
        self.definitions() + SHARED + step.files
    }
}

/// What the kernels know of a sequence; see [`Stages`].
#[derive(Debug)]
pub struct Slot {
    /// The kernels write to it, and nobody else has it.
    words: Array,
}

impl Slot {
    /// Whether there are kernels on this thread's device.
    pub fn serves() -> Result<bool> {
        has_kernels()
    }

    /// Of a sequence of `ids`, which will have no more than `capacity` tokens.
    pub fn new(
        stages: &Stages<'_>,
        vocabulary: usize,
        ids: &[u32],
        capacity: usize,
    ) -> Result<Self> {
        let words = stages.words(vocabulary, ids, capacity);
        let shape = [words.len() as i32];
        // After a failure MLX's wait for a copy to the GPU may fail, whatever becomes of the copy.
        let words = if failures() == 0 {
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            let range = 0..bytes.len();
            Array::from_owned_bytes(Arc::new(bytes), range, &shape, Dtype::Uint32)?
        } else {
            Array::from_slice(&words, &shape)?
        };
        Ok(Self { words })
    }
}

/// Draws from each row of `logits` `[N, V]` for the sequence of its slot. `mask`, uint32 `[N, words]`, has a bit for
/// each token that may be drawn, as [`Stages::allowed`]. What is seen of a row is -1 where the logits are not numbers,
/// and -2 where nothing may be drawn.
pub fn draw(logits: &Array, slots: &[&Slot], mask: Option<&Array>) -> Result<Drawn> {
    let logits = logits.cast(Dtype::Float32)?;
    let mut drawn = Vec::new();
    for (i, slots) in (0..).step_by(ROWS).zip(slots.chunks(ROWS)) {
        let end = i + slots.len() as i32;
        let rows = |array: &Array| match (i, end) == (0, array.dim(0)) {
            true => Ok(array.clone()),
            false => array.slice(&[i, 0], &[end, array.dim(1)]),
        };
        let mask = mask.map(rows).transpose()?;
        drawn.push(draw_rows(&rows(&logits)?, slots, mask.as_ref())?);
    }
    if drawn.len() == 1 {
        return Ok(drawn.remove(0));
    }
    let ids: Vec<&Array> = drawn.iter().map(|drawn| &drawn.id).collect();
    let seen: Vec<&Array> = drawn.iter().map(|drawn| &drawn.seen).collect();
    Ok(Drawn {
        id: ops::concatenate(&ids, 0)?,
        seen: ops::concatenate(&seen, 0)?,
    })
}

fn draw_rows(logits: &Array, slots: &[&Slot], mask: Option<&Array>) -> Result<Drawn> {
    static DRAW: Compiled<usize> = Compiled::new();
    let (rows, columns) = (slots.len() as i32, logits.dim(1));
    let parts = LAYOUT.parts(columns.unsigned_abs());
    let work_words = LAYOUT.work_words(columns.unsigned_abs()) as i32;
    let filler = std::iter::repeat(&slots[0]);
    let slots = slots.iter().chain(filler).take(ROWS);
    let slots: Vec<&Array> = slots.map(|slot| &slot.words).collect();
    let launch = |at: usize, inputs: &[&Array], outputs: &[(&[i32], Dtype)], scalars: &[i32]| {
        let step = &STEPS[at];
        let kernel = DRAW.made(at, step.name, |_| {
            Module::compile(step.name, &LAYOUT.source(step), &OPTIONS)
        })?;
        let scalars: Vec<Scalar> = scalars.iter().map(|&n| Scalar::Int(n)).collect();
        let launch = Launch {
            shared_memory: (step.bytes)(LAYOUT),
            ..Launch::new([parts * rows.unsigned_abs(), 1, 1], [LAYOUT.threads, 1, 1])
        };
        // SAFETY: the parameters are the kernel's, which reads rows of as many logits and words as it is told, dense or
        // copied. It writes to two of its inputs, which are dense: the work, of which nobody else knows and whose
        // launches depend on each other's results, and the slots, which nobody else has, within what their own words
        // say; whoever draws with those again does so from logits that depend on what was drawn.
        unsafe { kernel.launch(inputs, outputs, &scalars, launch) }
    };
    let words = mask.map_or(0, |mask| mask.dim(1));
    let made = launch(
        0,
        &[&[logits, mask.unwrap_or(logits)], &slots[..]].concat(),
        &[
            (&[rows, columns], Dtype::Float32),
            (&[rows, work_words], Dtype::Uint32),
        ],
        &[columns, words, parts as i32, work_words],
    )?;
    let [changed, work] = exactly(made);
    let scalars = [columns, parts as i32, work_words];
    let made = launch(
        1,
        &[&[&changed, &work], &slots[..]].concat(),
        &[(&[1], Dtype::Uint32)],
        &scalars,
    )?;
    let [counted] = exactly(made);
    let each: (&[i32], Dtype) = (&[rows], Dtype::Int32);
    let made = launch(
        2,
        &[&[&changed, &work, &counted], &slots[..]].concat(),
        &[each, each, (&[rows, columns, 2], Dtype::Uint32)],
        &scalars,
    )?;
    let [id, seen, _] = exactly(made);
    Ok(Drawn { id, seen })
}
