//! Values of a schema in a form that is not JSON: Python's literals, and Gemma's.
//!
//! What is one word in both, such as a number, is left to the grammar of JSON schemas, and with it all bounds. Of
//! lists and objects the shape is held: items and how many, keys, required ones.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::arguments::{bound_numbers, part, resolve};
use super::lark::{Lark, text};
use crate::chat::answer::gemma::Words;

/// Whose values they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Python,
    Gemma(Words),
}

/// Schemas within schemas.
const DEEPEST: usize = 100;

/// The values of one tool.
pub(super) struct Values<'a, 't> {
    pub(super) lark: &'a mut Lark<'t>,
    dialect: Dialect,
    whole: &'a Value,
    /// The rules of references.
    references: HashMap<String, String>,
    any: Option<String>,
    depth: usize,
}

impl<'a, 't> Values<'a, 't> {
    pub(super) fn new(lark: &'a mut Lark<'t>, dialect: Dialect, whole: &'a Value) -> Self {
        Self {
            lark,
            dialect,
            whole,
            references: HashMap::new(),
            any: None,
            depth: 0,
        }
    }

    /// The members of an object, each with what stands between its key and its value, and with commas between.
    ///
    /// # Errors
    /// What cannot be held to, in one line.
    pub(super) fn members(
        &mut self,
        object: &Map<String, Value>,
        key: impl Fn(&Self, &str) -> Result<String, String>,
    ) -> Result<String, String> {
        let required: Vec<&str> = match object.get("required") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let nothing = Map::new();
        let named = object.get("properties").and_then(Value::as_object);
        let named = named.unwrap_or(&nothing);
        let any = Value::Bool(true);
        let others = required.iter().filter(|name| !named.contains_key(**name));
        let others: Vec<_> = others.map(|name| (*name, &any)).collect();
        let named = named.iter().map(|(name, schema)| (name.as_str(), schema));
        let mut members = Vec::new();
        for (name, schema) in named.chain(others) {
            let must = required.contains(&name);
            let written = key(self, name);
            let member = written.and_then(|key| Ok(format!("{key} {}", self.value(schema)?)));
            match member {
                Ok(member) => members.push((member, must)),
                Err(problem) if must => return Err(format!("`{name}`: {problem}")),
                // One that cannot be said may be left out.
                Err(_) => {}
            }
        }
        let comma = text(self.comma());
        // What may follow a member, from the last one on, and what may stand where none came yet.
        let (mut tail, mut head) = (String::new(), String::new());
        for (member, must) in members.iter().rev() {
            let member = self.lark.rule(member);
            let first = format!("{member} {tail}");
            head = match (must, head.as_str()) {
                (true, _) => self.lark.rule(&first),
                (false, "") => self.lark.rule(&format!("({first})?")),
                (false, rest) => self.lark.rule(&format!("{first} | {rest}")),
            };
            tail = match must {
                true => self.lark.rule(&format!("{comma} {member} {tail}")),
                false => self.lark.rule(&format!("({comma} {member})? {tail}")),
            };
        }
        Ok(head)
    }

