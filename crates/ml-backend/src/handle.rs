//! [`MlxBackend`]: the handle that a program holds.

use std::sync::Arc;
use std::sync::mpsc::channel;

use models::tokenizer::Tokenizer;

use crate::backend::{Backend, OnPiece, StreamingBackend};
use crate::budget::Budget;
use crate::chat::{ChatError, ChatFormat, Message, Syntax};
use crate::engine::{Engine, Job, ReadJob};
use crate::language_model::Reading;
use crate::loaded::{Loaded, LoadedModel};
use crate::request::Request;
use crate::stream::GenerationStream;
use crate::structure::{Before, Bound, Form};
use crate::vocabulary::{keeping, vocabulary};
use crate::{CancelToken, Error, Generation, Options, Result, Structure};

/// What ends the reasoning of most models that can be told to reason.
const END_OF_REASONING: &str = "</think>";

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

/// What is known of the answer to a chat.
pub(crate) struct ChatPrompt {
    /// As the chat format writes it.
    pub(crate) text: String,
    /// How the model writes calls and thoughts.
    pub(crate) syntax: Syntax,
    /// Whether the prompt ends inside of a thought.
    pub(crate) opened: bool,
    /// Whether the text has the special tokens that these are marked by.
    pub(crate) markers: bool,
}

