//! Calls that have to be made, in the words of each API, and streamed.

use std::fs;
use std::net::SocketAddr;
use std::sync::OnceLock;

use ml_server::NamedModel;
use serde_json::{Value, json};

use crate::client::{data, open, post};
use crate::{config, dir, serve};

const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n\
    {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n{{ c.function | tojson }}\n</tool_call>{% endfor %}\
    <|im_end|>\n{% endfor %}<|im_start|>assistant\n";

/// A server of a demo model whose template knows tools.
fn server(force: bool) -> SocketAddr {
    let copy = std::env::temp_dir().join(format!("ml-server-tools-{}-{force}", std::process::id()));
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(dir("qwen3-demo")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    fs::write(copy.join("chat_template.jinja"), TEMPLATE).unwrap();
    let mut config = config();
    config.models = vec![NamedModel {
        name: "tools".to_owned(),
        dir: copy.clone(),
    }];
    config.test_force_tools = force;
    let address = serve(config).address;
    // Loaded before its folder goes.
    post(address, "/tokenize", &json!({"content": "x"})).ok();
    fs::remove_dir_all(copy).unwrap();
    address
}

fn with_tools() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| server(false))
}

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "town": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
    }, "required": ["town", "days"]})
}

fn good(arguments: &Value) -> bool {
    let town = arguments["town"]
        .as_str()
        .is_some_and(|town| town.chars().count() <= 8);
    let days = arguments["days"]
        .as_u64()
        .is_some_and(|days| (1..=9).contains(&days));
    town && days
        && arguments
            .as_object()
            .is_some_and(|object| object.len() == 2)
}

fn chat(more: Value) -> Value {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "d", "parameters": schema()}});
    let mut request = json!({
        "messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 300, "seed": 3,
        "tools": [tool("weather"), tool("climate")], "parallel_tool_calls": false,
    });
    let more = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(more);
    request
}

#[test]
fn a_chat_makes_the_call_that_it_has_to() {
    let named = json!({"type": "function", "function": {"name": "climate"}});
    let allowed = json!({"mode": "required", "tools": [named]});
    let allowed = json!({"type": "allowed_tools", "allowed_tools": allowed});
    for choice in ["required".into(), named, allowed] {
        let request = chat(json!({"tool_choice": choice}));
        let answer = post(with_tools(), "/v1/chat/completions", &request).ok();
        let choice_made = &answer["choices"][0];
        assert_eq!(choice_made["finish_reason"], "tool_calls", "{answer}");
        let calls = choice_made["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1);
        let function = &calls[0]["function"];
        assert!(
            choice == "required" || function["name"] == "climate",
            "{function}"
        );
        let arguments = function["arguments"].as_str().unwrap();
        assert!(
            good(&serde_json::from_str(arguments).unwrap()),
            "{arguments}"
        );
        // In a stream the same.
        let mut request = request;
        request["stream"] = true.into();
        let mut events = open(with_tools(), "/v1/chat/completions", &request).events();
        assert_eq!(events.pop().as_deref(), Some("data: [DONE]\n\n"));
        let deltas = events
            .iter()
            .map(|event| data(event)["choices"][0]["delta"].clone());
        let parts = deltas.filter_map(|delta| {
            let part = delta["tool_calls"][0]["function"]["arguments"].as_str()?;
            Some(part.to_owned())
        });
        assert_eq!(parts.collect::<String>(), arguments);
    }
}

#[test]
fn responses_and_messages_have_words_of_their_own_for_it() {
    let tool = json!({"type": "function", "name": "weather", "parameters": schema()});
    let request = json!({
        "input": "What is 17 + 25?", "tools": [tool], "max_output_tokens": 300, "parallel_tool_calls": false,
        "tool_choice": {"type": "function", "name": "weather"},
    });
    let answer = post(with_tools(), "/v1/responses", &request).ok();
    let calls = answer["output"].as_array().unwrap();
    assert_eq!(calls.len(), 1, "{answer}");
    assert_eq!(
        (&calls[0]["type"], &calls[0]["name"]),
        (&json!("function_call"), &json!("weather"))
    );
    let arguments = calls[0]["arguments"].as_str().unwrap();
    assert!(
        good(&serde_json::from_str(arguments).unwrap()),
        "{arguments}"
    );

    let tool = json!({"name": "weather", "input_schema": schema()});
    for choice in [
        json!({"type": "any"}),
        json!({"type": "tool", "name": "weather"}),
    ] {
        let mut choice = choice;
        choice["disable_parallel_tool_use"] = true.into();
        let request = json!({
            "max_tokens": 300, "tools": [tool], "tool_choice": choice,
            "messages": [{"role": "user", "content": "What is 17 + 25?"}],
        });
        let answer = post(with_tools(), "/v1/messages", &request).ok();
        assert_eq!(answer["stop_reason"], "tool_use", "{answer}");
        let blocks = answer["content"].as_array().unwrap();
        assert_eq!((blocks.len(), &blocks[0]["type"]), (1, &json!("tool_use")));
        assert!(good(&blocks[0]["input"]), "{answer}");
    }
}

#[test]
fn what_cannot_be_called_is_refused_by_its_field() {
    let refused = |more: Value| {
        let error = post(with_tools(), "/v1/chat/completions", &chat(more));
        assert_eq!(error.status, 400, "{error:?}");
        error.json()["error"]["param"].clone()
    };
    let other = json!({"type": "function", "function": {"name": "then"}});
    assert_eq!(refused(json!({"tool_choice": other})), "tool_choice");
    assert_eq!(
        refused(json!({"tools": [], "tool_choice": "required"})),
        "tool_choice"
    );
    let odd = json!({"type": "function", "function": {"name": "odd", "parameters": {"not": {}}}});
    assert_eq!(
        refused(json!({"tools": [odd], "tool_choice": "required"})),
        "tools"
    );
}

#[test]
fn a_switch_for_tests_makes_an_agent_call_once() {
    let address = server(true);
    let mut request = chat(json!({}));
    request
        .as_object_mut()
        .unwrap()
        .remove("parallel_tool_calls");
    request["tools"][0]["function"]["parameters"]["properties"]["town"] = json!({"type": "string"});
    let answer = post(address, "/v1/chat/completions", &request).ok();
    let message = answer["choices"][0]["message"].clone();
    assert_eq!(
        message["tool_calls"].as_array().unwrap().len(),
        1,
        "{answer}"
    );
    let id = message["tool_calls"][0]["id"].clone();
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(message);
    messages.push(json!({"role": "tool", "tool_call_id": id, "content": "sun"}));
    let answer = post(address, "/v1/chat/completions", &request).ok();
    assert!(
        answer["choices"][0]["message"]["tool_calls"].is_null(),
        "{answer}"
    );
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() <= 32);
}
