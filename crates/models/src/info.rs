//! What a model directory says of itself, read without loading a weight or starting MLX.

use std::path::Path;
use std::sync::Arc;

use arch::{Config, Family, GenerationDefaults, Mlp, Model};
use kernels::decode::Target;
use mlx_core::{DeviceKind, Dtype};

use crate::Result;
use crate::plan::{self, Step, Storage};
use crate::weights::{Checkpoint, Manifest};

/// The facts of a model directory.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ModelInfo {
    /// `model_type` of `config.json`.
    pub model_type: String,
    /// The family that runs it.
    pub family: &'static Family,
    /// Number of layers.
    pub layers: usize,
    /// Number of those that see a sliding window only.
    pub sliding_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP; of a mixture of experts inside one of them.
    pub intermediate_size: usize,
    /// Rows of the embedding; ids are below it.
    pub vocab_size: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens that a sliding layer sees.
    pub sliding_window: Option<usize>,
    /// Whether positions see those behind them too: the model embeds texts, and generates none.
    pub bidirectional: bool,
    /// What the model is made of.
    pub(crate) made_of: Arc<Model<String>>,
    /// How its matrices are stored.
    pub(crate) storage: Storage,
    /// The GPU of CUDA, if our kernels run on such; an H100 until it has been seen.
    pub(crate) gpu: Option<Target>,
    /// The longest context of the pretraining, in tokens, where the configuration names one.
    pub max_position_embeddings: Option<usize>,
    /// The longest context, in tokens: that, or what YaRN or linear scaling of the rotary embedding
    /// makes of it, the original context times the factor.
    pub context: Option<usize>,
    /// Whether the embedding is the head.
    pub tied_head: bool,
    /// How most of the quantized weights are, such as `4-bit affine, group 64`; `None` if none is.
    pub quantization: Option<String>,
    /// Dtype of the activations and of the caches, as stored.
    pub dtype: Dtype,
    /// Weights, quantized or not; a tied head counts once.
    pub parameters: u64,
    /// Of those, what one token does not use: the experts that it has not got.
    pub idle_parameters: u64,
    /// Bytes of the tensors that are used.
    pub weight_bytes: u64,
    /// Of those, the elements of floats, which loading may cast, and their bytes as stored.
    pub(crate) floats: (u64, u64),
    /// Tensors of heads that draft tokens ahead (`mtp.`): they are left in the files.
    pub draft_tensors: usize,
    /// Files that hold those that are used.
    pub files: usize,
    /// Ids that end a generation, from `config.json` and `generation_config.json`.
    pub eos_token_ids: Vec<u32>,
    /// The id that begins a text.
    pub bos_token_id: Option<u32>,
    /// What `generation_config.json` advises.
    pub generation: GenerationDefaults,
    /// What the files say that could not be used and was left out, one line each.
    pub warnings: Vec<String>,
}

impl ModelInfo {
    /// Reads the configuration and the headers of the weights of `dir`, and checks all that can be
    /// checked without the weights' values.
    pub fn read(dir: &Path) -> Result<Self> {
        let config = Config::read(dir)?;
        let (checkpoint, manifest) = Checkpoint::open(dir, &config)?;
        Ok(Self::new(&config, &checkpoint, &manifest))
    }

    /// Bytes of the weights once they are loaded with all floats in `dtype`, or as stored.
    pub fn bytes_as(&self, dtype: Option<Dtype>) -> u64 {
        let (elements, bytes) = self.floats;
        match dtype {
            Some(dtype) => self.weight_bytes - bytes + elements * dtype.size() as u64,
            None => self.weight_bytes,
        }
    }

    pub(crate) fn new(config: &Config, checkpoint: &Checkpoint, manifest: &Manifest) -> Self {
        let model = &config.model;
        // Published layers are alike in these; of others the widest counts.
        let attentions = || model.attentions();
        let mlps = model.layers.iter().map(|layer| &layer.mlp.part);
        let windows = || model.states.iter().filter_map(arch::State::window);
        Self {
            model_type: config.model_type.clone(),
            family: config.family,
            layers: model.layers.len(),
            sliding_layers: windows().count(),
            hidden_size: model.hidden_size(),
            intermediate_size: mlps.map(Mlp::width).max().unwrap_or(0),
            vocab_size: model.vocab_size(),
            heads: attentions().map(|a| a.heads).max().unwrap_or(0),
            kv_heads: attentions().map(|a| a.kv_heads).max().unwrap_or(0),
            head_dim: attentions().map(|a| a.head_dim).max().unwrap_or(0),
            sliding_window: windows().max(),
            bidirectional: model.bidirectional,
            made_of: Arc::new(model.clone()),
            storage: Storage::of(manifest),
            gpu: Some(plan::TARGET),
            max_position_embeddings: config.max_position_embeddings,
            context: config.context,
            tied_head: manifest.places.head.is_none(),
            quantization: manifest.scheme().map(|scheme| {
                format!(
                    "{}-bit {}, group {}",
                    scheme.bits, scheme.mode, scheme.group_size
                )
            }),
            dtype: manifest.dtype,
            parameters: manifest.parameters,
            idle_parameters: model.idle_parameters(),
            weight_bytes: manifest.bytes,
            floats: manifest.floats,
            draft_tensors: checkpoint.below("mtp").count(),
            files: checkpoint.file_count(),
            eos_token_ids: config.eos_token_ids.clone(),
            bos_token_id: config.bos_token_id,
            generation: config.generation.clone(),
            warnings: config.warnings.clone(),
        }
    }

    /// Bytes that one token takes in the caches, as long as no sliding window is full.
    pub fn cache_bytes_per_token(&self) -> u64 {
        self.cache_bytes(1) - self.cache_bytes(0)
    }

    /// Bytes that `tokens` tokens take in the caches.
    pub fn cache_bytes(&self, tokens: u64) -> u64 {
        self.made_of.cache_bytes(tokens, self.dtype.size() as u64)
    }

    /// What runs the model on a device of this kind. Of a model that is not loaded a GPU is taken for an H100.
    pub fn plan(&self, device: DeviceKind) -> Vec<Step> {
        plan::steps(&self.made_of, &self.storage, self.dtype, device, self.gpu)
    }
}
