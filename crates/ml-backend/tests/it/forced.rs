//! Calls that have to be made, and answers that end with the first one, by a demo model that knows no tools.

use ml_backend::{Backend, FinishReason, Message, MlxBackend, Options, Structure, ToolChoice};
use serde_json::{Value, json};

use crate::respond::{model, scripted};

fn weather() -> Value {
    json!({"type": "object", "properties": {
        "town": {"type": "string", "maxLength": 10},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "unit": {"enum": ["celsius", "fahrenheit"]},
    }, "required": ["town", "days"]})
}

fn options() -> Options {
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    Options::new()
        .temperature(1.0)
        .max_tokens(400)
        .tool(tool("weather", weather()))
        .tool(tool("now", json!({"type": "object", "properties": {}})))
}

const QUESTION: &str = "What is 17 + 25?";

fn ask(backend: &MlxBackend, options: &Options) -> ml_backend::Result<ml_backend::Answer> {
    backend.respond(&[Message::user(QUESTION)], options)
}

#[test]
fn a_call_that_is_required_is_made_with_valid_arguments() {
    let (_dir, backend) = model("");
    let validator = jsonschema::validator_for(&weather()).unwrap();
    let base = options().enable_thinking(false);
    for seed in 0..12 {
        let required = base.clone().seed(seed).tool_choice(ToolChoice::Required);
        let one = required.parallel_tool_calls(false);
        let answer = ask(&backend, &one).unwrap();
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls, "{answer:?}");
        assert_eq!((answer.text.as_str(), answer.tool_calls.len()), ("", 1));
        assert_eq!(answer.reasoning, None);
        let call = &answer.tool_calls[0];
        match call.name.as_str() {
            "weather" => assert!(validator.is_valid(&call.arguments), "{call:?}"),
            name => assert_eq!((name, &call.arguments), ("now", &json!({}))),
        }
    }
    for (seed, name) in (0..).zip(["now", "weather", "weather", "weather"]) {
        let named = base
            .clone()
            .seed(seed)
            .tool_choice(ToolChoice::Tool(name.to_owned()));
        let answer = ask(&backend, &named.parallel_tool_calls(false)).unwrap();
        let call = &answer.tool_calls[0];
        assert_eq!(call.name, name);
        assert!(
            name == "now" || validator.is_valid(&call.arguments),
            "{call:?}"
        );
    }
    // It may be several.
    let (question, call) = (
        [Message::user(QUESTION)],
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
    );
    let two = format!("{call}\n{call}");
    let required = base.tool_choice(ToolChoice::Required);
    let said = scripted(&backend, &question, &two, required);
    assert_eq!(ask(&backend, &said).unwrap().tool_calls.len(), 2);
}

#[test]
fn a_call_that_is_required_comes_behind_the_thought() {
    let question = [Message::user(QUESTION)];
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    // The model begins it itself.
    let (_dir, backend) = model("");
    let required = options().tool_choice(ToolChoice::Required);
    let said = format!("<think>\nHm.\n</think>\n\n{call}");
    let said = scripted(&backend, &question, &said, required.clone());
    let answer = ask(&backend, &said).unwrap();
    assert_eq!(answer.reasoning.as_deref(), Some("Hm."));
    assert_eq!((answer.text.as_str(), answer.tool_calls.len()), ("", 1));
    // The prompt does, and a budget ends it.
    let (_dir, backend) = model("<think>\n");
    let required = required.parallel_tool_calls(false);
    let said = scripted(
        &backend,
        &question,
        &format!("Hm.\n</think>\n\n{call}"),
        required.clone(),
    );
    let answer = ask(&backend, &said).unwrap();
    assert_eq!(answer.reasoning.as_deref(), Some("Hm."));
    assert_eq!((answer.text.as_str(), answer.tool_calls.len()), ("", 1));
    for (seed, budget) in [(1, 0), (2, 1), (3, 7), (4, 30)] {
        let bound = required.clone().seed(seed).reasoning_budget(budget);
        let answer = ask(&backend, &bound).unwrap();
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls, "{answer:?}");
        assert_eq!((answer.text.as_str(), answer.tool_calls.len()), ("", 1));
    }
    // No end of the answer is one of the thought.
    let bound = required.seed(5).max_tokens(300).logit_bias(607, 50.0);
    let answer = ask(&backend, &bound).unwrap();
    assert_eq!(answer.finish_reason, FinishReason::Length);
}

