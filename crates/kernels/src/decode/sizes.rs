//! What the kernel knows of a model when it is compiled.

use std::fmt::Write;

use crate::bf12::cuda::{UNIT_BYTES, UNIT_COLUMNS};

/// The kernels' files, in the order in which each needs those before it.
const FILES: [&str; 13] = [
    include_str!("cuda/instructions.cuh"),
    include_str!("../cuda/tiles.cuh"),
    include_str!("cuda/element.cuh"),
    include_str!("../bf12/cuda/unit.cuh"),
    include_str!("cuda/shape.cuh"),
    include_str!("cuda/share.cuh"),
    include_str!("cuda/barrier.cuh"),
    include_str!("cuda/cursor.cuh"),
    include_str!("cuda/stream.cuh"),
    include_str!("cuda/timeline.cuh"),
    include_str!("cuda/product.cuh"),
    include_str!("cuda/input.cuh"),
    include_str!("cuda/attention.cuh"),
];
/// Behind them the kernel of one token, that of several, and that of many.
const TOKEN: [&str; 1] = [include_str!("cuda/token.cu")];
const TOKENS: [&str; 2] = [
    include_str!("cuda/place.cuh"),
    include_str!("cuda/tokens.cu"),
];
const ROWS: [&str; 7] = [
    include_str!("cuda/place.cuh"),
    include_str!("cuda/rows/deal.cuh"),
    include_str!("cuda/rows/stream.cuh"),
    include_str!("cuda/rows/tiles.cuh"),
    include_str!("cuda/rows/multiply.cuh"),
    include_str!("cuda/rows/attend.cuh"),
    include_str!("cuda/rows.cu"),
];

/// Tokens that may go through together, each of another sequence, the most first: the columns of a product of
/// the matrix units.
const TOGETHER: [usize; 4] = [8, 4, 2, 1];

/// More than those, for which there is another kernel.
const MANY: [usize; 4] = [16, 32, 64, 128];

/// Elements of the inputs of several tokens that may be in shared memory at a time, the most first.
const SLICES: [usize; 3] = [32 << 10, 16 << 10, 8 << 10];

/// Warps of a block: with eight, a thread may have 255 registers, which attention wants, and the
/// memory is as busy as with more.
pub(super) const WARPS: u32 = 8;

/// Keys are split over so many blocks at most, as in `shape.cuh`.
const MAX_SPLITS: usize = 32;

/// Tiles a warp for which there has to be room.
const TILES: usize = 2;

/// How the elements of a matrix are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    /// Bfloat16.
    #[default]
    Dense,
    /// Bfloat16 in 12 bits an element: [`Units`](crate::bf12::cuda::Units).
    Bf12,
    /// By 4 or 8 bits, with a bfloat16 scale and bias for each `group` of a row.
    Affine {
        /// 4 or 8.
        bits: usize,
        /// 32, 64 or 128.
        group: usize,
    },
}

impl Packing {
    fn bits(self) -> usize {
        match self {
            Self::Dense => 16,
            Self::Bf12 => 12,
            Self::Affine { bits, .. } => bits,
        }
    }

    fn group(self) -> usize {
        match self {
            Self::Dense | Self::Bf12 => 64,
            Self::Affine { group, .. } => group,
        }
    }

    /// Whether it has scales and biases.
    fn is_affine(self) -> bool {
        matches!(self, Self::Affine { .. })
    }

    /// Columns of a tile.
    fn tile(self) -> usize {
        match self {
            Self::Bf12 => UNIT_COLUMNS,
            other => 1024 / other.bits(),
        }
    }

    /// Bytes of 16 rows times 128 bytes, with their scales and biases, or of two units.
    fn tile_bytes(self) -> usize {
        match self {
            Self::Dense => 2048,
            Self::Bf12 => 2 * UNIT_BYTES,
            Self::Affine { bits, group } => 2048 + 128 * (1024 / bits / group / 2).max(1),
        }
    }

    /// Whether the kernel reads rows of `columns` elements. Two groups share a word of scales.
    fn fits(self, columns: usize) -> bool {
        columns.is_multiple_of(32)
            && match self {
                Self::Dense | Self::Bf12 => true,
                Self::Affine { bits, group } => {
                    matches!(bits, 4 | 8)
                        && matches!(group, 32 | 64 | 128)
                        && columns.is_multiple_of(2 * group)
                }
            }
    }
}

/// The GPU that the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its multiprocessors; each has one block.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block may have.
    pub shared_memory: u32,
}

