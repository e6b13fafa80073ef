//! [`MlxBackend`]: the handle that a program holds.

use std::sync::Arc;
use std::sync::mpsc::channel;

use models::tokenizer::Tokenizer;

use crate::backend::{Backend, OnPiece, StreamingBackend};
use crate::chat::{ChatFormat, Message};
use crate::engine::{Engine, Job};
use crate::language_model::Reading;
use crate::loaded::{Loaded, LoadedModel};
use crate::request::Request;
use crate::stream::GenerationStream;
use crate::vocabulary::vocabulary;
use crate::{Error, Generation, Options, Result};

/// A loaded model.
///
/// It may be used from any thread, and clones share the model. Requests are taken up in the order in which
/// they came, several at a time ([`at_once`](crate::MlxBackendBuilder::at_once)): those decode together, and
/// what one gives does not depend on the others. The last clone to go frees the model.
#[derive(Clone)]
pub struct MlxBackend {
    pub(crate) loaded: Arc<Loaded>,
    engine: Arc<Engine>,
}

impl MlxBackend {
    pub(crate) fn new(engine: Engine, loaded: Loaded) -> Self {
        Self {
            loaded: Arc::new(loaded),
            engine: Arc::new(engine),
        }
    }

    /// What was loaded: layers, bytes, device, limits.
    pub fn info(&self) -> &LoadedModel {
        &self.loaded.info
    }

    /// Whether the directory has a tokenizer. Without one only the functions that take and give
    /// token ids work.
    pub fn has_tokenizer(&self) -> bool {
        self.loaded.tokenizer.is_some()
    }

    /// The token ids of a prompt, with what the tokenizer puts before a text (such as `<bos>`).
    pub fn encode(&self, prompt: &str) -> Result<Vec<u32>> {
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        Ok(self.tokenizer()?.encode(prompt, true)?)
    }

