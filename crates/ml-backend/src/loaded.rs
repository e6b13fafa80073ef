//! What was loaded.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use models::tokenizer::Tokenizer;

use crate::chat::ChatFormat;
use crate::embedding::Recipe;
use crate::request::ModelLimits;
use crate::structure::Structures;
use crate::{DeviceInfo, MemoryLimits, ModelInfo};

/// What was loaded, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedModel {
    /// The directory.
    pub dir: PathBuf,
    /// The model: layers, bytes, quantization, context. Its `dtype` is the one in use.
    pub model: ModelInfo,
    /// Bytes of the weights as they are held, which on a CPU can be fewer than `model.weight_bytes`:
    /// bfloat16 matrices are held in 12 bits an element there, without loss.
    pub held_bytes: u64,
    /// What it runs on.
    pub device: DeviceInfo,
    /// The memory limits as they were set, none above what the device has.
    pub limits: MemoryLimits,
    /// How long loading took.
    pub load_time: Duration,
}

/// What every thread may know of the model.
pub(crate) struct Loaded {
    pub(crate) info: LoadedModel,
    pub(crate) limits: ModelLimits,
    pub(crate) tokenizer: Option<Tokenizer>,
    /// Made at the first chat: who only continues texts needs no template that works.
    pub(crate) format: OnceLock<ChatFormat>,
    /// Made at the first embedding: who generates needs no files for it.
    pub(crate) recipe: OnceLock<Recipe>,
    /// Of answers that have a form.
    pub(crate) structures: Structures,
}
