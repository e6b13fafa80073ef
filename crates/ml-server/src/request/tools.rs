//! Tools and the choice among them, in the forms of the three APIs, as the chat APIs' one that templates know.

use ml_backend::{Options, ToolChoice};
use serde_json::{Map, Value, json};

use crate::errors::{ApiError, Result};
use crate::fields::Fields;

/// Takes `tools` and `tool_choice` of OpenAI's chat API.
pub(super) fn chat(fields: &mut Fields, options: &mut Options) -> Result<()> {
    let tools: Vec<Map<String, Value>> = fields.take("tools")?.unwrap_or_default();
    for (at, tool) in tools.into_iter().enumerate() {
        let path = format!("tools[{at}]");
        if tool.get("type").is_some_and(|kind| kind != "function") {
            return Err(ApiError::unsupported(
                format!("{path}.type"),
                "tools are functions",
            ));
        }
        let function = tool.get("function").unwrap_or(&Value::Null);
        named(&path, function.get("name"))?;
        options.tools.push(tool.into());
    }
    choice(fields, options)
}

/// Takes those of OpenAI's responses, which are flat. Kinds that a model here cannot have are left out, as its clients
/// send them always.
pub(super) fn responses(fields: &mut Fields, options: &mut Options) -> Result<()> {
    let tools: Vec<Map<String, Value>> = fields.take("tools")?.unwrap_or_default();
    for (at, mut tool) in tools.into_iter().enumerate() {
        match tool.shift_remove("type").as_ref().and_then(Value::as_str) {
            Some("function") => {
                named(&format!("tools[{at}]"), tool.get("name"))?;
                tool.retain(|_, value| !value.is_null());
                options
                    .tools
                    .push(json!({"type": "function", "function": tool}));
            }
            Some(kind) if LEFT_OUT.contains(&kind) => {}
            _ => {
                let path = format!("tools[{at}].type");
                return Err(ApiError::unsupported(path, "tools are functions"));
            }
        }
    }
    choice(fields, options)
}

/// Kinds of tools that Codex and its like announce whatever the model.
const LEFT_OUT: [&str; 9] = [
    "namespace",
    "web_search",
    "web_search_preview",
    "image_generation",
    "custom",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
];

/// Takes those of Anthropic's messages.
pub(super) fn messages(fields: &mut Fields, options: &mut Options) -> Result<()> {
    let tools: Vec<Map<String, Value>> = fields.take("tools")?.unwrap_or_default();
    for (at, mut tool) in tools.into_iter().enumerate() {
        let path = format!("tools[{at}]");
        let kind = tool.get("type").and_then(Value::as_str);
        if kind.is_some_and(|kind| kind != "custom") {
            let why = "tools are those of the client, with an input_schema";
            return Err(ApiError::unsupported(format!("{path}.type"), why));
        }
        named(&path, tool.get("name"))?;
        let mut function = Map::new();
        for (from, to) in [
            ("name", "name"),
            ("description", "description"),
            ("input_schema", "parameters"),
        ] {
            function.extend(tool.shift_remove(from).map(|value| (to.to_owned(), value)));
        }
        options
            .tools
            .push(json!({"type": "function", "function": function}));
    }
    let Some(mut choice) = fields.object("tool_choice")? else {
        return Ok(());
    };
    options.tool_choice = match choice.need::<String>("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Tool(choice.need("name")?),
        other => {
            let message = format!("is {other:?}; it must be auto, none, any or tool");
            return Err(ApiError::field(choice.path("type"), message));
        }
    };
    let one: Option<bool> = choice.take("disable_parallel_tool_use")?;
    options.parallel_tool_calls = one.map(|one| !one);
    choice.end()
}

/// Takes the choice, as both of OpenAI's APIs write it: what one has in an object of its own stands beside the type in
/// the other.
fn choice(fields: &mut Fields, options: &mut Options) -> Result<()> {
    options.parallel_tool_calls = fields.take("parallel_tool_calls")?;
    match fields.seen("tool_choice") {
        None => return Ok(()),
        Some(Value::String(word)) => {
            options.tool_choice = word_of(&fields.path("tool_choice"), word)?;
            fields.ignore(&["tool_choice"]);
            return Ok(());
        }
        Some(_) => {}
    }
    let Some(mut choice) = fields.object("tool_choice")? else {
        return Ok(());
    };
    let kind: String = choice.need("type")?;
    match kind.as_str() {
        "function" => {
            let mut function = choice.object("function")?;
            let name = function.as_mut().unwrap_or(&mut choice).need("name")?;
            options.tool_choice = ToolChoice::Tool(name);
            function.map_or(Ok(()), Fields::end)?;
        }
        "allowed_tools" => {
            let mut inner = choice.object("allowed_tools")?;
            allowed(inner.as_mut().unwrap_or(&mut choice), options)?;
            inner.map_or(Ok(()), Fields::end)?;
        }
        other => {
            let message = format!("is {other:?}; it must be function or allowed_tools");
            return Err(ApiError::field(choice.path("type"), message));
        }
    }
    choice.end()
}

fn word_of(path: &str, word: &str) -> Result<ToolChoice> {
    match word {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        other => {
            let message =
                format!("is {other:?}; it must be auto, none, required, or a tool by its name");
            Err(ApiError::field(path, message))
        }
    }
}

