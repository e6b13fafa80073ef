//! Answers that have to be calls: a grammar of the syntax that the model has, with the tools of the request.
//!
//! It is the other side of the parsers beside it: what it lets a model write, they read as calls of these tools.
//! Where arguments are JSON, they are valid under the tool's schema; in the other syntaxes names, keys, types and
//! shapes are held, and of words that are no texts all that the schema says.
//!
//! - `arguments` makes a tool's schema ready, `lark` writes grammars;
//! - `json`, `elements` and `literals` are the syntaxes by the form of their values, `values` those of the last.

mod arguments;
mod elements;
mod json;
mod lark;
mod literals;
mod values;

use models::tokenizer::Tokenizer;
use serde_json::Value;

use super::gemma::{FUNCTION_GEMMA, GEMMA4};
use super::python::{self, Around};
use super::syntax::CallSyntax;
use arguments::Tool;
use lark::Lark;

/// What an answer has to be.
pub(crate) struct Wanted<'a> {
    pub(crate) syntax: CallSyntax,
    /// The model's chat template, which shows what stands around calls.
    pub(crate) template: &'a str,
    /// Those of which one is called.
    pub(crate) tools: &'a [Value],
    /// Whether several calls may come.
    pub(crate) several: bool,
    /// The schema of an answer that has no call; `None` where there has to be one.
    pub(crate) otherwise: Option<&'a Value>,
}

/// A grammar of calls.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Calls {
    pub(crate) lark: String,
    /// Whether numbers stand in JSON, with all texts in its quotes.
    pub(crate) json: bool,
    /// The schemas in it, by what they are of.
    pub(crate) schemas: Vec<(String, Value)>,
}

impl Calls {
    /// The grammar of an answer.
    ///
    /// # Errors
    /// A tool whose name, keys or schema cannot be held to in this syntax, in one line.
    pub(crate) fn new(wanted: &Wanted<'_>, tokenizer: &Tokenizer) -> Result<Self, String> {
        let tools = wanted.tools.iter().map(Tool::new);
        let tools: Vec<_> = tools.collect::<Result<_, _>>()?;
        use CallSyntax::{FunctionGemma, Gemma4, Xml};
        let json = !matches!(wanted.syntax, Xml | Gemma4 | FunctionGemma);
        let mut lark = Lark::new(tokenizer);
        let mut start = form(wanted, &tools, &mut lark)?;
        let mut schemas: Vec<_> = tools
            .into_iter()
            .map(|tool| (tool.name, tool.schema))
            .collect();
        if let Some(schema) = wanted.otherwise {
            let mut bounded = schema.clone();
            arguments::bound_numbers(&mut bounded);
            let text = lark.json(if json { schema } else { &bounded })?;
            let text = lark.rule(&text);
            start = format!("{start} | {text}");
            schemas.push(("the answer".to_owned(), schema.clone()));
        }
        Ok(Self {
            json,
            lark: lark.finish(&start),
            schemas,
        })
    }
}

fn form(wanted: &Wanted<'_>, tools: &[Tool], lark: &mut Lark<'_>) -> Result<String, String> {
    let several = wanted.several;
    match wanted.syntax {
        CallSyntax::Tags => json::tags(tools, several, lark),
        CallSyntax::Llama => json::llama(tools, several, lark),
        CallSyntax::Mistral => {
            let named = wanted.template.contains("[ARGS]");
            json::mistral(tools, several, named, lark)
        }
        CallSyntax::Harmony => json::harmony(tools, lark),
        CallSyntax::Xml => elements::xml(tools, several, lark),
        CallSyntax::Gemma4 => literals::gemma(tools, several, GEMMA4, lark),
        CallSyntax::FunctionGemma => literals::gemma(tools, several, FUNCTION_GEMMA, lark),
        CallSyntax::Python => {
            let has = |word| wanted.template.contains(word);
            let around = match (has(python::TAG), has("tool_code")) {
                (true, _) => Around::Tag,
                (_, true) => Around::Fence,
                _ => Around::List,
            };
            literals::python(tools, several, around, lark)
        }
    }
}

/// One of these calls, or several with `between` them.
fn some(call: &str, between: &str, several: bool, lark: &mut Lark<'_>) -> String {
    match several {
        true => lark.rule(&format!("{call} ({between} {call})*")),
        false => call.to_owned(),
    }
}

/// Refuses a name that has characters which the syntax has other uses for.
fn check(what: &str, name: &str, good: impl Fn(char) -> bool) -> Result<(), String> {
    let length = (1..=256).contains(&name.len());
    match length && name.chars().all(good) {
        true => Ok(()),
        false => Err(format!(
            "{what} {name:?} cannot be written in the form that this model has for calls; give it letters, digits \
             and underscores"
        )),
    }
}

/// What no syntax has in a name.
fn in_name(c: char) -> bool {
    !c.is_whitespace() && !c.is_control()
}
