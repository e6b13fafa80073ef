//! A model as a list, with what the kernel has to know when it is compiled.

use mlx_core::{Array, Dtype, Result};

use super::build::Builder;
use super::listed::{Step, Unlisted};
use super::nets::Nets;
use super::words::{self, Address, Input, Op, Word};
use crate::decode::TokenModel;

/// Warps of a block.
pub(super) const WARPS: u32 = 16;
/// Words of the scratch memory in front of the arena, for the barriers.
const ARENA: usize = 64;
/// Columns of the residual stream of each warp, at the most: a thread has four fours.
pub(super) const COLUMNS_A_WARP: i32 = 32 * 16;
/// Bytes of each warp's rows of a product that are fetched before the blocks have met.
const PREFETCHED: usize = 2048;

const FILES: [&str; 12] = [
    include_str!("../decode/cuda/instructions.cuh"),
    include_str!("../cuda/tiles.cuh"),
    include_str!("../cuda/ordered.cuh"),
    include_str!("../decode/cuda/barrier.cuh"),
    include_str!("cuda/step.cuh"),
    include_str!("cuda/weights.cuh"),
    include_str!("cuda/net.cuh"),
    include_str!("cuda/input.cuh"),
    include_str!("cuda/product.cuh"),
    include_str!("cuda/experts.cuh"),
    include_str!("cuda/attention.cuh"),
    include_str!("cuda/rows.cuh"),
];
const KERNEL: &str = include_str!("cuda/steps.cu");

/// The most of what the steps of a model need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    /// Columns of the residual stream.
    pub(super) hidden: i32,
    /// Query heads of a key head.
    pub(super) queries_a_key: i32,
    pub(super) experts: i32,
    /// Experts of a token.
    pub(super) top: i32,
    /// Floats of the arena.
    pub(super) arena: i32,
    /// Floats of a step in shared memory.
    pub(super) shared: i32,
}

/// A model as a list of steps.
pub struct Plan {
    pub(super) steps: Vec<Step>,
    /// What the steps name.
    pub(super) arrays: Vec<Array>,
    /// Whether floats that are no matrices are float32.
    wide: bool,
    multiprocessors: u32,
    pub(super) warps: u32,
    most: Most,
    pub(super) vocab: i32,
    /// Of layers with and without a sliding window, the number of a state that holds keys; the last is absent where
    /// there are none.
    pub(super) kinds: [Option<usize>; 2],
    nets: Option<Nets>,
}

impl Plan {
    /// The list for a GPU of so many multiprocessors, each with a block of so many warps. `None` where the kernel lacks
    /// something of the model.
    ///
    /// # Errors
    /// Where an array cannot be made.
    pub fn of(model: &TokenModel<'_>, multiprocessors: u32, warps: u32) -> Result<Option<Self>> {
        let dtype = model.norm.weight.dtype();
        if !matches!(dtype, Dtype::Bfloat16 | Dtype::Float32) {
            return Ok(None);
        }
        let mut builder = Builder::new(dtype, multiprocessors as i32, warps as i32);
        match builder.list(model) {
            Ok(()) => {}
            Err(Unlisted::Unserved) => return Ok(None),
            Err(Unlisted::Failed(error)) => return Err(error),
        }
        let kind = |slides: bool| {
            let at = model.blocks.iter().position(|(block, s)| {
                *s == slides && block.mixer.attention().is_some_and(|a| a.keys.is_some())
            });
            let state = at.and_then(|at| model.states.get(at).copied())?;
            builder.rank(state, false)
        };
        Ok(Some(Self {
            wide: dtype == Dtype::Float32,
            multiprocessors,
            warps,
            most: builder.most(),
            vocab: builder.vocab,
            kinds: [kind(false), kind(true)],
            nets: builder.nets,
            steps: builder.steps,
            arrays: builder.arrays.all,
        }))
    }

    /// The list as the kernel reads it.
    pub fn numbers(&self) -> Vec<i32> {
        self.steps.iter().flat_map(Step::numbers).collect()
    }

    /// The arrays whose addresses the list names by their place.
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// Of keys and values.
    pub fn dtype(&self) -> Dtype {
        match self.wide {
            true => Dtype::Float32,
            false => Dtype::Bfloat16,
        }
    }

    /// Its gated delta nets, if it has such.
    pub fn nets(&self) -> Option<Nets> {
        self.nets
    }

