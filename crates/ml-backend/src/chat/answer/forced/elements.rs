//! Parameters as elements, whose values have no quotes: names, keys and types are held, and of what is no text all
//! that the schema says.
//!
//! A text is what nothing else is, so one that may also be a number does not look like one.

use serde_json::{Map, Value, json};

use super::super::json::quoted;
use super::super::tags;
use super::super::tools::Tools;
use super::super::xml::{FUNCTION, FUNCTION_END, PARAMETER, PARAMETER_END};
use super::arguments::{Tool, bound_numbers, part, resolve};
use super::lark::{Lark, any_text, containing, text};
use super::{check, in_name, some};

pub(super) fn xml(tools: &[Tool], several: bool, lark: &mut Lark<'_>) -> Result<String, String> {
    let (open, close) = (lark.marker(tags::OPEN), lark.marker(tags::CLOSE));
    let mut calls = Vec::new();
    for tool in tools {
        check("the tool", &tool.name, |c| {
            in_name(c) && !matches!(c, '<' | '>')
        })?;
        let parameters = parameters(tool, lark)
            .map_err(|problem| format!("the tool {:?}: {problem}", tool.name))?;
        let before = text(&format!("{FUNCTION}{}>\n", tool.name));
        calls.push(format!("{before} {parameters} {}", text(FUNCTION_END)));
    }
    let call = lark.any_of(&calls)?;
    let call = lark.rule(&format!("{open} \"\\n\" ({call}) \"\\n\" {close}"));
    Ok(some(&call, "\"\\n\"", several, lark))
}

/// The elements of a call, in the schema's order.
fn parameters(tool: &Tool, lark: &mut Lark<'_>) -> Result<String, String> {
    let schema = &tool.schema;
    let required: Vec<&str> = match schema.get("required") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let nothing = Map::new();
    let named = schema.get("properties").and_then(Value::as_object);
    let named = named.unwrap_or(&nothing);
    let any = Value::Bool(true);
    let others = required.iter().filter(|name| !named.contains_key(**name));
    let others: Vec<_> = others.map(|name| (*name, &any)).collect();
    let mut all = String::new();
    for (name, value) in named
        .iter()
        .map(|(name, it)| (name.as_str(), it))
        .chain(others)
    {
        let must = required.contains(&name);
        let good = |c| c != '<' && c != '>' && c != '\n';
        let written = check("the parameter", name, good).and_then(|()| {
            let (name, trimmed) = (name, name.trim());
            match name == trimmed {
                true => of(tool, name, value, lark),
                false => Err("there are spaces around its name".to_owned()),
            }
        });
        match written {
            Ok(value) => {
                let open = text(&format!("{PARAMETER}{name}>\n"));
                let element = lark.rule(&format!("{open} {value}"));
                let may = if must { "" } else { "?" };
                all.push_str(&format!("{element}{may} "));
            }
            Err(problem) if must => return Err(format!("`{name}`: {problem}")),
            // One that cannot be said may be left out.
            Err(_) => {}
        }
    }
    Ok(match all.is_empty() {
        true => "\"\"".to_owned(),
        false => lark.rule(&all),
    })
}

/// A value and the end of its element.
fn of(tool: &Tool, name: &str, schema: &Value, lark: &mut Lark<'_>) -> Result<String, String> {
    let end = format!("\n{PARAMETER_END}\n");
    let whole = &tool.schema;
    let mut bare = schema;
    for _ in 0..16 {
        match bare.get("$ref").and_then(Value::as_str) {
            Some(reference) => bare = resolve(reference, whole)?,
            None => break,
        }
    }
    let shown = json!({"name": tool.name, "parameters": whole});
    let kinds = Tools::new(&[shown]).kinds(&tool.name, name);
    let constants = match (bare.get("const"), bare.get("enum")) {
        (Some(one), _) => Some(std::slice::from_ref(one)),
        (None, Some(Value::Array(some))) => Some(some.as_slice()),
        _ => None,
    };
    if let Some(constants) = constants {
        let word = |value: &Value| {
            let word = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // As it is read again.
            let read = match kinds.only_text() {
                true => quoted(&word),
                false => kinds.json_of(&word),
            };
            let read: Option<Value> = serde_json::from_str(&read).ok();
            let same = read.as_ref() == Some(value) && !word.contains(PARAMETER_END);
            same.then(|| text(&format!("{word}{end}")))
        };
        let words: Vec<_> = constants.iter().filter_map(word).collect();
        return lark.any_of(&words);
    }
    if kinds.only_text() {
        let bound = |key| bare.get(key).and_then(Value::as_u64);
        let body = any_text(bound("minLength").unwrap_or(0), bound("maxLength"));
        return Ok(free(&body, lark));
    }
    if kinds.is_empty() {
        return Ok(free(&any_text(0, None), lark));
    }
    let mut choices = Vec::new();
    let others: Vec<&str> = kinds.names().filter(|kind| *kind != "string").collect();
    if kinds.names().any(|kind| kind == "string") {
        // What would be read as something else is none.
        let mut body = any_text(0, None);
        for kind in &others {
            let looks = match *kind {
                "null" => r"(null|None)",
                "boolean" => r"(true|false|True|False)",
                "integer" | "number" => r"-?[0-9][0-9.eE+\-]*",
                "array" => r"\[(?s:.*)",
                _ => r"\{(?s:.*)",
            };
            body.push_str(&format!(r" & ~/\s*{looks}\s*/"));
        }
        choices.push(free(&body, lark));
    }
    // A type that only the reader's dialect of schemas has, such as `nullable`, is none of the schema's.
    if let Some(rest) = without_text(bare, &others) {
        let mut value = part(&rest, whole);
        bound_numbers(&mut value);
        if let Ok(json) = lark.json(&value) {
            let json = lark.rule(&json);
            choices.push(format!("{json} {}", text(&end)));
        }
    }
    lark.any_of(&choices)
}

/// What a schema lets beside texts; `None` where that is nothing.
fn without_text(schema: &Value, others: &[&str]) -> Option<Value> {
    let object = schema.as_object()?;
    let mut rest = object.clone();
    match object.get("type") {
        Some(Value::String(kind)) if kind == "string" => return None,
        Some(Value::String(_)) => {}
        Some(Value::Array(kinds)) => {
            let kinds = kinds.iter().filter(|kind| *kind != "string");
            let kinds: Vec<_> = kinds.cloned().collect();
            if kinds.is_empty() {
                return None;
            }
            rest.insert("type".to_owned(), kinds.into());
        }
        _ => {
            for key in ["anyOf", "oneOf"] {
                if let Some(Value::Array(parts)) = rest.get_mut(key) {
                    parts.retain_mut(|part| match without_text(part, others) {
                        Some(left) => {
                            *part = left;
                            true
                        }
                        None => part.get("$ref").is_some(),
                    });
                    if parts.is_empty() {
                        return None;
                    }
                }
            }
        }
    }
    (!others.is_empty()).then_some(rest.into())
}

/// A text up to the end of its element.
fn free(body: &str, lark: &mut Lark<'_>) -> String {
    let body = format!("{body} & ~{}", containing(PARAMETER_END));
    lark.until(&format!("\n{PARAMETER_END}\n"), &body)
}
