//! Syntaxes that write literals: Python's, and Gemma's.

use serde_json::Map;

use super::super::gemma::{CALL, Words};
use super::super::python::{self, Around};
use super::arguments::Tool;
use super::lark::{Lark, text};
use super::values::{Dialect, Values};
use super::{check, some};

pub(super) fn gemma(
    tools: &[Tool],
    several: bool,
    words: Words,
    lark: &mut Lark<'_>,
) -> Result<String, String> {
    let (open, close) = (lark.marker(words.open), lark.marker(words.close));
    let mut calls = Vec::new();
    for tool in tools {
        let good = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
        check("the tool", &tool.name, good)?;
        let key = |values: &Values<'_, '_>, key: &str| Ok(values.marked_key(key, words));
        let arguments = arguments(tool, Dialect::Gemma(words), key, lark)?;
        let before = text(&format!("{CALL}{}{{", tool.name));
        calls.push(format!("{before} {arguments} \"}}\""));
    }
    let call = lark.any_of(&calls)?;
    let call = lark.rule(&format!("{open} ({call}) {close}"));
    Ok(some(&call, "", several, lark))
}

pub(super) fn python(
    tools: &[Tool],
    several: bool,
    around: Around,
    lark: &mut Lark<'_>,
) -> Result<String, String> {
    let mut calls = Vec::new();
    for tool in tools {
        check("the tool", &tool.name, |c| {
            python::is_first(c) || c.is_ascii_digit() || c == '.'
        })?;
        if !tool.name.starts_with(python::is_first) {
            return Err(format!("the tool {:?} begins with no letter", tool.name));
        }
        let key = |_: &Values<'_, '_>, key: &str| {
            check("the parameter", key, |c| {
                python::is_first(c) || c.is_ascii_digit()
            })?;
            match key.starts_with(python::is_first) {
                true => Ok(text(&format!("{key}="))),
                false => Err("its name begins with no letter".to_owned()),
            }
        };
        let arguments = arguments(tool, Dialect::Python, key, lark)?;
        let before = text(&format!("{}(", tool.name));
        calls.push(format!("{before} {arguments} \")\""));
    }
    let call = lark.any_of(&calls)?;
    let call = lark.rule(&call);
    Ok(match around {
        Around::List => {
            let calls = some(&call, "\", \"", several, lark);
            lark.rule(&format!("\"[\" {calls} \"]\""))
        }
        Around::Tag => {
            let (open, close) = (lark.marker(python::TAG), lark.marker(around.close()));
            let calls = some(&call, "\", \"", several, lark);
            lark.rule(&format!("{open} \"[\" {calls} \"]\" {close}"))
        }
        Around::Fence => {
            let calls = some(&call, "\"\\n\"", several, lark);
            let (open, close) = (text(&format!("{}\n", python::FENCE)), text("\n```"));
            lark.rule(&format!("{open} {calls} {close}"))
        }
    })
}

/// The arguments of a call, without what stands around them.
fn arguments<'a, 't>(
    tool: &'a Tool,
    dialect: Dialect,
    key: impl Fn(&Values<'a, 't>, &str) -> Result<String, String>,
    lark: &'a mut Lark<'t>,
) -> Result<String, String> {
    let nothing = Map::new();
    let object = tool.schema.as_object().unwrap_or(&nothing);
    let mut values = Values::new(lark, dialect, &tool.schema);
    let members = values.members(object, key);
    let members = members.map_err(|problem| format!("the tool {:?}: {problem}", tool.name))?;
    Ok(match members.is_empty() {
        true => text(""),
        false => members,
    })
}