/// The sizes and constants of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sizes {
    /// Whether each layer has a sliding window.
    pub sliding: Vec<bool>,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside the MLP.
    pub intermediate: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Of the layers' matrices.
    pub layers: Packing,
    /// Of the embedding.
    pub embedding: Packing,
    /// Of the matrix that makes the logits.
    pub head: Packing,
    /// Norms behind attention and MLP.
    pub norms_behind: bool,
    /// GELU in its tanh form; otherwise SiLU.
    pub gelu: bool,
    /// Norms of queries and keys.
    pub head_norms: bool,
    /// Biases of queries, keys and values.
    pub qkv_biases: bool,
    /// Added to the mean square in every norm.
    pub eps: f32,
    /// Factor of embeddings.
    pub embed_scale: f32,
    /// Logits are squashed to this by tanh, if it is not 0.
    pub softcap: f32,
    /// Scores are squashed to this by tanh, if it is not 0.
    pub score_cap: f32,
    /// Factors of scores and of positions, in full-attention layers.
    pub full: [f32; 2],
    /// The same in layers with a sliding window.
    pub windowed: [f32; 2],
}

impl Sizes {
    /// Whether the kernel can be compiled for this model and GPU.
    pub fn fit(&self, target: Target) -> bool {
        let query_rows = self.heads * self.head_dim;
        let repeat = self.heads / self.kv_heads.max(1);
        let heads = matches!(self.head_dim, 64 | 128 | 256)
            && self.kv_heads > 0
            && self.heads.is_multiple_of(self.kv_heads)
            && repeat <= 8
            && self.kv_heads <= target.multiprocessors as usize;
        let columns = [self.hidden, query_rows, self.intermediate];
        let packings = columns.iter().all(|&k| self.layers.fits(k))
            && self.embedding.fits(self.hidden)
            && self.head.fits(self.hidden);
        let layers = (1..=128).contains(&self.sliding.len());
        heads && packings && layers && self.vocab >= 16 && self.slice(target, 1).is_some()
    }

    /// Tokens, each of another sequence, that a kernel for this model and GPU can take through together at the
    /// most; [`Sizes::fit`] is true of them.
    pub fn together(&self, target: Target) -> usize {
        self.steps(target).last().copied().unwrap_or(1)
    }

    /// For how many tokens there are kernels for this model and GPU, the fewest first: one, several, and many,
    /// of which each is twice as many as the one before. Fewer tokens than a kernel is for can go through it.
    pub fn steps(&self, target: Target) -> Vec<usize> {
        // Each has a block that keeps its residual stream.
        let fits = |tokens: &usize| {
            *tokens <= target.multiprocessors as usize && self.slice(target, *tokens).is_some()
        };
        let several = TOGETHER.into_iter().find(fits).unwrap_or(1);
        let mut steps = vec![1];
        steps.extend((several > 1).then_some(several));
        let many = |tokens: &usize| {
            *tokens <= target.multiprocessors as usize
                // Two have the same row blocks of gate and up.
                && target.multiprocessors > 1
                && self.shared_bytes_of_many(*tokens)
                    <= self.dynamic_shared_memory(target) as usize
        };
        steps.extend(MANY.into_iter().take_while(many));
        steps
    }

    /// Elements of the inputs of so many tokens that are in shared memory at a time: as many as there is room
    /// for. `None` where there is none for the kernel.
    fn slice(&self, target: Target, tokens: usize) -> Option<usize> {
        let room = self.dynamic_shared_memory(target) as usize;
        SLICES
            .into_iter()
            .find(|&slice| self.shared_bytes(target, tokens, slice) <= room)
    }

    /// Whether a product has packed weights; the embedding is not one.
    fn any_affine(&self) -> bool {
        self.layers.is_affine() || self.head.is_affine()
    }

    /// Dynamic shared memory of a block. What it does not take is the first-level cache, which the
    /// scales of packed weights need: a fetch of 4 bytes brings 32. That makes a quarter of their time
    /// on Hopper; on GPUs with little shared memory, and without scales, the ring has all of it.
    pub(super) fn dynamic_shared_memory(&self, target: Target) -> u32 {
        let cache = if self.any_affine() && target.shared_memory >= 160 << 10 {
            32 << 10
        } else {
            0
        };
        target.shared_memory.saturating_sub(cache + 256)
    }

