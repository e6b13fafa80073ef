//! The kernels as nodes of MLX's graph.

use std::cell::{Cell, OnceCell, RefCell};

use half::bf16;
use mlx_core::cuda::{self, Architecture, Kernel, Launch, Module, Scalar};
use mlx_core::quant::Mode;
use mlx_core::{Array, Dtype, Result};

use super::sizes::{Packing, Sizes, Target, WARPS};
use super::tables::{ROW, Tables};
use crate::arrays::{exactly, on_cuda};
use crate::bf12::graph::Encoded;
use crate::block::graph::{Block, Linear, Weight};
use crate::gated::Activation;
use crate::kv::{Launched, Slot};
use crate::rms_norm::norm::Norm;

/// A model whose blocks are alike.
pub struct TokenModel<'a> {
    /// Its blocks, each with whether it has a sliding window. All blocks of a kind share rotation and
    /// score scale.
    pub blocks: Vec<(Block<'a>, bool)>,
    /// One row a token.
    pub embedding: Weight<'a>,
    /// Factor of embeddings, rounded here to the dtype of the activations.
    pub embed_scale: f64,
    /// Of the residual stream behind the blocks.
    pub norm: Norm<'a>,
    /// The matrix that makes the logits.
    pub head: Weight<'a>,
    /// Logits are squashed to this by tanh.
    pub softcap: Option<f64>,
    /// Which of a sequence's states each block has.
    pub states: Vec<usize>,
    /// What blocks have of their own inputs.
    pub own_inputs: Option<OwnInputs<'a>>,
}

/// Inputs of blocks: `(norm(projection(embedding) · projection_scale) + row · table_scale) · scale`, a part of it for
/// each. The factors are rounded here to the dtype of the activations.
pub struct OwnInputs<'a> {
    /// A row for each token, all blocks' parts beside each other.
    pub table: Weight<'a>,
    /// Of the rows.
    pub table_scale: f64,
    /// As wide as the rows.
    pub projection: Linear<'a>,
    /// Of what it gives.
    pub projection_scale: f64,
    /// Of a block's part of that.
    pub norm: Norm<'a>,
    /// Of the sum.
    pub scale: f64,
}

/// The kernels for one model, with the addresses of its weights.
pub struct TokenStep {
    sizes: Sizes,
    target: Target,
    one: Compiled,
    /// For tokens of several sequences, the fewest first: compiled when first needed, since most have one.
    several: Vec<(usize, OnceCell<Compiled>)>,
    /// Sequences that go together: fewer once a kernel could not be compiled.
    together: Cell<usize>,
    tables: Tables,
    /// The arrays whose addresses are in `table`, so that they stay where they are.
    _weights: Vec<Array>,
    table: Array,
    /// Of the last launch, for the next: no two may run at a time, since each takes all
    /// multiprocessors and its kernel's scratch memory.
    last: RefCell<Option<(Array, Launched)>>,
}

/// A kernel that takes so many tokens through together.
struct Compiled {
    tokens: usize,
    kernel: Kernel,
    launch: Launch,
    /// Rewritten by each launch; the first finds zeros.
    scratch: Array,
}

impl Compiled {
    fn new(sizes: &Sizes, target: Target, tokens: usize) -> Result<Self> {
        let name = Sizes::kernel(tokens);
        let source = sizes.source(target, tokens);
        let kernel = Module::compile(name, &source, &["-default-device"])?.kernel(name)?;
        let launch = Launch {
            shared_memory: sizes.dynamic_shared_memory(target),
            // Every input is dense, and a copy of the scratch memory or of a cache would be wrong.
            copy_strided: false,
            blocks_wait: true,
            ..Launch::new([target.multiprocessors, 1, 1], [32 * WARPS, 1, 1])
        };
        let words = sizes.scratch_words(tokens) as i32;
        let scratch = Array::zeros(&[words], Dtype::Uint32)?;
        mlx_core::eval(&[&scratch])?;
        Ok(Self {
            tokens,
            kernel,
            launch,
            scratch,
        })
    }
}

