//! Requests to the server, as their endpoints read them.

use ml_server::fuzz::{Api, Refusal, read};
use serde_json::{Map, Value, json};

use crate::check_refusal;

/// A field that no API has.
const UNKNOWN: &str = "zz_unknown";

/// Answers that one request may ask for.
const MOST_ANSWERS: usize = 128;

/// Runs one body through an API's reader.
///
/// # Panics
/// Where the reader breaks a promise: a refusal is one line, of JSON in both forms, and the client's fault; and what is
/// taken would not be if it had a field that nobody knows.
pub(crate) fn run(api: Api, data: &[u8]) {
    match read(api, data) {
        Err(refusal) => check(&refusal),
        Ok(answers) => {
            assert!(answers <= MOST_ANSWERS, "{answers} answers");
            let mut sent: Map<String, Value> =
                serde_json::from_slice(data).expect("what was read is an object");
            if sent.contains_key(UNKNOWN) {
                panic!("a field was ignored without a word");
            }
            sent.insert(UNKNOWN.to_owned(), json!(1));
            let refusal = read(api, Value::from(sent).to_string().as_bytes())
                .expect_err("a field is ignored without a word");
            check(&refusal);
            assert_eq!(refusal.param.as_deref(), Some(UNKNOWN), "{refusal:?}");
        }
    }
}

fn check(refusal: &Refusal) {
    check_refusal(&refusal.message);
    refusal.param.iter().for_each(|param| check_refusal(param));
    assert!((400..500).contains(&refusal.status), "{refusal:?}");
    assert!(
        refusal.message.len() < 8192,
        "a refusal as long as what was sent"
    );
    for body in &refusal.bodies {
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["error"]["message"], refusal.message.as_str());
    }
}

/// Requests with everything that their API knows.
pub(crate) fn seeds(api: Api) -> Vec<Vec<u8>> {
    let function = json!({"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}});
    let schema = json!({"type": "object", "properties": {"a": {"enum": [1, "b"]}}, "additionalProperties": false});
    let sampling = json!({
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 7,
        "max_tokens": 5, "stop": ["x", "yy"], "n": 2, "ignore_eos": false, "presence_penalty": 0.5,
        "frequency_penalty": -0.5, "logit_bias": {"5": -100, "7": 3.5}, "typical_p": 0.9, "xtc_probability": 0.1,
        "xtc_threshold": 0.2, "stop_token_ids": [1], "allowed_token_ids": [2, 3], "stream": true,
        "stream_options": {"include_usage": true}, "user": "u", "model": "m",
    });
    let conversation = json!([
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "u"}]},
        {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "3"},
        {"role": "user", "content": "u"},
    ]);
    let blocks = json!([
        {"role": "user", "content": [{"type": "text", "text": "u", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": ""}, {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "3"}], "is_error": false}]},
    ]);
    let tools = json!([{"type": "function", "function": function}]);
    let anthropic =
        json!([{"name": "f", "description": "d", "input_schema": function["parameters"]}]);
    let with = |rest: Value| {
        let mut all = sampling.clone();
        if let (Some(all), Value::Object(rest)) = (all.as_object_mut(), rest) {
            all.extend(rest);
        }
        all
    };
    let one_answer = |mut request: Value| {
        if let Some(request) = request.as_object_mut() {
            request.retain(|name, _| name != "n" && name != "user");
        }
        request
    };
    let seeds = match api {
        Api::Chat => vec![
            json!({"messages": [{"role": "user", "content": "hi"}]}),
            with(
                json!({"messages": conversation, "logprobs": true, "top_logprobs": 3, "tools": tools,
                "tool_choice": "auto", "parallel_tool_calls": true, "reasoning_effort": "low",
                "chat_template_kwargs": {"a": 1}, "documents": [{"title": "t", "text": "x"}]}),
            ),
            with(
                json!({"messages": conversation, "reasoning": {"enabled": true, "max_tokens": 5},
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}}),
            ),
            json!({"messages": [], "max_completion_tokens": 1, "response_format": {"type": "json_object"}}),
        ],
        Api::Completions => vec![
            json!({"prompt": "p"}),
            with(
                json!({"prompt": ["p", "q"], "echo": true, "stream": false, "logprobs": 3, "best_of": 2}),
            ),
            json!({"prompt": [1, 2], "suffix": ""}),
            json!({"prompt": [[1, 2], [3]], "n": 64, "response_format": {"type": "text"}}),
        ],
        Api::Responses => vec![
            json!({"input": "i"}),
            json!({"input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "u"}]},
                {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\": 1}"},
                {"type": "function_call_output", "call_id": "c", "output": "3"}],
                "instructions": "s", "previous_response_id": "resp_1", "store": false, "max_output_tokens": 5,
                "temperature": 1, "top_p": 1, "reasoning": {"effort": "low", "summary": "auto"},
                "tools": [{"type": "function", "name": "f", "parameters": function["parameters"], "strict": true},
                    {"type": "web_search"}], "tool_choice": "auto", "parallel_tool_calls": true, "stream": true,
                "truncation": "disabled", "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"}}),
            json!({"input": "i", "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}, "verbosity": "medium"}}),
        ],
        Api::Messages | Api::Count => vec![
            json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}),
            json!({"messages": blocks, "max_tokens": 5, "system": [{"type": "text", "text": "s"}], "temperature": 1,
                "top_p": 0.5, "top_k": 3, "stop_sequences": ["x"], "stream": true, "tools": anthropic,
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": false},
                "thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"}}),
            json!({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "max_tokens": 1,
                "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": schema}}}),
        ],
        Api::Embeddings => vec![
            json!({"input": "a", "model": "m", "encoding_format": "base64", "dimensions": 8, "prompt_name": "query"}),
            json!({"input": ["a", "b"], "encoding_format": "float", "user": "u"}),
            json!({"input": [1, 2]}),
            json!({"input": [[1], [2, 3]]}),
        ],
        Api::Infill => vec![
            one_answer(with(json!({
                "input_prefix": "a", "input_suffix": "b", "prompt": "c", "n_predict": -1, "cache_prompt": true,
                "input_extra": [{"filename": "f", "text": "x"}], "samplers": ["top_k"], "t_max_predict_ms": 9,
            }))),
            json!({"input_prefix": "", "input_suffix": "", "id_slot": 0, "n_indent": 1, "n_keep": 1, "model": "m"}),
        ],
        Api::Rerank => vec![
            json!({"query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": true}),
            json!({"query": "q", "documents": ["a"], "instruction": "i", "model": "m", "user": "u"}),
        ],
        Api::Tokenize => vec![
            json!({"content": "a", "add_special": true, "model": "m"}),
            json!({"prompt": "a", "add_special_tokens": false}),
            json!({"messages": conversation, "tools": tools, "chat_template_kwargs": {"a": 1}}),
        ],
        Api::Detokenize => vec![json!({"tokens": [1, 2, 4_294_967_295_u64], "model": "m"})],
    };
    // What is only counted has no limit of its answer.
    let limited = |seed: Value| match seed {
        Value::Object(mut seed) if api == Api::Count => {
            seed.shift_remove("max_tokens");
            Value::Object(seed)
        }
        other => other,
    };
    let seeds: Vec<Value> = seeds.into_iter().map(limited).collect();
    seeds
        .iter()
        .map(|seed| seed.to_string().into_bytes())
        .collect()
}