    /// Bytes of shared memory, which is laid out in `shape.cuh`, for so many tokens and elements of a slice of
    /// their inputs.
    fn shared_bytes(&self, target: Target, tokens: usize, slice: usize) -> usize {
        let warps = WARPS as usize;
        let blocks = target.multiprocessors.max(1) as usize;
        let query_rows = self.heads * self.head_dim;
        let repeat = self.heads / self.kv_heads;
        let affine = self.any_affine();

        let width = |packing: Packing| match tokens {
            1 => usize::MAX,
            _ => (slice / tokens / packing.tile()).max(1) * packing.tile(),
        };
        let padded = |columns: usize, packing: Packing| {
            columns.next_multiple_of(packing.tile()).min(width(packing))
        };
        let of_layers = [self.hidden, query_rows, self.intermediate];
        let widest = of_layers.map(|columns| padded(columns, self.layers));
        let widest = widest.into_iter().max().unwrap_or(0);
        let widest = widest.max(padded(self.hidden, self.head));
        let input = match tokens {
            1 => 2 * widest,
            _ => 2 * tokens * (widest.next_multiple_of(64) + 32),
        };
        let key_warps = warps / (self.head_dim / 128).max(1);
        let attention = 4 * repeat * (key_warps * (self.head_dim + 2) + 2 * MAX_SPLITS)
            + 2 * repeat * (2 * self.head_dim + 8) * tokens;

        // Of a block, and one more where blocks share row blocks. Of packed rows there may be up to twice as
        // many sums as warps.
        let row_blocks = |rows: usize| rows.div_ceil(16).div_ceil(blocks);
        let shared = (query_rows + 2 * self.kv_heads * self.head_dim).max(self.hidden);
        let chains = if self.layers.is_affine() && self.hidden >= 2048 {
            2
        } else {
            1
        } * warps;
        let most =
            (warps * row_blocks(2 * self.intermediate)).max(chains * (row_blocks(shared) + 1));
        let pieces = most.max(row_blocks(self.vocab));

        let layers = self.sliding.len();
        let matrices = (7 * layers + 1) * if affine { 3 } else { 1 };
        let norms = match (self.qkv_biases, self.norms_behind) {
            (true, _) => 9,
            (false, true) => 6,
            (false, false) => 4,
        };
        let kept = matrices + layers * (2 * tokens + norms);
        let rotations = 1 + usize::from(self.sliding.contains(&true));
        let parts = [
            4 * self.hidden,
            input.max(attention),
            if affine { tokens * widest / 8 } else { 0 },
            64 * pieces * tokens,
            256,
            8 * kept,
            4 * rotations * self.head_dim * tokens,
            if tokens > 1 { 72 * tokens } else { 0 },
            TILES * warps * self.layers.tile_bytes().max(self.head.tile_bytes()),
        ];
        parts.iter().map(|part| part.next_multiple_of(128)).sum()
    }

    /// Bytes of shared memory, which is laid out in `rows/stream.cuh`, that are enough for so many tokens and
    /// [`TILES`] tiles a warp.
    fn shared_bytes_of_many(&self, tokens: usize) -> usize {
        let warps = WARPS as usize;
        let query_rows = self.heads * self.head_dim;
        let in_runs = self.layers.is_affine() && self.hidden >= 2048;
        // Tiles of a class of chains: of one, or, of gate and up, of every other one.
        let of_chain = |columns: usize| {
            let deep = columns.div_ceil(self.layers.tile());
            match in_runs {
                true => (deep / warps).max(1),
                false => deep.div_ceil(warps),
            }
        };
        let of_gate = match in_runs {
            true => 2 * self.hidden.div_ceil(self.layers.tile()).div_ceil(4),
            false => warps / 2 * of_chain(self.hidden),
        };
        let chains = [self.hidden, query_rows, self.intermediate].map(of_chain);
        let tiles = chains.into_iter().fold(of_gate, usize::max);

        let repeat = self.heads / self.kv_heads;
        let queries: usize = 2 * repeat * (2 * self.head_dim + 8);
        let key_warps = warps / (self.head_dim / 128).max(1);
        let joined = 4 * repeat * (key_warps * (self.head_dim + 2) + 2 * MAX_SPLITS);
        let parts = if queries > 4096 { 6 } else { 12 };
        let attention = 2 * joined + parts * queries + 2048;

        let inputs = (2 * tokens * tiles * self.layers.tile())
            .max(attention)
            .max(4 * self.hidden)
            .max(2 * tokens * self.head.tile())
            .next_multiple_of(128);
        let groups = |packing: Packing, tiles: usize| match packing {
            Packing::Affine { group, .. } => tiles * packing.tile() / group,
            Packing::Dense | Packing::Bf12 => 0,
        };
        let tiles_of_head = inputs / (2 * tokens * self.head.tile());
        let sums = groups(self.layers, tiles).max(groups(self.head, tiles_of_head));
        let matrices = (7 * self.sliding.len() + 1) * if self.any_affine() { 3 } else { 1 };
        let weights = warps * self.layers.tile_bytes().max(self.head.tile_bytes());
        let parts = [
            256,
            8 * matrices,
            20 * tokens,
            8 * (tokens + 1),
            4 * tokens * sums,
            inputs,
            TILES * weights,
        ];
        parts.iter().map(|part| part.next_multiple_of(128)).sum()
    }

