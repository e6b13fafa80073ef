//! Answers in their parts: text, reasoning, and calls of tools.
//!
//! What [`chat`](crate::Backend::chat) gives is the text as the model wrote it. Here the same goes through a parser
//! that the chat template chose, so that a program need not know how a model writes calls. Special tokens that the
//! syntax is made of are seen by the parser; all others are left out of the text, as everywhere.

use std::hash::{BuildHasher, RandomState};

use serde::Serialize;

use crate::chat::{AnswerEvent, AnswerParser, Message, ToolCall};
use crate::handle::{MlxBackend, Origin};
use crate::metrics::{FinishReason, Generation, Metrics, Piece};
use crate::stream::GenerationStream;
use crate::{Error, Options, Result, TokenLogprobs};

/// An answer of a model.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Answer {
    /// What is said to the user, without calls and reasoning. What began as a call and is none is part of it.
    pub text: String,
    /// What the model thought before; `None` where it did not.
    pub reasoning: Option<String>,
    /// The tools that the model calls, in its order, each with an id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// All tokens, without the end-of-sequence token that ended it.
    pub token_ids: Vec<u32>,
    /// How probable each of these was, where [`Options::logprobs`] asks for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprobs>,
    /// How probable the tokens of the prompt were, from the second on, where [`Options::prompt_logprobs`] asks for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompt_logprobs: Vec<TokenLogprobs>,
    /// Why there is no more: [`FinishReason::ToolCalls`] where it would be `Stop` and there are calls.
    pub finish_reason: FinishReason,
    /// Counts, times and memory.
    pub metrics: Metrics,
}

impl Answer {
    /// The turn of the conversation that it is.
    #[must_use]
    pub fn to_message(&self) -> Message {
        let mut message = Message::assistant(&self.text);
        message.reasoning.clone_from(&self.reasoning);
        message.tool_calls.clone_from(&self.tool_calls);
        message
    }

    fn ended(&mut self, generation: &Generation) {
        self.token_ids.clone_from(&generation.token_ids);
        self.logprobs.clone_from(&generation.logprobs);
        self.prompt_logprobs.clone_from(&generation.prompt_logprobs);
        self.metrics = generation.metrics.clone();
        self.finish_reason = match generation.finish_reason {
            FinishReason::Stop if !self.tool_calls.is_empty() => FinishReason::ToolCalls,
            reason => reason,
        };
    }
}

/// What a step of a stream brought.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AnswerPiece {
    /// What is known now. May be empty, while a marker is on its way.
    pub events: Vec<AnswerEvent>,
    /// The text as the model wrote it, markers included, and its tokens; empty in the last piece, which has what was
    /// kept back.
    pub raw: Piece,
}

/// An iterator over the parts of one answer. Dropping it cancels the generation.
///
/// It ends after the last part, or after an error. [`answer`](Self::answer) has at any time all of what it gave.
pub struct AnswerStream {
    stream: GenerationStream,
    parser: AnswerParser,
    answer: Answer,
    /// The call that is under way.
    call: Option<(ToolCall, String)>,
    /// What comes after the last events.
    error: Option<Error>,
    ended: bool,
}

impl AnswerStream {
    fn new(stream: GenerationStream, parser: AnswerParser) -> Self {
        Self {
            stream,
            parser,
            answer: Answer {
                text: String::new(),
                reasoning: None,
                tool_calls: Vec::new(),
                token_ids: Vec::new(),
                logprobs: Vec::new(),
                prompt_logprobs: Vec::new(),
                finish_reason: FinishReason::Cancelled,
                metrics: Metrics::default(),
            },
            call: None,
            error: None,
            ended: false,
        }
    }