impl TokenStep {
    /// Compiles the kernel for `model`, or finds it compiled before. `None` where it cannot run: on a
    /// device other than CUDA, a GPU before sm_80, and for sizes, dtypes or packings that it does
    /// not have; the caller has the single operations.
    ///
    /// # Errors
    /// Where the kernel cannot be compiled or there is no memory for its scratch.
    pub fn new(model: &TokenModel<'_>) -> Result<Option<Self>> {
        let Some(target) = target()? else {
            return Ok(None);
        };
        let Some(sizes) = sizes(model).filter(|sizes| sizes.fit(target)) else {
            return Ok(None);
        };
        let one = Compiled::new(&sizes, target, 1)?;
        let tables = Tables::new()?;
        let (table, weights) = table(&tables, model)?;
        mlx_core::eval(&[&table])?;
        let together = Cell::new(sizes.together(target));
        let several = sizes.steps(target).into_iter().filter(|&tokens| tokens > 1);
        let several = several.map(|tokens| (tokens, OnceCell::new())).collect();
        Ok(Some(Self {
            together,
            sizes,
            target,
            one,
            several,
            tables,
            _weights: weights,
            table,
            last: RefCell::new(None),
        }))
    }

    /// Whether [`TokenStep::run`] can run now, on this stream.
    pub fn runs_here(&self) -> Result<bool> {
        on_cuda()
    }

    /// Sequences that one [`TokenStep::run`] takes at the most.
    pub fn together(&self) -> usize {
        self.together.get()
    }

    /// The tokens `ids`, int32 `[N]`, one of each of N sequences, at positions `offsets`, through the model:
    /// float32 logits `[N, vocab]`, those of a sequence being what they are without the others. Keys and values
    /// are written into `slots`, for each sequence one a layer, each with room for it.
    ///
    /// # Errors
    /// Where N is not from 1 to [`TokenStep::together`], or nothing can be launched.
    pub fn run(&self, ids: &Array, offsets: &[i32], slots: &mut [Vec<Slot>]) -> Result<Array> {
        let count = offsets.len();
        let fits = (1..=self.together()).contains(&count)
            && slots.len() == count
            && ids.dtype() == Dtype::Int32
            && ids.shape() == [count as i32];
        if !fits {
            return Err(mlx_core::Error::Native(format!(
                "decode_tokens: {count} positions, {} sequences and ids {} {:?} are no step of up to {}",
                slots.len(),
                ids.dtype(),
                ids.shape(),
                self.together(),
            )));
        }
        let compiled = match count {
            1 => &self.one,
            _ => self.several(count)?,
        };
        let caches = self.tables.of_caches(slots, compiled.tokens)?;
        let places = offsets
            .iter()
            .zip(&*slots)
            .map(|(&at, slots)| self.place(at, slots));
        let mut scalars: Vec<Scalar> = places.flatten().map(Scalar::Int).collect();
        if compiled.tokens > 1 {
            scalars.resize(5 * Sizes::places(compiled.tokens), Scalar::Int(-1));
        }
        let last = self.last.borrow_mut().take();
        let last = last.filter(|(done, launched)| launched.leads_on(done));
        let after = last.as_ref().map_or(ids, |(done, _)| done);
        let inputs = [ids, &self.table, &caches, &compiled.scratch, after];
        let shape = [compiled.tokens as i32, self.sizes.vocab as i32];
        let outputs: [(&[i32], Dtype); 2] = [(&shape, Dtype::Float32), (&[1], Dtype::Uint8)];
        // SAFETY: the parameters are the kernel's, which was compiled for these sizes; of `ids` it reads those that
        // there is a position for, and the table of caches is as long as its tokens are many. The tables
        // hold the addresses of the weights, which `self` keeps until the last launch has run, and
        // of the caches, which `slots` has and keeps until what they were `written_by` has run. It
        // writes to the scratch memory and to the caches: no other array has those buffers, this
        // launch depends on the last one that wrote them, and `last` and `written_by` make the next
        // ones depend on this.
        let made = unsafe {
            compiled
                .kernel
                .launch(&inputs, &outputs, &scalars, compiled.launch)
        }?;
        let [logits, done] = exactly(made);
        let launched = Launched::now();
        for slot in slots.iter_mut().flatten() {
            slot.buffers.written_by_address(done.clone(), launched);
        }
        *self.last.borrow_mut() = Some((done, launched));
        match count == compiled.tokens {
            true => Ok(logits),
            false => logits.slice(&[0, 0], &[count as i32, shape[1]]),
        }
    }

