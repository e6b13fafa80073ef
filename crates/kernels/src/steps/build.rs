//! The list of a model's steps.

mod feed_forward;
mod mixer;
mod net;

use std::collections::BTreeSet;

use half::bf16;
use mlx_core::{Array, Dtype};

use super::listed::{Arrays, Made, Packing, Step, Unlisted};
use super::nets::Nets;
use super::plan::{COLUMNS_A_WARP, Most};
use super::words::{Address, Ending, Input, Op, Word};
use crate::block::graph::{AllExperts, Block, Linear, Weight};
use crate::block::{Attention, DeltaInputs, DeltaNet, Mixer, Mlp};
use crate::decode::{OwnInputs, TokenModel};
use crate::experts::Experts;
use crate::rms_norm::norm::Norm;
use crate::rope::entry::Rotation;

/// Keys whose scores are in shared memory at a time.
const KEYS_AT_ONCE: i32 = 128;

/// What is added to the residual stream, and what is done with both.
#[derive(Clone, Copy, Default)]
struct Addend<'a> {
    /// Where it was left.
    at: Option<i32>,
    norm: Option<Norm<'a>>,
    /// Another one beside it, through a norm.
    second: Option<(i32, Norm<'a>)>,
    /// Of the sum of both.
    sum_norm: Option<Norm<'a>>,
    /// What the stream with it is multiplied by.
    scale: Option<f32>,
}

/// The residual stream as the next step finds it.
#[derive(Clone, Copy)]
struct Stream<'a> {
    at: i32,
    addend: Addend<'a>,
}

/// Where things are left between steps.
#[derive(Clone, Copy, Default)]
struct Places {
    /// The residual stream, by turns.
    stream: [i32; 2],
    queries: i32,
    keys: i32,
    values: i32,
    /// Of what a gated delta net reads.
    gates: i32,
    mixed: i32,
    /// What a mixer, a feed-forward layer and its second part give.
    out: i32,
    down: i32,
    second: i32,
    /// Inside feed-forward layers.
    inner: i32,
    shared: i32,
    router: i32,
    partial: i32,
    counters: i32,
    own: i32,
    own_rows: i32,
    own_inner: i32,
}

/// Makes the list.
pub(super) struct Builder {
    pub(super) steps: Vec<Step>,
    pub(super) arrays: Arrays,
    pub(super) vocab: i32,
    multiprocessors: i32,
    warps: i32,
    places: Places,
    arena: i32,
    most: Most,
    /// The longest head, and the most parts of a head's keys.
    longest: [i32; 2],
    /// Key heads of each state.
    kv_heads: Vec<(usize, i32)>,
    /// States that hold keys, and those of gated delta nets, in their order.
    states: [Vec<usize>; 2],
    pub(super) nets: Option<Nets>,
}

type ArrayExperts<'a> = Experts<Linear<'a>, Norm<'a>, AllExperts<'a>>;
type ArrayNet<'a> = DeltaNet<Linear<'a>, Norm<'a>, &'a Array>;
type ArrayAttention<'a> = Attention<Linear<'a>, Norm<'a>, Rotation<'a>>;

impl Builder {
    pub(super) fn new(dtype: Dtype, multiprocessors: i32, warps: i32) -> Self {
        Self {
            steps: Vec::new(),
            arrays: Arrays {
                all: Vec::new(),
                dtype,
            },
            vocab: 0,
            multiprocessors,
            warps,
            places: Places::default(),
            arena: 0,
            most: Most {
                hidden: 0,
                queries_a_key: 1,
                experts: 32,
                top: 1,
                arena: 0,
                shared: 0,
            },
            longest: [0; 2],
            kv_heads: Vec::new(),
            states: Default::default(),
            nets: None,
        }
    }

    pub(super) fn most(&self) -> Most {
        // As `Attending` lays it out.
        let ([dim, splits], queries) = (self.longest, self.most.queries_a_key);
        let warps = self.warps;
        let sums = (32 * warps * 2 * queries).max(queries * splits);
        let numbers = 3 * (queries + 3) / 4 * 4 + 12;
        let attending = dim + warps * dim + queries * (dim + KEYS_AT_ONCE) + numbers + sums;
        Most {
            arena: self.arena,
            shared: self.most.shared.max(attending),
            ..self.most
        }
    }

