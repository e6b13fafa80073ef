//! A decoder block: attention and a gated MLP, each on the normalized residual stream, each added to it,
//! in some families through a norm of its own.

use kernels::graph;
use mlx_core::{Array, Dtype, ops};

use super::attention::Place;
use super::linear::Matrix;
use super::{AltUp, Linear, Mixer, Mlp, OwnInput, RmsNorm, RotaryEmbedding};
use crate::Result;
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
    /// Where rows are several streams, what makes one of them and back.
    altup: Option<AltUp>,
    /// What is added of an input of its own.
    own_input: Option<OwnInput>,
    /// What the result is multiplied by: the number, and as an array.
    scale: Option<(f32, Array)>,
    /// Which of the model's states has its keys and values.
    pub(super) state: usize,
    /// Whether that is a sliding window.
    pub(super) slides: bool,
}

/// The residual stream between two parts of a model.
pub(crate) struct Residual {
    /// `[L, hidden]`, or several streams side by side.
    pub(crate) x: Array,
    /// The same through the norm of what follows; itself, if that is not known.
    normed: Array,
}

impl Residual {
    /// In front of the first block.
    pub(crate) fn new(x: &Array, first: &DecoderBlock) -> Result<Self> {
        Self::before(x.clone(), first.norm_before())
    }

