//! What `generation_config.json` advises for sampling.

use super::fields::Fields;
use crate::Result;

/// The checkpoint's own advice; each is `None` where the file says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationDefaults {
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Only the most probable `top_k` tokens are drawn from.
    pub top_k: Option<usize>,
    /// Only the most probable tokens that together reach this probability are drawn from.
    pub top_p: Option<f64>,
}

impl GenerationDefaults {
    pub(super) fn read(f: &Fields<'_>) -> Result<Self> {
        Ok(Self {
            temperature: f.number("temperature")?,
            top_k: f.count("top_k")?,
            top_p: f.number("top_p")?,
        })
    }
}
