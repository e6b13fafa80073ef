//! A stage of the caller's own.

use std::fmt;
use std::sync::Arc;

use crate::BoxError;

type Process = dyn Fn(&[u32], &mut [f32]) -> Result<(), BoxError> + Send + Sync;

/// Changes the logits before each token is drawn; clones share it.
///
/// It is given the tokens so far, the prompt's before the answer's, and the logits `[vocabulary]` of the next one,
/// float32, to write to: negative infinity leaves a token out. It runs on the engine's side, between two steps, so
/// whatever it takes all answers that are under way wait for. Its error ends this request and no other, and so does
/// its panic. One that remembers something between two calls, and is given to several requests, is called by each of
/// them.
///
/// ```
/// use ml_backend::{LogitsProcessor, Options};
/// // No token twice in a row.
/// let no_echo = LogitsProcessor::new(|ids, logits| {
///     if let Some(last) = ids.last() {
///         logits[*last as usize] = f32::NEG_INFINITY;
///     }
///     Ok(())
/// });
/// let options = Options::new().logits_processor(no_echo);
/// ```
#[derive(Clone)]
pub struct LogitsProcessor(Arc<Process>);

impl LogitsProcessor {
    /// Of a closure over the tokens so far and the logits of the next one.
    pub fn new(
        process: impl Fn(&[u32], &mut [f32]) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(process))
    }

    pub(crate) fn run(&self, ids: &[u32], logits: &mut [f32]) -> Result<(), BoxError> {
        (self.0)(ids, logits)
    }
}

impl fmt::Debug for LogitsProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogitsProcessor")
    }
}