    /// Tokens of the prompt.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.stream.prompt_tokens()
    }

    /// What was given so far. Once the stream ended, with the figures and the reason, also after an error that has a
    /// part of a generation ([`Error::partial`]).
    #[must_use]
    pub fn answer(&self) -> &Answer {
        &self.answer
    }

    /// Waits for the end.
    fn wait(mut self) -> Result<Answer> {
        for piece in &mut self {
            piece?;
        }
        Ok(self.answer)
    }

    /// The last events, and what is known of the whole.
    fn end(&mut self, outcome: Result<()>) -> Vec<AnswerEvent> {
        self.ended = true;
        let events = self.parser.finish();
        self.take(&events);
        let whole = match &outcome {
            Ok(()) => self.stream.generation(),
            Err(error) => error.partial(),
        };
        if let Some(generation) = whole {
            self.answer.ended(generation);
        }
        self.error = outcome.err();
        events
    }

    fn take(&mut self, events: &[AnswerEvent]) {
        for event in events {
            match event {
                AnswerEvent::Text(text) => self.answer.text.push_str(text),
                AnswerEvent::Reasoning(text) => {
                    let reasoning = self.answer.reasoning.get_or_insert_default();
                    reasoning.push_str(text);
                }
                AnswerEvent::ToolCallStart { id, name, .. } => {
                    let call = ToolCall::new(name, serde_json::Value::Null).id(id);
                    self.call = Some((call, String::new()));
                }
                AnswerEvent::ToolCallArguments { json, .. } => {
                    if let Some((_, arguments)) = &mut self.call {
                        arguments.push_str(json);
                    }
                }
                AnswerEvent::ToolCallEnd { .. } => {
                    if let Some((mut call, arguments)) = self.call.take() {
                        // The parser has read it, so it is an object.
                        call.arguments =
                            serde_json::from_str(&arguments).unwrap_or(arguments.into());
                        self.answer.tool_calls.push(call);
                    }
                }
                AnswerEvent::ToolCallUndone { text, .. } => {
                    self.call = None;
                    self.answer.text.push_str(text);
                }
            }
        }
    }
}

impl Iterator for AnswerStream {
    type Item = Result<AnswerPiece>;

    fn next(&mut self) -> Option<Result<AnswerPiece>> {
        if self.ended {
            return self.error.take().map(Err);
        }
        let events = match self.stream.next() {
            Some(Ok(raw)) => {
                let events = self.parser.push(&raw.text);
                self.take(&events);
                return Some(Ok(AnswerPiece { events, raw }));
            }
            Some(Err(error)) => self.end(Err(error)),
            None => self.end(Ok(())),
        };
        if events.is_empty() {
            return self.error.take().map(Err);
        }
        let raw = Piece::default();
        Some(Ok(AnswerPiece { events, raw }))
    }
}

impl MlxBackend {
    /// Answers the last of `messages`, in parts: text, reasoning, and calls of [`Options::tools`].
    ///
    /// # Errors
    /// As [`chat`](crate::Backend::chat); what there was by then is the model's own text.
    pub fn respond(&self, messages: &[Message], options: &Options) -> Result<Answer> {
        self.stream_answer(messages, options)?.wait()
    }

    /// [`respond`](Self::respond) as an iterator.
    ///
    /// # Errors
    /// As [`stream_chat`](Self::stream_chat).
    pub fn stream_answer(&self, messages: &[Message], options: &Options) -> Result<AnswerStream> {
        let mut streams = self.stream_answer_n(messages, options, 1)?;
        streams.pop().ok_or(Error::EngineEnded)
    }

    /// Several answers to one conversation; see [`stream_ids_n`](Self::stream_ids_n).
    ///
    /// # Errors
    /// As [`stream_answer`](Self::stream_answer), and when `n` is 0.
    pub fn stream_answer_n(
        &self,
        messages: &[Message],
        options: &Options,
        n: usize,
    ) -> Result<Vec<AnswerStream>> {
        let (mut request, mut chat) = self.chat_request(messages, options)?;
        let tokenizer = self.tokenizer()?;
        let tools = options.tools_to_call();
        if !options.ignore_eos && !tools.is_empty() {
            let ends = chat.syntax.ends().iter();
            request
                .eos
                .extend(ends.filter_map(|token| tokenizer.token_id(token)));
        }
        chat.markers = true;
        let streams = self.start(request, options, Origin::Chat(&chat), n)?;
        let answer = |stream: GenerationStream| {
            // Ids of calls are each answer's own.
            let seed = RandomState::new().hash_one(stream.prompt_tokens());
            let parser = AnswerParser::new(chat.syntax, &tools, chat.opened, seed);
            AnswerStream::new(stream, parser)
        };
        Ok(streams.into_iter().map(answer).collect())
    }
}