    fn comma(&self) -> &'static str {
        match self.dialect {
            Dialect::Python => ", ",
            Dialect::Gemma(_) => ",",
        }
    }

    /// A value, as an expression of the grammar.
    ///
    /// # Errors
    /// What cannot be held to, in one line.
    pub(super) fn value(&mut self, schema: &Value) -> Result<String, String> {
        if self.depth == DEEPEST {
            return Err(format!("it has more than {DEEPEST} levels"));
        }
        self.depth += 1;
        let value = match schema {
            Value::Bool(false) => Err("no value is valid under the schema `false`".to_owned()),
            Value::Object(object) => self.described(object),
            _ => self.any(),
        };
        self.depth -= 1;
        value
    }

    fn described(&mut self, object: &Map<String, Value>) -> Result<String, String> {
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            return self.referred(reference);
        }
        let constants = match (object.get("const"), object.get("enum")) {
            (Some(one), _) => Some(std::slice::from_ref(one)),
            (None, Some(Value::Array(some))) => Some(some.as_slice()),
            _ => None,
        };
        if let Some(constants) = constants {
            let words: Vec<_> = constants.iter().map(|value| self.constant(value)).collect();
            return self.lark.any_of(&words);
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(parts)) = object.get(key)
                && !object.contains_key("properties")
            {
                let parts = parts.iter().map(|part| self.value(part));
                let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
                return self.lark.any_of(&parts);
            }
        }
        if let Some(Value::Array(parts)) = object.get("allOf") {
            return self.all_of(object, parts);
        }
        match object.get("type") {
            Some(Value::String(kind)) => self.of_kind(kind, object),
            Some(Value::Array(kinds)) => {
                let kinds = kinds.iter().filter_map(Value::as_str);
                let kinds = kinds.map(|kind| self.of_kind(kind, object));
                let kinds: Vec<_> = kinds.collect::<Result<_, _>>()?;
                self.lark.any_of(&kinds)
            }
            _ if object.contains_key("properties") => self.of_kind("object", object),
            _ if object.contains_key("items") => self.of_kind("array", object),
            _ => self.any(),
        }
    }

    fn referred(&mut self, reference: &str) -> Result<String, String> {
        if let Some(rule) = self.references.get(reference) {
            return Ok(rule.clone());
        }
        let name = self.lark.name();
        self.references.insert(reference.to_owned(), name.clone());
        let schema = resolve(reference, self.whole)?;
        let body = self.value(schema)?;
        self.lark.write(&name, &body);
        Ok(name)
    }

    /// The parts of an `allOf` as one: objects with the properties of all.
    fn all_of(&mut self, object: &Map<String, Value>, parts: &[Value]) -> Result<String, String> {
        let mut whole = object.clone();
        whole.remove("allOf");
        for part in parts {
            let mut part = part;
            while let Some(reference) = part.get("$ref").and_then(Value::as_str) {
                part = resolve(reference, self.whole)?;
                if part.get("$ref").and_then(Value::as_str) == Some(reference) {
                    return Err(format!("`$ref` to {reference} leads to itself"));
                }
            }
            for (key, value) in part.as_object().into_iter().flatten() {
                match (whole.get_mut(key), value) {
                    (Some(Value::Object(to)), Value::Object(from)) => to.extend(from.clone()),
                    (Some(Value::Array(to)), Value::Array(from)) if key == "required" => {
                        to.extend(from.iter().cloned());
                    }
                    (Some(_), _) => {}
                    (None, value) => {
                        whole.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        self.value(&whole.into())
    }

    fn of_kind(&mut self, kind: &str, object: &Map<String, Value>) -> Result<String, String> {
        match (kind, self.dialect) {
            ("boolean", Dialect::Python) => Ok("(\"True\" | \"False\")".to_owned()),
            ("boolean", Dialect::Gemma(_)) => Ok("(\"true\" | \"false\")".to_owned()),
            ("null", _) => Ok(self.constant(&Value::Null)),
            ("string", Dialect::Gemma(words)) => {
                let bound = |key| object.get(key).and_then(Value::as_u64);
                let (least, most) = (bound("minLength").unwrap_or(0), bound("maxLength"));
                Ok(self.lark.quoted(words.quote, least, most))
            }
            ("string" | "number" | "integer", _) => {
                let mut word = object.clone();
                word.insert("type".to_owned(), kind.into());
                let mut word = part(&word.into(), self.whole);
                bound_numbers(&mut word);
                let json = self.lark.json(&word)?;
                Ok(self.lark.rule(&json))
            }
            ("array", _) => self.list(object),
            ("object", _) => self.object(object),
            (other, _) => Err(format!("`type` is {other}, which is none")),
        }
    }

    fn list(&mut self, object: &Map<String, Value>) -> Result<String, String> {
        let comma = text(self.comma());
        let bound = |key| object.get(key).and_then(Value::as_u64);
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems"));
        let item = match object.get("items") {
            Some(items) if most != Some(0) => self.value(items)?,
            None if most != Some(0) => self.any()?,
            _ => return Ok("\"[\" \"]\"".to_owned()),
        };
        let more = match most {
            Some(1) => String::new(),
            Some(most) => format!(
                "({comma} {item}){{{},{}}}",
                least.saturating_sub(1),
                most - 1
            ),
            None => format!("({comma} {item}){{{},}}", least.saturating_sub(1)),
        };
        let items = match least {
            0 => format!("({item} {more})?"),
            _ => format!("{item} {more}"),
        };
        Ok(self.lark.rule(&format!("\"[\" {items} \"]\"")))
    }

    fn object(&mut self, object: &Map<String, Value>) -> Result<String, String> {
        if object.contains_key("properties") || object.contains_key("required") {
            let members = self.members(object, |values, key| Ok(values.key(key)))?;
            return Ok(self.lark.rule(&format!("\"{{\" {members} \"}}\"")));
        }
        let most = object.get("maxProperties").and_then(Value::as_u64);
        match object.get("additionalProperties") {
            _ if most == Some(0) => Ok("\"{\" \"}\"".to_owned()),
            Some(Value::Bool(false)) => Ok("\"{\" \"}\"".to_owned()),
            Some(schema @ Value::Object(_)) => {
                let value = self.value(schema)?;
                self.free_object(&value, most)
            }
            _ => {
                let value = self.any()?;
                self.free_object(&value, most)
            }
        }
    }

    /// An object of any keys, so many at the most.
    fn free_object(&mut self, value: &str, most: Option<u64>) -> Result<String, String> {
        let comma = text(self.comma());
        let key = match self.dialect {
            Dialect::Python => {
                let key = self.lark.json(&json!({"type": "string"}))?;
                self.lark.rule(&format!("{key} \": \""))
            }
            Dialect::Gemma(_) => "/[A-Za-z_][A-Za-z0-9_]{0,31}/ \":\"".to_owned(),
        };
        let member = self.lark.rule(&format!("{key} {value}"));
        let more = match most {
            Some(1) => String::new(),
            Some(most) => format!("({comma} {member}){{0,{}}}", most - 1),
            None => format!("({comma} {member})*"),
        };
        let members = format!("({member} {more})?");
        Ok(self.lark.rule(&format!("\"{{\" {members} \"}}\"")))
    }

    /// Any value.
    fn any(&mut self) -> Result<String, String> {
        if let Some(any) = &self.any {
            return Ok(any.clone());
        }
        let name = self.lark.name();
        self.any = Some(name.clone());
        let nothing = Map::new();
        let kinds = ["string", "number", "boolean", "null", "array", "object"];
        let kinds = kinds.map(|kind| self.of_kind(kind, &nothing));
        let kinds: Vec<_> = kinds.into_iter().collect::<Result<_, _>>()?;
        self.lark.write(&name, &kinds.join(" | "));
        Ok(name)
    }

    /// A key of an object, and what stands before its value.
    fn key(&self, key: &str) -> String {
        match self.dialect {
            Dialect::Python => text(&format!("{}: ", Value::from(key))),
            Dialect::Gemma(words) => self.marked_key(key, words),
        }
    }

    /// A key of Gemma's, and its colon.
    pub(super) fn marked_key(&self, key: &str, words: Words) -> String {
        let bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
        match key.chars().all(bare) && !key.is_empty() {
            true => text(&format!("{key}:")),
            false => {
                let quote = self.lark.marker(words.quote);
                format!("{quote} {} {quote} \":\"", text(key))
            }
        }
    }

    /// One value and no other.
    fn constant(&self, value: &Value) -> String {
        match (value, self.dialect) {
            (Value::Null, Dialect::Python) => "\"None\"".to_owned(),
            (Value::Bool(true), Dialect::Python) => "\"True\"".to_owned(),
            (Value::Bool(false), Dialect::Python) => "\"False\"".to_owned(),
            (Value::String(word), Dialect::Gemma(words)) => {
                let quote = self.lark.marker(words.quote);
                format!("({quote} {} {quote})", text(word))
            }
            (Value::Array(values), _) => {
                let values: Vec<_> = values.iter().map(|value| self.constant(value)).collect();
                let values = values.join(&format!(" {} ", text(self.comma())));
                format!("(\"[\" {values} \"]\")")
            }
            (Value::Object(members), _) => {
                let member = |(key, value): (&String, &Value)| {
                    format!("{} {}", self.key(key), self.constant(value))
                };
                let members: Vec<_> = members.iter().map(member).collect();
                let members = members.join(&format!(" {} ", text(self.comma())));
                format!("(\"{{\" {members} \"}}\")")
            }
            (value, _) => text(&value.to_string()),
        }
    }
}