    /// In front of what has the norm `next`.
    fn before(x: Array, next: Option<&RmsNorm>) -> Result<Self> {
        let normed = next.map_or_else(|| Ok(x.clone()), |next| next.forward(&x))?;
        Ok(Self { x, normed })
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
    /// Layer `index` of `model`.
    pub(crate) fn load(
        source: &Source<'_>,
        model: &arch::Model<String>,
        index: usize,
    ) -> Result<Self> {
        let layer = &model.layers[index];
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
            altup: match &layer.altup {
                Some(altup) => Some(AltUp::load(source, altup)?),
                None => None,
            },
            own_input: match &layer.per_layer {
                Some(own) => Some(OwnInput::load(source, own, index)?),
                None => None,
            },
            scale: match &layer.scale {
                Some(name) => Some(scale(source, name)?),
                None => None,
            },
            state,
            slides: model
                .states
                .get(state)
                .is_some_and(|state| state.window().is_some()),
        })
    }

    /// The last `rows` of the residual stream `at [L, hidden]` behind this block, ready for the block
    /// whose norm is `next`, if there is one; adds L tokens to the cache of `place`, unless a block before has.
    /// `inputs [L, ..]` are those of all blocks that have such.
    pub(crate) fn forward(
        &self,
        at: &Residual,
        inputs: Option<&Array>,
        mut place: Place<'_>,
        rows: i32,
        next: Option<&RmsNorm>,
    ) -> Result<Residual> {
        if let Some(altup) = &self.altup {
            let x = self.forward_streams(altup, &at.x, inputs, place, rows)?;
            return Residual::before(x, next);
        }
        let [qkv, o, gate_up, down] = match rows == at.x.dim(0) {
            // All products have as many rows.
            true => Matrix::unpacked(&at.x, self.matrices())?,
            false => [const { None }; 4],
        };
        let mixed = self.mixer.forward(&at.normed, &mut place, [qkv, o])?;
        let (x, mixed) = (last_rows(&at.x, rows)?, last_rows(&mixed, rows)?);
        let behind = self.attended_norm.as_ref();
        let at = Residual::sum(&x, &mixed, behind, Some(&self.mlp_norm))?;
        let out = self.mlp.forward(&at.normed, &at.x, [gate_up, down])?;
        let behind = self.mlp_out_norm.as_ref();
        if self.own_input.is_none() && self.scale.is_none() {
            return Residual::sum(&at.x, &out, behind, next);
        }
        let mut x = Residual::sum(&at.x, &out, behind, None)?.x;
        if let (Some(own), Some(inputs)) = (&self.own_input, inputs) {
            x = own.add(&x, &last_rows(inputs, rows)?)?;
        }
        if let Some((_, scale)) = &self.scale {
            x = ops::mul(&x, scale)?;
        }
        Residual::before(x, next)
    }

    /// The same of rows that are several streams, `[L, streams * hidden]`.
    fn forward_streams(
        &self,
        altup: &AltUp,
        x: &Array,
        inputs: Option<&Array>,
        mut place: Place<'_>,
        rows: i32,
    ) -> Result<Array> {
        let predicted = altup.predict(x)?;
        let now = altup.active(&predicted)?;
        let normed = self.attention_norm.forward(&now)?;
        let [qkv, o, gate_up, down] = match rows == x.dim(0) {
            true => Matrix::unpacked(&normed, self.matrices())?,
            false => [const { None }; 4],
        };
        let mixed = self.mixer.forward(&normed, &mut place, [qkv, o])?;
        let (predicted, now) = (last_rows(&predicted, rows)?, last_rows(&now, rows)?);
        let (normed, mixed) = (last_rows(&normed, rows)?, last_rows(&mixed, rows)?);
        let behind = self.attended_norm.as_ref().map(RmsNorm::as_norm);
        let sum = graph::residual(&now, &mixed, behind)?;
        let sum = graph::residual(&sum, &altup.laurel(&normed)?, None)?;
        let half = Array::scalar_of(0.5f64.sqrt(), sum.dtype())?;
        let stream = ops::mul(&sum, &half)?;
        let normed = self.mlp_norm.forward(&stream)?;
        let out = self.mlp.forward(&normed, &stream, [gate_up, down])?;
        let behind = self.mlp_out_norm.as_ref().map(RmsNorm::as_norm);
        let activated = graph::residual(&stream, &out, behind)?;
        let corrected = altup.correct(&predicted, &activated)?;
        let added = match (&self.own_input, inputs) {
            (Some(own), Some(inputs)) => {
                Some(own.of(&corrected.active, &last_rows(inputs, rows)?)?)
            }
            _ => None,
        };
        let x = corrected.with(added.as_ref())?;
        match &self.scale {
            Some((_, scale)) => Ok(ops::mul(&x, scale)?),
            None => Ok(x),
        }
    }

    /// The norm that what comes before may make with its sum: of several streams there is none.
    pub(super) fn norm_before(&self) -> Option<&RmsNorm> {
        self.altup.is_none().then_some(&self.attention_norm)
    }

    /// Whether this adds to its state.
    pub(super) fn writes(&self) -> bool {
        self.mixer.writes()
    }

    /// The block for operations that are whole blocks; `None` of a part that those lack.
    pub(super) fn as_one<'a>(&'a self, ropes: &'a [RotaryEmbedding]) -> Option<graph::Block<'a>> {
        Some(graph::Block {
            altup: self.altup.as_ref().map(AltUp::as_one),
            attention_norm: self.attention_norm.as_norm(),
            mixer: self.mixer.as_one(ropes),
            output: self.mixer.output().as_linear(),
            attended_norm: self.attended_norm.as_ref().map(RmsNorm::as_norm),
            mlp_norm: self.mlp_norm.as_norm(),
            mlp: self.mlp.as_one()?,
            mlp_out_norm: self.mlp_out_norm.as_ref().map(RmsNorm::as_norm),
            own_input: self.own_input.as_ref().map(OwnInput::as_one),
            scale: self.scale.as_ref().map(|(number, _)| *number),
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
        let mixed = self.altup.as_ref().map_or(0, |altup| {
            let hidden = self.mixer.output().outputs().unsigned_abs() as usize;
            // They are float32.
            altup.numbers_a_row(hidden) * 4 / x.dtype().size()
        });
        let between = self.mlp.numbers_a_row() + self.mixer.numbers_a_row() + mixed;
        let between = between * rows.unsigned_abs() as usize;
        (numbers.sum::<usize>() + between) * x.dtype().size()
    }

    /// Those that all rows go through.
    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let own = self.own_input.iter().flat_map(OwnInput::linears);
        let mixer = self.mixer.linears().into_iter();
        let altup = self.altup.iter().flat_map(AltUp::linears);
        mixer.chain(self.mlp.linears()).chain(own).chain(altup)
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let always = [&self.attention_norm, &self.mlp_norm];
        let sometimes = self.attended_norm.iter().chain(&self.mlp_out_norm);
        let norms = always.into_iter().chain(sometimes);
        let mut arrays: Vec<&Array> = norms.flat_map(RmsNorm::arrays).collect();
        arrays.extend(self.mixer.arrays());
        arrays.extend(self.mlp.arrays());
        arrays.extend(self.altup.iter().flat_map(AltUp::arrays));
        arrays.extend(self.own_input.iter().flat_map(OwnInput::arrays));
        arrays.extend(self.scale.iter().map(|(_, scale)| scale));
        arrays
    }
}

/// A factor that the files have in an array of one.
fn scale(source: &Source<'_>, name: &str) -> Result<(f32, Array)> {
    let stored = source.vector(name, 1.0)?;
    let numbers = stored.cast(Dtype::Float32)?.to_vec::<f32>()?;
    let number = numbers.first().copied().unwrap_or(1.0);
    Ok((number, source.cast(stored)?))
}

/// `x[-rows.., :]` of `x [L, width]`.
fn last_rows(x: &Array, rows: i32) -> Result<Array> {
    let (length, width) = (x.dim(0), x.dim(1));
    if rows >= length {
        return Ok(x.clone());
    }
    Ok(x.slice(&[length - rows, 0], &[length, width])?)
}
