//! Syntaxes whose arguments are JSON: all of a tool's schema is held.

use super::super::{harmony, mistral, tags};
use super::arguments::Tool;
use super::lark::{Lark, text};
use super::{check, in_name, some};

/// Calls as objects: `{"name": .., KEY: {..}}`.
fn objects(tools: &[Tool], key: &str, lark: &mut Lark<'_>) -> Result<String, String> {
    let mut calls = Vec::new();
    for Tool { name, schema } in tools {
        check("the tool", name, in_name)?;
        let name = serde_json::Value::from(name.as_str());
        let before = text(&format!("{{\"name\": {name}, \"{key}\": "));
        let arguments = lark.json(schema)?;
        let arguments = lark.rule(&arguments);
        calls.push(format!("{before} {arguments} \"}}\""));
    }
    let call = lark.any_of(&calls)?;
    Ok(lark.rule(&call))
}

pub(super) fn tags(tools: &[Tool], several: bool, lark: &mut Lark<'_>) -> Result<String, String> {
    let (open, close) = (lark.marker(tags::OPEN), lark.marker(tags::CLOSE));
    let call = objects(tools, "arguments", lark)?;
    let call = lark.rule(&format!("{open} \"\\n\" {call} \"\\n\" {close}"));
    Ok(some(&call, "\"\\n\"", several, lark))
}

pub(super) fn llama(tools: &[Tool], several: bool, lark: &mut Lark<'_>) -> Result<String, String> {
    let call = objects(tools, "parameters", lark)?;
    Ok(some(&call, "\"; \"", several, lark))
}

/// `named` is the form of newer models, with names before the arguments.
pub(super) fn mistral(
    tools: &[Tool],
    several: bool,
    named: bool,
    lark: &mut Lark<'_>,
) -> Result<String, String> {
    let open = lark.marker(mistral::OPEN);
    if !named {
        let call = objects(tools, "arguments", lark)?;
        let calls = some(&call, "\", \"", several, lark);
        return Ok(lark.rule(&format!("{open} \" \"? \"[\" {calls} \"]\"")));
    }
    let arguments = lark.marker(mistral::ARGS);
    let mut calls = Vec::new();
    for Tool { name, schema } in tools {
        check("the tool", name, |c| in_name(c) && !matches!(c, '[' | '{'))?;
        let json = lark.json(schema)?;
        let json = lark.rule(&json);
        calls.push(format!("{open} {} {arguments} {json}", text(name)));
    }
    let call = lark.any_of(&calls)?;
    let call = lark.rule(&call);
    Ok(some(&call, "", several, lark))
}

/// One message to a tool, which ends the answer; the first words are there where a thought was before.
pub(super) fn harmony(tools: &[Tool], lark: &mut Lark<'_>) -> Result<String, String> {
    let marker = |marker| lark.marker(marker);
    let (start, channel) = (marker(harmony::START), marker(harmony::CHANNEL));
    let message = marker(harmony::MESSAGE);
    let mut calls = Vec::new();
    for Tool { name, schema } in tools {
        check("the tool", name, |c| in_name(c) && c != '<')?;
        let json = lark.json(schema)?;
        let json = lark.rule(&json);
        let to = text(&format!(" to=functions.{name}"));
        calls.push(format!(
            "{to} {channel} \"commentary json\" {message} {json}"
        ));
    }
    let call = lark.any_of(&calls)?;
    let call = lark.rule(&call);
    Ok(lark.rule(&format!("({start} \"assistant\")? {call}")))
}