    /// How many steps there are.
    pub fn count(&self) -> usize {
        self.steps.len()
    }

    /// Words of the scratch memory, which begins as zeros.
    pub fn scratch_words(&self) -> usize {
        ARENA + self.most.arena as usize
    }

    /// Where the vector of a step begins in shared memory, in bytes.
    fn vector_at(&self) -> usize {
        let steps = 2 * (4 * Word::WORDS as usize + 8 * Address::ADDRESSES as usize);
        (steps + 4 * (128 + 2 * self.most.top as usize)).next_multiple_of(128)
    }

    /// Bytes of shared memory.
    pub fn shared_memory(&self) -> usize {
        self.vector_at() + 4 * self.most.shared as usize
    }

    /// A bit for each format that the matrices of such steps have.
    fn formats(&self, op: Op) -> usize {
        let of_op = self
            .steps
            .iter()
            .filter(|step| step.get(Word::OP) == op as i32);
        of_op.fold(0, |bits, step| bits | 1 << step.get(Word::FORMAT))
    }

    /// What a word is in all steps that read it, as a function of the kernel's.
    fn known(&self) -> String {
        let readers = |word: i32, step: &Step| match step.get(Word::OP) {
            op if word >= Word::NET_HEADS as i32 => {
                op == Op::NET as i32 || step.get(Word::INPUT) == Input::READS as i32
            }
            op if word >= Word::HEADS as i32 => op == Op::ATTEND as i32,
            op if word >= Word::TOP as i32 => {
                op == Op::EXPERTS_UP as i32 || op == Op::EXPERTS_DOWN as i32
            }
            _ => true,
        };
        let cases = (0..Word::WORDS as i32).filter_map(|word| {
            let mut values = self.steps.iter().filter(|step| readers(word, step));
            let is = values.next()?.numbers().nth(word as usize)?;
            let all = values.all(|step| step.numbers().nth(word as usize) == Some(is));
            (all && is != i32::MIN).then(|| format!("case {word}: return {is};\n"))
        });
        let cases: String = cases.collect();
        format!(
            "#define VARIES (-2147483647 - 1)\n\
             constexpr int known(Word word) {{\nswitch ((int)word) {{\n{cases}\
             default: return VARIES;\n}}\n}}\n"
        )
    }

    /// A bit for each address that no step has.
    fn absent(&self) -> u64 {
        let absent = |address: &usize| {
            let at = Word::WORDS as usize + address;
            self.steps
                .iter()
                .all(|step| step.numbers().nth(at).is_none_or(|place| place < 0))
        };
        let all = (0..Address::ADDRESSES as usize).filter(absent);
        all.fold(0, |bits, address| bits | 1 << address)
    }

    /// The kernel `decode_steps`, as one source.
    pub fn source(&self) -> String {
        let Most {
            hidden,
            queries_a_key,
            experts,
            top,
            ..
        } = self.most;
        let wide = if self.wide { "#define WIDE\n" } else { "" };
        let sizes = [
            ("GRID", self.multiprocessors as usize),
            ("WARPS", self.warps as usize),
            ("SMEM", self.shared_memory()),
            ("QUERIES_A_KEY", queries_a_key as usize),
            (
                "FOURS",
                (hidden as usize).div_ceil(4 * 32 * self.warps as usize),
            ),
            ("EXPERTS_AT_MOST", (experts as usize).next_multiple_of(32)),
            ("TOP_AT_MOST", top as usize),
            ("AT_ARENA", ARENA),
            ("AT_VECTOR", self.vector_at()),
            ("PREFETCHED", PREFETCHED),
            // A bit for each: what no step has is not compiled.
            ("PRODUCT_FORMATS", self.formats(Op::PRODUCT)),
            ("UP_FORMATS", self.formats(Op::EXPERTS_UP)),
            ("DOWN_FORMATS", self.formats(Op::EXPERTS_DOWN)),
        ];
        let mut source: String = sizes
            .iter()
            .map(|(name, number)| format!("#define {name} {number}\n"))
            .collect();
        source += wide;
        source += "#define THREADS (WARPS * 32)\n";
        source += &words::source();
        source += &self.known();
        source += &format!("#define ABSENT {}ull\n", self.absent());
        source += &FILES.join("\n");
        source += KERNEL;
        source
    }
}