    pub(super) fn list(&mut self, model: &TokenModel<'_>) -> Made<()> {
        let hidden = model.norm.weight.dim(0);
        self.vocab = rows(&model.head)?;
        served(hidden <= COLUMNS_A_WARP * self.warps && hidden % 4 == 0)?;
        served(model.states.len() == model.blocks.len())?;
        self.most.hidden = hidden;
        let is_net = |block: &Block<'_>| block.mixer.attention().is_none();
        self.states = [false, true].map(|nets| {
            let of_blocks = model.blocks.iter().zip(&model.states);
            let of_kind = of_blocks.filter(|((block, _), _)| is_net(block) == nets);
            let of_kind: BTreeSet<usize> = of_kind.map(|(_, state)| *state).collect();
            of_kind.into_iter().collect()
        });
        self.make_room(model, hidden)?;
        let places = self.places;
        let scale = self.rounded(model.embed_scale);
        self.embed(&model.embedding, scale, places.stream[0])?;
        if let Some(own) = &model.own_inputs {
            self.own_inputs(own, model, places.stream[0])?;
        }
        let mut stream = Stream {
            at: places.stream[0],
            addend: Addend::default(),
        };
        for ((block, slides), state) in model.blocks.iter().zip(&model.states) {
            stream = self.block(block, stream, *slides, *state)?;
        }
        let mut head = Step::new(Op::PRODUCT);
        let linear = Linear {
            weight: model.head,
            bias: None,
        };
        self.arrays.put_linear(&mut head, 0, &linear)?;
        self.read(&mut head, stream, Some(&model.norm), None)?;
        head.end(Ending::LOGITS);
        head.real(Word::CAP, model.softcap.unwrap_or(0.0) as f32);
        self.push(head);
        Ok(())
    }

    /// Places of what the widest layers leave.
    fn make_room(&mut self, model: &TokenModel<'_>, hidden: i32) -> Made<()> {
        let [mut queries, mut keys, mut gates, mut mixed, mut inner] = [0; 5];
        let [mut shared, mut router, mut partial, mut heads] = [0; 4];
        let mut own = 0;
        for (block, _) in &model.blocks {
            let width = columns(&block.output.weight)?;
            mixed = mixed.max(width);
            match &block.mixer {
                Mixer::Attention(attention) => {
                    let dim = self.head_dim(block, attention)?;
                    queries = queries.max(rows(&attention.queries.weight)?);
                    for linear in attention.keys.iter().chain(&attention.values) {
                        keys = keys.max(rows(&linear.weight)?);
                    }
                    // As `part_floats` of the kernel has it.
                    partial = partial.max(width / dim * self.multiprocessors * (dim + 4));
                    heads = heads.max(width / dim);
                }
                Mixer::Delta(net) => {
                    let (columns, numbers) = match &net.inputs {
                        DeltaInputs::Apart([qkv, z, b, a]) => {
                            gates = gates.max(rows(&z.weight)?);
                            (qkv, [b, a])
                        }
                        DeltaInputs::ByKeyHead([qkvz, ba]) => (qkvz, [ba, ba]),
                    };
                    queries = queries.max(rows(&columns.weight)?);
                    for linear in numbers {
                        keys = keys.max(rows(&linear.weight)?);
                    }
                }
            }
            let (gated, experts) = match &block.mlp {
                Mlp::Gated(gated) => (Some(gated), None),
                Mlp::Experts(experts) => (None, Some(experts)),
                Mlp::Both(both) => (Some(&both.gated), Some(&both.experts)),
            };
            if let Some(gated) = gated {
                inner = inner.max(rows(&gated.gate.weight)?);
            }
            if let Some(experts) = experts {
                let each = experts.each.stacked.as_ref().ok_or(Unlisted::Unserved)?;
                let of_all = rows(&each.gate.weight)? * experts.top as i32;
                let count = rows(&experts.router.weight)?;
                // Beside that of a gated layer.
                shared = shared.max(of_all);
                if let Some(other) = &experts.shared {
                    inner = inner.max(rows(&other.mlp.gate.weight)?);
                }
                router = router.max(count + 1);
                self.most.experts = self.most.experts.max(count);
                self.most.top = self.most.top.max(experts.top as i32);
            }
            if let Some(input) = &block.own_input {
                own = own.max(rows(&input.gate.weight)?);
            }
        }
        let own_all = match &model.own_inputs {
            Some(inputs) => rows(&inputs.projection.weight)?,
            None => 0,
        };
        self.places = Places {
            stream: [self.take(hidden), self.take(hidden)],
            queries: self.take(queries),
            keys: self.take(keys),
            values: self.take(keys),
            gates: self.take(gates),
            mixed: self.take(mixed),
            out: self.take(hidden),
            down: self.take(hidden),
            second: self.take(hidden),
            inner: self.take(inner),
            shared: self.take(shared),
            router: self.take(router),
            partial: self.take(partial),
            counters: self.take(heads),
            own: self.take(own_all),
            own_rows: self.take(own_all),
            own_inner: self.take(own),
        };
        Ok(())
    }

