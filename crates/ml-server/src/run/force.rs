//! For tests of clients: a model of random weights makes the calls that an agent waits for.
//!
//! Such a model never calls a tool, never ends a text, and would repeat a call for ever. So an answer with tools has to
//! be one call with short arguments and no thought before it; behind a tool's result it is a few words, so that the
//! agent's turn ends.

use ml_backend::{Role, ToolChoice};
use serde_json::{Map, Value};

use super::{Job, Prompt};

/// Tokens of an answer that is no call.
const WORDS: usize = 32;
/// Characters of a text in arguments.
const LETTERS: u64 = 12;
/// Items of a list.
const ITEMS: u64 = 2;

pub(super) fn apply(job: &mut Job) {
    let options = &mut job.options;
    if options.tools.is_empty() || options.tool_choice == ToolChoice::None {
        return;
    }
    options.enable_thinking.get_or_insert(false);
    let Prompt::Chat(messages) = &job.prompt else {
        return;
    };
    let told = messages.last().is_some_and(|last| last.role == Role::Tool);
    if options.tool_choice == ToolChoice::Auto && told {
        let most = options.max_tokens.unwrap_or(WORDS).min(WORDS);
        options.max_tokens = Some(most);
        options.tool_choice = ToolChoice::None;
        return;
    }
    if options.tool_choice == ToolChoice::Auto {
        options.tool_choice = ToolChoice::Required;
    }
    options.parallel_tool_calls.get_or_insert(false);
    for tool in &mut options.tools {
        let parameters = tool
            .get_mut("function")
            .and_then(|function| function.get_mut("parameters"));
        if let Some(parameters) = parameters {
            shorten(parameters);
        }
    }
}

/// Bounds the values of a schema.
fn shorten(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(shorten),
        Value::Object(object) => {
            let is = |kind: &str| match object.get("type") {
                Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
                Some(one) => one == kind,
                None => false,
            };
            let (text, list) = (is("string"), is("array"));
            let shape = ["enum", "const", "pattern", "format"];
            if text && !shape.iter().any(|key| object.contains_key(*key)) {
                bound(object, "minLength", "maxLength", LETTERS);
            }
            if list {
                bound(object, "minItems", "maxItems", ITEMS);
            }
            if object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), false.into());
            }
            object.values_mut().for_each(shorten);
        }
        _ => {}
    }
}

fn bound(object: &mut Map<String, Value>, least: &str, most: &str, to: u64) {
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    let least = number(least).unwrap_or(0);
    let to = number(most).unwrap_or(u64::MAX).min(to).max(least);
    object.insert(most.to_owned(), to.into());
}

#[cfg(test)]
mod tests {
    use ml_backend::{Message, Options, ToolCall};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_gets_one_call_and_then_words() {
        let schema = json!({"type": "object", "properties": {"type": {"type": "string"}, "all": {"type": "array", "minItems": 3}}});
        let tool = json!({"type": "function", "function": {"name": "now", "parameters": schema}});
        let job = |messages: Vec<Message>| Job {
            n: 1,
            prompt: Prompt::Chat(messages),
            options: Options::new().tool(tool.clone()),
        };
        let mut first = job(vec![Message::user("When?")]);
        apply(&mut first);
        assert_eq!(first.options.tool_choice, ToolChoice::Required);
        assert_eq!(first.options.parallel_tool_calls, Some(false));
        let short = &first.options.tools[0]["function"]["parameters"];
        assert_eq!(short["properties"]["type"]["maxLength"], 12);
        assert_eq!(short["properties"]["all"]["maxItems"], 3);
        assert_eq!(short["additionalProperties"], false);
        let told = Message::tool(&ToolCall::new("now", json!({})), "noon");
        let mut second = job(vec![Message::user("When?"), told]);
        apply(&mut second);
        assert_eq!(second.options.tool_choice, ToolChoice::None);
        assert_eq!(second.options.max_tokens, Some(32));
    }
}
