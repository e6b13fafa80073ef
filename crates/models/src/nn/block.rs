//! A decoder block: attention and a gated MLP, each on the normalized residual stream, each added to it,
//! in some families through a norm of its own.

use kernels::graph;
use mlx_core::Array;

use super::linear::Matrix;
use super::{Linear, Mixer, Mlp, RmsNorm, RotaryEmbedding};
use crate::Result;
use crate::cache::{AttentionMask, LayerCache};
use crate::weights::Source;

/// The weights of one block.
pub(crate) struct DecoderBlock {
    pub(crate) attention_norm: RmsNorm,
    pub(crate) mixer: Mixer,
    /// Of the mixer's output.
    pub(crate) attended_norm: Option<RmsNorm>,
    pub(crate) mlp_norm: RmsNorm,
    pub(crate) mlp: Mlp,
    /// Of the MLP's output.
    pub(crate) mlp_out_norm: Option<RmsNorm>,
    /// Which of the model's states has its keys and values.
    pub(super) state: usize,
    /// Whether that is a sliding window.
    pub(super) slides: bool,
}

/// The residual stream between two parts of a model.
pub(crate) struct Residual {
    /// `[L, hidden]`.
    pub(crate) x: Array,
    /// The same through the norm of what follows; itself, if that is not known.
    normed: Array,
}

impl Residual {
    /// In front of the first block.
    pub(crate) fn new(x: &Array, first: &DecoderBlock) -> Result<Self> {
        Ok(Self {
            x: x.clone(),
            normed: first.attention_norm.forward(x)?,
        })
    }

    /// `x + out`, or `x + behind(out)`, in front of what has the norm `next`.
    fn sum(
        x: &Array,
        out: &Array,
        behind: Option<&RmsNorm>,
        next: Option<&RmsNorm>,
    ) -> Result<Self> {
        let behind = behind.map(RmsNorm::as_norm);
        let Some(next) = next else {
            let x = graph::residual(x, out, behind)?;
            let normed = x.clone();
            return Ok(Self { x, normed });
        };
        let [x, normed] = graph::residual_norm(x, out, behind, next.as_norm())?;
        Ok(Self { x, normed })
    }
}

impl DecoderBlock {
    /// `states` are the model's.
    pub(crate) fn load(
        source: &Source<'_>,
        layer: &arch::Layer<String>,
        states: &[arch::State],
    ) -> Result<Self> {
        let (mixer, mlp) = (&layer.mixer, &layer.mlp);
        let state = match &mixer.part {
            arch::Mixer::Attention(attention) => attention.state,
            arch::Mixer::Delta(delta) => delta.state,
        };
        let norm = |norm| RmsNorm::load(source, norm);
        Ok(Self {
            attention_norm: norm(&mixer.before)?,
            mixer: Mixer::load(source, &mixer.part)?,
            attended_norm: mixer.after.as_ref().map(norm).transpose()?,
            mlp_norm: norm(&mlp.before)?,
            mlp: Mlp::load(source, &mlp.part)?,
            mlp_out_norm: mlp.after.as_ref().map(norm).transpose()?,
            state,
            slides: states.get(state).is_some_and(|state| state.window().is_some()),
        })
    }

    /// The last `rows` of the residual stream `at [L, hidden]` behind this block, ready for the block
    /// whose norm is `next`, if there is one; adds L tokens to `cache`.
    pub(crate) fn forward(
        &self,
        at: &Residual,
        ropes: &[RotaryEmbedding],
        mask: &AttentionMask,
        cache: &mut LayerCache,
        rows: i32,
        next: Option<&RmsNorm>,
    ) -> Result<Residual> {
        let [qkv, o, gate_up, down] = match rows == at.x.dim(0) {
            // All products have as many rows.
            true => Matrix::unpacked(&at.x, self.matrices())?,
            false => [const { None }; 4],
        };
        let mixed = self
            .mixer
            .forward(&at.normed, ropes, mask, cache, [qkv, o])?;
        let (x, mixed) = (last_rows(&at.x, rows)?, last_rows(&mixed, rows)?);
        let behind = self.attended_norm.as_ref();
        let at = Residual::sum(&x, &mixed, behind, Some(&self.mlp_norm))?;
        let out = self.mlp.forward(&at.normed, [gate_up, down])?;
        Residual::sum(&at.x, &out, self.mlp_out_norm.as_ref(), next)
    }

    /// The block for operations that are whole blocks; `None` of experts that are held in one array, of gated
    /// attention, and of mixers that are none.
    pub(super) fn as_one<'a>(&'a self, ropes: &'a [RotaryEmbedding]) -> Option<graph::Block<'a>> {
        let attention = self.mixer.attention().filter(|a| !a.gated)?;
        let rope = &ropes[attention.rope];
        let [queries, keys, values] = attention.qkv.as_linears();
        Some(graph::Block {
            attention_norm: self.attention_norm.as_norm(),
            queries,
            keys,
            values,
            query_norm: attention.q_norm.as_ref().map(RmsNorm::as_norm),
            key_norm: attention.k_norm.as_ref().map(RmsNorm::as_norm),
            rotation: rope.at(0),
            scores: attention.scores(rope),
            output: attention.o_proj.as_linear(),
            attended_norm: self.attended_norm.as_ref().map(RmsNorm::as_norm),
            mlp_norm: self.mlp_norm.as_norm(),
            mlp: self.mlp.as_one()?,
            mlp_out_norm: self.mlp_out_norm.as_ref().map(RmsNorm::as_norm),
        })
    }

    fn matrices(&self) -> [Option<&Matrix>; 4] {
        let [qkv, o] = self.mixer.matrices();
        let [gate_up, down] = self.mlp.matrices();
        [qkv, o, gate_up, down]
    }

    /// Whether a GPU that unpacks may make plain matrices for a pass over so many tokens. One stands for all.
    pub(super) fn unpacks(&self, tokens: i32) -> bool {
        self.mixer.output().unpacks(tokens)
    }

    /// About what a pass over `x [L, hidden]` allocates here: the products, as much again between them,
    /// and plain matrices if it `unpacks`.
    pub(super) fn pass_bytes(&self, x: &Array, unpacks: bool) -> usize {
        let rows = x.dim(0);
        let numbers = self.linears().map(|linear| {
            let outputs = linear.outputs().unsigned_abs() as usize;
            let plain = match unpacks && linear.unpacks(rows) {
                true => linear.inputs().unsigned_abs() as usize,
                false => 0,
            };
            outputs * (2 * rows.unsigned_abs() as usize + plain)
        });
        let between = self.mlp.numbers_a_row() + self.mixer.numbers_a_row();
        let between = between * rows.unsigned_abs() as usize;
        (numbers.sum::<usize>() + between) * x.dtype().size()
    }

    /// Those that all rows go through.
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.mixer.linears().into_iter().chain(self.mlp.linears())
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let always = [&self.attention_norm, &self.mlp_norm];
        let sometimes = self.attended_norm.iter().chain(&self.mlp_out_norm);
        let norms = always.into_iter().chain(sometimes);
        let mut arrays: Vec<&Array> = norms.flat_map(RmsNorm::arrays).collect();
        arrays.extend(self.mixer.arrays());
        arrays.extend(self.mlp.arrays());
        arrays
    }
}

/// `x[-rows.., :]` of `x [L, width]`.
fn last_rows(x: &Array, rows: i32) -> Result<Array> {
    let (length, width) = (x.dim(0), x.dim(1));
    if rows >= length {
        return Ok(x.clone());
    }
    Ok(x.slice(&[length - rows, 0], &[length, width])?)
}