    /// Which of the states that hold keys it is, or of those of gated delta nets.
    pub(super) fn rank(&self, state: usize, nets: bool) -> Option<usize> {
        let states = &self.states[usize::from(nets)];
        states.iter().position(|of| *of == state)
    }

    /// A factor in the dtype of the activations.
    fn rounded(&self, factor: f64) -> f32 {
        match self.arrays.dtype {
            Dtype::Bfloat16 => bf16::from_f64(factor).to_f32(),
            _ => factor as f32,
        }
    }

    /// So many floats of the arena.
    fn take(&mut self, floats: i32) -> i32 {
        let at = self.arena;
        self.arena += (floats + 31) / 32 * 32;
        at
    }

    fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// A row of a table to `to`. The blocks do not meet behind it.
    fn row(&mut self, table: &Weight<'_>, scale: f32, to: i32) -> Made<Step> {
        let mut step = Step::new(Op::EMBED);
        let linear = Linear {
            weight: *table,
            bias: None,
        };
        self.arrays.put_linear(&mut step, 0, &linear)?;
        step.real(Word::SCALE, scale);
        step.set(Word::TO, to);
        Ok(step)
    }

    fn embed(&mut self, table: &Weight<'_>, scale: f32, to: i32) -> Made<()> {
        let step = self.row(table, scale, to)?;
        self.push(step.meet());
        Ok(())
    }

    /// The inputs that layers have of their own: a row of a table and a projection of the embedding.
    fn own_inputs(&mut self, own: &OwnInputs<'_>, model: &TokenModel<'_>, at: i32) -> Made<()> {
        let places = self.places;
        let scale = self.rounded(own.table_scale);
        let row = self.row(&own.table, scale, places.own_rows)?;
        self.push(row);
        let mut projection = Step::new(Op::PRODUCT);
        self.arrays
            .put_linear(&mut projection, 0, &own.projection)?;
        self.copy(&mut projection, at);
        projection.set(Word::TO, places.own);
        projection.end(Ending::STORE);
        self.push(projection.meet());
        let width = own.norm.weight.dim(0);
        let all = rows(&own.projection.weight)?;
        served(width > 0 && all % width == 0 && model.blocks.len() as i32 == all / width)?;
        let mut step = Step::new(Op::OWN_INPUTS);
        step.set(Word::ROWS, all / width);
        step.set(Word::COLUMNS, width);
        step.set(Word::TO, places.own);
        step.set(Word::FROM, places.own_rows);
        step.real(Word::SCALE, self.rounded(own.projection_scale));
        step.real(Word::ALPHA, self.rounded(own.scale));
        self.arrays
            .put_norm(&mut step, Address::NORM, Word::EPS, &own.norm)?;
        self.push(step.meet());
        Ok(())
    }

