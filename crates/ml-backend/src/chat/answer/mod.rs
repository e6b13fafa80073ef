//! What an answer holds beside its text: thoughts, and calls of tools, found while it comes.
//!
//! A model writes all three into one text, each family with markers of its own. [`AnswerParser`] takes the text in
//! pieces of any size and gives [`AnswerEvent`]s. It goes through it a character at a time, so what it gives does not
//! depend on the pieces. Nothing is lost: a call that turns out to be none, or that the answer ends in, is given back
//! as the text that it was.
//!
//! - `syntax` chooses by the template; `reader` is what a syntax is, and `tags`, `xml`, `gemma`, `python`, `llama` and
//!   `mistral` are one each; `harmony` has the whole answer in its form;
//! - `json`, `loose`, `call_object` and `call_list` are what they read;
//! - `forced` writes grammars of the same syntaxes, for answers that have to be calls;
//! - `tools` knows the types of parameters; `out` collects.

mod call_list;
mod call_object;
pub(crate) mod forced;
mod gemma;
mod harmony;
mod json;
mod llama;
mod loose;
mod mistral;
mod out;
mod python;
mod reader;
mod syntax;
mod tags;
mod tools;
mod xml;

use gemma::{FUNCTION_GEMMA, GEMMA4, Gemma};
use harmony::Harmony;
use llama::Llama;
use mistral::Mistral;
use out::Out;
use python::{Around, Python};
use reader::{Reader, Taken, overlap};
pub use syntax::{CallSyntax, ReasoningSyntax, Syntax};
use tags::Tags;
use tools::Tools;
use xml::Xml;

/// What a part of an answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerEvent {
    /// More of the text.
    Text(String),
    /// More of what the model thinks before it answers.
    Reasoning(String),
    /// The model calls a tool.
    ToolCallStart {
        /// Which of the answer's calls, from 0.
        index: usize,
        /// What its result refers to: the model's own, or nine letters and digits.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the JSON object of its arguments, in the order in which the model wrote them.
    ToolCallArguments {
        /// Which call.
        index: usize,
        /// A part of the JSON.
        json: String,
    },
    /// The call is whole.
    ToolCallEnd {
        /// Which call.
        index: usize,
    },
    /// What was begun as a call is none, or the answer ended in it: text after all.
    ToolCallUndone {
        /// Which call.
        index: usize,
        /// All that the model wrote of it, markers included.
        text: String,
    },
}

/// Finds thoughts and calls in an answer that comes in pieces.
#[derive(Debug)]
pub struct AnswerParser {
    mode: Mode,
    out: Out,
}

#[derive(Debug)]
enum Mode {
    /// Nothing is looked for.
    Plain,
    Marked(Box<Marked>),
    Harmony(Harmony),
}

/// Text with markers in it.
#[derive(Debug)]
struct Marked {
    syntax: Syntax,
    at: At,
    /// The end of what came, as far as it may be a marker.
    held: String,
}

#[derive(Debug)]
enum At {
    Text,
    Reasoning(ReasoningSyntax),
    Call(Box<dyn Reader>),
}

impl AnswerParser {
    /// A parser at the start of an answer.
    ///
    /// `tools` are those of the request, as chat APIs write them; without any, calls are text. `in_reasoning` says
    /// that the prompt ends inside of a thought. Ids of calls are made of `seed`.
    #[must_use]
    pub fn new(syntax: Syntax, tools: &[serde_json::Value], in_reasoning: bool, seed: u64) -> Self {
        let calls = syntax.calls.filter(|_| !tools.is_empty());
        let syntax = Syntax { calls, ..syntax };
        let mode = match (syntax.calls, syntax.reasoning) {
            (None, None) => Mode::Plain,
            (_, Some(ReasoningSyntax::Harmony)) | (Some(CallSyntax::Harmony), _) => {
                Mode::Harmony(Harmony::new(calls.is_some()))
            }
            (_, reasoning) => Mode::Marked(Box::new(Marked {
                syntax,
                at: match reasoning.filter(|_| in_reasoning) {
                    Some(reasoning) => At::Reasoning(reasoning),
                    None => At::Text,
                },
                held: String::new(),
            })),
        };
        let mut out = Out::new(Tools::new(tools), seed);
        if in_reasoning {
            out.thought();
        }
        Self { mode, out }
    }

    /// Whether what comes next is reasoning, as far as can be told.
    pub(crate) fn in_reasoning(&self) -> bool {
        match &self.mode {
            Mode::Plain => false,
            Mode::Marked(marked) => matches!(marked.at, At::Reasoning(_)),
            Mode::Harmony(harmony) => harmony.in_reasoning(),
        }
    }

    /// Takes a piece of the answer. Says what is certain now; neighbours of one kind are one event.
    pub fn push(&mut self, piece: &str) -> Vec<AnswerEvent> {
        match &mut self.mode {
            Mode::Plain if piece.is_empty() => {}
            Mode::Plain => return vec![AnswerEvent::Text(piece.to_owned())],
            Mode::Marked(marked) => piece.chars().for_each(|c| marked.step(c, &mut self.out)),
            Mode::Harmony(harmony) => piece.chars().for_each(|c| harmony.step(c, &mut self.out)),
        }
        self.out.take()
    }

    /// Says what was kept back, when no more comes.
    pub fn finish(&mut self) -> Vec<AnswerEvent> {
        match &mut self.mode {
            Mode::Plain => {}
            Mode::Marked(marked) => marked.finish(&mut self.out),
            Mode::Harmony(harmony) => harmony.finish(&mut self.out),
        }
        self.out.finish();
        self.out.take()
    }
}