    /// The kernel of the fewest tokens that takes `count`.
    fn several(&self, count: usize) -> Result<&Compiled> {
        let mut fewer = 1;
        for (tokens, compiled) in &self.several {
            if *tokens < count {
                fewer = *tokens;
                continue;
            }
            if let Some(compiled) = compiled.get() {
                return Ok(compiled);
            }
            let made = Compiled::new(&self.sizes, self.target, *tokens)
                .inspect_err(|_| self.together.set(fewer))?;
            return Ok(compiled.get_or_init(|| made));
        }
        Ok(&self.one)
    }

    /// Where a sequence stands: its position, room for tokens; of layers with a sliding window, where the token
    /// goes, tokens held then, room.
    fn place(&self, offset: i32, slots: &[Slot]) -> [i32; 5] {
        let of_kind = |sliding: bool| {
            let layer = self.sizes.sliding.iter().position(|&s| s == sliding);
            let slot = layer.and_then(|layer| slots.get(layer));
            slot.map_or([0, 1, 1], |s| [s.start, s.visible, s.buffers.capacity()])
        };
        let ([_, _, capacity], [start, held, ring]) = (of_kind(false), of_kind(true));
        [offset, capacity, start, held, ring]
    }
}

impl Drop for TokenStep {
    /// The last launch may still run: the step behind the end of an answer is submitted before the end is
    /// known. MLX knows nothing of the weights that it reads, and would give their memory to others.
    fn drop(&mut self) {
        if let Some((done, launched)) = self.last.get_mut().take() {
            // What went wrong shows where the result itself is asked for.
            let _ = launched.settle(&done);
        }
    }
}

/// Whether [`TokenStep::new`] would make the kernel for a model of `sizes`, of which constants do not
/// matter.
pub fn has_kernel(sizes: &Sizes) -> Result<bool> {
    Ok(target()?.is_some_and(|target| sizes.fit(target)))
}

/// This thread's GPU, if the kernel runs on such: from sm_80 on.
pub fn target() -> Result<Option<Target>> {
    if !on_cuda()? {
        return Ok(None);
    }
    let gpu = cuda::gpu()?;
    let runs = gpu.architecture >= Architecture::new(8, 0);
    Ok(runs.then_some(Target {
        multiprocessors: gpu.multiprocessors,
        shared_memory: gpu.shared_memory_per_block,
    }))
}

