//! Any model, from token ids to logits: embedding, layers, norm, head, as its description says.

use mlx_core::{Array, Dtype, ops};

use crate::Result;
use crate::cache::Cache;
use crate::nn::{
    DecoderBlock, Embedding, Ends, Fused, Linear, Pass, PerLayerInputs, RmsNorm, RotaryEmbedding,
    Stack, Streams,
};
use crate::states::Added;
use crate::weights::Source;

/// Called after each part of a model is made, with the arrays of that part.
pub(crate) type OnPart<'a> = dyn FnMut(&[&Array]) -> Result<()> + 'a;

/// A model's weights, ready to run.
pub(crate) struct Decoder {
    embedding: Embedding,
    /// What layers have of tokens beside the residual stream.
    per_layer: Option<PerLayerInputs>,
    /// Of embeddings: the number, and rounded to the dtype of the activations as the reference does.
    embed_scale: Option<(f64, Array)>,
    /// What makes several streams of an embedding, and one of them behind the layers.
    streams: Option<Streams>,
    layers: Stack,
    norm: RmsNorm,
    /// Absent where the embedding is the head.
    head: Option<Linear>,
    softcap: Option<f64>,
    fused: Fused,
}

impl Decoder {
    pub(crate) fn load(
        model: &arch::Model<String>,
        source: &Source<'_>,
        on_part: &mut OnPart<'_>,
    ) -> Result<Self> {
        let embedding = Embedding::load(source)?;
        on_part(&embedding.arrays())?;
        let mut layers = Vec::with_capacity(model.layers.len());
        let per_layer = model.per_layer.as_ref();
        let per_layer =
            per_layer.map(|inputs| PerLayerInputs::load(source, inputs, model.vocab_size()));
        let per_layer = per_layer.transpose()?;
        if let Some(inputs) = &per_layer {
            on_part(&inputs.arrays())?;
        }
        let streams = model.streams.as_ref();
        let streams = streams.map(|streams| Streams::load(source, streams));
        let streams = streams.transpose()?;
        if let Some(streams) = &streams {
            on_part(&streams.arrays())?;
        }
        for layer in 0..model.layers.len() {
            let block = DecoderBlock::load(source, model, layer)?;
            on_part(&block.arrays())?;
            layers.push(block);
        }
        let norm = RmsNorm::load(source, &model.norm)?;
        let head = source.head().map(Linear::unbiased).transpose()?;
        let ropes = model
            .ropes
            .iter()
            .map(RotaryEmbedding::new)
            .collect::<Result<_>>()?;
        let layers = Stack::new(layers, ropes);
        let scale =
            |scale| Ok::<_, crate::Error>((scale, Array::scalar_of(scale, source.dtype())?));
        let embed_scale = model.embedding.scale.map(scale).transpose()?;
        on_part(&head.iter().flat_map(Linear::arrays).collect::<Vec<_>>())?;
        let scale = embed_scale.iter().map(|(_, scale)| scale).collect();
        on_part(&[norm.arrays(), layers.rope_arrays(), scale].concat())?;
        Ok(Self {
            embedding,
            per_layer,
            embed_scale,
            streams,
            layers,
            norm,
            head,
            softcap: model.softcap,
            fused: Fused::default(),
        })
    }

    /// Begins to run the tokens `ids [L]`, which follow those in `cache`, through the layers; the last `rows` of
    /// them are wanted.
    pub(crate) fn begin(&self, ids: &Array, cache: &mut Cache, rows: i32) -> Result<Pass> {
        let (x, inputs) = self.embed(ids)?;
        self.layers.begin(&x, inputs, cache, rows)
    }

