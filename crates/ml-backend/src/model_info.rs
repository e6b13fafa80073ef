//! What a model directory says of itself, as a program is told.

use std::path::Path;

use models::Step;

use crate::{DeviceKind, Dtype, Result};

/// How a checkpoint's `generation_config.json` advises to sample; each is `None` where it says nothing,
/// or nothing usable. What [`Options`](crate::Options) leave open is done so.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Advice {
    /// Whether to draw at random; `false` is greedy.
    pub do_sample: Option<bool>,
    /// See [`Options::temperature`](crate::Options::temperature).
    pub temperature: Option<f32>,
    /// See [`Options::top_k`](crate::Options::top_k).
    pub top_k: Option<usize>,
    /// See [`Options::top_p`](crate::Options::top_p).
    pub top_p: Option<f32>,
    /// See [`Options::min_p`](crate::Options::min_p).
    pub min_p: Option<f32>,
    /// See [`Options::repetition_penalty`](crate::Options::repetition_penalty).
    pub repetition_penalty: Option<f32>,
}

/// The facts of a model directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelInfo {
    /// `model_type` of `config.json`.
    pub model_type: String,
    /// The family that it is of, such as `Gemma 3`.
    pub family: &'static str,
    /// Number of layers.
    pub layers: usize,
    /// Number of those that see a sliding window only.
    pub sliding_layers: usize,
    /// Tokens that a sliding layer sees.
    pub sliding_window: Option<usize>,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Rows of the embedding; ids are below it.
    pub vocab_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// `max_position_embeddings` of `config.json`: the context of the pretraining, in tokens.
    pub max_position_embeddings: Option<usize>,
    /// Tokens that prompt and answer may have together: that, or what YaRN or linear scaling of the
    /// rotary embedding makes of it, the original context times the factor.
    pub context: Option<usize>,
    /// Whether the embedding is the head.
    pub tied_head: bool,
    /// Whether tokens see those behind them too: the model embeds texts, and generates none.
    pub bidirectional: bool,
    /// Such as `4-bit affine, group 64`.
    pub quantization: Option<String>,
    /// Dtype of the activations and of the caches.
    pub dtype: Dtype,
    /// Weights, quantized or not; a tied head counts once.
    pub parameters: u64,
    /// Of those, what one token uses: all but the experts that it has not got.
    pub active_parameters: u64,
    /// Bytes of the tensors that are used.
    pub weight_bytes: u64,
    /// Tensors of heads that draft tokens ahead (`mtp.`): they are left in the files.
    pub draft_tensors: usize,
    /// Files that hold those that are used.
    pub files: usize,
    /// Bytes that one token takes in the caches, as long as no sliding window is full.
    pub cache_bytes_per_token: u64,
    /// Ids that end a generation, from `config.json` and `generation_config.json`.
    pub eos_token_ids: Vec<u32>,
    /// The id that begins a text.
    pub bos_token_id: Option<u32>,
    /// How `generation_config.json` advises to sample.
    pub advice: Advice,
    /// What the files say that could not be used and was left out, one line each.
    pub warnings: Vec<String>,
    plans: [(DeviceKind, Vec<Step>); 3],
    read: models::ModelInfo,
}

impl ModelInfo {
    /// Reads the configuration and the headers of the weights of `dir`, and checks all that can be
    /// checked without the weights' values and without MLX.
    ///
    /// # Errors
    /// What is missing, damaged or not supported, in one line.
    pub fn read(dir: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::of(&models::ModelInfo::read(dir.as_ref())?))
    }

    /// What runs the model on a device of this kind, part by part; of a model that is not loaded a GPU is taken
    /// for an H100.
    pub fn plan(&self, device: DeviceKind) -> &[Step] {
        let plan = self.plans.iter().find(|(kind, _)| *kind == device);
        plan.map_or(&[], |(_, steps)| steps)
    }

    /// Bytes that so many tokens take in the caches: a sliding window holds no more than it sees.
    pub fn cache_bytes(&self, tokens: usize) -> u64 {
        self.read.cache_bytes(tokens as u64)
    }

    pub(crate) fn of(model: &models::ModelInfo) -> Self {
        let plan = |kind| (DeviceKind::of(kind), model.plan(kind));
        let advice = &model.generation;
        Self {
            model_type: model.model_type.clone(),
            family: model.family.name,
            layers: model.layers,
            sliding_layers: model.sliding_layers,
            sliding_window: model.sliding_window,
            hidden_size: model.hidden_size,
            intermediate_size: model.intermediate_size,
            vocab_size: model.vocab_size,
            heads: model.heads,
            kv_heads: model.kv_heads,
            head_dim: model.head_dim,
            bidirectional: model.bidirectional,
            max_position_embeddings: model.max_position_embeddings,
            context: model.context,
            tied_head: model.tied_head,
            quantization: model.quantization.clone(),
            dtype: Dtype::of(model.dtype),
            parameters: model.parameters,
            active_parameters: model.parameters - model.idle_parameters,
            weight_bytes: model.weight_bytes,
            draft_tensors: model.draft_tensors,
            files: model.files,
            cache_bytes_per_token: model.cache_bytes_per_token(),
            eos_token_ids: model.eos_token_ids.clone(),
            bos_token_id: model.bos_token_id,
            advice: Advice {
                do_sample: advice.do_sample,
                temperature: advice.temperature,
                top_k: advice.top_k,
                top_p: advice.top_p,
                min_p: advice.min_p,
                repetition_penalty: advice.repetition_penalty,
            },
            warnings: model.warnings.clone(),
            read: model.clone(),
            plans: [
                plan(mlx_core::DeviceKind::Cpu),
                plan(mlx_core::DeviceKind::Cuda),
                plan(mlx_core::DeviceKind::Metal),
            ],
        }
    }
}