    fn block<'a>(
        &mut self,
        block: &Block<'a>,
        stream: Stream<'a>,
        slides: bool,
        state: usize,
    ) -> Made<Stream<'a>> {
        served(block.altup.is_none())?;
        let places = self.places;
        let kept = self.other(stream.at);
        let mut out = Step::new(Op::PRODUCT);
        self.arrays.put_linear(&mut out, 0, &block.output)?;
        self.copy(&mut out, places.mixed);
        match &block.mixer {
            Mixer::Attention(attention) => {
                self.queries(attention, stream, &block.attention_norm, kept)?;
                self.attend(block, attention, slides, state)?;
            }
            Mixer::Delta(net) => {
                self.net(net, stream, &block.attention_norm, kept, state)?;
                self.reads(&mut out, net)?;
            }
        }
        out.set(Word::TO, places.out);
        self.push(out.meet());
        let behind = Stream {
            at: kept,
            addend: Addend {
                at: Some(places.out),
                norm: block.attended_norm,
                ..Addend::default()
            },
        };
        let kept = self.other(kept);
        let mut addend = match &block.mlp {
            Mlp::Gated(mlp) => self.gated(mlp, behind, &block.mlp_norm, kept)?,
            Mlp::Experts(experts) => self.mixture(experts, behind, &block.mlp_norm, kept)?,
            Mlp::Both(both) => self.both(both, behind, &block.mlp_norm, kept)?,
        };
        match addend.second {
            Some(_) => addend.sum_norm = block.mlp_out_norm,
            None => addend.norm = block.mlp_out_norm,
        }
        let mut stream = Stream { at: kept, addend };
        if let Some(own) = &block.own_input {
            stream = self.own_input(own, stream)?;
        }
        stream.addend.scale = block.scale;
        Ok(stream)
    }

    /// Products of one input: those that are stored alike in one step. The blocks meet behind the last.
    fn products<'a>(
        &mut self,
        maps: &[(Linear<'a>, i32)],
        stream: Stream<'a>,
        norm: Option<&Norm<'a>>,
        kept: Option<i32>,
    ) -> Made<()> {
        const TO: [Word; 4] = [Word::TO, Word::TO_1, Word::TO_2, Word::TO_3];
        let mut steps: Vec<(Packing, Step)> = Vec::new();
        for (linear, to) in maps {
            let packing = Packing::of(&linear.weight).ok_or(Unlisted::Unserved)?;
            let place = steps.iter_mut().find(|(other, _)| packing.is_like(*other));
            let step = match place {
                Some((_, step)) => step,
                None => &mut steps.push_mut((packing, Step::new(Op::PRODUCT))).1,
            };
            let part = step.get(Word::PARTS) as usize;
            self.arrays.put_linear(step, part, linear)?;
            step.set(TO[part], *to);
        }
        let count = steps.len();
        for (i, (_, mut step)) in steps.into_iter().enumerate() {
            // What is kept is the same each time, and nobody reads it before the blocks have met.
            self.read(&mut step, stream, norm, kept)?;
            match i + 1 == count {
                true => self.push(step.meet()),
                false => self.push(step),
            }
        }
        Ok(())
    }

    /// The other place of the residual stream.
    fn other(&self, at: i32) -> i32 {
        let [first, second] = self.places.stream;
        if at == first { second } else { first }
    }

    /// A step's input is the stream, which is kept in another place if that is said.
    fn read(
        &mut self,
        step: &mut Step,
        stream: Stream<'_>,
        norm: Option<&Norm<'_>>,
        kept: Option<i32>,
    ) -> Made<()> {
        let Stream { at, addend } = stream;
        step.set(Word::INPUT, Input::STREAM as i32);
        step.set(Word::FROM, at);
        step.set(Word::KEEP, kept.unwrap_or(-1));
        step.real(Word::SCALE, addend.scale.unwrap_or(1.0));
        if let Some(at) = addend.at {
            step.set(Word::ADDEND, at);
        }
        if let Some(norm) = &addend.norm {
            self.arrays
                .put_norm(step, Address::ADDEND_NORM, Word::ADDEND_EPS, norm)?;
        }
        if let Some((at, norm)) = &addend.second {
            step.set(Word::SECOND, *at);
            self.arrays
                .put_norm(step, Address::SECOND_NORM, Word::SECOND_EPS, norm)?;
        }
        if let Some(norm) = &addend.sum_norm {
            self.arrays
                .put_norm(step, Address::SUM_NORM, Word::SUM_EPS, norm)?;
        }
        if let Some(norm) = norm {
            // A router's is float32 in models that are not.
            let wide = norm.weight.dtype() == Dtype::Float32;
            step.set(Word::NORMED, 1);
            step.set(Word::WIDE_NORM, wide.into());
            match wide {
                true => {
                    step.real(Word::EPS, norm.eps);
                    self.arrays.put(step, Address::NORM, norm.weight)?;
                }
                false => self.arrays.put_norm(step, Address::NORM, Word::EPS, norm)?,
            }
        }
        self.room(step, 1);
        Ok(())
    }

    /// A step's input is what another has left.
    fn copy(&mut self, step: &mut Step, from: i32) {
        self.copy_several(step, from, 1);
    }

    fn copy_several(&mut self, step: &mut Step, from: i32, count: i32) {
        step.set(Word::INPUT, Input::COPY as i32);
        step.set(Word::FROM, from);
        self.room(step, count);
    }

    /// Room in shared memory for so many vectors and the sums of their parts, which lie behind them.
    fn room(&mut self, step: &mut Step, count: i32) {
        let vectors = count * step.get(Word::SUMS_AT);
        step.set(Word::SUMS_AT, vectors);
        // No fewer columns than four go to a lane.
        self.most.shared = self.most.shared.max(vectors + vectors / 4);
    }
}

/// What was left at a place, as it is.
fn added<'a>(at: i32) -> Addend<'a> {
    Addend {
        at: Some(at),
        ..Addend::default()
    }
}

fn served(is: bool) -> Made<()> {
    if is { Ok(()) } else { Err(Unlisted::Unserved) }
}

/// Rows of a matrix; of several behind each other those of one.
fn rows(weight: &Weight<'_>) -> Made<i32> {
    Ok(Packing::of(weight).ok_or(Unlisted::Unserved)?.rows)
}

fn columns(weight: &Weight<'_>) -> Made<i32> {
    Ok(Packing::of(weight).ok_or(Unlisted::Unserved)?.columns)
}
