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
    match choice.need::<String>("type")?.as_str() {
        "auto" => {}
        "none" => options.tool_choice = ToolChoice::None,
        other => return Err(forced(&choice.path("type"), other)),
    }
    // One call or several: that is the model's to say.
    choice.ignore(&["disable_parallel_tool_use"]);
    choice.end()
}

fn choice(fields: &mut Fields, options: &mut Options) -> Result<()> {
    match fields.value("tool_choice") {
        None => {}
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => {}
            "none" => options.tool_choice = ToolChoice::None,
            other => return Err(forced(&fields.path("tool_choice"), other)),
        },
        Some(_) => return Err(forced(&fields.path("tool_choice"), "a tool by its name")),
    }
    fields.refuse_unless(
        "parallel_tool_calls",
        |value| value == &Value::Bool(true) || options.tools.is_empty(),
        "the model says how many it calls; leave it out",
    )
}

fn forced(path: &str, choice: &str) -> ApiError {
    let why = format!("{choice}; a call cannot be forced yet, so send auto or none");
    ApiError::unsupported(path, why)
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
    fn what_cannot_be_held_to_is_refused_by_name() {
        let tool = json!({"type": "function", "function": {"name": "now"}});
        let cases: [(Read, Value, &str); 7] = [
            (
                chat,
                json!({"tools": [{"type": "retrieval"}]}),
                "tools[0].type",
            ),
            (chat, json!({"tools": [{"type": "function"}]}), "tools[0]"),
            (chat, json!({"tool_choice": "required"}), "tool_choice"),
            (
                chat,
                json!({"tool_choice": {"type": "function", "function": {"name": "now"}}}),
                "tool_choice",
            ),
            (
                chat,
                json!({"tools": [tool], "parallel_tool_calls": false}),
                "parallel_tool_calls",
            ),
            (
                responses,
                json!({"tools": [{"type": "file_search"}]}),
                "tools[0].type",
            ),
            (
                messages,
                json!({"tool_choice": {"type": "any"}}),
                "tool_choice.type",
            ),
        ];
        for (how, sent, param) in cases {
            let error = read(how, sent).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
        }
    }
}