    /// The text of token ids, special tokens left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(self.tokenizer()?.decode(ids, true)?)
    }

    /// The prompt that [`chat`](Backend::chat) makes of `messages`.
    pub fn render_chat(&self, messages: &[Message], options: &Options) -> Result<String> {
        options.check()?;
        let variables = options.variables();
        Ok(self.chat_format()?.render(messages, true, &variables)?)
    }

    /// [`generate`](Backend::generate) as an iterator.
    pub fn stream(&self, prompt: &str, options: &Options) -> Result<GenerationStream> {
        only(self.stream_n(prompt, options, 1)?)
    }

    /// Several continuations of one prompt; see [`stream_ids_n`](Self::stream_ids_n).
    pub fn stream_n(
        &self,
        prompt: &str,
        options: &Options,
        n: usize,
    ) -> Result<Vec<GenerationStream>> {
        self.check_length(prompt)?;
        self.stream_ids_n(&self.encode(prompt)?, options, n)
    }

    /// [`chat`](Backend::chat) as an iterator.
    pub fn stream_chat(&self, messages: &[Message], options: &Options) -> Result<GenerationStream> {
        only(self.stream_chat_n(messages, options, 1)?)
    }

    /// Several answers to one chat; see [`stream_ids_n`](Self::stream_ids_n).
    pub fn stream_chat_n(
        &self,
        messages: &[Message],
        options: &Options,
        n: usize,
    ) -> Result<Vec<GenerationStream>> {
        let prompt = self.render_chat(messages, options)?;
        self.check_length(&prompt)?;
        let (tokenizer, format) = (self.tokenizer()?, self.chat_format()?);
        let ids = tokenizer.encode(&prompt, format.encode_with_special_tokens())?;
        let mut request = Request::new(ids, options, &self.loaded.limits)?;
        let end_of_turn = format
            .end_of_turn()
            .and_then(|token| tokenizer.token_id(token));
        if !options.ignore_eos {
            request.eos.extend(end_of_turn);
        }
        self.start(request, options, n)
    }

    /// Continues token ids, as an iterator. Needs no tokenizer: without one, the pieces have ids
    /// and no text.
    pub fn stream_ids(&self, ids: &[u32], options: &Options) -> Result<GenerationStream> {
        only(self.stream_ids_n(ids, options, 1)?)
    }

    /// `n` continuations of token ids, each of them a stream of its own: the first with the seed of `options`, the
    /// next with the one after it, and each what it is alone with that seed. Where caches are in pages, on a processor,
    /// and there is a place for them beside each other ([`at_once`](crate::MlxBackendBuilder::at_once)), the prompt is
    /// read once and its pages are shared. Whoever reads the streams one after the other loses nothing by it.
    ///
    /// # Errors
    /// As [`stream_ids`](Self::stream_ids), and when `n` is 0.
    pub fn stream_ids_n(
        &self,
        ids: &[u32],
        options: &Options,
        n: usize,
    ) -> Result<Vec<GenerationStream>> {
        if !options.stop.is_empty() {
            self.tokenizer()?;
        }
        let request = Request::new(ids.to_vec(), options, &self.loaded.limits)?;
        self.start(request, options, n)
    }

    /// Continues token ids. Needs no tokenizer: without one, the result has ids and no text.
    pub fn generate_ids(&self, ids: &[u32], options: &Options) -> Result<Generation> {
        self.stream_ids(ids, options)?.wait()
    }

    /// The logits of every position of `ids`, float32 `[ids.len(), vocabulary]`, row by row. The
    /// vocabulary's size is [`info`](Self::info)`().model.vocab_size`. They are what the model gives, also
    /// where that is not a number.
    ///
    /// # Errors
    /// More tokens than the model's context holds, and more logits than there is memory for.
    pub fn logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        self.loaded.limits.check_ids(ids)?;
        self.loaded
            .limits
            .check_logits(ids.len(), models::available_memory())?;
        let (reply, answer) = channel();
        self.engine.submit(Job::Logits {
            ids: ids.to_vec(),
            reply,
        })?;
        answer.recv().unwrap_or(Err(Error::EngineEnded))
    }

    /// What the engine reads of a text, as soon as those before it are done.
    pub(crate) fn read(&self, ids: Vec<u32>, want: Reading) -> Result<Vec<f32>> {
        self.loaded.limits.check_ids(&ids)?;
        self.loaded.limits.check_context(ids.len())?;
        let (reply, answer) = channel();
        self.engine.submit(Job::Read { ids, want, reply })?;
        answer.recv().unwrap_or(Err(Error::EngineEnded))
    }

    fn start(
        &self,
        mut request: Request,
        options: &Options,
        n: usize,
    ) -> Result<Vec<GenerationStream>> {
        if n == 0 {
            return Err(Error::InvalidOption {
                name: "n",
                value: n.to_string(),
                expected: "1 or more",
            });
        }
        let tokenizer = self.loaded.tokenizer.as_ref();
        request.sampling.look_up(options, tokenizer)?;
        let vocabulary = self.loaded.tokenizer.as_ref().map(vocabulary);
        request.has_copies = n > 1;
        let requests = (0..n as u64).map(|i| {
            let mut request = request.clone();
            request.sampling.seed = request.sampling.seed.wrapping_add(i);
            request
        });
        let (requests, cancel) = (requests.collect(), &options.cancel);
        GenerationStream::start(&self.engine, requests, vocabulary.as_ref(), cancel)
    }

    /// Refuses a text that cannot fit the context before it is made into tokens, which takes many times
    /// its memory. A text that could fit is left to the count of its tokens.
    pub(crate) fn check_length(&self, text: &str) -> Result<()> {
        let Some(context) = self.loaded.limits.context else {
            return Ok(());
        };
        // No token is of less than a byte.
        if text.len() < context {
            return Ok(());
        }
        let longest = self.tokenizer()?.longest_token();
        self.loaded.limits.check_bytes(text.len(), longest)
    }

    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer> {
        let missing = || Error::NoTokenizer {
            dir: self.loaded.info.dir.clone(),
        };
        self.loaded.tokenizer.as_ref().ok_or_else(missing)
    }

    fn chat_format(&self) -> Result<&ChatFormat> {
        if let Some(format) = self.loaded.format.get() {
            return Ok(format);
        }
        let model_type = &self.loaded.info.model.model_type;
        let format = ChatFormat::for_model(model_type, self.tokenizer()?)?;
        Ok(self.loaded.format.get_or_init(|| format))
    }
}

/// Of one request.
fn only(mut streams: Vec<GenerationStream>) -> Result<GenerationStream> {
    streams.pop().ok_or(Error::EngineEnded)
}

impl Backend for MlxBackend {
    fn name(&self) -> &str {
        "mlx"
    }

    /// Whether the engine thread runs.
    fn available(&self) -> bool {
        self.engine.is_alive()
    }

    fn generate(&self, prompt: &str, options: &Options) -> Result<Generation> {
        self.stream(prompt, options)?.wait()
    }

    fn chat(&self, messages: &[Message], options: &Options) -> Result<Generation> {
        self.stream_chat(messages, options)?.wait()
    }
}

impl StreamingBackend for MlxBackend {
    fn generate_stream(
        &self,
        prompt: &str,
        options: &Options,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Generation> {
        self.stream(prompt, options)?
            .for_each_piece(|piece| on_piece(&piece.text))
    }

    fn chat_stream(
        &self,
        messages: &[Message],
        options: &Options,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Generation> {
        self.stream_chat(messages, options)?
            .for_each_piece(|piece| on_piece(&piece.text))
    }
}