/// What a marker opens.
#[derive(Clone, Copy)]
enum Opens {
    Thought(ReasoningSyntax),
    Tags,
    Xml,
    XmlFunction,
    Gemma(gemma::Words),
    Python(Around),
    LlamaTag,
    LlamaObject,
    Mistral,
}

impl Opens {
    fn reader(self, out: &mut Out) -> Option<Box<dyn Reader>> {
        Some(match self {
            Self::Thought(_) => return None,
            Self::Tags => Box::new(Tags::new()),
            Self::Xml => Box::new(Xml::new()),
            Self::XmlFunction => Box::new(Xml::function()),
            Self::Gemma(words) => Box::new(Gemma::new(words)),
            Self::Python(around) => Box::new(Python::new(around)),
            Self::LlamaTag => Box::new(Llama::tag()),
            Self::LlamaObject => Box::new(Llama::object(out)),
            Self::Mistral => Box::new(Mistral::new()),
        })
    }
}

/// A marker, what it opens, and whether it does so at the beginning of an answer only.
type Opener = (&'static str, Opens, bool);

impl Marked {
    fn openers(&self) -> impl Iterator<Item = Opener> + use<> {
        let thought = self.syntax.reasoning;
        let thought = thought.map(|it| (it.open(), Opens::Thought(it), !it.anywhere()));
        let calls: &[Opener] = match self.syntax.calls {
            Some(CallSyntax::Tags) => &[(tags::OPEN, Opens::Tags, false)],
            Some(CallSyntax::Xml) => &[
                (tags::OPEN, Opens::Xml, false),
                (xml::FUNCTION, Opens::XmlFunction, false),
            ],
            Some(CallSyntax::Gemma4) => &[(GEMMA4.open, Opens::Gemma(GEMMA4), false)],
            Some(CallSyntax::FunctionGemma) => {
                &[(FUNCTION_GEMMA.open, Opens::Gemma(FUNCTION_GEMMA), false)]
            }
            Some(CallSyntax::Python) => &[
                (python::LIST, Opens::Python(Around::List), true),
                (python::FENCE, Opens::Python(Around::Fence), false),
                (python::TAG, Opens::Python(Around::Tag), false),
            ],
            Some(CallSyntax::Llama) => &[
                (llama::TAG, Opens::LlamaTag, false),
                (llama::OBJECT, Opens::LlamaObject, true),
            ],
            Some(CallSyntax::Mistral) => &[(mistral::OPEN, Opens::Mistral, false)],
            Some(CallSyntax::Harmony) | None => &[],
        };
        thought.into_iter().chain(calls.iter().copied())
    }

    fn step(&mut self, c: char, out: &mut Out) {
        match &mut self.at {
            At::Text => self.in_text(c, out),
            At::Reasoning(reasoning) => {
                let close = reasoning.close();
                self.held.push(c);
                if self.held.ends_with(close) {
                    self.held.truncate(self.held.len() - close.len());
                    std::mem::take(&mut self.held)
                        .chars()
                        .for_each(|c| out.reasoning(c));
                    out.thought_over();
                    self.at = At::Text;
                    return;
                }
                let keep = overlap(&self.held, [close]);
                let rest = self.held.split_off(self.held.len() - keep);
                std::mem::replace(&mut self.held, rest)
                    .chars()
                    .for_each(|c| out.reasoning(c));
            }
            At::Call(reader) => {
                out.raw.push(c);
                match reader.step(c, out) {
                    Taken::More => {}
                    Taken::Over => {
                        out.raw.clear();
                        self.at = At::Text;
                    }
                    Taken::OverBefore(bytes) => {
                        let rest = out.raw.split_off(out.raw.len() - bytes);
                        out.raw.clear();
                        self.again(&rest, out);
                    }
                    Taken::Bad => {
                        // Its end may begin the next marker.
                        let openers = self
                            .openers()
                            .filter(|opener| !opener.2)
                            .map(|opener| opener.0);
                        let keep = overlap(&out.raw, openers.chain([""]));
                        let rest = out.raw.split_off(out.raw.len() - keep);
                        out.give_back();
                        self.again(&rest, out);
                    }
                }
            }
        }
    }

    /// Takes as text what a reader did not.
    fn again(&mut self, text: &str, out: &mut Out) {
        self.at = At::Text;
        text.chars().for_each(|c| self.step(c, out));
    }

    fn in_text(&mut self, c: char, out: &mut Out) {
        self.held.push(c);
        loop {
            let begun = out.text_begun();
            let mut may_be = false;
            let mut found = None;
            for (marker, opens, at_start) in self.openers() {
                if at_start && begun {
                    continue;
                }
                may_be |= marker.starts_with(&self.held);
                if marker == self.held {
                    found = Some(opens);
                }
            }
            match found {
                Some(Opens::Thought(reasoning)) => {
                    self.held.clear();
                    out.thought();
                    self.at = At::Reasoning(reasoning);
                    return;
                }
                Some(opens) => {
                    out.raw = std::mem::take(&mut self.held);
                    if let Some(reader) = opens.reader(out) {
                        self.at = At::Call(reader);
                    }
                    return;
                }
                None if may_be => return,
                None => {}
            }
            // The first character is certainly text.
            out.text(self.held.remove(0));
            if self.held.is_empty() {
                return;
            }
        }
    }

    fn finish(&mut self, out: &mut Out) {
        match &mut self.at {
            At::Text => std::mem::take(&mut self.held)
                .chars()
                .for_each(|c| out.text(c)),
            At::Reasoning(_) => {
                std::mem::take(&mut self.held)
                    .chars()
                    .for_each(|c| out.reasoning(c));
                out.thought_over();
            }
            At::Call(reader) => {
                if !reader.finish(out) {
                    out.give_back();
                }
            }
        }
    }
}
