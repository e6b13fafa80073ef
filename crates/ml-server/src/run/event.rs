//! What comes of an answer, piece by piece and as a whole.

/// What comes of an answer, in the order in which it comes.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Some of its text.
    Text(String),
    /// How probable the tokens were that the next events are made of, where that was asked for.
    Probable(Vec<Probable>),
    /// The same of the prompt's tokens but the first, which has no probability.
    Prompt { first: String, rest: Vec<Probable> },
    /// Some of what the model thinks before it.
    Reasoning(String),
    /// A call of a tool begins, the answer's `call`th.
    Call {
        call: usize,
        id: String,
        name: String,
    },
    /// Some of the JSON of its arguments.
    Arguments { call: usize, json: String },
    /// The call is none after all, and this text instead.
    Undone { call: usize, text: String },
    /// Why there is no more, and what it took.
    End(End),
}

/// How an answer ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    StopText,
    Length,
    ToolCalls,
}

/// Tokens of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    /// Of the prompt, those that were known.
    pub(crate) cached: usize,
    pub(crate) generated: usize,
}

impl Usage {
    /// Of several answers, one prompt each.
    pub(crate) fn add(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.cached += other.cached;
        self.generated += other.generated;
    }
}

/// A token, how probable it was, and what else might have come.
#[derive(Clone, Debug)]
pub(crate) struct Probable {
    pub(crate) token: Told,
    pub(crate) top: Vec<Told>,
}

/// A token and the logarithm of its probability.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) bytes: Vec<u8>,
    pub(crate) logprob: f32,
}

impl Told {
    /// As text, whole or not.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// As text; and where it is no whole characters, as OpenAI names it, so that no two such tokens are called the same.
    pub(crate) fn name(&self) -> String {
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let bytes = self.bytes.iter().map(|byte| format!("\\x{byte:02x}"));
                format!("bytes:{}", bytes.collect::<String>())
            }
        }
    }

    /// Characters that begin in it.
    pub(crate) fn characters(&self) -> usize {
        let goes_on = |byte: &u8| byte & 0xc0 == 0x80;
        self.bytes.iter().filter(|byte| !goes_on(byte)).count()
    }

    /// What JSON can say: a token that cannot come has OpenAI's number for it.
    pub(crate) fn number(&self) -> f32 {
        self.logprob.max(-9999.0)
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    pub(crate) text: String,
    pub(crate) reasoning: Option<String>,
    pub(crate) calls: Vec<Call>,
    pub(crate) probable: Vec<Probable>,
    pub(crate) prompt: Option<(String, Vec<Probable>)>,
    pub(crate) end: End,
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    /// A JSON object.
    pub(crate) arguments: String,
}

/// An answer that is being put together.
#[derive(Clone, Default)]
pub(super) struct Parts {
    text: String,
    reasoning: Option<String>,
    /// By their numbers, which leave out those that were none.
    calls: Vec<(usize, Call)>,
    probable: Vec<Probable>,
    prompt: Option<(String, Vec<Probable>)>,
    end: Option<End>,
}

impl Parts {
    pub(super) fn add(&mut self, event: Event) {
        match event {
            Event::Text(text) => self.text.push_str(&text),
            Event::Reasoning(text) => self.reasoning.get_or_insert_default().push_str(&text),
            Event::Call { call, id, name } => {
                let arguments = String::new();
                self.calls.push((
                    call,
                    Call {
                        id,
                        name,
                        arguments,
                    },
                ));
            }
            Event::Arguments { call, json } => {
                let mut calls = self.calls.iter_mut();
                if let Some((_, call)) = calls.find(|(number, _)| *number == call) {
                    call.arguments.push_str(&json);
                }
            }
            Event::Undone { call, text } => {
                self.calls.retain(|(number, _)| *number != call);
                self.text.push_str(&text);
            }
            Event::Probable(more) => self.probable.extend(more),
            Event::Prompt { first, rest } => self.prompt = Some((first, rest)),
            Event::End(end) => self.end = Some(end),
        }
    }

    pub(super) fn whole(self) -> Option<Whole> {
        self.end.map(|end| Whole {
            text: self.text,
            reasoning: self.reasoning,
            calls: self.calls.into_iter().map(|(_, call)| call).collect(),
            probable: self.probable,
            prompt: self.prompt,
            end,
        })
    }
}