    /// Goes on for as long as `more` says: normalized hidden states `[rows, hidden]`, once they are there, and L
    /// tokens more in `cache`, in pages as soon as the pass is committed. Nothing is evaluated.
    pub(crate) fn go_on(
        &self,
        pass: &mut Pass,
        cache: &mut Cache,
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Array>> {
        let x = self.layers.go_on(pass, cache, more)?;
        x.map(|x| self.normalized(&x)).transpose()
    }

    /// The tokens `ids [N]`, as many behind each of the `caches` as `counts` says, to their normalized hidden states
    /// `[N, hidden]`, and what to commit for them; `None`, and nothing done, where the caches are not in pages.
    pub(crate) fn hidden_states_of_each(
        &self,
        ids: &Array,
        caches: &[&mut Cache],
        counts: &[i32],
    ) -> Result<Option<(Array, Added)>> {
        let (x, inputs) = self.embed(ids)?;
        let layers = &self.layers;
        match layers.forward_each(&x, inputs.as_ref(), caches, counts)? {
            Some((x, added)) => Ok(Some((self.normalized(&x)?, added))),
            None => Ok(None),
        }
    }

    /// Whether all blocks can be one operation on activations of `dtype`, which runs in pages.
    pub(crate) fn runs_in_pages(&self, dtype: Dtype) -> Result<bool> {
        Ok(self.layers.joined(dtype)?.is_some())
    }

    /// What comes out of the layers, as the head sees it: `[L, hidden]`.
    fn normalized(&self, x: &Array) -> Result<Array> {
        match &self.streams {
            Some(streams) => self.norm.forward(&streams.end(x)?),
            None => self.norm.forward(x),
        }
    }

    /// `ids [L]` to the residual stream `[L, hidden]`, or several of them side by side, and what layers have beside
    /// it, `[L, ..]`.
    fn embed(&self, ids: &Array) -> Result<(Array, Option<Array>)> {
        let mut x = self.embedding.forward(ids)?;
        if let Some((_, scale)) = &self.embed_scale {
            x = ops::mul(&x, scale)?;
        }
        let inputs = self.per_layer.as_ref();
        let inputs = inputs.map(|inputs| inputs.forward(ids, &x)).transpose()?;
        if let Some(streams) = &self.streams {
            x = streams.begin(&x)?;
        }
        Ok((x, inputs))
    }

    /// The tokens `ids`, int32 `[N]`, that follow those in the N `caches`, straight to their float32 logits
    /// `[N, vocab]`, in one operation; `None`, and nothing done, where there is no such operation.
    pub(crate) fn next_logits(
        &self,
        ids: &Array,
        caches: &mut [&mut Cache],
    ) -> Result<Option<Array>> {
        self.fused.logits(&self.layers, &self.ends(), ids, caches)
    }

    /// See [`Model::listed`](crate::Model::listed).
    pub(crate) fn listed(
        &self,
        multiprocessors: u32,
        warps: u32,
    ) -> Result<Option<kernels::steps::Plan>> {
        self.layers.stack_experts()?;
        self.ends().listed(&self.layers, multiprocessors, warps)
    }

    /// What there is beside the layers.
    fn ends(&self) -> Ends<'_> {
        Ends {
            embedding: &self.embedding,
            embed_scale: self.embed_scale.as_ref().map_or(1.0, |(scale, _)| *scale),
            norm: &self.norm,
            head: self.head.as_ref(),
            softcap: self.softcap,
            per_layer: self.per_layer.as_ref(),
        }
    }

    /// Sequences that [`Decoder::next_logits`] takes at the most, where a failure has shown that they are fewer than
    /// the sizes say.
    pub(crate) fn together(&self) -> usize {
        self.fused.together()
    }

    /// Hidden states `[rows, hidden]` through the head: logits `[rows, vocab]`.
    pub(crate) fn logits(&self, hidden: &Array) -> Result<Array> {
        let logits = match &self.head {
            Some(head) => head.forward(hidden)?,
            None => self.embedding.as_head(hidden)?,
        };
        let Some(cap) = self.softcap else {
            return Ok(logits);
        };
        let cap = Array::scalar_of(cap, logits.dtype())?;
        Ok(ops::mul(&ops::tanh(&ops::div(&logits, &cap)?)?, &cap)?)
    }
}