/// What an answer continues.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// Tokens of the caller's.
    Ids,
    /// A text.
    Text(&'a str),
    /// A chat.
    Chat(&'a ChatPrompt),
}

impl<'a> Origin<'a> {
    /// Its text, where it has one.
    fn prompt(self) -> Option<&'a str> {
        match self {
            Self::Ids => None,
            Self::Text(text) => Some(text),
            Self::Chat(chat) => Some(&chat.text),
        }
    }
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

    /// Requests that wait to be taken up, answers and calls for texts: at most as many as
    /// [`queue`](crate::MlxBackendBuilder::queue) lets wait.
    pub fn waiting(&self) -> usize {
        self.engine.waiting()
    }

    /// Lets go of the model without waiting for it: what is under way ends, and then, once other clones and streams
    /// have gone too, the model is freed on its own thread. Dropping the last clone waits for that, unless one of
    /// them was closed.
    pub fn close(self) {
        self.engine.close();
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
        self.check_generates()?;
        self.check_length(prompt)?;
        let request = Request::new(self.encode(prompt)?, options, &self.loaded.limits)?;
        self.start(request, options, Origin::Text(prompt), n)
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
        let (request, chat) = self.chat_request(messages, options)?;
        self.start(request, options, Origin::Chat(&chat), n)
    }

    /// What is asked of the engine for a chat, and what is known of its answer.
    pub(crate) fn chat_request(
        &self,
        messages: &[Message],
        options: &Options,
    ) -> Result<(Request, ChatPrompt)> {
        self.check_generates()?;
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
        let template = tokenizer.chat_template().map_err(ChatError::from)?;
        let template = template.map(|template| template.source.as_str());
        let syntax = Syntax::of(template, &self.loaded.info.model.model_type);
        let chat = ChatPrompt {
            opened: syntax.opened_by(&prompt),
            text: prompt,
            syntax,
            markers: false,
        };
        Ok((request, chat))
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
        self.start(request, options, Origin::Ids, n)
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
        self.check_generates()?;
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

    /// What the engine reads of each text, in their order.
    pub(crate) fn read(
        &self,
        texts: Vec<Vec<u32>>,
        want: Reading,
        cancel: &CancelToken,
    ) -> Result<Vec<Vec<f32>>> {
        for ids in &texts {
            self.loaded.limits.check_ids(ids)?;
            self.loaded.limits.check_context(ids.len())?;
        }
        let place = Some(self.engine.place()?);
        let (reply, answer) = channel();
        self.engine.submit(Job::Read(ReadJob {
            texts,
            want,
            cancel: cancel.clone(),
            place,
            reply,
        }))?;
        answer.recv().unwrap_or(Err(Error::EngineEnded))
    }

    /// Refuses a model that only embeds.
    pub(crate) fn check_generates(&self) -> Result<()> {
        match self.loaded.info.model.bidirectional {
            true => Err(Error::Embedding {
                path: self.loaded.info.dir.clone(),
                problem: "its tokens see those behind them (use_bidirectional_attention), so it embeds texts and \
                          writes none; use embed, or ml embed"
                    .to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// Has the engine generate `n` answers.
    pub(crate) fn start(
        &self,
        mut request: Request,
        options: &Options,
        origin: Origin<'_>,
        n: usize,
    ) -> Result<Vec<GenerationStream>> {
        if n == 0 {
            return Err(Error::InvalidOption {
                name: "n",
                value: n.to_string(),
                expected: "1 or more",
            });
        }
        self.check_generates()?;
        let tokenizer = self.loaded.tokenizer.as_ref();
        request.sampling.look_up(options, tokenizer)?;
        let chat = match origin {
            Origin::Chat(chat) => Some(chat),
            Origin::Ids | Origin::Text(_) => None,
        };
        if let Some(structure) = &options.structure
            && (chat.is_none() || options.form_without_call().is_none())
        {
            let bound = self.bind(structure, options, origin.prompt())?;
            request.sampling.constraint = Some(Arc::new(bound));
        }
        if let Some(chat) = chat {
            self.hold_to_calls(&mut request, options, chat)?;
        }
        if let (Some(tokens), Some(chat), Some(tokenizer)) =
            (options.reasoning_budget, chat, tokenizer)
        {
            // Around any other, which sees the marker that it draws.
            let then = request.sampling.constraint.take();
            let thought = (chat.syntax, chat.opened);
            let calls = options.forced_tools().is_some();
            request.sampling.constraint = Budget::around(tokens, thought, calls, tokenizer, then)?;
        }
        let vocabulary = tokenizer.map(|tokenizer| match chat {
            Some(chat) if chat.markers => keeping(tokenizer, chat.syntax.special_tokens(tokenizer)),
            _ => vocabulary(tokenizer),
        });
        request.has_copies = n > 1;
        let requests = (0..n as u64).map(|i| {
            let mut request = request.clone();
            request.sampling.seed = request.sampling.seed.wrapping_add(i);
            request
        });
        let (vocabulary, cancel) = (vocabulary.as_ref(), &options.cancel);
        GenerationStream::start(&self.engine, requests, vocabulary, cancel)
    }

    /// Holds a request to a form, from where its answer begins.
    fn bind(
        &self,
        structure: &Structure,
        options: &Options,
        prompt: Option<&str>,
    ) -> Result<Bound> {
        let tokenizer = self.tokenizer()?;
        let mut after = options.structure_after.clone();
        if after.is_none() && options.enable_thinking == Some(true) {
            let known = tokenizer.token_id(END_OF_REASONING);
            after = known.map(|_| END_OF_REASONING.to_owned());
        }
        let is_over =
            |marker: &String| prompt.is_some_and(|text| text.trim_end().ends_with(marker));
        let after = after.filter(|marker| !is_over(marker));
        let before = after.map_or(Before::Nothing, Before::Text);
        self.bind_form(&structure.clone().into(), before, tokenizer)
    }

    pub(crate) fn bind_form(
        &self,
        form: &Form,
        before: Before,
        tokenizer: &Tokenizer,
    ) -> Result<Bound> {
        let rows = self.loaded.limits.vocab_size;
        let ends = self.ends(tokenizer);
        self.loaded
            .structures
            .bind(form, before, tokenizer, rows, &ends)
    }

    /// The ids that end an answer.
    pub(crate) fn ends(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut ends = self.loaded.limits.eos.clone();
        // A model without a chat format has no turns.
        let format = self.chat_format().ok();
        let end_of_turn = format.and_then(ChatFormat::end_of_turn);
        ends.extend(end_of_turn.and_then(|token| tokenizer.token_id(token)));
        ends
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

    pub(crate) fn chat_format(&self) -> Result<&ChatFormat> {
        if let Some(format) = self.loaded.format.get() {
            return Ok(format);
        }
        let model_type = &self.loaded.info.model.model_type;
        let format = ChatFormat::for_model(model_type, self.tokenizer()?)?;
        Ok(self.loaded.format.get_or_init(|| format))
    }
}

/// Of one request.
pub(crate) fn only(mut streams: Vec<GenerationStream>) -> Result<GenerationStream> {
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
