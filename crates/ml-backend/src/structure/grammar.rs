//! A structure compiled over a vocabulary.

use std::sync::{Arc, Mutex};

use llguidance::api::TopLevelGrammar;
use llguidance::regex_to_lark;
use serde_json::{Value, json};

use super::schema::{place_of, prepare};
use super::tokens::Tokens;
use super::{Form, Structure};
use crate::{Error, Result};

/// Stack of the thread that compiles, which goes down a schema's levels.
const STACK: usize = 64 << 20;

/// A compiled structure, from which each answer's matcher begins.
pub(super) struct Grammar {
    pub(super) tokens: Arc<Tokens>,
    pub(super) kind: &'static str,
    pub(super) is_json: bool,
    /// At the start of an answer; never moved on.
    start: Mutex<llguidance::Matcher>,
}

impl Grammar {
    /// Compiles, and looks for a first token.
    ///
    /// # Errors
    /// What cannot be held to, in one line.
    pub(super) fn new(form: &Form, tokens: &Arc<Tokens>) -> Result<Self> {
        let refuse = |problem| Error::Structure {
            kind: form.kind(),
            problem,
        };
        let grammar = written(form).map_err(refuse)?;
        let start = apart(|| {
            let mut start = llguidance::Matcher::new(tokens.factory.create_parser(grammar));
            let first = start.compute_mask_or_eos();
            first.map(|_| start).map_err(|error| error.to_string())
        });
        let start = start.map_err(|message| refuse(explain(form, &message)))?;
        Ok(Self {
            tokens: Arc::clone(tokens),
            kind: form.kind(),
            is_json: form.is_json(),
            start: Mutex::new(start),
        })
    }

    /// At the start of an answer, with nothing that other answers see.
    pub(super) fn begin(&self) -> llguidance::Matcher {
        let start = self.start.lock().unwrap_or_else(|held| held.into_inner());
        start.deep_clone()
    }
}

/// The grammar as llguidance reads it.
fn written(form: &Form) -> Result<TopLevelGrammar, String> {
    let structure = match form {
        Form::Asked(structure) => structure,
        Form::Calls(calls) => return Ok(TopLevelGrammar::from_lark(calls.lark.clone())),
    };
    Ok(match structure {
        Structure::JsonSchema(schema) => TopLevelGrammar::from_json_schema(prepare(schema)?),
        Structure::JsonObject => {
            TopLevelGrammar::from_json_schema(prepare(&json!({ "type": "object" }))?)
        }
        Structure::Regex(regex) => {
            let escapes = regex
                .bytes()
                .rev()
                .take_while(|&byte| byte == b'\\')
                .count();
            if escapes % 2 == 1 {
                return Err("it ends with a backslash that escapes nothing".to_owned());
            }
            of_regex(regex)
        }
        Structure::Lark(grammar) if grammar.trim().is_empty() => {
            return Err("it is empty; give it a rule `start`".to_owned());
        }
        Structure::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
        Structure::OneOf(texts) if texts.is_empty() => {
            return Err("it is empty; give at least one text".to_owned());
        }
        Structure::OneOf(texts) => {
            let texts: Vec<_> = texts.iter().map(|text| escape(text)).collect();
            of_regex(&texts.join("|"))
        }
    })
}

/// The texts that match an expression from beginning to end; its `\d` and `\w` are ASCII, as in a schema's patterns.
fn of_regex(regex: &str) -> TopLevelGrammar {
    let regex = regex_to_lark(regex, "dw");
    TopLevelGrammar::from_lark(format!("start: /(?:{regex})/"))
}

/// A text as the regular expression that matches it alone.
fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\0'..=' ' | '\x7F' => escaped.push_str(&format!("\\x{:02X}", u32::from(character))),
            '!'..='~' if !character.is_ascii_alphanumeric() => {
                escaped.push_str(&format!("\\x{:02X}", u32::from(character)));
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Runs `work` where there is stack for deep schemas.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("ml-structure".to_owned());
        let thread = thread.stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| format!("no thread to compile on: {error}"))?;
        let ended = thread.join();
        ended.unwrap_or_else(|_| Err("compiling panicked".to_owned()))
    })
}

/// What llguidance says, in one line, with the keyword's place where it names one.
fn explain(form: &Form, message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim();
    // A schema within a grammar.
    let line = line
        .split_once("failed to compile JSON schema: ")
        .map_or(line, |(_, line)| line);
    let nothing = Value::Null;
    let place_of = |keyword: &str| match form {
        Form::Asked(Structure::JsonSchema(schema)) => place_of(schema, keyword),
        Form::Asked(_) => place_of(&nothing, keyword),
        Form::Calls(calls) => calls.schemas.iter().find_map(|(name, schema)| {
            let place = place_of(schema, keyword)?;
            Some(format!("{place} of {name}"))
        }),
    };
    let at = |keyword: &str| match place_of(keyword) {
        Some(place) => format!("`{keyword}` (at {place})"),
        None => format!("`{keyword}`"),
    };
    if let Some(keys) = line.strip_prefix("Unimplemented keys: ") {
        let keys: Vec<String> = serde_json::from_str(keys).unwrap_or_default();
        let keys: Vec<_> = keys.iter().map(|key| at(key)).collect();
        let (is, it) = match keys.len() {
            1 => ("is", "it"),
            _ => ("are", "them"),
        };
        return format!("{} {is} not supported; leave {it} out", keys.join(" and "));
    }
    if line.starts_with("oneOf") {
        let one_of = at("oneOf");
        return format!(
            "{one_of} is supported where no two of its parts can hold at once, told by their types or by a required \
             property of constant values; make it `anyOf`"
        );
    }
    if line.starts_with("min/maxProperties") {
        let keyword = match place_of("maxProperties") {
            Some(_) => at("maxProperties"),
            None => at("minProperties"),
        };
        return format!("{keyword} is supported where all of `properties` are `required`");
    }
    if let Some(name) = line.strip_prefix("Unknown format: ") {
        return format!(
            "the format {name} of {} is not supported; give a `pattern`",
            at("format")
        );
    }
    if line.starts_with("Failed to generate regex for") {
        return format!("the bounds of a number are too large to be held to ({line})");
    }
    if line == "regex parse error:" {
        let mut causes = message
            .lines()
            .filter_map(|line| line.trim().strip_prefix("error: "));
        let cause = causes.next_back().unwrap_or("it cannot be read");
        return format!(
            "a regular expression of it, `pattern` in a schema, is not supported: {cause}"
        );
    }
    match line {
        "" => "no text is of this form".to_owned(),
        line => line.trim_start_matches("Unsatisfiable schema: ").to_owned(),
    }
}
