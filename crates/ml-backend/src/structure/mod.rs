//! Answers of a given form: a JSON schema, a regular expression, a grammar.
//!
//! Before each draw the tokens are told with which the answer can still become what was asked for, and none but
//! those are drawn. What a text may be is `llguidance`'s to say; which bytes a token adds to it is the
//! vocabulary's. Three things are held here beside the grammar: white space between the parts of a JSON text
//! is bounded, its numbers are those that a double holds, and a form that cannot be held to in full is refused
//! before anything runs.

mod cache;
mod constraint;
mod disjoint;
mod form;
mod formats;
mod grammar;
mod matcher;
mod numbers;
mod schema;
mod tokens;
mod worker;

use serde_json::Value;

pub(crate) use cache::Structures;
pub(crate) use constraint::{Before, Bound};
pub(crate) use form::Form;
use matcher::Matcher;
pub(crate) use schema::prepare;

/// What an answer has to be: see [`Options::structure`](crate::Options::structure).
///
/// An answer that ends by itself ([`FinishReason::Stop`](crate::FinishReason::Stop)) is of this form. One that is
/// cut off, by `max_tokens` or a stop text, is the beginning of one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Structure {
    /// A JSON text that is valid under this JSON schema (draft 4 and later).
    ///
    /// Properties come in the schema's order. A keyword that cannot be held to is refused by name; so is a
    /// `oneOf` of which two parts may hold at once.
    JsonSchema(Value),
    /// A JSON object.
    JsonObject,
    /// A text that this regular expression matches from its beginning to its end, in the syntax of the crate
    /// `regex` without its anchors; `\d` and `\w` are ASCII.
    Regex(String),
    /// A text of this context-free grammar, in llguidance's dialect of Lark. It begins with the rule `start`.
    Lark(String),
    /// One of these texts.
    OneOf(Vec<String>),
}

impl Structure {
    /// What its texts are, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::JsonSchema(_) => "JSON schema",
            Self::JsonObject => "JSON object",
            Self::Regex(_) => "regular expression",
            Self::Lark(_) => "Lark grammar",
            Self::OneOf(_) => "list of texts",
        }
    }

    /// Whether its texts are JSON.
    fn is_json(&self) -> bool {
        matches!(self, Self::JsonSchema(_) | Self::JsonObject)
    }
}

#[cfg(test)]
mod tests;