    /// Words of scratch memory that are enough for the kernel of so many tokens, which checks it.
    pub fn scratch_words(&self, tokens: usize) -> usize {
        let query_rows = self.heads * self.head_dim;
        let qkv_rows = query_rows + 2 * self.kv_heads * self.head_dim;
        let sums = qkv_rows + 2 * self.hidden;
        let parts = self.heads * MAX_SPLITS * (self.head_dim + 2);
        let of_token = query_rows + self.intermediate + parts + self.kv_heads + self.hidden;
        let of_token = of_token
            + match tokens > TOGETHER[0] {
                false => 8 * sums,
                // Up to three thread blocks share a row, of each of which there are sums of chains; of gate and up
                // there are those of two classes.
                true => {
                    let chains = if self.any_affine() { 16 } else { 8 };
                    3 * chains * sums + 4 * self.intermediate + self.hidden + 2 * self.head_dim
                }
            };
        tokens * (of_token + 64) + 4096
    }

    /// The source of the kernel for this model on `target` that takes so many tokens through together.
    pub fn source(&self, target: Target, tokens: usize) -> String {
        let mask = self.sliding.iter().enumerate();
        let mask = mask.fold(0u128, |mask, (i, &ring)| mask | u128::from(ring) << i);
        let (low, high) = (mask as u64, (mask >> 64) as u64);
        let slice = self.slice(target, tokens).unwrap_or(SLICES[0]);
        let mut text = String::new();
        let mut define = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "#define {name} {value}");
        };
        let counts = [
            ("GRID", target.multiprocessors as usize),
            ("WARPS", WARPS as usize),
            ("SMEM", self.dynamic_shared_memory(target) as usize),
            ("SCRATCH", self.scratch_words(tokens)),
            ("TOKENS", tokens),
            ("SLICE_COLUMNS", slice / tokens.max(1)),
            ("LAYERS", self.sliding.len()),
            ("HIDDEN", self.hidden),
            ("INTER", self.intermediate),
            ("VOCAB", self.vocab),
            ("HEADS", self.heads),
            ("KV_HEADS", self.kv_heads),
            ("HEAD_DIM", self.head_dim),
            ("BITS", self.layers.bits()),
            ("GROUP", self.layers.group()),
            ("EMBEDDING_BITS", self.embedding.bits()),
            ("EMBEDDING_GROUP", self.embedding.group()),
            ("LM_HEAD_BITS", self.head.bits()),
            ("LM_HEAD_GROUP", self.head.group()),
            ("NORMS_BEHIND", usize::from(self.norms_behind)),
            ("GELU", usize::from(self.gelu)),
            ("HEAD_NORMS", usize::from(self.head_norms)),
            ("QKV_BIASES", usize::from(self.qkv_biases)),
        ];
        for (name, value) in counts {
            define(name, value.to_string());
        }
        let factors = [
            ("EPS", self.eps),
            ("EMBED_SCALE", self.embed_scale),
            ("SOFTCAP", self.softcap),
            ("SCORE_CAP", self.score_cap),
            ("SCORE_SCALE", self.full[0]),
            ("POSITION_SCALE", self.full[1]),
            ("RING_SCORE_SCALE", self.windowed[0]),
            ("RING_POSITION_SCALE", self.windowed[1]),
        ];
        for (name, value) in factors {
            // With an exponent every finite number is a literal of C++.
            define(name, format!("{value:e}f"));
        }
        define("RINGS_LOW", format!("{low}ull"));
        define("RINGS_HIGH", format!("{high}ull"));
        let (kernel, places) = match tokens {
            1 => (&TOKEN[..], 0),
            _ if tokens <= TOGETHER[0] => (&TOKENS[..], 0),
            _ => (&ROWS[..], tokens),
        };
        if places > 0 {
            let numbers = 0..5 * places;
            let parameters: Vec<String> = numbers.clone().map(|i| format!("int p{i}")).collect();
            let put: String = numbers.map(|i| format!("to[{i}] = p{i}; ")).collect();
            define("PLACES", parameters.join(", "));
            define("PUT_PLACES(to)", put);
        }
        text + &FILES.concat() + &kernel.concat()
    }

    /// The name of that kernel.
    pub(super) fn kernel(tokens: usize) -> &'static str {
        match tokens {
            1 => "decode_token",
            _ if tokens <= TOGETHER[0] => "decode_tokens",
            _ => "decode_rows",
        }
    }

    /// Places that it takes.
    pub(super) fn places(tokens: usize) -> usize {
        match tokens {
            1 => 1,
            _ => tokens.max(TOGETHER[0]),
        }
    }
}