#[test]
fn an_answer_may_end_with_its_first_call() {
    let (_dir, backend) = model("");
    let question = [Message::user(QUESTION)];
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let said = format!("I look.\n{call}\n{call}\nThere.");
    for (parallel, calls, text) in [(None, 2, "I look. There."), (Some(false), 1, "I look.")] {
        let mut options = scripted(&backend, &question, &said, options());
        options.parallel_tool_calls = parallel;
        let answer = ask(&backend, &options).unwrap();
        assert_eq!(answer.tool_calls.len(), calls);
        let words: Vec<_> = answer.text.split_whitespace().collect();
        assert_eq!(words.join(" "), text);
        assert_eq!(answer.finish_reason, FinishReason::ToolCalls);
    }
    // An answer without a call is what it is.
    let plain = scripted(
        &backend,
        &question,
        "42",
        options().parallel_tool_calls(false),
    );
    let answer = ask(&backend, &plain).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.finish_reason),
        ("42", FinishReason::Stop)
    );
}

#[test]
fn a_form_holds_where_no_call_is_made() {
    let (_dir, backend) = model("");
    let question = [Message::user(QUESTION)];
    let form = json!({"type": "object", "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["sum"], "additionalProperties": false});
    let both = options()
        .enable_thinking(false)
        .structure(Structure::JsonSchema(form));
    let (mut calls, mut sums) = (0, 0);
    for seed in 0..12 {
        let answer = ask(
            &backend,
            &both.clone().seed(seed).parallel_tool_calls(false),
        )
        .unwrap();
        if answer.tool_calls.is_empty() {
            let sum: Value = serde_json::from_str(&answer.text).unwrap();
            assert!(sum["sum"].as_u64().is_some_and(|sum| sum < 100), "{sum}");
            sums += 1;
        } else {
            assert_eq!(answer.text, "");
            calls += 1;
        }
    }
    assert!(calls > 0 && sums > 0, "{calls} {sums}");
    // A call that is none of the tools' cannot be.
    let call = "<tool_call>\n{\"name\": \"then\", \"arguments\": {}}\n</tool_call>";
    let other = scripted(&backend, &question, call, both);
    assert!(ask(&backend, &other).map_or(true, |answer| {
        answer.tool_calls.iter().all(|call| call.name != "then")
    }));
}

#[test]
fn a_choice_that_cannot_be_is_refused_before_anything_runs() {
    let (_dir, backend) = model("");
    let refused = |options: Options| ask(&backend, &options).unwrap_err().to_string();
    let none = Options::new().tool_choice(ToolChoice::Required);
    assert!(refused(none).contains("tool_choice"));
    let other = options().tool_choice(ToolChoice::Tool("then".to_owned()));
    let error = refused(other);
    assert!(
        error.contains("tool_choice") && error.contains("then"),
        "{error}"
    );
    let never = options().tool_choice(ToolChoice::Required).ignore_eos(true);
    assert!(refused(never).contains("ignore_eos"));
    let odd = json!({"type": "function", "function": {"name": "odd", "parameters": {"not": {}}}});
    let error = refused(options().tool(odd).tool_choice(ToolChoice::Required));
    assert!(error.contains("`not`") && error.contains("odd"), "{error}");
    // Left to the model, nothing is held to.
    let odd = json!({"type": "function", "function": {"name": "odd", "parameters": {"not": {}}}});
    assert!(
        backend
            .chat(&[Message::user(QUESTION)], &options().tool(odd))
            .is_ok()
    );
}