/// The table of `shape.cuh`: a row a layer and one for the rest; and the arrays in it.
fn table(tables: &Tables, model: &TokenModel<'_>) -> Result<(Array, Vec<Array>)> {
    let mut rows: Vec<Vec<&Array>> = Vec::new();
    let (mut full, mut windowed) = (None, None);
    for (block, sliding) in &model.blocks {
        // One that `sizes` accepted has an MLP for all tokens.
        let Some(attention) = block.mixer.attention() else {
            continue;
        };
        let feed_forward = block.mlp.gated().into_iter();
        let feed_forward = feed_forward.flat_map(|mlp| [mlp.gate, mlp.up, mlp.down]);
        // And keys and values.
        let queries = attention.queries;
        let [keys, values] = [attention.keys, attention.values].map(|w| w.unwrap_or(queries));
        let matrices = [queries, keys, values, block.output];
        let mut row: Vec<&Array> = matrices
            .into_iter()
            .chain(feed_forward)
            .flat_map(|m| words(m.weight))
            .collect();
        let mlp = block.mlp_norm.weight;
        row.extend([
            block.attention_norm.weight,
            attention.query_norm.map_or(mlp, |norm| norm.weight),
            attention.key_norm.map_or(mlp, |norm| norm.weight),
            mlp,
            block.attended_norm.map_or(mlp, |norm| norm.weight),
            block.mlp_out_norm.map_or(mlp, |norm| norm.weight),
        ]);
        let with_biases = [queries, keys, values];
        row.extend(with_biases.map(|linear| linear.bias.unwrap_or(mlp)));
        rows.push(row);
        let periods = if *sliding { &mut windowed } else { &mut full };
        *periods = Some(attention.rotation.periods);
    }
    let any = model.norm.weight;
    let mut rest = words(model.embedding);
    rest.extend(words(model.head));
    rest.extend([any, full.unwrap_or(any), windowed.unwrap_or(any)]);
    rows.push(rest);
    let mut arrays = Vec::with_capacity(rows.len() * ROW);
    for row in rows {
        // Places that the kernel does not read get an address that is there.
        let filler = std::iter::repeat(any);
        for array in row.into_iter().chain(filler).take(ROW) {
            // MLX would copy a part of a larger array, dense or not.
            arrays.push(match array.is_dense()? {
                true => array.clone(),
                false => array.contiguous()?,
            });
        }
    }
    let table = tables.of(&arrays.iter().collect::<Vec<_>>())?;
    Ok((table, arrays))
}

/// What a matrix that `sizes` accepted has in the table: its weight, then its scales and biases if it
/// has them.
fn words(matrix: Weight<'_>) -> Vec<&Array> {
    match matrix {
        Weight::Dense(w) => vec![w; 3],
        Weight::Packed(p) => vec![p.weight, p.scales, p.biases.unwrap_or(p.scales)],
        Weight::Bf12(Encoded::Cuda(w)) => vec![w.buffer(); 3],
        Weight::Bf12(Encoded::Host(_)) => Vec::new(),
    }
}

