//! How probable tokens were, as OpenAI's two APIs tell it.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::run::{Probable, Told};

/// Of a chat's choice, or of a chunk of it.
#[derive(Serialize)]
pub(super) struct Chat {
    content: Vec<ChatToken>,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct ChatToken {
    #[serde(flatten)]
    token: Token,
    top_logprobs: Vec<Token>,
}

#[derive(Serialize)]
struct Token {
    token: String,
    logprob: f32,
    /// A token need not be whole characters.
    bytes: Vec<u8>,
}

impl Token {
    fn new(told: Told) -> Self {
        Self {
            token: told.text(),
            logprob: told.number(),
            bytes: told.bytes,
        }
    }
}

impl Chat {
    pub(super) fn new(tokens: Vec<Probable>) -> Self {
        let token = |one: Probable| ChatToken {
            token: Token::new(one.token),
            top_logprobs: one.top.into_iter().map(Token::new).collect(),
        };
        Self {
            content: tokens.into_iter().map(token).collect(),
            refusal: None,
        }
    }
}

/// Of a completion's choice, or of a chunk of it: lists of one length. A token's number is the same in both of them,
/// to the last digit: lm-evaluation-harness asks by that whether it was the most probable.
#[derive(Default, Serialize)]
pub(super) struct Completion {
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f64>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    /// Where each token begins, in characters.
    text_offset: Vec<usize>,
}

impl Completion {
    /// Adds the first token of a prompt, which has no probability.
    pub(super) fn first(&mut self, token: String, offset: &mut usize) {
        let characters = token.chars().count();
        self.push(token, characters, None, None, offset);
    }

    /// Adds tokens that begin at `offset`, which then is behind them.
    pub(super) fn add(&mut self, tokens: Vec<Probable>, offset: &mut usize) {
        for Probable { token, top } in tokens {
            // The token itself is among them, also where it is none of the most probable.
            let all = top.iter().chain([&token]);
            let all = all.map(|told| (told.name(), f64::from(told.number()).into()));
            let all = all.collect();
            let (name, logprob) = (token.name(), token.number().into());
            self.push(name, token.characters(), Some(logprob), Some(all), offset);
        }
    }

    fn push(
        &mut self,
        token: String,
        characters: usize,
        logprob: Option<f64>,
        top: Option<Map<String, Value>>,
        offset: &mut usize,
    ) {
        self.text_offset.push(*offset);
        *offset += characters;
        self.tokens.push(token);
        self.token_logprobs.push(logprob);
        self.top_logprobs.push(top);
    }
}