/// Leaves the model those tools alone that it may call now.
fn allowed(choice: &mut Fields, options: &mut Options) -> Result<()> {
    let mode: String = choice.need("mode")?;
    options.tool_choice = match mode.as_str() {
        "auto" => ToolChoice::Auto,
        "required" => ToolChoice::Required,
        other => {
            let message = format!("is {other:?}; it must be auto or required");
            return Err(ApiError::field(choice.path("mode"), message));
        }
    };
    let named: Vec<Map<String, Value>> = choice.need("tools")?;
    let mut names = Vec::new();
    for (at, tool) in named.iter().enumerate() {
        let name = tool
            .get("function")
            .and_then(|function| function.get("name"));
        let name = name.or(tool.get("name")).and_then(Value::as_str);
        let known = |name: &&str| {
            options
                .tools
                .iter()
                .any(|tool| name_of(tool) == Some(*name))
        };
        let path = || choice.path(&format!("tools[{at}]"));
        names.push(
            name.filter(known)
                .ok_or_else(|| ApiError::field(path(), "it names none of the tools"))?,
        );
    }
    options
        .tools
        .retain(|tool| name_of(tool).is_some_and(|name| names.contains(&name)));
    Ok(())
}

/// The name of a tool as options have it.
fn name_of(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

fn named(path: &str, name: Option<&Value>) -> Result<()> {
    match name.and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(()),
        _ => Err(ApiError::field(path, "it has no name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = fn(&mut Fields, &mut Options) -> Result<()>;

    fn read(how: Read, sent: Value) -> Result<Options> {
        let Value::Object(map) = sent else { panic!() };
        let (mut fields, mut options) = (Fields::new(map), Options::new());
        how(&mut fields, &mut options)?;
        fields.end()?;
        Ok(options)
    }

    #[test]
    fn the_three_forms_are_one() {
        let schema = json!({"type": "object", "properties": {}});
        let function = json!({"name": "now", "description": "d", "parameters": schema});
        let expected = vec![json!({"type": "function", "function": function})];
        let sent = json!({"tools": expected, "tool_choice": "auto"});
        assert_eq!(read(chat, sent).unwrap().tools, expected);
        let flat = json!({"type": "function", "name": "now", "description": "d", "parameters": schema, "strict": null});
        let sent = json!({"tools": [{"type": "web_search"}, flat]});
        assert_eq!(read(responses, sent).unwrap().tools, expected);
        let tool =
            json!({"name": "now", "description": "d", "input_schema": schema, "cache_control": {}});
        let sent = json!({"tools": [tool], "tool_choice": {"type": "none"}});
        let options = read(messages, sent).unwrap();
        assert_eq!(
            (options.tools, options.tool_choice),
            (expected, ToolChoice::None)
        );
    }

    #[test]
    fn a_choice_has_a_word_in_each_api() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        let flat = |name: &str| json!({"type": "function", "name": name});
        let some = |how: Read, tools: Vec<Value>, choice: Value| {
            read(how, json!({"tools": tools, "tool_choice": choice})).unwrap()
        };
        let both = || vec![tool("now"), tool("then")];
        let named = ToolChoice::Tool("now".to_owned());
        let choice = |how, tools, choice| some(how, tools, choice).tool_choice;
        assert_eq!(
            choice(chat, both(), "required".into()),
            ToolChoice::Required
        );
        assert_eq!(choice(chat, both(), tool("now")), named);
        let flats = || vec![flat("now"), flat("then")];
        assert_eq!(choice(responses, flats(), flat("now")), named);
        let its = json!([{"name": "now", "input_schema": {"type": "object"}}]);
        let sent = json!({"tools": its, "tool_choice": {"type": "tool", "name": "now"}});
        assert_eq!(read(messages, sent).unwrap().tool_choice, named);
        let sent = json!({"tools": its, "tool_choice": {"type": "any", "disable_parallel_tool_use": true}});
        let options = read(messages, sent).unwrap();
        assert_eq!(options.tool_choice, ToolChoice::Required);
        assert_eq!(options.parallel_tool_calls, Some(false));
        let sent = json!({"tools": both(), "parallel_tool_calls": false});
        assert_eq!(read(chat, sent).unwrap().parallel_tool_calls, Some(false));
        // Those that may be called now are those that it is told of.
        let allowed = json!({"mode": "required", "tools": [tool("then")]});
        let options = some(
            chat,
            both(),
            json!({"type": "allowed_tools", "allowed_tools": allowed}),
        );
        assert_eq!(options.tools, [tool("then")]);
        assert_eq!(options.tool_choice, ToolChoice::Required);
        let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [flat("then")]});
        let options = some(responses, flats(), allowed);
        assert_eq!(options.tools, [tool("then")]);
        assert_eq!(options.tool_choice, ToolChoice::Auto);
    }

    #[test]
    fn what_cannot_be_held_to_is_refused_by_name() {
        let tool = json!({"type": "function", "function": {"name": "now"}});
        let allowed =
            json!({"mode": "auto", "tools": [{"type": "function", "function": {"name": "then"}}]});
        let cases: [(Read, Value, &str); 8] = [
            (
                chat,
                json!({"tools": [{"type": "retrieval"}]}),
                "tools[0].type",
            ),
            (chat, json!({"tools": [{"type": "function"}]}), "tools[0]"),
            (chat, json!({"tool_choice": "always"}), "tool_choice"),
            (
                chat,
                json!({"tool_choice": {"type": "function", "function": {}}}),
                "tool_choice.function.name",
            ),
            (
                chat,
                json!({"tools": [tool], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}),
                "tool_choice.allowed_tools.tools[0]",
            ),
            (
                chat,
                json!({"parallel_tool_calls": "no"}),
                "parallel_tool_calls",
            ),
            (
                responses,
                json!({"tools": [{"type": "file_search"}]}),
                "tools[0].type",
            ),
            (
                messages,
                json!({"tool_choice": {"type": "required"}}),
                "tool_choice.type",
            ),
        ];
        for (how, sent, param) in cases {
            let error = read(how, sent).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        }
    }
}