/// What the kernel has to know of a model, if all blocks are alike and everything is bfloat16.
fn sizes(model: &TokenModel<'_>) -> Option<Sizes> {
    let (first, _) = model.blocks.first()?;
    let attention = first.mixer.attention()?;
    let layers = packing(&attention.queries.weight)?;
    let feed_forward = first.mlp.gated()?;
    let gelu = match feed_forward.activation {
        Activation::Silu => false,
        Activation::GeluTanh => true,
        Activation::Clamped { .. } => return None,
    };
    let (norms_behind, head_norms) = (
        first.attended_norm.is_some(),
        attention.query_norm.is_some(),
    );
    let (qkv_biases, score_cap) = (attention.queries.bias.is_some(), attention.scores.softcap);
    let eps = model.norm.eps;
    let head_dim = 2 * attention.rotation.periods.dim(0) as usize;
    let rows = |w: &Weight<'_>| shape(w)[0];
    let factors = |sliding: bool| {
        let of_kind = model.blocks.iter().find(|(_, s)| *s == sliding);
        let attention = of_kind.and_then(|(block, _)| block.mixer.attention());
        attention.map_or([1.0; 2], |a| [a.scores.scale, a.rotation.scale])
    };
    let sizes = Sizes {
        sliding: model.blocks.iter().map(|(_, sliding)| *sliding).collect(),
        hidden: model.norm.weight.dim(0) as usize,
        intermediate: rows(&feed_forward.gate.weight),
        vocab: rows(&model.embedding),
        heads: rows(&attention.queries.weight).checked_div(head_dim)?,
        kv_heads: rows(&attention.keys?.weight).checked_div(head_dim)?,
        head_dim,
        layers,
        embedding: packing(&model.embedding)?,
        head: packing(&model.head)?,
        norms_behind,
        gelu,
        head_norms,
        qkv_biases,
        eps,
        embed_scale: bf16::from_f64(model.embed_scale).to_f32(),
        softcap: model.softcap.unwrap_or(0.0) as f32,
        score_cap: score_cap.unwrap_or(0.0),
        full: factors(false),
        windowed: factors(true),
    };
    let alike = model.blocks.iter().all(|(block, sliding)| {
        let (Some(mlp), Some(attention)) = (block.mlp.gated(), block.mixer.attention()) else {
            return false;
        };
        let (Some(keys), Some(values)) = (&attention.keys, &attention.values) else {
            return false;
        };
        let matrices = [
            (&attention.queries, sizes.heads * head_dim, sizes.hidden),
            (keys, sizes.kv_heads * head_dim, sizes.hidden),
            (values, sizes.kv_heads * head_dim, sizes.hidden),
            (&block.output, sizes.hidden, sizes.heads * head_dim),
            (&mlp.gate, sizes.intermediate, sizes.hidden),
            (&mlp.up, sizes.intermediate, sizes.hidden),
            (&mlp.down, sizes.hidden, sizes.intermediate),
        ];
        let norms = [
            Some(block.attention_norm),
            attention.query_norm,
            attention.key_norm,
            Some(block.mlp_norm),
            block.attended_norm,
            block.mlp_out_norm,
        ];
        let behind = [&block.attended_norm, &block.mlp_out_norm];
        let of_heads = [&attention.query_norm, &attention.key_norm];
        let with_biases = [&attention.queries, keys, values];
        let is_plain = attention.value_norm.is_none()
            && !attention.gated
            && block.own_input.is_none()
            && block.scale.is_none();
        let is_plain = is_plain && block.altup.is_none() && mlp.cut.is_none();
        let without = [&block.output, &mlp.gate, &mlp.up, &mlp.down];
        let [score, position] = factors(*sliding);
        is_plain
            && matrices
                .iter()
                .all(|(w, n, k)| packing(&w.weight) == Some(layers) && shape(&w.weight) == [*n, *k])
            && norms
                .iter()
                .flatten()
                .all(|norm| norm.eps == eps && is_bf16(norm.weight))
            && behind.iter().all(|norm| norm.is_some() == norms_behind)
            && of_heads.iter().all(|norm| norm.is_some() == head_norms)
            && with_biases.iter().all(|w| w.bias.is_some() == qkv_biases)
            && with_biases.iter().filter_map(|w| w.bias).all(is_bf16)
            && without.iter().all(|w| w.bias.is_none())
            && attention.scores.softcap == score_cap
            && attention.sinks.is_none()
            && mlp.activation == feed_forward.activation
            && (attention.scores.scale, attention.rotation.scale) == (score, position)
    });
    let ends = [&model.embedding, &model.head];
    let ends = ends.iter().all(|w| shape(w) == [sizes.vocab, sizes.hidden]);
    (alike && ends && is_bf16(model.norm.weight)).then_some(sizes)
}

fn is_bf16(array: &Array) -> bool {
    array.dtype() == Dtype::Bfloat16
}

/// How a matrix is stored, if the kernel may be able to read it.
fn packing(matrix: &Weight<'_>) -> Option<Packing> {
    match matrix {
        Weight::Dense(w) => (w.ndim() == 2 && is_bf16(w)).then_some(Packing::Dense),
        Weight::Packed(p) => {
            let fits = p.scheme.mode == Mode::Affine
                && p.weight.ndim() == 2
                && is_bf16(p.scales)
                && p.biases.is_some_and(is_bf16);
            fits.then_some(Packing::Affine {
                bits: p.scheme.bits as usize,
                group: p.scheme.group_size as usize,
            })
        }
        Weight::Bf12(Encoded::Cuda(_)) => Some(Packing::Bf12),
        Weight::Bf12(Encoded::Host(_)) => None,
    }
}

/// Rows and columns.
fn shape(matrix: &Weight<'_>) -> [usize; 2] {
    let (array, elements) = match matrix {
        Weight::Dense(w) => (*w, 1),
        Weight::Packed(p) => (p.weight, 32 / p.scheme.bits.max(1)),
        Weight::Bf12(w) => return [w.rows(), w.cols()],
    };
    [array.dim(0) as usize, (array.dim(1) * elements) as usize]
}
